"""slcp among 92 numbers that say nothing, all in a random order.

The distractors come from a mixture of 20 Student distributions with two degrees of
freedom: their variance is infinite. The benchmark task of Lueckmann et al. 2021,
arXiv:2101.04653.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.simulators.slcp import NUM_POINTS, Slcp

__all__ = ["SlcpDistractors"]

NUM_SEEN, NUM_DISTRACTORS, NUM_PARTS = 2 * NUM_POINTS, 92, 20
FREEDOM = 2
LOC_SCALE, SCALE = 15.0, 3.0
SEED = 42  # of the mixture and the order: part of the task's definition


class _Frozen(NamedTuple):
    """What the task's definition draws once.

    Attributes:
        loc: of the parts, `[20, 92]`.
        factor: lower triangles of their scales, `[20, 92, 92]`.
        order: number i of x is number `order[i]` of slcp and the distractors, `[100]`.
    """

    loc: np.ndarray
    factor: np.ndarray
    order: np.ndarray


@functools.lru_cache(maxsize=1)
def _frozen() -> _Frozen:
    rng = np.random.RandomState(SEED)
    loc = [LOC_SCALE * rng.normal(size=NUM_DISTRACTORS) for _ in range(NUM_PARTS)]
    factors = []
    for _ in range(NUM_PARTS):
        lower = np.tril(rng.normal(size=(NUM_DISTRACTORS, NUM_DISTRACTORS)))
        factors.append(SCALE * (lower + np.diag(np.exp(rng.normal(size=len(lower))))))
    order = rng.permutation(NUM_SEEN + NUM_DISTRACTORS)
    return _Frozen(np.float32(loc), np.float32(factors), order)


@dataclasses.dataclass(frozen=True)
class SlcpDistractors:
    """Five parameters, 100 observed numbers, eight of which depend on them."""

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(100,)`."""
        return (NUM_SEEN + NUM_DISTRACTORS,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return Slcp().names

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x `[100]` for one theta `[5]`, float32."""
        keys = jax.random.split(key, 4)
        frozen = _frozen()
        part = jax.random.randint(keys[0], (), 0, NUM_PARTS)
        noise = jax.random.normal(keys[1], (NUM_DISTRACTORS,))
        # chi2 with two degrees of freedom over two is an exponential.
        spread = jnp.sqrt(jax.random.exponential(keys[2]))
        factor = jnp.asarray(frozen.factor)[part]
        moved = jnp.matmul(factor, noise, precision="highest") / spread
        distractors = jnp.asarray(frozen.loc)[part] + moved
        seen = Slcp().simulate(keys[3], theta)
        return jnp.concatenate([seen, distractors])[frozen.order]

    def informative(self, x: ArrayLike) -> Array:
        """The eight numbers of slcp, `[..., 8]`, of x `[..., 100]`."""
        return jnp.asarray(x)[..., np.argsort(_frozen().order)[:NUM_SEEN]]

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta) up to a term of x alone.

        Args:
            theta: parameters, `[..., 5]`.
            x: observations, `[..., 100]`.
        """
        return Slcp().log_prob(theta, self.informative(x))
