"""One look for all figures: colour-blind-safe, on light and on dark ground."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DOTS",
    "GRID",
    "INK",
    "MUTED",
    "SERIES",
    "axis_label",
    "new_figure",
    "panel_grid",
    "styled",
]

INK, MUTED, GRID = "#1f2328", "#6e7781", "#d0d7db"
"""Text and axes, secondary marks, grid lines; the page has others for the dark."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's blue, vermillion, green, purple: contrast above 3 on white and on
near-black (relative luminance 0.15 to 0.30)."""


DOTS = "#2a8bcb"
"""Colour of rasterised dots, which no style sheet can change: good on both grounds."""

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "svg.fonttype": "none",
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(plot: Callable[P, R]) -> Callable[P, R]:
    """Run `plot` under flowinv's style, whatever the user's matplotlibrc says."""

    @functools.wraps(plot)
    def with_style(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return with_style


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of `width` x `height` inches, unknown to pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panel_grid(
    num_panels: int, width: float, height: float, most_columns: int = 4
) -> tuple["Figure", list["Axes"]]:
    """Return a figure with `num_panels` axes of `width` x `height` inches, by rows."""
    columns = min(num_panels, most_columns)
    rows = -(-num_panels // columns)
    figure = new_figure(width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[num_panels:]:
        unused.set_axis_off()
    return figure, list(axes[:num_panels])


def axis_label(name: str, unit: str) -> str:
    """Return `name (unit)`, or `name` alone where there is no unit."""
    return f"{name} ({unit})" if unit else name
