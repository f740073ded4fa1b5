"""The standard normal and the float edges that every latent transport rests on."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri
from jax.typing import ArrayLike

__all__ = [
    "as_floating",
    "inner_edges",
    "log_normal_density",
    "lower_tail",
    "normal_score",
]

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def as_floating(value: ArrayLike) -> Array:
    """Return `value` as float64 when it is (and x64 is on), else as float32."""
    value = jnp.asarray(value)
    return value if value.dtype == jnp.float64 else value.astype(jnp.float32)


def log_normal_density(z: Array) -> Array:
    """Elementwise log N(z; 0, 1), finite for |z| up to 1e18 in float32."""
    return -0.5 * z * z - _HALF_LOG_2PI


def lower_tail(z: Array) -> Array:
    """Phi(-|z|): the probability beyond z on its own side, never above 1/2.

    The smaller tail keeps its relative precision where 1 - Phi would cancel.
    """
    # Not abs: its gradient at 0, the prior's median, has no sign.
    return ndtr(jnp.where(z <= 0, z, -z))


def normal_score(tail: Array) -> Array:
    """-|z| for a tail probability in (0, 1/2]; at 0 the smallest normal float."""
    tiny = 4.0 * jnp.finfo(tail.dtype).tiny
    return ndtri(jnp.maximum(tail, tiny))


def inner_edges(
    low: np.ndarray, high: np.ndarray, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest floats of `dtype` strictly inside (low, high).

    The edges are float64; one step inwards from their rounded value is inside both
    the rounded and the exact support. Around 0 the step is the smallest normal float,
    because XLA flushes subnormal ones to 0. Infinite edges give the largest finite
    float.

    Args:
        low: lower edges, `[D]`, float64.
        high: upper edges, `[D]`, float64.
        dtype: float32 or float64.

    Returns:
        Two arrays `[D]` of `dtype`.
    """
    info = np.finfo(dtype)
    up = np.nextafter(np.asarray(low, dtype), dtype.type(np.inf), dtype=dtype)
    down = np.nextafter(np.asarray(high, dtype), dtype.type(-np.inf), dtype=dtype)
    up = np.where((up > 0) & (up < info.tiny), info.tiny, up)
    up = np.where((up <= 0) & (up > -info.tiny), info.tiny, up)
    down = np.where((down < 0) & (down > -info.tiny), -info.tiny, down)
    down = np.where((down >= 0) & (down < info.tiny), -info.tiny, down)
    return np.maximum(up, info.min).astype(dtype), np.minimum(down, info.max).astype(
        dtype
    )
