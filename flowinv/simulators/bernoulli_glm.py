"""Spikes of a neuron that sees a white-noise stimulus: a generalised linear model.

At 100 times y_t ~ Bernoulli(sigmoid(X theta)_t), X an offset and the stimulus delayed
by 0 to 8 steps. Either all spikes are seen, or X^T y: the number of spikes and the
spike-triggered sums, which are sufficient. The benchmark tasks of Lueckmann et al.
2021, arXiv:2101.04653.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

__all__ = ["BernoulliGlm", "glm_design", "glm_precision"]

NUM_TIMES, NUM_DELAYS = 100, 9
OFFSET_PRECISION = 0.5
SEED = 42  # of the stimulus: part of the task's definition


@functools.lru_cache(maxsize=1)
def glm_design() -> np.ndarray:
    """Offset and delayed stimulus, `[100, 10]`, float32."""
    stimulus = np.random.RandomState(SEED).randn(NUM_TIMES).astype(np.float32)
    columns = [np.ones(NUM_TIMES, np.float32)]
    for delay in range(NUM_DELAYS):
        columns.append(np.r_[np.zeros(delay, np.float32), stimulus][:NUM_TIMES])
    return np.stack(columns, -1)


def glm_precision() -> np.ndarray:
    """Precision of the prior: smooth filters, free offset, `[10, 10]`."""
    first = np.eye(NUM_DELAYS) - np.eye(NUM_DELAYS, k=-1)
    smooth = first @ first + np.diag(np.sqrt(np.arange(NUM_DELAYS) / NUM_DELAYS))
    precision = np.zeros((1 + NUM_DELAYS, 1 + NUM_DELAYS))
    precision[0, 0] = OFFSET_PRECISION
    precision[1:, 1:] = smooth.T @ smooth
    return precision


@dataclasses.dataclass(frozen=True)
class BernoulliGlm:
    """Ten parameters; 10 sufficient numbers, or 100 spikes of 0 and 1.

    Attributes:
        raw: the spikes themselves are seen.
    """

    raw: bool = False

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(10,)` or `(100,)`."""
        return (NUM_TIMES if self.raw else 1 + NUM_DELAYS,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters: the offset and the filter."""
        return ("offset", *(f"filter_{delay}" for delay in range(NUM_DELAYS)))

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x for one theta `[10]`, float32."""
        design = jnp.asarray(glm_design())
        drive = jnp.matmul(design, jnp.asarray(theta), precision="highest")
        spikes = jax.random.bernoulli(key, jax.nn.sigmoid(drive)).astype(jnp.float32)
        if self.raw:
            return spikes
        return jnp.matmul(spikes, design, precision="highest")

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta), for sums up to the number of spikes that give them.

        theta . X^T y - sum_t log(1 + exp (X theta)_t).

        Args:
            theta: parameters, `[..., 10]`.
            x: observations, `[..., 10]` or `[..., 100]`.
        """
        design, theta = jnp.asarray(glm_design()), jnp.asarray(theta)
        drive = jnp.matmul(theta, design.T, precision="highest")
        seen = (drive if self.raw else theta) * jnp.asarray(x)
        return seen.sum(-1) - jax.nn.softplus(drive).sum(-1)
