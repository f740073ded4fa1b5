"""Weighted points of a posterior's latent as a smooth density: draws and log density.

Gaussian kernels with the points' covariance times h^2; h is chosen by the likelihood of
every point under the others. In the latent no edge cuts a kernel.

Reference: Silverman 1986, Density Estimation for Statistics and Data Analysis.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.flows.density import standard_normal_log_prob

__all__ = ["Kernels", "kernel_density", "kernel_log_prob", "kernel_sample"]

# Widths tried, in times of Scott's for a normal.
FACTORS = tuple(0.05 * 1.25**step for step in range(16))
RIDGE = 1e-6


class Kernels(NamedTuple):
    """A kernel density of K points.

    Attributes:
        points: `[K, D]`.
        log_weights: normalised, `[K]`.
        factor: Cholesky factor of the points' covariance, `[D, D]`.
        width: h, `[]`.
    """

    points: Array
    log_weights: Array
    factor: Array
    width: Array


def kernel_density(points: Array, weights: Array) -> Kernels:
    """Return kernels around weighted points; pure, jit- and vmap-able.

    Args:
        points: `[K, D]`, at least two different ones.
        weights: at least 0, `[K]`; need not add up to 1.
    """
    dim = points.shape[-1]
    weights = weights / weights.sum()
    mean = weights @ points
    off = points - mean
    covariance = (weights[:, None] * off).T @ off
    size = jnp.trace(covariance) / dim + 1e-20
    factor = jnp.linalg.cholesky(covariance + RIDGE * size * jnp.eye(dim))
    white = jax.scipy.linalg.solve_triangular(factor, off.T, lower=True).T
    squares = ((white[:, None] - white[None]) ** 2).sum(-1)
    log_weights = jnp.log(weights)
    # A point says nothing about itself.
    others = jnp.where(jnp.eye(len(points), dtype=bool), -jnp.inf, log_weights[None])
    scott = (1 / (weights**2).sum()) ** (-1 / (dim + 4))
    tried = scott * jnp.asarray(FACTORS)

    def likelihood(width: Array) -> Array:
        own = others - 0.5 * squares / width**2
        # One point far from all others must not decide.
        log_p = jnp.maximum(jax.nn.logsumexp(own, -1) - dim * jnp.log(width), -30.0)
        return jnp.where(weights > 0, weights * log_p, 0.0).sum()

    best = jax.lax.map(likelihood, tried).argmax()
    return Kernels(points, log_weights, factor, tried[best])


def kernel_sample(key: Array, kernels: Kernels, num_samples: int) -> Array:
    """Draw from the density, `[n, D]`."""
    key_point, key_noise = jax.random.split(key)
    # Systematic: every point as often as its weight says, to one draw.
    edges = jnp.cumsum(jnp.exp(kernels.log_weights))
    at = (jnp.arange(num_samples) + jax.random.uniform(key_point)) / num_samples
    taken = jnp.searchsorted(edges / edges[-1], at).clip(0, len(edges) - 1)
    taken = jax.random.permutation(jax.random.fold_in(key_point, 1), taken)
    shape = (num_samples, kernels.points.shape[-1])
    noise = jax.random.normal(key_noise, shape, kernels.points.dtype)
    return kernels.points[taken] + kernels.width * noise @ kernels.factor.T


def kernel_log_prob(kernels: Kernels, z: Array) -> Array:
    """Log density at z `[n, D]`, `[n]`."""

    def one(z: Array) -> Array:
        off = (z - kernels.points).T / kernels.width
        white = jax.scipy.linalg.solve_triangular(kernels.factor, off, lower=True).T
        return jax.nn.logsumexp(kernels.log_weights + standard_normal_log_prob(white))

    log_det = jnp.log(jnp.diagonal(kernels.factor)).sum()
    log_det = log_det + z.shape[-1] * jnp.log(kernels.width)
    return (
        jax.lax.map(one, z, batch_size=max(1, 2**16 // len(kernels.points))) - log_det
    )
