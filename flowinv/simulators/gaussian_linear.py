"""A normal location model: x = theta + noise, in any dimension.

Its posterior is known in closed form under a normal prior, and by coordinates under a
box. The benchmark tasks of Lueckmann et al. 2021, arXiv:2101.04653, have D = 10 and a
noise variance of 0.1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_positive

__all__ = ["GaussianLinear"]


@dataclasses.dataclass(frozen=True)
class GaussianLinear:
    """D parameters, D observed numbers, all without unit.

    Attributes:
        dim: D.
        variance: of the noise, the same in every coordinate.
    """

    dim: int = 10
    variance: float = 0.1

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: for no dimension or a variance that is not positive.
        """
        check_at_least("dim", self.dim, 1)
        check_positive("variance", self.variance)

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(D,)`."""
        return (self.dim,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(f"theta_{index}" for index in range(1, self.dim + 1))

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x `[D]` for one theta `[D]`, float32."""
        noise = jax.random.normal(key, (self.dim,))
        return jnp.asarray(theta) + math.sqrt(self.variance) * noise

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta) for theta and x `[..., D]`."""
        sd = math.sqrt(self.variance)
        return jax.scipy.stats.norm.logpdf(jnp.asarray(x), theta, sd).sum(-1)
