"""Figures of one observation: the posterior beside the exact one, and the scan."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_last_axis, check_shape
from flowinv.report.embed import PAIR
from flowinv.report.style import (
    INK,
    MUTED,
    SERIES,
    axis_label,
    new_figure,
    styled,
)
from flowinv.tasks.task import ScanLayout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pair_plot", "scan_plot"]

NUM_CELLS = 64
"""Histogram cells per axis of a contour."""
SMOOTHING = 8.0
"""Gaussian smoothing of contours in cells, times n^(-1/6) for n draws: Silverman's rule
in two dimensions, as about 8 cells are one sd of a normal."""
MASSES = (0.9, 0.5)
"""Probability inside the drawn contours."""


@styled
def pair_plot(
    posteriors: Mapping[str, ArrayLike],
    names: Sequence[str],
    units: Sequence[str],
    exact: ArrayLike | None = None,
    theta_true: ArrayLike | None = None,
) -> "Figure":
    """Draw marginals and pairwise 50 / 90 % contours of posteriors over each other.

    Args:
        posteriors: model name to draws `[n, D]`; at most four.
        names: parameter names, D of them, at least 1.
        units: their units.
        exact: draws of the exact posterior `[n, D]`, filled in grey, or None.
        theta_true: true parameters `[D]`, marked; None leaves them out.
    """
    sets = {name: np.asarray(draws, float) for name, draws in posteriors.items()}
    layers = [
        (name, draws, SERIES[i % 4]) for i, (name, draws) in enumerate(sets.items())
    ]
    if exact is not None:
        layers.insert(0, ("exact", np.asarray(exact, float), None))
    dim = len(names)
    for name, draws, _ in layers:
        check_last_axis(f"draws of {name}", draws.shape, dim)
    truth = None if theta_true is None else np.asarray(theta_true, float)
    limits = _limits([draws for _, draws, _ in layers], truth)
    size = 2.1 * dim + 0.6
    figure = new_figure(max(size, 4.0), max(size, 3.0))
    axes = figure.subplots(dim, dim, squeeze=False)
    labels = [axis_label(n, u) for n, u in zip(names, units, strict=True)]
    for i in range(dim):
        for j in range(dim):
            axis = axes[i, j]
            if j > i:
                axis.set_axis_off()
                continue
            axis.set_xlim(limits[j])
            axis.set_gid(f"{PAIR}-{i}-{j}")
            _panel(axis, layers, i, j, limits, truth)
            _ticks(axis, i, j, dim, labels)
    _legend(figure, axes[0, dim - 1] if dim > 1 else axes[0, 0], layers, truth)
    return figure


def _extent(draws: np.ndarray) -> np.ndarray:
    """Range of one set's cells, `[d, 2]`; its own, lest thin sets look smeared."""
    low, high = np.quantile(draws, [0.002, 0.998], axis=0)
    rounding = 1e-9 * np.maximum(np.abs(high), 1e-9)
    margin = np.maximum(0.2 * (high - low), rounding)
    return np.stack([low - margin, high + margin], axis=1)


def _limits(sets: Sequence[np.ndarray], truth: np.ndarray | None) -> np.ndarray:
    """Range of each axis: the central 99 % of every set, the truth, and a margin."""
    bounds = np.stack([np.quantile(draws, [0.005, 0.995], axis=0) for draws in sets])
    low, high = bounds[:, 0].min(0), bounds[:, 1].max(0)
    if truth is not None:
        low, high = np.minimum(low, truth), np.maximum(high, truth)
    margin = 0.12 * np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    return np.stack([low - margin, high + margin], axis=1)


def _panel(
    axis: "Axes",
    layers: Sequence[tuple[str, np.ndarray, str | None]],
    i: int,
    j: int,
    limits: np.ndarray,
    truth: np.ndarray | None,
) -> None:
    """Draw one panel: a marginal on the diagonal, contours below it."""
    for _, draws, color in layers:
        if i == j:
            _marginal(axis, draws[:, i], color)
        else:
            _contours(axis, draws[:, [j, i]], color)
            axis.set_ylim(limits[i])
    if truth is None:
        return
    axis.axvline(truth[j], color=INK, lw=0.9, ls=(0, (3, 2)))
    if i != j:
        axis.axhline(truth[i], color=INK, lw=0.9, ls=(0, (3, 2)))
        axis.plot(truth[j], truth[i], marker="x", color=INK, markersize=6, mew=1.6)


