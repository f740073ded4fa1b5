"""Where the parameters of a round come from, and whether rows really came from there.

- APT draws from the last posterior (Greenberg et al. 2019, arXiv:1905.07488).
- Truncated rounds draw from the prior inside a region of the last posterior (Deistler
  et al. 2022, arXiv:2210.04815): a box of the latent, drawn from directly, or the
  highest-density region, drawn from by resampling a fixed number of candidates; nothing
  is rejected until it fits, so nothing hangs.

Every row keeps the log density of its proposal. A proposal in closed form also has a
base in which its draws are N(0, I): `base_distance` tells rows of other origin.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr

from flowinv.flows.base import standard_normal_log_prob
from flowinv.priors.cut import WHOLE, Box, CutPrior
from flowinv.sequential.config import APT
from flowinv.sequential.plan import PROPOSE, Plan
from flowinv.sequential.state import RoundsState

__all__ = ["KS_LIMIT", "Proposal", "base_distance", "propose"]

# Candidates per row of a highest-density region.
CANDIDATES = 8
# sqrt(N) times the Kolmogorov-Smirnov statistic exceeds this by chance once in 1e9
# tests: 2 exp(-2 t^2).
KS_LIMIT = 3.28


class Proposal(NamedTuple):
    """Rows of a round before they are simulated.

    Attributes:
        theta: parameters, `[N, D]`.
        log_prob: log density of the proposal in theta, `[N]`.
    """

    theta: Array
    log_prob: Array


def propose(plan: Plan, state: RoundsState, x_obs: Array) -> Proposal:
    """Draw the parameters of the next round with their log density."""
    key, config = plan.round_key(state, PROPOSE), plan.config
    if plan.num_boxed >= config.num_rounds:
        return _from_box(plan, key, state)
    if not isinstance(config, APT):
        return _from_region(plan, key, state, x_obs)
    flow = _from_flow(plan, key, state, x_obs)
    if not plan.is_cut:
        return flow
    box, early = _from_box(plan, key, state), state.index < plan.num_boxed
    return jax.tree.map(lambda a, b: jnp.where(early, a, b), box, flow)


def base_distance(plan: Plan, state: RoundsState, x_obs: Array, theta: Array) -> Array:
    """Largest Kolmogorov-Smirnov statistic of `theta` against the proposal.

    Each parameter's rows are taken to the proposal's base, where they are N(0, 1).

    Returns:
        sqrt(N) times the statistic, the largest over parameters; 0 for a
        highest-density region, which has no base in closed form.
    """
    boxed = CutPrior(plan.estimator.prior, plan.box(state, state.index))
    in_box = _normality(boxed.to_latent(theta))
    if plan.num_boxed >= plan.config.num_rounds:
        return in_box
    if not isinstance(plan.config, APT) or plan.config.train.num_members > 1:
        return jnp.where(state.index == 0, in_box, 0.0)
    estimator, variables = plan.estimator, state.variables
    w = estimator.prior_of(variables.frozen).to_latent(theta)
    features = estimator.features(variables.frozen, x_obs[None])
    context = estimator.context(variables.params, features)
    flow, collections = estimator.flow, estimator.flow_variables(variables)
    base = flow.apply(collections, w, context, method=flow.inverse_and_log_det)[0]
    return jnp.where(state.index < plan.num_boxed, in_box, _normality(base))


def _normality(base: Array) -> Array:
    """sqrt(N) times the largest KS statistic of the columns against N(0, 1)."""
    count = len(base)
    levels = jnp.sort(ndtr(base), 0)
    steps = (jnp.arange(count) / count)[:, None]
    gap = jnp.maximum(levels - steps, steps + 1.0 / count - levels)
    return math.sqrt(count) * gap.max()


def _from_box(plan: Plan, key: Array, state: RoundsState) -> Proposal:
    prior = CutPrior(plan.estimator.prior, plan.box(state, state.index))
    w = prior.sample_latent(key, plan.config.num_simulations)
    theta, log_det = prior.from_latent_and_log_det(w)
    return Proposal(theta, standard_normal_log_prob(w) - log_det)


def _from_flow(plan: Plan, key: Array, state: RoundsState, x_obs: Array) -> Proposal:
    prior = plan.estimator.prior_of(state.variables.frozen)
    w = plan.draws(key, state.variables, x_obs, plan.config.num_simulations)
    log_q = plan.log_q(state.variables, w, x_obs)
    theta, log_det = prior.from_latent_and_log_det(w)
    return Proposal(theta, log_q - log_det)


def _from_region(plan: Plan, key: Array, state: RoundsState, x_obs: Array) -> Proposal:
    """Prior draws inside the highest-density region of the last posterior.

    Candidates come from the prior cut to a box around the region, and those inside it
    are taken, in turn again if they are fewer than the rows asked for. (Candidates from
    the posterior would need weights of up to 1e5 at the region's edge.)
    """
    count, prior = plan.config.num_simulations, plan.estimator.prior
    box = _box_around(prior.to_latent(state.draws), state.index)
    cut = CutPrior(prior, box)
    w = cut.sample_latent(key, CANDIDATES * count)
    theta = cut.from_latent(w)
    log_q = plan.log_q(state.variables, prior.to_latent(theta), x_obs)
    inside = log_q >= state.threshold
    order = jnp.argsort(~inside, stable=True)
    taken = jnp.clip(inside.sum(), 1, count)
    theta = theta[order[jnp.arange(count) % taken]]
    log_share = jnp.log(jnp.maximum(inside.mean(), 1.0 / len(inside)))
    return Proposal(theta, prior.log_prob(theta) - box.log_mass() - log_share)


def _box_around(z: Array, index: Array) -> Box:
    """Range of posterior draws and a tenth on each side; everything in round 0."""
    low, high = z.min(0), z.max(0)
    pad = 0.1 * (high - low)
    first = index == 0
    low = jnp.where(first, -WHOLE, jnp.maximum(low - pad, -WHOLE))
    return Box(low, jnp.where(first, WHOLE, jnp.minimum(high + pad, WHOLE)))
