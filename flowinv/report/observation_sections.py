"""Sections of the page about single observations: scores, posteriors, scans."""

import html

import numpy as np

from flowinv.diagnostics.answers import QUANTILES
from flowinv.diagnostics.check import Numbers
from flowinv.diagnostics.predictive import P_OF, SDS_OF
from flowinv.report.answer_section import draw_scan
from flowinv.report.content import Observation, ReportContent
from flowinv.report.embed import embed_figure
from flowinv.report.meanings import METRICS
from flowinv.report.posterior_plots import pair_plot
from flowinv.report.style import axis_label
from flowinv.report.tables import (
    grouped_table,
    meanings,
    number,
    p_value,
    percent,
    table,
    to_precision,
)

__all__ = ["observation_sections", "scores_section"]

SCORES = (
    "c2st_forest",
    "c2st_mlp",
    "prdc_density",
    "prdc_coverage",
    "prdc_precision",
    "prdc_recall",
    "mmd_squared",
    "largest_mean_shift",
    "smallest_sd_ratio",
    "largest_sd_ratio",
)
"""Scalar metrics in the order of the table's columns."""
SHARES = ("prdc_coverage", "prdc_precision", "prdc_recall")
MOST_PAIRED = 8
"""Parameters in a pair plot; more panels would be too small to read."""


def scores_section(content: ReportContent) -> str:
    """Return the tables of scores against the exact posterior, one row per scan."""
    parts, used = [], []
    for name, model in content.models.items():
        labels = [observation.label for observation in content.observations]
        every = {label: model.numbers("exactness", label) for label in labels}
        every = {label: numbers for label, numbers in every.items() if numbers}
        if not every:
            continue
        first = next(iter(every.values()))
        scores = [s for s in SCORES if s in first]
        used += [s for s in scores if s not in used]
        if len(every) > 1:
            every["mean"] = model.numbers("exactness", "mean")
        rows = [
            [label, *(_score(numbers, s) for s in scores)]
            for label, numbers in every.items()
        ]
        header = ["observation", *(METRICS[s].label for s in scores)]
        parts.append(table(header, rows, f"{name} against the exact posterior"))
    if not parts:
        return ""
    return "".join(parts) + meanings(used)


def _score(numbers: Numbers, name: str) -> str:
    """Format one cell of the table of scores."""
    value = numbers[name]
    return percent(value) if name in SHARES else number(value)


def observation_sections(content: ReportContent) -> str:
    """Return one fold per observation; the first is open, print opens all."""
    if not content.observations:
        return ""
    folds = []
    for index, observation in enumerate(content.observations):
        state = " open" if index == 0 else ""
        body = _observation(content, observation, f"observation-{index + 1}")
        label = html.escape(observation.label)
        folds.append(f"<details{state}><summary>{label}</summary>{body}</details>")
    names = ["posterior", "interval_68", "interval_95"]
    if any(o.theta_true is not None for o in content.observations):
        names.insert(0, "truth")
    if any(o.exact is not None for o in content.observations):
        names.append("exact")
    if any(o.fit is not None for o in content.observations):
        names.append("fit")
    return meanings(names) + "".join(folds)


def _observation(content: ReportContent, observation: Observation, name: str) -> str:
    """Return table, pair plot and scans of one observation."""
    answers = {
        model: result.answers[observation.label]
        for model, result in content.models.items()
        if observation.label in result.answers
    }
    parts = [_values_table(content, observation, answers)]
    if answers or observation.exact is not None:
        parts.append(_pairs(content, observation, answers, name))
    parts.append(_statistics_table(content, observation.label))
    predicted = {m: a.predictive for m, a in answers.items()}
    predicted = {m: p for m, p in predicted.items() if p is not None}
    parts.append(draw_scan(observation, predicted, f"{name}-scan"))
    return "".join(parts)


