"""Figures of training, point estimates and calibration: arrays in, Figure out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_shape
from flowinv.diagnostics.calibration import Curves
from flowinv.report.style import (
    DOTS,
    INK,
    MUTED,
    SERIES,
    axis_label,
    panel_grid,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "coverage_curves",
    "ecdf_differences",
    "errors_in_sds",
    "rank_histograms",
    "training_curves",
]

MOST_SDS = 5.0
"""Errors beyond are drawn at the rim."""
LARGEST_PLOT = 1_000
"""Most held-out simulations drawn; errors are computed from all."""


@styled
def training_curves(history: Mapping[str, ArrayLike]) -> "Figure":
    """Draw losses, gradient norm and out-of-range share against the epoch.

    Args:
        history: any of train_loss, validation_loss, gradient_norm, out_of_range, each
            `[epochs]`; what is absent gets no panel.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    curves = {name: np.asarray(value, float) for name, value in history.items()}
    losses = [n for n in ("train_loss", "validation_loss") if n in curves]
    others = [n for n in ("gradient_norm", "out_of_range") if n in curves]
    panels = ([losses] if losses else []) + [[name] for name in others]
    figure, axes = panel_grid(max(len(panels), 1), 3.6, 2.7, most_columns=3)
    for axis, names in zip(axes, panels, strict=False):
        for name, color in zip(names, SERIES, strict=False):
            _curve(axis, curves[name], color, name.removesuffix("_loss"))
        axis.set_xlabel("epoch")
    if losses:
        _frame_losses(axes[0], [curves[name] for name in losses])
    for axis, name in zip(axes[bool(losses) :], others, strict=False):
        axis.set_title(name.replace("_", " ") + (" (share)" * (name == "out_of_range")))
        if name == "gradient_norm" and (curves[name] > 0).all():
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        elif name == "out_of_range":
            axis.set_ylim(0, None)
    return figure


def _curve(axis: "Axes", values: np.ndarray, color: str, label: str) -> None:
    """Draw one history, with dots where there are few epochs."""
    marker = "o" if len(values) <= 12 else None
    epochs = np.arange(1, len(values) + 1)
    axis.plot(epochs, values, color=color, label=label, marker=marker, markersize=3)
    axis.xaxis.get_major_locator().set_params(integer=True)


def _frame_losses(axis: "Axes", losses: Sequence[np.ndarray]) -> None:
    """Keep the steep first epochs from flattening the rest; mark the best epoch."""
    axis.set_title("loss (-log q, nats)")
    every = np.concatenate(losses)
    every = every[np.isfinite(every)]
    if every.size:
        low, high = every.min(), np.quantile(every, 0.98)
        margin = 0.08 * max(high - low, 1e-6)
        axis.set_ylim(low - margin, high + margin)
    if np.isfinite(losses[-1]).any():
        best = int(np.nanargmin(losses[-1])) + 1
        axis.axvline(best, color=MUTED, lw=0.8, ls=":", label=f"best epoch {best}")
    axis.legend()


@styled
def errors_in_sds(
    truth: ArrayLike,
    error: ArrayLike,
    sd: ArrayLike,
    names: Sequence[str],
    units: Sequence[str],
) -> "Figure":
    """Draw (posterior mean - truth) / posterior sd against the truth.

    A right posterior scatters with sd 1 about 0 everywhere; a trend or a wide end says
    for which values it does not.

    Args:
        truth: true parameters of held-out simulations, `[S, D]`.
        error: errors of posterior means in posterior sds, `[S, D]`.
        sd: standard deviations of `error`, `[D]`.
        names: parameter names, D of them.
        units: their units.
    """
    truth, error = (np.asarray(a, float)[:LARGEST_PLOT] for a in (truth, error))
    check_shape("names", (len(names),), truth.shape[1:])
    figure, axes = panel_grid(len(names), 2.6, 2.3)
    for d, axis in enumerate(axes):
        axis.axhspan(-2, 2, color=MUTED, alpha=0.18, lw=0)
        axis.axhline(0, color=MUTED, lw=0.8)
        inside = np.clip(error[:, d], -MOST_SDS, MOST_SDS)
        axis.scatter(truth[:, d], inside, s=5, color=DOTS, alpha=0.45, lw=0,
                     rasterized=True)  # fmt: skip
        axis.set_ylim(-1.05 * MOST_SDS, 1.05 * MOST_SDS)
        axis.set_title(f"{names[d]}: sd {sd[d]:.2f}")
        axis.set_xlabel(axis_label("truth", units[d]))
    axes[0].set_ylabel("(mean - truth) / sd")
    return figure


