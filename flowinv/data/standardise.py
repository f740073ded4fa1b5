"""Input scaling: a variance-stabilising map, then shift and scale by training rows.

The statistics come from valid training rows only and are frozen afterwards; applying
them is one jit-able function. Which map fits is the task's to say, or `auto`'s.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_known, check_shape, fail

__all__ = [
    "SCALINGS",
    "Statistics",
    "fit_statistics",
    "resolve_scaling",
    "restandardise",
    "standardise",
]

SCALINGS = ("none", "root", "asinh", "log", "auto")

# Rows that the quantiles and the choice of `auto` look at, evenly spaced: a quantile
# of 10,000 rows is good to 0.5 % in probability.
_PROBE_ROWS = 10_000
# Rows taken to float64 at a time: bounds the memory of the two passes.
_PASS_ROWS = 8_192
# A feature of counts that is nearly always empty has a tiny sd, and one stray count
# would stand for hundreds of sds. A tenth of the median sd is, for profiles whose
# median pixel varies by some ten counting errors, about one counting error (Anscombe's
# root gives a Poisson count the sd 1).
_ROOT_FLOOR = 0.1
# `auto`: a normal has (q99.5 - q0.5) / (q75 - q25) = 3.8, Student's t with two degrees
# of freedom 12.2, a Cauchy 78.
_HEAVY_TAIL = 10.0
_HEAVY_SHARE = 0.25
_LOG_DECADES = 2.0
_COUNT_MAX = 8


class Statistics(NamedTuple):
    """What `standardise` needs; arrays of shape `x_shape`, float32, a pytree.

    Attributes:
        centre: median of the feature for `asinh`; 0 otherwise.
        width: robust sd for `asinh`, smallest accepted value for `log`; 1 otherwise.
        shift: mean of the mapped feature.
        scale: sd of the mapped feature, 1 for constant ones, floored for counts.
    """

    centre: Array
    width: Array
    shift: Array
    scale: Array


def resolve_scaling(x: ArrayLike, valid: ArrayLike, scaling: str = "auto") -> str:
    """Return `scaling`, or what `auto` chooses from the valid rows.

    The rules, in this order, on at most 10,000 evenly spaced valid rows:

    1. `root`: all numbers are integers of at least 0 and the largest exceeds 8
       (counts; 0/1 flags and small categories stay as they are).
    2. `log`: all numbers are above 0 and the median feature spans at least two decades
       between its 0.5 and 99.5 % quantiles.
    3. `asinh`: in at least a quarter of the features that vary, those quantiles lie
       more than 10 interquartile ranges apart (a normal: 3.8).
    4. `none`: otherwise.

    Args:
        x: observations `[N, *x_shape]`.
        valid: rows that count, `[N]`.
        scaling: one of `SCALINGS`.

    Raises:
        ValueError: unknown scaling, shapes that do not fit, or no valid row.
    """
    check_known("input scaling", scaling, SCALINGS)
    x, rows = _valid_rows(x, valid)
    if scaling != "auto":
        return scaling
    probe = _probe(x, rows)
    if probe.min() >= 0 and probe.max() > _COUNT_MAX and np.all(probe == probe.round()):
        return "root"
    low, first, third, high = np.quantile(probe, [0.005, 0.25, 0.75, 0.995], axis=0)
    if probe.min() > 0 and np.median(np.log10(high / low)) >= _LOG_DECADES:
        return "log"
    varies = np.ptp(probe, axis=0) > 0
    heavy = (high - low > _HEAVY_TAIL * (third - first))[varies]
    return "asinh" if heavy.size and heavy.mean() >= _HEAVY_SHARE else "none"


def fit_statistics(
    x: ArrayLike, valid: ArrayLike, scaling: str, *, floor: float | None = None
) -> Statistics:
    """Mean and sd of the mapped features over the valid rows.

    Two passes in float64 on the host, so that an offset of 1e6 sds costs no digits.
    Constant features get scale 1. `floor` keeps the scale of a feature at or above
    `floor` times the median scale of the features that vary: without it a pixel that
    is empty in all but a few rows turns one count into hundreds of sds. It presumes
    that all features share a unit, so the default is 0.1 for `root` and 0 otherwise.

    Args:
        x: observations `[N, *x_shape]`; pass training rows only.
        valid: rows that count, `[N]`.
        scaling: "none", "root", "asinh" or "log" (`resolve_scaling` resolves "auto").
        floor: smallest scale in units of the median scale; None for the default.

    Raises:
        ValueError: unknown or unresolved scaling, shapes that do not fit, no valid
            row, a negative floor, or negative (`root`) or non-positive (`log`)
            numbers in valid rows.
    """
    check_known("input scaling", scaling, SCALINGS)
    if scaling == "auto":
        fail("input scaling", "to be resolved", "'auto'", "Call resolve_scaling first.")
    floor = (_ROOT_FLOOR if scaling == "root" else 0.0) if floor is None else floor
    check_at_least("floor", floor, 0)
    x, rows = _valid_rows(x, valid)
    centre, width = _map_constants(x, rows, scaling)
    parts = np.array_split(rows, max(1, -(-rows.size // _PASS_ROWS)))

    def mapped(part: np.ndarray) -> np.ndarray:
        return _map(np, x[part].astype(np.float64), centre, width, scaling)

    mean = sum(mapped(part).sum(0) for part in parts) / rows.size
    square, low, high = np.zeros_like(mean), np.inf, -np.inf
    for part in parts:
        y = mapped(part)
        square += ((y - mean) ** 2).sum(0)
        low, high = np.minimum(low, y.min(0)), np.maximum(high, y.max(0))
    sd = np.sqrt(square / rows.size)
    # The range, not the sd, tells a constant: sums of a constant round.
    varies = high > low
    if varies.any():
        sd = np.maximum(sd, floor * np.median(sd[varies]))
    scale = np.where(varies, sd, 1.0)
    return Statistics(
        *(jnp.asarray(v, jnp.float32) for v in (centre, width, mean, scale))
    )


def restandardise(
    statistics: Statistics, x: Array, use: Array, scaling: str
) -> Statistics:
    """The statistics with mean and sd of other rows; jit- and vmap-able.

    The map itself stays. Sums are taken in float32 of the distances from one row, so
    that a constant is exactly one and an offset costs no digits.

    Args:
        statistics: of earlier rows.
        x: rows, finite whether they count or not, `[N, *x_shape]`.
        use: rows that count, `[N]`; at least one.
        scaling: their map.
    """
    y = _map(jnp, x, statistics.centre, statistics.width, scaling)
    first, mask = y[jnp.argmax(use)], use.reshape(-1, *[1] * (y.ndim - 1))
    offset = jnp.where(mask, y - first, 0.0)
    mean = offset.mean(0, where=mask)
    sd = jnp.sqrt(((offset - mean) ** 2).mean(0, where=mask))
    varies = (offset != 0.0).any(0)
    if scaling == "root":
        least = _ROOT_FLOOR * jnp.nanmedian(jnp.where(varies, sd, jnp.nan))
        sd = jnp.fmax(sd, least)
    return statistics._replace(
        shift=(first + mean).astype(jnp.float32),
        scale=jnp.where(varies, sd, 1.0).astype(jnp.float32),
    )


def standardise(statistics: Statistics, x: ArrayLike, scaling: str) -> Array:
    """Map and standardise x: `[..., *x_shape]` to the same shape, float32.

    The maps: `none` x; `root` 2 sqrt(max(x, 0) + 3/8), Anscombe's, which gives a
    Poisson count the sd 1; `asinh` asinh((x - centre) / width); `log`
    log(max(x, width)). jit-able with `scaling` static.

    References:
        Anscombe 1948, Biometrika 35, 246 (the root).
    """
    x = jnp.asarray(x, jnp.float32)
    y = _map(jnp, x, statistics.centre, statistics.width, scaling)
    return (y - statistics.shift) / statistics.scale


def _map(
    xp: object, x: ArrayLike, centre: ArrayLike, width: ArrayLike, scaling: str
) -> ArrayLike:
    """Apply the variance-stabilising map with numpy or jax.numpy as `xp`."""
    maps: dict[str, Callable[[], ArrayLike]] = {
        "none": lambda: x,
        "root": lambda: 2.0 * xp.sqrt(xp.maximum(x, 0.0) + 0.375),
        "asinh": lambda: xp.arcsinh((x - centre) / width),
        "log": lambda: xp.log(xp.maximum(x, width)),
    }
    check_known("input scaling", scaling, maps)
    return maps[scaling]()


def _map_constants(
    x: np.ndarray, rows: np.ndarray, scaling: str
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and width of the map, each with the shape of one observation."""
    centre, width = np.zeros(x.shape[1:]), np.ones(x.shape[1:])
    if scaling == "root" and (least := x[rows].min()) < 0:
        fail("x", "of at least 0 for the root scaling", f"{least:g}")
    if scaling == "log":
        width = x[rows].min(0).astype(np.float64)
        if width.min() <= 0:
            fail("x", "above 0 for the log scaling", f"{width.min():g}")
    if scaling == "asinh":
        probe = _probe(x, rows)
        first, centre, third = np.quantile(probe, [0.25, 0.5, 0.75], axis=0)
        # The interquartile range of a normal is 1.349 sds.
        width = (third - first) / 1.349
        width = np.where(width > 0, width, probe.std(0))
        width = np.where(width > 0, width, 1.0)
    return centre, width


def _valid_rows(x: ArrayLike, valid: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return x as numpy and the numbers of its valid rows."""
    x, valid = np.asarray(x), np.asarray(valid, bool)
    if x.ndim == 0:
        fail("x", "with shape (N, *x_shape)", x.shape)
    check_shape("valid", valid.shape, x.shape[:1])
    rows = np.flatnonzero(valid)
    if rows.size == 0:
        fail("x", "with at least one valid row", f"none among {valid.size}")
    return x, rows


def _probe(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """At most 10,000 evenly spaced valid rows in float64."""
    step = -(-rows.size // _PROBE_ROWS)
    return x[rows[::step]].astype(np.float64)
