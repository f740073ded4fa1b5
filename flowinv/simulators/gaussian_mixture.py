"""A location seen through one of two noises, wide or narrow.

With even chances x ~ N(theta, I) or x ~ N(theta, 0.01 I), an own choice for every row.
The benchmark task of Lueckmann et al. 2021, arXiv:2101.04653.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.simulators.rejection import kept_of

__all__ = ["GaussianMixture"]

WIDE, NARROW = 1.0, 0.1  # standard deviations


@dataclasses.dataclass(frozen=True)
class GaussianMixture:
    """Two parameters, two observed numbers, all without unit."""

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(2,)`."""
        return (2,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return ("theta_1", "theta_2")

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x `[2]` for one theta `[2]`, float32."""
        key_noise, key_kind = jax.random.split(key)
        sd = jnp.where(jax.random.bernoulli(key_kind), WIDE, NARROW)
        return jnp.asarray(theta) + sd * jax.random.normal(key_noise, (2,))

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta) for theta and x `[..., 2]`."""
        off = jnp.asarray(x) - jnp.asarray(theta)
        parts = [
            jax.scipy.stats.norm.logpdf(off, 0.0, sd).sum(-1) for sd in (WIDE, NARROW)
        ]
        return jnp.logaddexp(*parts) - math.log(2.0)

    def posterior(
        self, x: np.ndarray, half: float, num_samples: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw exactly from p(theta | x) under U[-half, half]^2, `[n, 2]`.

        The mixture around x; draws outside the box are made again, of a new kind.

        Args:
            x: one observation, `[2]`.
            half: half width of the box.
            num_samples: draws n.
            rng: numpy generator.

        Raises:
            ValueError: if hardly any theta of the box can give this x.
        """

        def propose(count: int) -> tuple[np.ndarray, np.ndarray]:
            sd = rng.choice([WIDE, NARROW], (count, 1))
            theta = np.asarray(x) + sd * rng.normal(size=(count, 2))
            return theta, (np.abs(theta) <= half).all(-1)

        return kept_of(propose, x, num_samples)
