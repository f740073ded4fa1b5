"""The figure of sequential rounds: the posterior closes in, or it does not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from flowinv.report.content import RoundsTrace
from flowinv.report.style import MUTED, SERIES, axis_label, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["rounds_plot"]

# In sds of the last posterior: the first rounds lie far beyond, and are cut.
REACH = 6.0
MOST_PARAMETERS = 8


@styled
def rounds_plot(
    trace: RoundsTrace,
    names: Sequence[str],
    units: Sequence[str],
    exact: ArrayLike | None = None,
) -> "Figure":
    """Draw mean and sd by round for every parameter, and the movement of the posterior.

    Args:
        trace: what the rounds reported.
        names: parameter names, D of them; the first eight are drawn.
        units: their units.
        exact: draws of the exact posterior `[n, D]`, or None.
    """
    dim = min(len(names), MOST_PARAMETERS)
    rounds = np.arange(1, len(trace.num_simulations) + 1)
    figure = new_figure(9.0, max(1.15 * dim + 0.9, 3.4))
    grid = figure.add_gridspec(dim, 2, width_ratios=(3, 2))
    first = None
    for d in range(dim):
        axis = figure.add_subplot(grid[d, 0], sharex=first)
        first = first or axis
        centre, width = trace.mean[-1, d], max(float(trace.sd[-1, d]), 1e-30)
        if exact is not None:
            own = (np.asarray(exact)[:, d] - centre) / width
            low, high = own.mean() - own.std(), own.mean() + own.std()
            axis.axhspan(low, high, color=MUTED, alpha=0.3, lw=0)
        axis.errorbar(
            rounds,
            (trace.mean[:, d] - centre) / width,
            trace.sd[:, d] / width,
            fmt="o",
            color=SERIES[0],
            ms=3.5,
        )
        axis.set_ylim(-REACH, REACH)
        axis.set_title(axis_label(names[d], units[d]), fontsize=8, loc="left", pad=2)
        axis.tick_params(labelbottom=d == dim - 1)
    axis.set_xlabel("round")
    axis.set_xticks(rounds)
    moved = figure.add_subplot(grid[: (dim + 1) // 2, 1] if dim > 1 else grid[0, 1])
    moved.plot(rounds, np.maximum(trace.distance, 1e-3), "o-", color=SERIES[1], ms=3.5)
    moved.set_yscale("log")
    moved.set_title("moved since the last round (sd)", fontsize=8, loc="left", pad=2)
    moved.set_xticks(rounds)
    scored = np.isfinite(trace.c2st_forest)
    if dim > 1 and scored.any():
        score = figure.add_subplot(grid[(dim + 1) // 2 :, 1])
        score.plot(
            rounds[scored], trace.c2st_forest[scored], "o-", color=SERIES[2], ms=3.5
        )
        score.axhline(0.5, color=MUTED, lw=1)
        score.set_ylim(0.45, 1.02)
        score.set_title("C2ST, forest (0.5: exact)", fontsize=8, loc="left", pad=2)
        score.set_xticks(rounds)
        score.set_xlabel("round")
    return figure