def _marginal(axis: "Axes", draws: np.ndarray, color: str | None) -> None:
    """Draw the histogram of one parameter; the exact one filled."""
    extent = tuple(_extent(draws[:, None])[0])
    density, edges = np.histogram(draws, bins=32, range=extent, density=True)
    if color is None:
        axis.stairs(density, edges, fill=True, color=MUTED, alpha=0.4, lw=0)
    else:
        axis.stairs(density, edges, color=color, lw=1.4)
    axis.set_ylim(0, max(axis.get_ylim()[1], 1.08 * density.max()))


def _contours(axis: "Axes", draws: np.ndarray, color: str | None) -> None:
    """Draw the smallest regions that hold 50 and 90 % of the draws."""
    from scipy.ndimage import gaussian_filter

    counts, x_edges, y_edges = np.histogram2d(
        draws[:, 0], draws[:, 1], bins=NUM_CELLS, range=_extent(draws)
    )
    width = SMOOTHING * len(draws) ** (-1 / 6)
    density = gaussian_filter(counts, width, mode="constant")
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    levels = [ordered[np.searchsorted(mass, share)] for share in MASSES]
    if not levels[0] < levels[1]:
        return
    x, y = ((edges[:-1] + edges[1:]) / 2 for edges in (x_edges, y_edges))
    if color is None:
        top = max(density.max(), 1.01 * levels[1])
        for low, alpha in zip(levels, (0.25, 0.3), strict=True):
            axis.contourf(x, y, density.T, [low, top], colors=[MUTED], alpha=alpha)
    else:
        axis.contour(x, y, density.T, levels, colors=[color], linewidths=(1.0, 1.6))


def _ticks(axis: "Axes", i: int, j: int, dim: int, labels: Sequence[str]) -> None:
    """Label the left column and the bottom row only."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(3))
    axis.grid(visible=i != j)
    if i == dim - 1:
        axis.set_xlabel(labels[j])
    else:
        axis.tick_params(labelbottom=False)
    if i == j:
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        if i == 0:
            axis.set_ylabel("density")
        return
    axis.yaxis.set_major_locator(MaxNLocator(3))
    if j == 0:
        axis.set_ylabel(labels[i])
    else:
        axis.tick_params(labelleft=False)


def _legend(
    figure: "Figure",
    axis: "Axes",
    layers: Sequence[tuple[str, np.ndarray, str | None]],
    truth: np.ndarray | None,
) -> None:
    """Explain colours in the empty upper corner (beside the only panel for D = 1)."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color=MUTED, alpha=0.5, label=name)
        if color is None
        else Line2D([], [], color=color, label=name)
        for name, _, color in layers
    ]
    if truth is not None:
        handles.append(
            Line2D([], [], color=INK, ls="--", lw=0.9, marker="x", label="truth")
        )
    if len(figure.axes) > 1:
        axis.legend(handles=handles, loc="upper right", title="50 and 90 % regions")
    else:
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))


@styled
def scan_plot(
    x: ArrayLike,
    layout: ScanLayout,
    predictives: Mapping[str, ArrayLike] | None = None,
    fit_curve: ArrayLike | None = None,
) -> "Figure":
    """Draw a scan over what every model predicts, with residuals below.

    Bands are the first model's, the others add their medians. Residuals are (scan -
    predictive mean) / predictive sd: within +-2 for about 95 % of the points when the
    posterior explains the scan. Each panel shows the part of the abscissa on which
    something happens.

    Args:
        x: the observation, L numbers in any shape.
        layout: panels, with abscissae whose lengths add up to L.
        predictives: model to scans simulated from its posterior draws, `[m, ...]` of L
            numbers each.
        fit_curve: the classical fit's curve, L numbers.
    """
    x = np.asarray(x, float).ravel()
    grids = [np.asarray(p, float) for p in layout.positions]
    check_shape("x", x.shape, (sum(map(len, grids)),))
    bounds = np.cumsum([0, *map(len, grids)])
    bands = {n: _rows_of(p, x.size) for n, p in (predictives or {}).items()}
    rows = 2 if bands else 1
    figure = new_figure(5.0 * len(grids), 3.9 if rows == 2 else 2.9)
    axes = figure.subplots(
        rows, len(grids), squeeze=False, sharex="col", height_ratios=(3, 1)[:rows]
    )
    for column, (grid, name) in enumerate(zip(grids, layout.names, strict=True)):
        part = slice(bounds[column], bounds[column + 1])
        own = {model: band[:, part] for model, band in bands.items()}
        curve = None if fit_curve is None else np.ravel(np.asarray(fit_curve))[part]
        low, high = _busy_range(grid, next(iter(own.values()), x[part]))
        shown = (grid >= low) & (grid <= high)
        own = {model: band[:, shown] for model, band in own.items()}
        curve = None if curve is None else curve[shown]
        _scan_panel(axes[0, column], grid[shown], x[part][shown], own, curve)
        if own:
            _residual_panel(axes[1, column], grid[shown], x[part][shown], own)
        axes[0, column].set_title(name)
        axes[-1, column].set_xlabel(layout.position_label)
        # Points on the very edge are shown whole.
        room = 0.01 * (high - low)
        axes[0, column].set_xlim(low - room, high + room)
    axes[0, 0].set_ylabel(layout.value_label)
    if rows == 2:
        axes[1, 0].set_ylabel("residual (sd)")
    axes[0, -1].legend(loc="best")
    return figure


