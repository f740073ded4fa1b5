"""Statistics of x that a reader knows, and how unusual each is among predictions.

A p-value of each statistic says *what* of an observation its answer does not explain:
its light, its width, its noise. All together they are judged once, by the largest
distance of any statistic in its own sds, ranked among the same of every simulation
(max-T: Westfall and Young 1993, Resampling-Based Multiple Testing), so that many
statistics call off no more right observations than one does.

Reference: Gelman, Meng and Stern 1996, Statistica Sinica 6, 733 (posterior predictive
p-values).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import fail
from flowinv.diagnostics.device import at_once, in_float64, of_each

__all__ = ["STATISTICS", "StatisticP", "panel_statistics", "statistic_p"]

LEAST_ROWS, LEAST_LENGTH = 20, 8


def _tenth(rows: Array) -> int:
    return -(-rows.shape[-1] // 10)


STATISTICS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda rows: rows.mean(-1),
    "sd": lambda rows: rows.std(-1),
    "smallest": lambda rows: rows.min(-1),
    "largest": lambda rows: rows.max(-1),
    "first tenth": lambda rows: rows[..., : _tenth(rows)].mean(-1),
    "last tenth": lambda rows: rows[..., -_tenth(rows) :].mean(-1),
    "largest step": lambda rows: jnp.abs(jnp.diff(rows)).max(-1),
    "roughness": lambda rows: jnp.sqrt((jnp.diff(rows, 2) ** 2).mean(-1)),
}
"""Name to a function of rows `[m, L]` that returns `[m]`. Roughness, the root mean
square of second differences, is the noise between neighbours."""


class StatisticP(NamedTuple):
    """How unusual the statistics of an observation are among its predictions.

    Attributes:
        names: of the statistics, K of them.
        p: two-sided posterior predictive p-value of each, `[K]`, or `[S, K]`.
        sds: distance from the predicted mean in predictive sds, with its sign, `[K]`,
            or `[S, K]`.
        p_all: of the largest distance of all, with the number of statistics in mind; a
            number, or `[S]`.
    """

    names: tuple[str, ...]
    p: np.ndarray
    sds: np.ndarray
    p_all: float | np.ndarray


def panel_statistics(
    rows: ArrayLike, panels: Sequence[tuple[str, int]] = ()
) -> dict[str, np.ndarray]:
    """Take the statistics of each panel of x, on the device.

    Args:
        rows: x flat, `[m, L]`, or `[S, m, L]` for S observations in one call.
        panels: names and lengths that add up to L; none for one panel.

    Returns:
        `[m]`, or `[S, m]`, by name: "mean of horizontal"; a panel of fewer than 8
        numbers gives the numbers themselves.

    Raises:
        ValueError: lengths that do not add up.
    """
    shape = np.shape(rows)
    panels = tuple(panels) or (("", shape[-1]),)
    if len(shape) not in (2, 3) or sum(n for _, n in panels) != shape[-1]:
        fail("rows", f"with shape (m, {sum(n for _, n in panels)})", shape)
    names = []
    for name, length in panels:
        of = f" of {name}" if name else ""
        numbers = [f"x {i + 1}" for i in range(length)]
        every = numbers if length < LEAST_LENGTH else STATISTICS
        names += [f"{what}{of}" for what in every]
    lengths = tuple(length for _, length in panels)
    rows = np.asarray(rows).reshape(-1, *shape[-2:])
    values = _taken(rows, lengths=lengths).reshape(*shape[:-1], len(names))
    return {name: values[..., k] for k, name in enumerate(names)}


@in_float64("lengths")
def _taken(rows: Array, lengths: tuple[int, ...]) -> Array:
    """Statistics `[S, m, K]` of rows `[S, m, L]`."""

    def one(rows: Array) -> Array:
        rows, found = rows.astype(float), []
        for part in jnp.split(rows, np.cumsum(lengths)[:-1], axis=-1):
            few = part.shape[-1] < LEAST_LENGTH
            found += list(part.T) if few else [f(part) for f in STATISTICS.values()]
        return jnp.stack(found, -1)

    return of_each(one, rows)


def statistic_p(
    seen: Mapping[str, ArrayLike], simulated: Mapping[str, ArrayLike]
) -> StatisticP | None:
    """Rank statistics of an observation among those of simulations from its posterior.

    Args:
        seen: statistic to its value at the observation, a number, or `[S]`.
        simulated: statistic to its value at each simulation, `[m]` each, or `[S, m]`;
            simulations in which any is NaN or infinite are left out.

    Returns:
        None without statistics, or for one observation with fewer than 20 simulations;
        of many observations those with fewer have NaN.
    """
    names = tuple(simulated)
    if not names:
        return None
    rows = np.stack([np.asarray(simulated[name], np.float64) for name in names], -1)
    own = np.stack([np.asarray(seen[name], np.float64) for name in names], -1)
    one = own.ndim == 1
    found = at_once(_ranked, one, own, rows)
    if one and np.isnan(found.p_all):
        return None
    return StatisticP(names, *found)


class _Ranked(NamedTuple):
    p: Array
    sds: Array
    p_all: Array


@in_float64()
def _ranked(own: Array, rows: Array) -> _Ranked:
    """Rank `[S, K]` among `[S, m, K]`."""

    def one(own: Array, rows: Array) -> _Ranked:
        right = jnp.isfinite(rows).all(-1)
        # The observation is one of them: all are judged by the same mean and sd.
        kept = jnp.concatenate([jnp.ones(1, bool), right])
        every = jnp.concatenate([own[None], jnp.where(right[:, None], rows, 0.0)])
        mean, sd = every.mean(0, where=kept[:, None]), every.std(0, where=kept[:, None])
        sd = jnp.maximum(sd, 1e-9 * jnp.abs(every).max(0) + 1e-300)
        largest = jnp.abs((every - mean) / sd).max(-1)
        above, below = (
            side.mean(0, dtype=float, where=kept[:, None])
            for side in (every >= own, every <= own)
        )
        spread = rows.std(0, ddof=1, where=right[:, None])
        off = own - rows.mean(0, where=right[:, None])
        found = _Ranked(
            jnp.minimum(1.0, 2 * jnp.minimum(above, below)),
            off / jnp.maximum(spread, sd * 1e-6),
            (largest >= largest[0]).mean(dtype=float, where=kept),
        )
        few = right.sum() < LEAST_ROWS
        return _Ranked(*(jnp.where(few, jnp.nan, value) for value in found))

    return of_each(one, own, rows)
