"""The placed Gaussian: a solved estimate of theta and its error, in the latent space.

The map from x to the latent z = Phi^-1(CDF(theta)) bends wherever the prior ends, and a
linear regression of z pays for it. A parameter with two edges is therefore regressed in
its own units, where instruments are close to linear, and the estimate is carried into
z by the prior's own transport, error bar and all. Unbounded parameters are regressed
in z. The result is the `placed` that flows take.

A summary that fits a model itself (`estimate`) says where theta is and how well it is
known; the regression is then one of what is left, in its errors.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.flows.head import LOG_SIGMA_RANGE
from flowinv.models.ridge import Ridge
from flowinv.priors.cut import CutPrior
from flowinv.priors.latent import Prior
from flowinv.priors.normal import normal_cdf, normal_quantile
from flowinv.types import Placed

__all__ = [
    "AnyPrior",
    "SelectedRows",
    "cut_normal_quantile",
    "edge_distances",
    "nearness",
    "place",
    "predict",
    "regression_terms",
    "rest",
    "scaled_estimate",
    "settled",
    "turned",
]

# With more features their products would outnumber the rows of small studies.
MAX_QUADRATIC = 24
# Standardised features are kept within this many sds: products of outliers explode.
FEATURE_RANGE = 6.0
# From the 5 % to the 95 % quantile of a normal, in its sds.
NORMAL_RANGE = 3.28971
# Errors between an estimate and an edge over which the edge matters.
EDGE_REACH = 3.0
# Errors by which a regression that the selection bends must win near the one x: of ten
# lanes of a linear Gaussian two had it by two errors, for no reason but chance.
SURE_NEAR = 3.0
# Errors at which an estimate counts as that far off.
FAR_OFF = 8.0
# Of a uniform distribution on (-1, 1); and a precision next to nothing beside it.
FLAT_PRECISION, LEAST_PRECISION = 3.0, 0.01
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

    For a bounded parameter: the median, and the width of the 90 % interval, of the
    normal distribution of estimate and error *cut by the prior's edges*, carried into
    z. Next to an edge, and for estimates beyond it, that is where the posterior is. (By
    the 68 % interval a normal in a box 9 sds wide would come out with 0.93 of its
    variance, by this one with 0.99: tails are what the way into z bends.)
    """
    mean, log_sd = predicted.mean, jnp.clip(predicted.log_sd, *LOG_SIGMA_RANGE)
    sd = jnp.exp(log_sd)
    sd = jnp.where(prior.flat, _without_prior(sd), sd)
    margin = 1.0 - EDGE_MARGIN * jnp.minimum(sd, 1.0)
    # One stack of three: the compiled program holds the transport once.
    ranks = jnp.asarray([0.05, 0.5, 0.95], mean.dtype).reshape(3, *[1] * mean.ndim)
    quantiles = jnp.clip(cut_normal_quantile(mean, sd, ranks), -margin, margin)
    bounded = prior.bounded
    # Unbounded parameters are in z already: 0 stands in for them.
    scaled = jnp.where(bounded, quantiles, 0.0)
    low, middle, high = prior.to_latent(prior.from_scaled(scaled))
    width = jnp.maximum((high - low) / NORMAL_RANGE, 1e-5)
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
    near, far = normal_cdf(-sides / sd)
    inside = side * mean - sd * normal_quantile(near - rank * (near - far))
    return side * jnp.clip(inside, -1.0, 1.0)


class SelectedRows(NamedTuple):
    """Rows whose theta a box, or a region, has selected.

    Attributes:
        terms: regression terms, `[N, T]`.
        scaled: parameters in units of the regression, `[N, D]`.
        z: their latent, in the box if there is one, `[N, D]`.
        train: how much rows count that regressions are fitted to, `[N]`.
        held: the same of those that judge, `[N]`.
        asked: terms of the one x that is asked about, `[T]`; None where all are.
    """

    terms: Array
    scaled: Array
    z: Array
    train: Array
    held: Array
    asked: Array | None = None


