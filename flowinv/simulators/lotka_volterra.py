"""Prey X and predators Y, counted with log-normal errors.

    dX/dt = alpha X - beta X Y,   dY/dt = -gamma Y + delta X Y,

from 30 and 1; x holds ten prey counts, then ten of predators, 2.1 apart, each
LogNormal(log u, 0.1) around the true u. The benchmark task of Lueckmann et al. 2021,
arXiv:2101.04653.

Solved for log X and log Y: counts fall below 1e-10, which no sum of float32 survives.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowinv.simulators.ode import floating, solved_at

__all__ = ["LotkaVolterra"]

START = (math.log(30.0), 0.0)
TIMES = tuple(2.1 * index for index in range(10))
LEAST, MOST, SD = math.log(1e-10), math.log(1e4), 0.1


@dataclasses.dataclass(frozen=True)
class LotkaVolterra:
    """Four rates; twenty positive numbers."""

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(20,)`."""
        return (2 * len(TIMES),)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("alpha", "beta", "gamma", "delta")

    def log_means(self, theta: ArrayLike) -> Array:
        """Return log u of prey, then of predators, `[20]`.

        Args:
            theta: alpha, beta, gamma, delta, `[4]`; float64 gives float64.
        """
        theta = floating(theta)

        def field(y: Array, theta: Array) -> Array:
            growth, hunted, death, fed = theta
            prey, predators = jnp.exp(y)
            return jnp.stack([growth - hunted * predators, fed * prey - death])

        logs = solved_at(field, jnp.asarray(START, theta.dtype), theta, TIMES)
        return jnp.clip(logs.T.reshape(-1), LEAST, MOST)

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x for one theta `[4]`, float32."""
        means = self.log_means(theta).astype(jnp.float32)
        return jnp.exp(means + SD * jax.random.normal(key, self.x_shape, jnp.float32))

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta).

        Args:
            theta: parameters, `[..., 4]`.
            x: positive numbers, `[..., 20]`.
        """
        theta = floating(theta)
        means = jnp.vectorize(self.log_means, signature="(d)->(t)")(theta)
        log_x = jnp.log(jnp.asarray(x, means.dtype))
        square = ((log_x - means) / SD) ** 2
        constant = math.log(SD) + 0.5 * math.log(2 * math.pi)
        return -(0.5 * square + constant + log_x).sum(-1)
