"""Draws of a round with their density, and whether rows really came from there.

Nothing here rejects until something fits, so nothing hangs. Every row keeps the log
density of its proposal. A proposal in closed form also has a base in which its draws
are N(0, I): `normality` tells rows of other origin.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr

from flowinv.flows.base import standard_normal_log_prob
from flowinv.priors.cut import Box, CutPrior
from flowinv.sequential.method import Plan, Proposal
from flowinv.sequential.state import RoundsState

__all__ = [
    "KS_LIMIT",
    "box_distance",
    "from_box",
    "from_posterior",
    "from_prior",
    "normality",
    "posterior_distance",
    "prior_distance",
]

# sqrt(N) times the Kolmogorov-Smirnov statistic exceeds this by chance once in 1e9
# tests: 2 exp(-2 t^2).
KS_LIMIT = 3.28


def from_prior(plan: Plan, key: Array) -> Proposal:
    """Draw from the prior itself, of whatever kind."""
    prior = plan.estimator.prior
    theta = prior.sample(key, plan.method.num_simulations).astype(jnp.float32)
    return Proposal(theta, prior.log_prob(theta))


def prior_distance(plan: Plan, theta: Array) -> Array:
    """`normality` of rows that came from the prior; 0 for a fallback's latent."""
    prior = plan.estimator.prior
    if not prior.has_normal_latent:
        return jnp.zeros((), jnp.float32)
    return normality(prior.to_latent(theta))


def from_box(plan: Plan, key: Array, box: Box) -> Proposal:
    """Draw from the prior inside a box of its latent."""
    prior = CutPrior(plan.estimator.prior, box)
    w = prior.sample_latent(key, plan.method.num_simulations)
    theta, log_det = prior.from_latent_and_log_det(w)
    return Proposal(theta, standard_normal_log_prob(w) - log_det)


def from_posterior(
    plan: Plan, key: Array, state: RoundsState, x_obs: Array
) -> Proposal:
    """Draw from the last posterior."""
    prior = plan.estimator.prior_of(state.variables.frozen)
    w = plan.draws(key, state.variables, x_obs, plan.method.num_simulations)
    log_q = plan.log_q(state.variables, w, x_obs)
    theta, log_det = prior.from_latent_and_log_det(w)
    return Proposal(theta, log_q - log_det)


def box_distance(plan: Plan, box: Box, theta: Array) -> Array:
    """`normality` of rows that came from the prior inside a box."""
    return normality(CutPrior(plan.estimator.prior, box).to_latent(theta))


def posterior_distance(
    plan: Plan, state: RoundsState, x_obs: Array, theta: Array
) -> Array:
    """`normality` of rows that came from the last posterior; 0 for an ensemble."""
    estimator, variables = plan.estimator, state.variables
    if variables.num_members > 1:
        return jnp.zeros((), jnp.float32)
    w = estimator.prior_of(variables.frozen).to_latent(theta)
    features = estimator.features(variables.frozen, x_obs[None])
    base, _ = estimator.apply_flow("inverse_and_log_det", variables.params, w, features)
    return normality(base)


def normality(base: Array) -> Array:
    """sqrt(N) times the largest KS statistic of the columns against N(0, 1)."""
    count = len(base)
    levels = jnp.sort(ndtr(base), 0)
    steps = (jnp.arange(count, dtype=base.dtype) / count)[:, None]
    gap = jnp.maximum(levels - steps, steps + 1.0 / count - levels)
    return math.sqrt(count) * gap.max()