def _statistics_table(content: ReportContent, label: str) -> str:
    """Return the p-value of each statistic of x, per model; "" without any."""
    seen: dict[str, dict[str, str]] = {}
    for model, result in content.models.items():
        numbers = result.numbers("predictive", label)
        for name, p in numbers.items():
            if name.startswith(P_OF):
                what = name.removeprefix(P_OF)
                sds = f"{numbers[SDS_OF + what]:+.1f}".replace("-", "−")
                own = seen.setdefault(what.replace("_", " "), {})
                own[model] = f"{sds} sd, p {p_value(p)}"
    if not seen:
        return ""
    models = [m for m in content.models if any(m in row for row in seen.values())]
    rows = [[what, *(row.get(m, "") for m in models)] for what, row in seen.items()]
    caption = "distance from the predicted mean in predicted sds, and two-sided p"
    body = table(["statistic of x", *models], rows, caption)
    return f"<details><summary>Statistics of x</summary>{body}</details>"


def _values_table(
    content: ReportContent, observation: Observation, answers: dict
) -> str:
    """Return truth, posteriors, exact posterior and classical fit, per parameter."""
    label = observation.label
    note = f" ({observation.exact_note})" if observation.exact_note else ""
    exact_name, sets = f"exact posterior{note}", {}
    for model in answers:
        numbers = content.models[model].numbers("answers", label)
        if "exact_median" in numbers:
            sets[exact_name] = {
                what: numbers[f"exact_{what}"] for what in (*QUANTILES, "sd")
            }
        if numbers:
            sets[model] = numbers
    groups = []
    for d, (name, unit) in enumerate(zip(content.names, content.units, strict=True)):
        error = min((float(s["sd"][d]) for s in sets.values()), default=np.nan)
        rows = []
        if observation.theta_true is not None:
            truth = float(observation.theta_true[d])
            rows.append(["truth", to_precision(truth, error), "", ""])
        rows += [[source, *_intervals(s, d, error)] for source, s in sets.items()]
        if (fit := observation.fit) is not None:
            spread = float(fit.errors[d])
            sigma = f"± {to_precision(spread, error)}" * bool(np.isfinite(spread))
            value = to_precision(float(fit.values[d]), error)
            rows.append([fit.method, value, sigma, ""])
        if observation.exact is None and note:
            rows.append([exact_name, "", "", ""])
        if rows:
            groups.append((axis_label(name, unit), rows))
    if not groups:
        return ""
    header = ["parameter", "from", "median or value", "68 % interval", "95 % interval"]
    return grouped_table(header, groups, f"{label}: parameters")


def _intervals(numbers: Numbers, d: int, error: float) -> tuple[str, ...]:
    """Format the median and the central 68 and 95 % intervals."""
    middle, *ends = (to_precision(float(numbers[w][d]), error) for w in QUANTILES)
    return middle, f"{ends[0]} – {ends[1]}", f"{ends[2]} – {ends[3]}"


def _pairs(
    content: ReportContent, observation: Observation, answers: dict, name: str
) -> str:
    """Return the pair plot of all models over the exact posterior."""
    shown = slice(MOST_PAIRED)
    truth = observation.theta_true
    exact = observation.exact
    figure = pair_plot(
        {model: answer.samples[:, shown] for model, answer in answers.items()},
        content.names[shown],
        content.units[shown],
        None if exact is None else exact[:, shown],
        None if truth is None else truth[shown],
    )
    beside = " beside the exact posterior (grey)" * (exact is not None)
    models = " and ".join(answers) or "the exact posterior"
    alt = f"{observation.label}: posterior of {models}{beside}, all pairs of parameters"
    caption = "Diagonal: marginals. Below: regions that hold 50 and 90 % of the draws."
    if len(content.names) > MOST_PAIRED:
        caption += f" The first {MOST_PAIRED} of {len(content.names)} parameters."
    svg = embed_figure(figure, f"{name}-pairs", alt)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"
