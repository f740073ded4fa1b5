"""An epidemic in a closed town: how many of a sample of people are infected.

With S + I + R = N, all but one of N = 1,000,000 healthy at first,

    dS/dt = -beta S I / N,   dI/dt = beta S I / N - gamma I;

on every 17th day 1,000 people are asked: x ~ Binomial(1000, I / N). The benchmark task
of Lueckmann et al. 2021, arXiv:2101.04653.

Solved for log(I / N) and 1 - S / N, which float32 holds: of 1 - 1e-6 it holds the
difference from 1 to 6 % only.
"""

import dataclasses
import math

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln, xlog1py, xlogy
from jax.typing import ArrayLike

from flowinv.simulators.counts import binomial_quantile, open_uniforms
from flowinv.simulators.ode import floating, solved_at

__all__ = ["Sir"]

POPULATION, ASKED = 1e6, 1_000.0
DAYS = tuple(17.0 * index for index in range(10))


@dataclasses.dataclass(frozen=True)
class Sir:
    """Rates of contact and of recovery in 1/day; ten counts."""

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(10,)`."""
        return (len(DAYS),)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("beta", "gamma")

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the parameters."""
        return ("1/day", "1/day")

    def infected(self, theta: ArrayLike) -> Array:
        """Return the share I / N of infected people on the ten days, `[10]`.

        Args:
            theta: beta and gamma, `[2]`; float64 gives float64.
        """
        theta = floating(theta)
        start = jnp.asarray([-math.log(POPULATION), 1 / POPULATION], theta.dtype)

        def field(y: Array, theta: Array) -> Array:
            log_infected, ill_or_over = y
            force = theta[0] * (1 - ill_or_over)
            return jnp.stack([force - theta[1], force * jnp.exp(log_infected)])

        return jnp.clip(jnp.exp(solved_at(field, start, theta, DAYS)[:, 0]), 0.0, 1.0)

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x for one theta `[2]`, float32."""
        share = self.infected(theta).astype(jnp.float32)
        uniform = open_uniforms(key, self.x_shape)
        count = binomial_quantile(uniform, jnp.float32(ASKED), jnp.nan_to_num(share))
        return jnp.where(jnp.isfinite(share), count, jnp.nan)

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta).

        Args:
            theta: parameters, `[..., 2]`.
            x: counts, `[..., 10]`.
        """
        theta = floating(theta)
        share = jnp.vectorize(self.infected, signature="(d)->(t)")(theta)
        share, x = jnp.clip(share, 1e-30, 1.0), jnp.asarray(x, share.dtype)
        ways = gammaln(ASKED + 1.0) - gammaln(x + 1.0) - gammaln(ASKED - x + 1.0)
        return (ways + xlogy(x, share) + xlog1py(ASKED - x, -share)).sum(-1)
