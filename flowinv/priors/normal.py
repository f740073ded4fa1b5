"""The standard normal and the float edges that every latent transport rests on."""

import math
from collections.abc import Sequence

import jax
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
    "normal_cdf",
    "normal_quantile",
    "normal_score",
]

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# Every transport asks for tails and scores, several times in one program; those of
# jax.scipy have 67 and 130 operations, which XLA copies into every consumer: half of
# what prepared a round. In float32 these have 42 and 50, and the same errors.
# Coefficients from the highest power down.
# Phi's series around 0, of z^2: for |z| < 1 the next term is 2e-9.
_CENTRE = tuple(
    (-0.5) ** k / (math.factorial(k) * (2 * k + 1) * math.sqrt(2.0 * math.pi))
    for k in reversed(range(8))
)
# Phi(-|z|) exp(z^2 / 2) / t, of t = 1 / (1 + |z| / sqrt(8)): interpolates scipy's
# erfcx at Chebyshev nodes of 0.95 < |z| < 13.2, to 6e-8.
_TAIL = (
    *(0.0354711453, -0.0796393767, -0.000162824145, 0.0580221012),
    *(0.0787858289, 0.12584501, 0.140738257, 0.141063027),
)
# Wichura 1988, Applied Statistics 37, AS 241 (PPND7): numerator and denominator
# around the median, and of sqrt(-log tail) less 1.6 and 5 further out.
_MIDDLE = (
    (59.109374720, 159.29113202, 50.434271938, 3.3871327179),
    (67.187563600, 78.757757664, 17.895169469, 1.0),
)
_FLANK = (
    (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777),
    (0.12021132975, 0.73700164250, 1.0),
)
_FAR = (
    (0.017337203997, 0.42868294337, 3.0812263860, 6.6579051150),
    (0.012258202635, 0.24197894225, 1.0),
)


def as_floating(value: ArrayLike) -> Array:
    """Return `value` as float64 when it is (and x64 is on), else as float32."""
    value = jnp.asarray(value)
    return value if value.dtype == jnp.float64 else value.astype(jnp.float32)


def log_normal_density(z: Array) -> Array:
    """Elementwise log N(z; 0, 1), finite for |z| up to 1e18 in float32."""
    return -0.5 * z * z - _HALF_LOG_2PI


@jax.custom_jvp
def lower_tail(z: Array) -> Array:
    """Phi(-|z|): the probability beyond z on its own side, never above 1/2.

    The smaller tail keeps its relative precision where 1 - Phi would cancel.
    """
    if z.dtype == jnp.float64:
        return ndtr(-jnp.abs(z))
    away = jnp.abs(z)
    t = 1.0 / (1.0 + away * math.sqrt(0.125))
    tail = t * _polynomial(_TAIL, t) * jnp.exp(-0.5 * away * away)
    # Narrow boxes around the median live on differences of tails.
    centre = 0.5 - away * _polynomial(_CENTRE, away * away)
    return jnp.where(away < 1.0, centre, tail)


@lower_tail.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The density, rising to the median, which counts as below itself."""
    (z,), (change,) = primals, tangents
    slope = jnp.exp(log_normal_density(z))
    return lower_tail(z), jnp.where(z <= 0, slope, -slope) * change


def normal_cdf(z: Array) -> Array:
    """Phi(z); its relative precision is kept below the median."""
    tail = lower_tail(z)
    return jnp.where(z <= 0, tail, 1.0 - tail)


@jax.custom_jvp
def normal_score(tail: Array) -> Array:
    """-|z| for a tail probability in (0, 1/2]; at 0 the smallest normal float."""
    tail = jnp.maximum(tail, _least(tail))
    if tail.dtype == jnp.float64:
        return ndtri(tail)
    offset, far = tail - 0.5, jnp.sqrt(-jnp.log(tail))
    middle = offset * _ratio(_MIDDLE, 0.180625 - offset * offset)
    outside = jnp.where(far <= 5.0, _ratio(_FLANK, far - 1.6), _ratio(_FAR, far - 5.0))
    return jnp.where(tail < 0.075, -outside, middle)


@normal_score.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """One over the density; below the smallest tail nothing changes."""
    (tail,), (change,) = primals, tangents
    score = normal_score(tail)
    slope = jnp.exp(-log_normal_density(score))
    return score, jnp.where(tail > _least(tail), slope, 0.0) * change


def normal_quantile(p: Array) -> Array:
    """Phi^-1(p) for p in (0, 1); its relative precision is kept below the median."""
    low = p <= 0.5
    score = normal_score(jnp.where(low, p, 1.0 - p))
    return jnp.where(low, score, -score)


def _least(tail: Array) -> float:
    """The smallest tail that is told from 0."""
    return 4.0 * jnp.finfo(tail.dtype).tiny


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """By Horner's rule, the highest power first."""
    value, *rest = coefficients
    for coefficient in rest:
        value = value * x + coefficient
    return value


def _ratio(both: tuple[Sequence[float], Sequence[float]], x: Array) -> Array:
    """Numerator over denominator."""
    above, below = (_polynomial(coefficients, x) for coefficients in both)
    return above / below


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