@styled
def rank_histograms(
    curves: Curves, p_values: Sequence[float], names: Sequence[str]
) -> "Figure":
    """Draw SBC rank histograms with the band that holds 99 % of right bars.

    Args:
        curves: from `diagnostics.calibration.calibration_curves`.
        p_values: chi2 p-values, D of them.
        names: parameter names, D of them.
    """
    num_bins = len(curves.expected)
    low, high = curves.band
    edges = np.linspace(0, 1, num_bins + 1)
    figure, axes = panel_grid(len(names), 2.6, 2.2)
    for d, axis in enumerate(axes):
        axis.stairs(high, edges, baseline=low, fill=True, color=MUTED, alpha=0.3, lw=0)
        axis.stairs(curves.expected, edges, color=MUTED, lw=0.8, baseline=None)
        counts = curves.counts[:, d]
        axis.bar(
            (edges[:-1] + edges[1:]) / 2,
            counts,
            width=0.82 / num_bins,
            color=SERIES[0],
            alpha=0.75,
        )
        axis.set_title(f"{names[d]}: p {_p(p_values[d])}")
        axis.set_xlabel("rank of the truth / draws")
        axis.set_ylim(0, 1.15 * max(counts.max(), high.max()))
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel("simulations")
    return figure


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


@styled
def coverage_curves(models: Mapping[str, Curves], names: Sequence[str]) -> "Figure":
    """Draw observed minus promised coverage of central intervals, per model.

    The bands hold one and three binomial standard deviations; below zero the posterior
    is too narrow, above too wide.

    Args:
        models: model name to its curves.
        names: parameter names, D of them.
    """
    figure, axes = panel_grid(len(models), 4.4, 3.2, most_columns=2)
    for axis, (model, curves) in zip(axes, models.items(), strict=True):
        promised = 100 * curves.promised
        for factor, alpha in ((3, 0.16), (1, 0.22)):
            band = 100 * factor * curves.sd
            axis.fill_between(promised, -band, band, color=MUTED, alpha=alpha, lw=0)
        axis.axhline(0, color=INK, lw=0.8)
        for d, name in enumerate(names):
            difference = 100 * curves.covered[:, d] - promised
            style = ("-", "--", ":")[(d // len(SERIES)) % 3]
            color = SERIES[d % len(SERIES)]
            axis.plot(promised, difference, color=color, ls=style, label=name)
        axis.set_xticks([0, 25, 50, 75, 90, 100])
        axis.set_title(model)
        axis.set_xlabel("promised coverage (%)")
    axes[0].set_ylabel("observed minus promised (%)")
    axes[0].legend(ncols=2)
    return figure


@styled
def ecdf_differences(models: Mapping[str, Curves], names: Sequence[str]) -> "Figure":
    """Draw how much the distribution of ranks differs from a uniform one, per model.

    The band holds 95 % of right curves as a whole. Above it on the left and below on
    the right: too narrow; the other way round: too wide; on one side all along: biased.

    Args:
        models: model name to its curves.
        names: parameter names, D of them.
    """
    figure, axes = panel_grid(len(models), 4.4, 3.2, most_columns=2)
    for axis, (model, curves) in zip(axes, models.items(), strict=True):
        low, high = curves.whole
        axis.fill_between(curves.levels, low, high, color=MUTED, alpha=0.22, lw=0)
        axis.axhline(0, color=INK, lw=0.8)
        lines = [*names, "density"][: curves.difference.shape[1]]
        for d, name in enumerate(lines):
            style = ("-", "--", ":")[(d // len(SERIES)) % 3]
            color, width = SERIES[d % len(SERIES)], 1.2
            if d == len(names):
                color, style, width = INK, "-.", 1.5
            own = curves.difference[:, d]
            axis.plot(curves.levels, own, color=color, ls=style, lw=width, label=name)
        axis.set_title(model)
        axis.set_xlabel("rank of the truth (share of draws)")
    axes[0].set_ylabel("ranks below - uniform")
    axes[0].legend(ncols=2, loc="lower center")
    return figure
