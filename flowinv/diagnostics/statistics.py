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

import numpy as np

from flowinv.checks import fail

__all__ = ["STATISTICS", "StatisticP", "panel_statistics", "statistic_p"]

Statistic = Callable[[np.ndarray], np.ndarray]
LEAST_ROWS, LEAST_LENGTH = 20, 8


def _tenth(rows: np.ndarray) -> int:
    return -(-rows.shape[1] // 10)


STATISTICS: dict[str, Statistic] = {
    "mean": lambda rows: rows.mean(-1),
    "sd": lambda rows: rows.std(-1),
    "smallest": lambda rows: rows.min(-1),
    "largest": lambda rows: rows.max(-1),
    "first tenth": lambda rows: rows[:, : _tenth(rows)].mean(-1),
    "last tenth": lambda rows: rows[:, -_tenth(rows) :].mean(-1),
    "largest step": lambda rows: np.abs(np.diff(rows)).max(-1),
    "roughness": lambda rows: np.sqrt((np.diff(rows, 2) ** 2).mean(-1)),
}
"""Name to a function of rows `[m, L]` that returns `[m]`. Roughness, the root mean
square of second differences, is the noise between neighbours."""


class StatisticP(NamedTuple):
    """How unusual the statistics of an observation are among its predictions.

    Attributes:
        names: of the statistics, K of them.
        p: two-sided posterior predictive p-value of each, `[K]`.
        sds: distance from the predicted mean in predictive sds, with its sign, `[K]`.
        p_all: of the largest distance of all, with the number of statistics in mind.
    """

    names: tuple[str, ...]
    p: np.ndarray
    sds: np.ndarray
    p_all: float


def panel_statistics(
    rows: np.ndarray, panels: Sequence[tuple[str, int]] = ()
) -> dict[str, np.ndarray]:
    """Take the statistics of each panel of x.

    Args:
        rows: x flat, `[m, L]`.
        panels: names and lengths that add up to L; none for one panel.

    Returns:
        `[m]` by name: "mean of horizontal"; a panel of fewer than 8 numbers gives the
        numbers themselves.

    Raises:
        ValueError: lengths that do not add up.
    """
    rows = np.asarray(rows, np.float64)
    panels = panels or (("", rows.shape[1]),)
    ends = np.cumsum([length for _, length in panels])
    if rows.ndim != 2 or ends[-1] != rows.shape[1]:
        fail("rows", f"with shape (m, {ends[-1]})", rows.shape)
    found = {}
    parts = np.split(rows, ends[:-1], axis=1)
    for (name, length), part in zip(panels, parts, strict=True):
        of = f" of {name}" if name else ""
        if length < LEAST_LENGTH:
            every = {f"x {i + 1}{of}": part[:, i] for i in range(length)}
        else:
            every = {f"{what}{of}": take(part) for what, take in STATISTICS.items()}
        found |= every
    return found


def statistic_p(
    seen: Mapping[str, float], simulated: Mapping[str, np.ndarray]
) -> StatisticP | None:
    """Rank statistics of an observation among those of simulations from its posterior.

    Args:
        seen: statistic to its value at the observation.
        simulated: statistic to its value at each simulation, `[m]` each; rows in which
            any is NaN or infinite are left out.

    Returns:
        None for fewer than 20 rows, or without statistics.
    """
    names = tuple(simulated)
    if not names:
        return None
    rows = np.stack([np.asarray(simulated[name], np.float64) for name in names], -1)
    rows = rows[np.isfinite(rows).all(-1)]
    if len(rows) < LEAST_ROWS:
        return None
    own = np.array([float(seen[name]) for name in names])
    # The observation is one of them: all are judged by the same mean and sd.
    every = np.concatenate([own[None], rows])
    sd = np.maximum(every.std(0), 1e-9 * np.abs(every).max(0) + 1e-300)
    off = (every - every.mean(0)) / sd
    largest = np.abs(off).max(-1)
    above, below = (every >= own).mean(0), (every <= own).mean(0)
    spread = np.maximum(rows.std(0, ddof=1), sd * 1e-6)
    return StatisticP(
        names,
        np.minimum(1.0, 2 * np.minimum(above, below)),
        (own - rows.mean(0)) / spread,
        float((largest >= largest[0]).mean()),
    )
