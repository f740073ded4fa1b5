"""What a round leaves: the region of the next one, and a report."""

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.sequential.fitting import Prepared, Trained
from flowinv.sequential.method import Fitted, Plan
from flowinv.sequential.rows import filled
from flowinv.sequential.state import ANSWER, NUM_DRAWS, RoundInfo, RoundsState

__all__ = ["finish"]


def finish(
    plan: Plan,
    state: RoundsState,
    trained: Trained,
    prepared: Prepared,
    proposal_ks: Array,
    x_obs: Array,
) -> tuple[RoundsState, RoundInfo]:
    """Take the new networks over, choose the next region and sum the round up."""
    key, variables = plan.round_key(state, ANSWER), trained.variables
    w = plan.draws(key, variables, x_obs, NUM_DRAWS)
    prior = plan.estimator.prior_of(variables.frozen)
    theta = prior.from_latent(w)
    rows, log_p = _rows(plan, state)
    own, log_det = prior.to_latent_and_log_det(rows)
    # Draws and rows at once: the compiled program holds the density once.
    log_q = plan.log_q(variables, jnp.concatenate([w, own]), x_obs)
    fitted = Fitted(variables, w, theta, log_q[:NUM_DRAWS])
    region, outside = plan.method.next_region(plan, state, fitted, x_obs)
    info = RoundInfo(
        round=state.index,
        num_failed=((state.round == state.index) & ~state.valid).sum(),
        num_used=prepared.num_used,
        num_effective=prepared.num_effective,
        validation_loss=trained.validation_loss,
        steps=trained.steps,
        mass_outside=outside,
        unsimulated=_unsimulated(state, theta),
        sample_efficiency=_efficiency(log_q[NUM_DRAWS:] + log_det - log_p),
        waste=fitted.waste(),
        distance=_distance(theta, state.draws),
        mean=theta.mean(0),
        sd=theta.std(0),
        proposal_ks=proposal_ks,
        draws=theta,
    )
    index = state.index + 1
    still = (info.distance < plan.method.stop_when_converged) & (state.index > 0)
    new = state._replace(
        region=region,
        variables=variables,
        draws=theta,
        index=index,
        stopped=(index >= plan.method.num_rounds) | still,
    )

    def freeze(new: Array, old: Array) -> Array:
        return jnp.where(state.stopped, old, new)

    return jax.tree.map(freeze, new, state), info


def _rows(plan: Plan, state: RoundsState) -> tuple[Array, Array]:
    """Parameters of the round and their proposal's log density."""
    count = plan.method.num_simulations
    return tuple(
        jax.lax.dynamic_slice_in_dim(rows, state.index * count, count)
        for rows in (state.theta, state.log_proposal)
    )


def _efficiency(log_ratio: Array) -> Array:
    """Effective share of rows with log posterior over proposal `log_ratio`."""
    weight = jax.nn.softmax(log_ratio)
    return 1.0 / (len(weight) * (weight**2).sum())


def _unsimulated(state: RoundsState, theta: Array) -> Array:
    """Share of draws beyond the range of the simulated rows."""
    there = filled(state)[:, None]
    low = jnp.where(there, state.theta, jnp.inf).min(0)
    high = jnp.where(there, state.theta, -jnp.inf).max(0)
    return ((theta < low) | (theta > high)).any(-1).mean()


def _distance(theta: Array, last: Array) -> Array:
    """Largest Wasserstein-1 distance between marginals, in sds of `theta`."""
    gap = jnp.abs(jnp.sort(theta, 0) - jnp.sort(last, 0)).mean(0)
    return (gap / jnp.maximum(theta.std(0), 1e-12)).max()
