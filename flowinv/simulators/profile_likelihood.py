"""Likelihood terms of count profiles, as deviances: small numbers, safe in float32.

A raw multinomial log-likelihood of 4,000 counts is about -2e4, which leaves float32
no digits for the differences that matter. Each term here has the same value minus
its largest one over all profiles, a constant in theta.
"""

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["multinomial_log_prob", "shared_correction", "total_log_prob"]

SCORE_BOUND = 6.0  # standard deviations; the posterior lies within 5


def multinomial_log_prob(counts: Array, log_weights: Array) -> Array:
    """Return sum_i r_i log(p_i / (r_i / N)), p = softmax(log_weights); 0 at best.

    Args:
        counts: counts r with shape `[P]`.
        log_weights: logarithms of the cells' weights, up to a constant, `[P]`.
    """
    safe = jnp.where(counts > 0, counts, 1.0)
    total = jnp.maximum(counts.sum(), 1.0)
    ratio = log_weights - jax.nn.logsumexp(log_weights) - jnp.log(safe / total)
    return jnp.sum(jnp.where(counts > 0, counts * ratio, 0.0))


def total_log_prob(total: Array, log_mean: Array) -> Array:
    """Return N log(mean / N) - (mean - N), the Poisson log-probability; 0 at best."""
    ratio = log_mean - jnp.log(jnp.maximum(total, 1.0))
    # With N = 0 only -mean is left, which both forms give.
    excess = jnp.where(total > 0, total * jnp.expm1(ratio), jnp.exp(log_mean))
    return total * ratio - excess


def _standardised(
    grid: Array, counts: Array, log_weights: Array
) -> tuple[Array, Array]:
    """Residuals of a profile's mean and variance in their standard deviations.

    Bounded smoothly: far from the posterior they must not overtake the multinomials.
    """
    weights = jax.nn.softmax(log_weights)
    total = jnp.maximum(counts.sum(), 1.0)
    offset = grid - jnp.sum(weights * grid)
    variance = jnp.sum(weights * offset**2)
    spread = jnp.sum(weights * offset**4) - variance**2
    mean_score = jnp.sum(counts * offset) / jnp.sqrt(total * variance)
    second = jnp.sum(counts * (offset**2 - variance))
    variance_score = second / jnp.sqrt(total * jnp.maximum(spread, 1e-6))
    bound = SCORE_BOUND
    return (
        bound * jnp.tanh(mean_score / bound),
        bound * jnp.tanh(variance_score / bound),
    )


def _normal_copula(first: Array, second: Array, correlation: Array) -> Array:
    """Log density of a normal copula at the standard scores `first`, `second`."""
    rest = 1.0 - correlation**2
    cross = correlation * (first**2 + second**2) - 2.0 * first * second
    return -0.5 * jnp.log(rest) - 0.5 * correlation * cross / rest


def shared_correction(
    grid: Array,
    row: tuple[Array, Array],
    column: tuple[Array, Array],
    correlation: Array,
) -> Array:
    """Return the leading dependence of the two projections of a correlated spot.

    For photons (x, y) of a bivariate normal with correlation rho the profiles' means
    have correlation rho, their variances rho^2, and a mean and a variance none.

    Args:
        grid: grid points of both axes, `[P]`.
        row: counts over x and the log weights expected of them, each `[P]`.
        column: the same over y.
        correlation: correlation rho of the spot.

    Returns:
        A scalar, to be added to the two multinomial terms.
    """
    mean_x, variance_x = _standardised(grid, *row)
    mean_y, variance_y = _standardised(grid, *column)
    means = _normal_copula(mean_x, mean_y, correlation)
    return means + _normal_copula(variance_x, variance_y, correlation**2)
