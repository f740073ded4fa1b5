"""Draws of a round with their density, and whether rows really came from there.

Nothing here rejects until something fits, so nothing hangs. Every row keeps the log
density of its proposal. A proposal in closed form also has a base in which its draws
are N(0, I): `normality` tells rows of other origin.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr

from flowinv.flows.density import standard_normal_log_prob
from flowinv.priors.cut import Box, CutPrior
from flowinv.sequential.method import Plan, Proposal
from flowinv.sequential.state import RoundsState
from flowinv.sequential.wide import WideFlow, WideNormal

__all__ = [
    "KS_LIMIT",
    "box_distance",
    "from_box",
    "from_posterior",
    "from_prior",
    "normality",
    "posterior_distance",
    "prior_distance",
    "resampled",
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
    plan: Plan, key: Array, state: RoundsState, x_obs: Array, scale: float = 1.0
) -> Proposal:
    """Draw from the last posterior, its base widened by `scale`."""
    prior = plan.estimator.prior_of(state.variables.frozen)
    wide = WideFlow(plan, state.variables, x_obs, WideNormal(scale))
    w = wide.sample(key, plan.method.num_simulations)
    theta, log_det = prior.from_latent_and_log_det(w)
    return Proposal(theta, wide.log_probs(w)[1] - log_det)


def resampled(key: Array, log_w: Array, count: int) -> tuple[Array, Array]:
    """Take candidates by their weights, none twice.

    The `count` largest of log w plus Gumbel noise: each is there with the chance
    1 - exp(-w / t), t the threshold that the next one would have had to exceed
    (bottom-k sampling: Cohen and Kaplan 2007, doi:10.1145/1281100.1281133). Weights
    over chances make sums over those taken unbiased, as few as the candidates may be.

    Args:
        key: typed key.
        log_w: log of target over proposal at candidates, `[M]`, M above `count`; -inf
            for those that must not be taken, `count` of them at most left.
        count: how many are taken, N.

    Returns:
        Their numbers `[N]`, and log of target over the density that they now have,
        `[N]`: constant where M is many times N.
    """
    noise = jax.random.gumbel(key, log_w.shape, log_w.dtype)
    largest, taken = jax.lax.top_k(log_w + noise, count + 1)
    taken, own = taken[:-1], log_w[taken[:-1]]
    chance = -jnp.expm1(-jnp.exp(own - largest[-1]))
    return taken, own - jnp.log(chance) + math.log(count / len(log_w))


def box_distance(plan: Plan, box: Box, theta: Array) -> Array:
    """`normality` of rows that came from the prior inside a box."""
    return normality(CutPrior(plan.estimator.prior, box).to_latent(theta))


def posterior_distance(
    plan: Plan, state: RoundsState, x_obs: Array, theta: Array, scale: float = 1.0
) -> Array:
    """`normality` of rows of `from_posterior`; 0 for an ensemble."""
    estimator, variables = plan.estimator, state.variables
    if variables.num_members > 1:
        return jnp.zeros((), jnp.float32)
    w = estimator.prior_of(variables.frozen).to_latent(theta)
    features = estimator.features(variables.frozen, x_obs[None])
    base, _ = estimator.apply_flow("inverse_and_log_det", variables.params, w, features)
    return normality(base / scale)


def normality(base: Array) -> Array:
    """sqrt(N) times the largest KS statistic of the columns against N(0, 1)."""
    count = len(base)
    levels = jnp.sort(ndtr(base), 0)
    steps = (jnp.arange(count, dtype=base.dtype) / count)[:, None]
    gap = jnp.maximum(levels - steps, steps + 1.0 / count - levels)
    return math.sqrt(count) * gap.max()
