"""The placed Gaussian: a solved estimate of theta and its error, in the latent space.

The map from x to the latent z = Phi^-1(CDF(theta)) bends wherever the prior ends, and a
linear regression of z pays for it. A parameter with two edges is therefore regressed in
its own units, where instruments are close to linear, and the estimate is carried into
z by the prior's own transport, error bar and all. Unbounded parameters are regressed
in z. The result is the `placed` that flows take.

A summary that fits a model itself (`estimate`) says where theta is and how well it is
known; the regression is then one of what is left, in its errors.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri
from jax.typing import ArrayLike

from flowinv.flows.head import LOG_SIGMA_RANGE
from flowinv.models.ridge import Ridge
from flowinv.priors.cut import CutPrior
from flowinv.priors.latent import Prior
from flowinv.types import Placed

__all__ = [
    "AnyPrior",
    "cut_normal_quantile",
    "edge_distances",
    "place",
    "predict",
    "regression_terms",
    "rest",
    "scaled_estimate",
]

# With more features their products would outnumber the rows of small studies.
MAX_QUADRATIC = 24
# Standardised features are kept within this many sds: products of outliers explode.
FEATURE_RANGE = 6.0
# Errors between an estimate and an edge over which the edge matters.
EDGE_REACH = 3.0
# Errors at which an estimate counts as that far off.
FAR_OFF = 8.0
# A prior, or what is left of one.
AnyPrior = Prior | CutPrior
# In errors: quantiles stay this far inside the edges, where z is infinite.
EDGE_MARGIN = 1e-4


def regression_terms(features: Array) -> Array:
    """Regression terms `[..., T]` of standardised features `[..., F]`.

    The features themselves, clipped, and for few of them all products of two.
    """
    features = jnp.clip(features, -FEATURE_RANGE, FEATURE_RANGE)
    size = features.shape[-1]
    if size > MAX_QUADRATIC:
        return features
    i, j = np.triu_indices(size)
    return jnp.concatenate([features, features[..., i] * features[..., j]], -1)


def scaled_estimate(prior: AnyPrior, estimate: Placed) -> Placed:
    """Put an estimate of theta and its log error in units of a regression, `[..., D]`.

    Parameters that are regressed in z get the mean 0 and the error 1.
    """
    zeros = jnp.zeros_like(estimate.mean)
    slope = prior.to_scaled(zeros + 1.0, zeros) - prior.to_scaled(zeros, zeros)
    known = slope > 0
    mean = jnp.where(known, prior.to_scaled(estimate.mean, zeros), 0.0)
    log_slope = jnp.log(jnp.where(known, slope, 1.0))
    return Placed(mean, jnp.where(known, estimate.log_sd + log_slope, 0.0))


def rest(target: Array, base: Placed | None) -> Array:
    """Return what a regression explains of `target`: all, or errors of an estimate."""
    if base is None:
        return target
    pull = (target - base.mean) * jnp.exp(-base.log_sd)
    # A fit that went astray must not bend all others.
    return jnp.clip(pull, -FAR_OFF, FAR_OFF)


def predict(ridge: Ridge, features: Array, base: Placed | None = None) -> Placed:
    """Mean and log sd in units of the regression for features `[..., F]`."""
    mean, log_sd = ridge.predict(regression_terms(features))
    if base is not None:
        mean = base.mean + jnp.exp(base.log_sd) * mean
        log_sd = base.log_sd + log_sd
    return Placed(mean, log_sd)


def place(prior: AnyPrior, predicted: Placed) -> Placed:
    """Carry mean and log sd of a regression (`predict`) into z.

    For a bounded parameter: the median, and half the 68 % interval, of the normal
    distribution of estimate and error *cut by the prior's edges*, carried into z. Next
    to an edge, and for estimates beyond it, that is where the posterior is.
    """
    mean, log_sd = predicted.mean, jnp.clip(predicted.log_sd, *LOG_SIGMA_RANGE)
    sd = jnp.exp(log_sd)
    sd = jnp.where(prior.flat, _without_prior(sd), sd)
    margin = 1.0 - EDGE_MARGIN * jnp.minimum(sd, 1.0)
    # One stack of three: the compiled program holds the transport once.
    ranks = jnp.asarray([0.1587, 0.5, 0.8413], mean.dtype).reshape(3, *[1] * mean.ndim)
    quantiles = jnp.clip(cut_normal_quantile(mean, sd, ranks), -margin, margin)
    bounded = prior.bounded
    # Unbounded parameters are in z already: 0 stands in for them.
    scaled = jnp.where(bounded, quantiles, 0.0)
    low, middle, high = prior.to_latent(prior.from_scaled(scaled))
    width = jnp.maximum(0.5 * (high - low), 1e-5)
    centre = jnp.where(bounded, middle, mean)
    log_width = jnp.where(bounded, jnp.log(width), log_sd)
    return Placed(centre, log_width)


def cut_normal_quantile(mean: ArrayLike, sd: ArrayLike, p: ArrayLike) -> Array:
    """Quantile of a normal distribution cut to (-1, 1), elementwise.

    Args:
        mean: mean before the cut; kept within 4 sd of the interval.
        sd: sd before the cut, positive.
        p: probability, in (0, 1).
    """
    mean = jnp.clip(jnp.asarray(mean), -1.0 - 4.0 * sd, 1.0 + 4.0 * sd)
    # Counted from the nearer edge, the upper tail Q keeps its digits there.
    side = jnp.where(mean > 0, -1.0, 1.0)
    rank = jnp.where(mean > 0, 1.0 - p, p)
    sides = jnp.stack([-1.0 - side * mean, 1.0 - side * mean])
    near, far = ndtr(-sides / sd)
    inside = side * mean - sd * ndtri(near - rank * (near - far))
    return side * jnp.clip(inside, -1.0, 1.0)


def edge_distances(prior: AnyPrior, predicted: Placed) -> Array:
    """Distance of the estimate from both edges in its own errors, `[..., 2 D]`.

    A posterior that an edge cuts is a truncated one: its shape depends on how many
    errors the *unclipped* estimate lies inside or beyond the edge, which the clipped
    one no longer tells. Softly bounded to (-1, 1), 1 far inside and for parameters
    without edges.
    """
    mean, sd = predicted.mean, jnp.exp(jnp.clip(predicted.log_sd, *LOG_SIGMA_RANGE))
    distances = jnp.concatenate([(mean + 1.0) / sd, (1.0 - mean) / sd], -1)
    bounded = np.tile(prior.bounded, 2)
    return jnp.where(bounded, jnp.tanh(distances / EDGE_REACH), 1.0)


def _without_prior(sd: Array) -> Array:
    """Error of the data alone: the prior's own precision, 3 on (-1, 1), taken off.

    A parameter that x does not inform keeps the prior's sd of 1 / sqrt(3) as its error,
    and gets an endless one here, so that the cut normal is the prior.
    """
    return sd / jnp.sqrt(jnp.maximum(1.0 - 3.0 * sd**2, 1e-2))
