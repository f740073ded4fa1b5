"""Simple likelihood, complex posterior: four points of a 2-D normal.

Mean (theta_1, theta_2), standard deviations s_1 = theta_3^2, s_2 = theta_4^2,
correlation tanh theta_5, with 1e-6 added to the variances. Papamakarios et al. 2019,
arXiv:1805.07226; the benchmark task of Lueckmann et al. 2021, arXiv:2101.04653.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

__all__ = ["Slcp"]

NUM_POINTS = 4
JITTER = 1e-6  # variance


@dataclasses.dataclass(frozen=True)
class Slcp:
    """Five parameters, eight observed numbers, all without unit."""

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(8,)`: point after point."""
        return (2 * NUM_POINTS,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(f"theta_{index}" for index in range(1, 6))

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x `[8]` for one theta `[5]`, float32."""
        theta = jnp.asarray(theta)
        sd_1, slope, sd_2 = _factor(theta)
        noise = jax.random.normal(key, (NUM_POINTS, 2))
        first = theta[0] + sd_1 * noise[:, 0]
        second = theta[1] + slope * noise[:, 0] + sd_2 * noise[:, 1]
        return jnp.stack([first, second], -1).reshape(2 * NUM_POINTS)

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta).

        Args:
            theta: parameters, `[..., 5]`.
            x: observations, `[..., 8]`.
        """
        theta, x = jnp.asarray(theta), jnp.asarray(x)
        sd_1, slope, sd_2 = (part[..., None] for part in _factor(theta))
        points = x.reshape(*x.shape[:-1], NUM_POINTS, 2)
        first = (points[..., 0] - theta[..., :1]) / sd_1
        second = (points[..., 1] - theta[..., 1:2] - slope * first) / sd_2
        normal = jax.scipy.stats.norm.logpdf
        density = normal(first) + normal(second) - jnp.log(sd_1 * sd_2)
        return density.sum(-1)


def _factor(theta: Array) -> tuple[Array, Array, Array]:
    """Cholesky factor of the covariance: (l_11, l_21, l_22), `[...]` each.

    l_22^2 = S_22 - S_12^2 / S_11, written with 1 - tanh^2 = 1 / cosh^2: the difference
    of the squares loses all digits of float32 for strong correlations.
    """
    var_1, var_2 = theta[..., 2] ** 4, theta[..., 3] ** 4
    rho = jnp.tanh(theta[..., 4])
    covariance = rho * theta[..., 2] ** 2 * theta[..., 3] ** 2
    sd_1 = jnp.sqrt(var_1 + JITTER)
    # var_2 - covariance^2 / (var_1 + e) = var_2 (var_1 sech^2 + e) / (var_1 + e).
    free = var_1 / jnp.cosh(theta[..., 4]) ** 2 + JITTER
    sd_2 = jnp.sqrt(var_2 * free / (var_1 + JITTER) + JITTER)
    return sd_1, covariance / sd_1, sd_2