def _rows_of(predictive: ArrayLike, length: int) -> np.ndarray:
    """Flatten predictive scans to `[m, L]`."""
    predictive = np.asarray(predictive, float)
    flat = predictive.reshape(len(predictive), -1)
    check_last_axis("predictive", flat.shape, length)
    return flat


def _scan_panel(
    axis: "Axes",
    grid: np.ndarray,
    x: np.ndarray,
    bands: Mapping[str, np.ndarray],
    curve: np.ndarray | None,
) -> None:
    """Draw the scan, the first model's bands, the others' medians, and the fit."""
    for index, (model, band) in enumerate(bands.items()):
        color = SERIES[index % len(SERIES)]
        if index:
            middle = np.median(band, 0)
            axis.plot(grid, middle, color=color, lw=1.2, label=f"{model}, median")
            continue
        for share, alpha in ((0.9, 0.25), (0.5, 0.45)):
            low, high = np.quantile(band, [0.5 - share / 2, 0.5 + share / 2], axis=0)
            axis.fill_between(
                grid, low, high, color=color, alpha=alpha, lw=0,
                label=f"predicted, {100 * share:.0f} %",
            )  # fmt: skip
    axis.plot(grid, x, ".", color=INK, markersize=3.5, label="scan")
    if curve is not None:
        axis.plot(grid, curve, color=MUTED, ls="--", lw=1.3, label="classical fit")


def _residual_panel(
    axis: "Axes", grid: np.ndarray, x: np.ndarray, bands: Mapping[str, np.ndarray]
) -> None:
    """Draw standardised residuals where a prediction has a spread."""
    axis.axhspan(-2, 2, color=MUTED, alpha=0.18, lw=0)
    axis.axhline(0, color=MUTED, lw=0.8)
    largest = 3.5
    for index, band in enumerate(bands.values()):
        sd = band.std(0)
        spread = sd > 1e-6 * max(float(np.abs(band).max()), 1e-30)
        residual = (x - band.mean(0))[spread] / sd[spread]
        color = SERIES[index % len(SERIES)] if len(bands) > 1 else INK
        axis.plot(grid[spread], residual, ".", color=color, markersize=3)
        largest = max(largest, 1.1 * float(np.abs(residual).max(initial=0)))
    axis.set_ylim(-largest, largest)


def _busy_range(grid: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the stretch of `grid` between the two flat ends of a curve, widened.

    Flat means within 2 % of the curve's range from its first (last) value. A bare noisy
    scan, `[L]`, is shown whole.
    """
    whole = float(grid.min()), float(grid.max())
    if values.ndim == 1:
        return whole
    curve = np.median(values, axis=0)
    threshold = 0.02 * np.ptp(curve)
    rising = np.flatnonzero(np.abs(curve - curve[0]) > threshold)
    falling = np.flatnonzero(np.abs(curve - curve[-1]) > threshold)
    if not len(rising) or not len(falling) or rising[0] >= falling[-1]:
        return whole
    first, last = rising[0], falling[-1]
    margin = max(3, int(0.25 * (last - first)))
    busy = grid[max(first - margin, 0) : last + margin + 1]
    return float(busy.min()), float(busy.max())
