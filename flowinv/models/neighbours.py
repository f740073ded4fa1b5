"""The posterior of a table of simulations: those whose x is nearest, smoothed.

Reference: Beaumont et al. 2002, Approximate Bayesian computation in population
genetics, doi:10.1093/genetics/162.4.2025 (the local linear adjustment).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import whole
from flowinv.data.standardise import standardise
from flowinv.models.kernel_density import (
    Kernels,
    kernel_density,
    kernel_log_prob,
    kernel_sample,
)
from flowinv.models.likelihood import Reader, Readings
from flowinv.models.rows import rows_of_theta, rows_of_x
from flowinv.priors.latent import Prior

__all__ = ["Nearest", "NeighbourPosterior", "Table"]

RIDGE = 1e-3


class Table(NamedTuple):
    """Simulations that are looked up.

    Attributes:
        z: latents of theta, `[N, D]`.
        y: standardised numbers of x, `[N, K]`.
        readings: how x becomes y.
    """

    z: Array
    y: Array
    readings: Readings


class Nearest(NamedTuple):
    """How neighbours become a posterior; static.

    Attributes:
        prior: prior of theta.
        reader: how x is read.
        count: neighbours k.
        adjusted: whether theta is moved to x by a local linear regression.
    """

    prior: Prior
    reader: Reader
    count: int
    adjusted: bool


@jax.tree_util.register_pytree_node_class
class NeighbourPosterior:
    """p(theta | x) of the simulations nearest to x; methods as of `Posterior`."""

    def __init__(self, table: Table, how: Nearest) -> None:
        """Bind simulations, and how they are asked."""
        self.table, self.how = table, how

    def tree_flatten(self) -> tuple[tuple[Table], Nearest]:
        """Numbers are leaves, the rest is structure."""
        return (self.table,), self.how

    @classmethod
    def tree_unflatten(cls, how: Nearest, children: tuple) -> "NeighbourPosterior":
        """Put a posterior together again."""
        return cls(children[0], how)

    @property
    def prior(self) -> Prior:
        """Prior of theta."""
        return self.how.prior

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.how.reader.x_shape

    def sample(self, key: Array, x: ArrayLike, num_samples: int) -> Array:
        """Draw theta ~ p(. | x), `[*batch, num_samples, D]`; row i by fold_in(key, i).

        Args:
            key: typed key.
            x: raw observations, `[*batch, *x_shape]`.
            num_samples: draws per observation, n.

        Raises:
            ValueError: for an x of another shape or not finite.
        """
        num_samples = whole("num_samples", num_samples)
        flat, batch = self._flat(x)
        drawn = _sampler(self.how, num_samples)(self.table, key, flat)
        return drawn.reshape(*batch, num_samples, self.prior.dim)

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(theta | x), -inf outside the prior's support.

        Args:
            theta: parameters, `[*batch, D]` or `[*batch, n, D]`.
            x: observations, `[*batch, *x_shape]`.

        Raises:
            ValueError: for shapes that do not fit.
        """
        flat, batch = self._flat(x)
        rows, inner = rows_of_theta(theta, batch, self.prior.dim)
        return _density(self.how)(self.table, rows, flat).reshape(*batch, *inner)

    def _flat(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        flat, batch = rows_of_x(x, self.x_shape)
        return jnp.asarray(flat), batch


def _kernels(how: Nearest, table: Table, x: Array) -> Kernels:
    """Neighbours of one x, weighted by their distance and smoothed."""
    flat = how.reader.flat(x)
    y = standardise(table.readings.statistics, flat, how.reader.scaling)
    off = table.y - y
    squares = (off**2).sum(-1)
    far, near = jax.lax.top_k(-squares, how.count)
    z, off = table.z[near], off[near]
    # Epanechnikov's, 0 at the farthest that is taken; its neighbours get a little.
    weights = jnp.maximum(1.0 + far / jnp.maximum(-far[-1], 1e-30), 1e-3)
    if how.adjusted:
        z = z - off @ _slopes(off, z, weights)
    return kernel_density(z, weights)


def _slopes(off: Array, z: Array, weights: Array) -> Array:
    """Slopes of z on the distance of x, `[K, D]`: weighted ridge regression."""
    weights = weights / weights.sum()
    terms, z = off - weights @ off, z - weights @ z
    square = (weights[:, None] * terms).T @ terms
    size = jnp.trace(square) / len(square) + 1e-20
    square = square + RIDGE * size * jnp.eye(len(square))
    return jnp.linalg.solve(square, (weights[:, None] * terms).T @ z)


@functools.lru_cache(maxsize=16)
def _sampler(how: Nearest, num_samples: int) -> Callable[..., Any]:
    """One program for all observations, one after the other."""

    @jax.jit
    def run(table: Table, key: Array, x: Array) -> Array:
        def one(row: tuple[Array, Array]) -> Array:
            index, x = row
            own = jax.random.fold_in(key, index)
            z = kernel_sample(own, _kernels(how, table, x), num_samples)
            return how.prior.from_latent(z).astype(jnp.float32)

        return jax.lax.map(one, (jnp.arange(len(x)), x))

    return run


@functools.lru_cache(maxsize=16)
def _density(how: Nearest) -> Callable[..., Any]:
    @jax.jit
    def run(table: Table, theta: Array, x: Array) -> Array:
        def one(row: tuple[Array, Array]) -> Array:
            theta, x = row
            inside = how.prior.contains(theta)
            middle = how.prior.from_latent(jnp.zeros(how.prior.dim, jnp.float32))
            safe = jnp.where(inside[:, None], theta, middle)
            z, log_det = how.prior.to_latent_and_log_det(safe)
            log_p = kernel_log_prob(_kernels(how, table, x), z) + log_det
            return jnp.where(inside, log_p, -jnp.inf)

        return jax.lax.map(one, (theta, x))

    return run
