"""The section on sequential rounds: how the posterior came about, round by round."""

import html

import numpy as np

from flowinv.report.content import ReportContent, RoundsTrace
from flowinv.report.embed import embed_figure
from flowinv.report.rounds_plot import rounds_plot
from flowinv.report.tables import meanings, number, percent, table

__all__ = ["rounds_section"]

COLUMNS = (
    "round_simulations",
    "round_used",
    "mass_outside",
    "unsimulated",
    "sample_efficiency",
    "waste",
    "round_distance",
)


def rounds_section(content: ReportContent) -> str:
    """Return a table and a figure for every observation inferred in rounds."""
    parts = []
    exact = {o.label: o.exact for o in content.observations}
    for name, model in content.models.items():
        for index, (label, trace) in enumerate(model.rounds.items()):
            title = f"{name}, {label}"
            figure = rounds_plot(trace, content.names, content.units, exact[label])
            alt = f"{title}: posterior by round, and how far it moved"
            caption = (
                "Left: mean and standard deviation of the posterior after each round, "
                "in standard deviations of the last one from its mean; the grey band "
                "is one standard deviation of the exact posterior where it is known. "
                "Right: how far the posterior moved, and its C2ST where that is known."
            )
            svg = embed_figure(figure, f"rounds-{len(parts)}-{index}", alt)
            parts.append(
                f"<details{' open' if not parts else ''}><summary>{html.escape(title)}"
                f"</summary>{_table(title, trace)}<figure>{svg}<figcaption>"
                f"{html.escape(caption)}</figcaption></figure></details>"
            )
    if not parts:
        return ""
    return meanings(list(COLUMNS)) + "".join(parts)


def _table(title: str, trace: RoundsTrace) -> str:
    """One row per round."""
    scored = bool(np.isfinite(trace.c2st_forest).any())
    header = [
        "round",
        "simulations",
        "failed",
        "rows used",
        "effective",
        "outside",
        "unseen",
        "efficiency",
        "waste",
        "moved (sd)",
        "validation loss",
    ]
    header += ["C2ST (forest)"] * scored
    rows = []
    for i in range(len(trace.num_simulations)):
        row = [
            str(i + 1),
            f"{int(trace.num_simulations[i]):,}",
            f"{int(trace.num_failed[i]):,}",
            f"{int(trace.num_used[i]):,}",
            f"{round(float(trace.num_effective[i])):,}",
            percent(float(trace.mass_outside[i])),
            percent(float(trace.unsimulated[i])),
            percent(float(trace.sample_efficiency[i])),
            # Scatter about a Gaussian's 0 has no sign to show.
            f"{round(float(trace.waste[i]), 2) + 0.0:.2f}".replace("-", "−"),
            number(float(trace.distance[i])),
            number(float(trace.validation_loss[i])),
        ]
        rows.append(row + [number(float(trace.c2st_forest[i]))] * scored)
    return table(header, rows, f"{title}: round by round")
