"""What a round leaves: the region of the next one, and a report."""

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.flows.estimator import Variables
from flowinv.sequential.boxes import next_box
from flowinv.sequential.config import Truncated
from flowinv.sequential.fitting import Prepared, Trained
from flowinv.sequential.plan import ANSWER, NUM_DRAWS, Plan
from flowinv.sequential.state import RoundInfo, RoundsState

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
    theta = plan.estimator.prior_of(variables.frozen).from_latent(w)
    new, outside = _region(plan, state, variables, w, theta, x_obs)
    info = RoundInfo(
        round=state.index,
        num_failed=((state.round == state.index) & ~state.valid).sum(),
        num_used=prepared.num_used,
        validation_loss=trained.validation_loss,
        steps=trained.steps,
        mass_outside=outside,
        sample_efficiency=_efficiency(plan, state, variables, x_obs),
        distance=_distance(theta, state.draws),
        mean=theta.mean(0),
        sd=theta.std(0),
        proposal_ks=proposal_ks,
        draws=theta,
    )
    index = state.index + 1
    still = (info.distance < plan.config.stop_when_converged) & (state.index > 0)
    new = new._replace(
        variables=variables,
        draws=theta,
        index=index,
        stopped=(index >= plan.config.num_rounds) | still,
    )

    def freeze(new: Array, old: Array) -> Array:
        return jnp.where(state.stopped, old, new)

    return jax.tree.map(freeze, new, state), info


def _region(
    plan: Plan,
    state: RoundsState,
    variables: Variables,
    w: Array,
    theta: Array,
    x_obs: Array,
) -> tuple[RoundsState, Array]:
    """State with the next round's region, and the posterior's mass outside the last."""
    config, prior = plan.config, plan.estimator.prior
    epsilon = getattr(config, "epsilon", Truncated.epsilon)
    outside = jnp.zeros(())
    if plan.is_cut:
        box, margin = variables.frozen.box, getattr(config, "margin", Truncated.margin)
        found = next_box(prior, state.boxes, state.index, theta, epsilon, margin)
        # Atomic rounds stay in the last box.
        more = state.index + 1 < plan.num_boxed
        box = jax.tree.map(lambda a, b: jnp.where(more, a, b), found.box, box)
        boxes = jax.tree.map(
            lambda edges, edge: edges.at[state.index + 1].set(edge), state.boxes, box
        )
        state, outside = state._replace(boxes=boxes), found.pressed
    if plan.num_boxed >= config.num_rounds:
        return state, outside
    last = state.variables
    own = plan.draws(plan.round_key(state, ANSWER), last, x_obs, NUM_DRAWS)
    level = jnp.quantile(plan.log_q(last, own, x_obs), epsilon)
    seen = plan.log_q(
        last, plan.estimator.prior_of(last.frozen).to_latent(theta), x_obs
    )
    threshold = jnp.quantile(plan.log_q(variables, w, x_obs), epsilon)
    left = (seen < level).mean()
    return state._replace(threshold=threshold), jnp.maximum(outside, left)


def _efficiency(
    plan: Plan, state: RoundsState, variables: Variables, x_obs: Array
) -> Array:
    """Effective share of the round's rows as draws of the new posterior."""
    count = plan.config.num_simulations
    theta, log_p = (
        jax.lax.dynamic_slice_in_dim(rows, state.index * count, count)
        for rows in (state.theta, state.log_proposal)
    )
    prior = plan.estimator.prior_of(variables.frozen)
    w, log_det = prior.to_latent_and_log_det(theta)
    weight = jax.nn.softmax(plan.log_q(variables, w, x_obs) + log_det - log_p)
    return 1.0 / (count * (weight**2).sum())


def _distance(theta: Array, last: Array) -> Array:
    """Largest Wasserstein-1 distance between marginals, in sds of `theta`."""
    gap = jnp.abs(jnp.sort(theta, 0) - jnp.sort(last, 0)).mean(0)
    return (gap / jnp.maximum(theta.std(0), 1e-12)).max()