def nearness(own: Placed, others: Placed) -> Array:
    """How near others' estimates are to that of one x, in (0, 1], `[...]`.

    exp(-d^2 / 2) for the mean d^2 over the parameters, in the one's own errors. Rows of
    a region around x_obs have posteriors that its edges cut, but for those near x_obs:
    what is asked about x_obs alone is judged by these.
    """
    away = (others.mean - own.mean) * jnp.exp(-own.log_sd)
    return jnp.exp(-0.5 * (away**2).mean(-1))


def settled(prior: AnyPrior, ridges: tuple[Ridge, ...], rows: SelectedRows) -> Ridge:
    """For each parameter a regression of rows whose theta was selected.

    The last of `ridges`, of the fewest terms, turned round (`turned`): a curve that
    bends by the selection alone leads astray where rows are few. The first one where
    held-out rows are clearly likelier by it: all of them in a box, whose edges the
    latent knows, and those near the one x elsewhere.
    """
    others = ridges[0], turned(prior, ridges[-1], rows)
    errors = 1.0
    if rows.asked is not None and not isinstance(prior, CutPrior):
        own, all_ = (Placed(*ridges[-1].predict(t)) for t in (rows.asked, rows.terms))
        rows = rows._replace(held=rows.held * nearness(own, all_))
        errors = SURE_NEAR
    keeps = _gain_in_errors(prior, others, rows) > errors
    # Of rows without any spread there is nothing to turn.
    keeps |= ~jnp.isfinite(others[1].mean_bias + others[1].scale_bias)
    return jax.tree.map(lambda a, b: jnp.where(keeps, a, b), *others)


def _gain_in_errors(
    prior: AnyPrior, two: tuple[Ridge, Ridge], rows: SelectedRows
) -> Array:
    """By how many errors held-out rows are likelier by the first of two, `[D]`."""

    def surprise(ridge: Ridge) -> Array:
        placed = place(prior, Placed(*ridge.predict(rows.terms)))
        pull = (rows.z - placed.mean) * jnp.exp(-placed.log_sd)
        return placed.log_sd + 0.5 * jnp.clip(pull, -FAR_OFF, FAR_OFF) ** 2

    # One after the other: the compiled program holds the place once.
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *two)
    first, second = jax.lax.map(surprise, both)
    gain, weights = second - first, (rows.held / rows.held.sum())[:, None]
    mean = (weights * gain).sum(0)
    error = jnp.sqrt((weights**2 * (gain - mean) ** 2).sum(0))
    return mean / jnp.maximum(error, 1e-30)


def turned(prior: AnyPrior, ridge: Ridge, rows: SelectedRows) -> Ridge:
    """Return a regression turned round, for rows whose theta was selected.

    Of rows whose theta was selected, theta given x is no line any more; x given theta
    is what it was. So the prediction s, as one number that x says of a parameter u, is
    regressed on u, and Bayes' theorem gives u from s: the likelihood of s = a u + b,
    times what the prior is before the cut. Of rows that nothing has cut the result is
    the regression itself.
    """
    weights = rows.train + rows.held
    weights = (weights / weights.sum())[:, None]
    value, _ = ridge.predict(rows.terms)
    middle, centre = (weights * rows.scaled).sum(0), (weights * value).sum(0)
    u, s = rows.scaled - middle, value - centre
    slope = (weights * u * s).sum(0) / jnp.maximum((weights * u**2).sum(0), 1e-12)
    noise = jnp.maximum((weights * (s - slope * u) ** 2).sum(0), 1e-12)
    mean, precision = prior.scaled_normal()
    total = slope**2 / noise + precision + LEAST_PRECISION
    pull = slope / noise / total
    bias = precision * mean / total - pull * (centre - slope * middle)
    # `place` takes a flat prior's precision off again.
    total = total + jnp.where(prior.flat, FLAT_PRECISION, 0.0)
    log_sd = -0.5 * jnp.log(total)
    return Ridge(
        ridge.mean_kernel * pull,
        ridge.mean_bias * pull + bias,
        jnp.zeros_like(ridge.scale_kernel),
        log_sd,
        log_sd,
    )


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
    """Error of the data alone: the prior's own precision taken off.

    A parameter that x does not inform keeps the prior's sd of 1 / sqrt(3) as its error,
    and gets an endless one here, so that the cut normal is the prior.
    """
    return sd / jnp.sqrt(jnp.maximum(1.0 - FLAT_PRECISION * sd**2, 1e-2))
