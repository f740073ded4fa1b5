"""Sections of the page about single observations: scores, posteriors, scans."""

import html

import numpy as np

from flowinv.report.answer_section import draw_scan
from flowinv.report.content import Observation, ReportContent
from flowinv.report.embed import embed_figure
from flowinv.report.meanings import METRICS
from flowinv.report.posterior_plots import pair_plot
from flowinv.report.style import axis_label
from flowinv.report.tables import meanings, number, percent, table, to_precision

__all__ = ["observation_sections", "scores_section"]

SCORES = (
    "c2st_forest",
    "c2st_mlp",
    "prdc_density",
    "prdc_coverage",
    "prdc_precision",
    "prdc_recall",
    "mmd_squared",
)
"""Scalar metrics in the order of the table's columns."""
SHARES = ("prdc_coverage", "prdc_precision", "prdc_recall")
MOST_PAIRED = 8
"""Parameters in a pair plot; more panels would be too small to read."""


def scores_section(content: ReportContent) -> str:
    """Return the tables of scores against the exact posterior, one row per scan."""
    parts, used = [], []
    for name, model in content.models.items():
        metrics = {label: a.metrics for label, a in model.answers.items() if a.metrics}
        scores = [s for s in SCORES if any(s in m for m in metrics.values())]
        moments = any("mean_shift" in m for m in metrics.values())
        if not scores and not moments:
            continue
        names = scores + ["largest_mean_shift", "sd_ratio_range"] * moments
        used += [n for n in names if n not in used]
        rows = [
            [label, *(_score(metrics[label], n) for n in names)]
            for label in (o.label for o in content.observations)
            if label in metrics
        ]
        if len(rows) > 1:
            rows.append(["mean", *(_mean_score(metrics.values(), n) for n in names)])
        header = ["observation", *(METRICS[n].label for n in names)]
        parts.append(table(header, rows, f"{name} against the exact posterior"))
    if not parts:
        return ""
    return "".join(parts) + meanings(used)


def _score(metrics: dict, name: str) -> str:
    """Format one cell of the table of scores."""
    if name == "largest_mean_shift":
        shift = metrics.get("mean_shift")
        return number(None if shift is None else float(np.abs(shift).max()))
    if name == "sd_ratio_range":
        ratio = metrics.get("sd_ratio")
        if ratio is None:
            return number(None)
        return f"{np.min(ratio):.2f} – {np.max(ratio):.2f}"
    value = metrics.get(name)
    if name in SHARES:
        return percent(value)
    return number(None if value is None else float(value))


def _mean_score(all_metrics: object, name: str) -> str:
    """Format the mean of a column over observations."""
    if name == "sd_ratio_range":
        ratios = [m["sd_ratio"] for m in all_metrics if "sd_ratio" in m]
        return f"{np.mean(ratios):.2f}"
    if name == "largest_mean_shift":
        shifts = [
            np.abs(m["mean_shift"]).max() for m in all_metrics if "mean_shift" in m
        ]
        return number(float(np.mean(shifts)))
    values = [m[name] for m in all_metrics if name in m]
    return _score({name: float(np.mean(values))}, name)


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
    predicted = {m: a.predictive for m, a in answers.items()}
    predicted = {m: p for m, p in predicted.items() if p is not None}
    parts.append(draw_scan(content, observation, predicted, f"{name}-scan"))
    return "".join(parts)


def _values_table(
    content: ReportContent, observation: Observation, answers: dict
) -> str:
    """Return truth, posteriors, exact posterior and classical fit, per parameter."""
    exact, truth, fit = observation.exact, observation.theta_true, observation.fit
    note = f" ({observation.exact_note})" if observation.exact_note else ""
    sets = {} if exact is None else {f"exact posterior{note}": exact}
    sets |= {model: answer.samples for model, answer in answers.items()}
    rows = []
    for d, (name, unit) in enumerate(zip(content.names, content.units, strict=True)):
        draws = {source: values[:, d] for source, values in sets.items()}
        error = min((float(np.std(v)) for v in draws.values()), default=np.nan)
        group = []
        if truth is not None:
            group.append(["truth", to_precision(float(truth[d]), error), "", ""])
        group += [[source, *_intervals(v, error)] for source, v in draws.items()]
        if fit is not None:
            value, spread = float(fit.values[d]), float(fit.errors[d])
            known = np.isfinite(spread)
            sigma = f"± {to_precision(spread, error)}" if known else ""
            group.append([fit.method, to_precision(value, error), sigma, ""])
        if exact is None and note:
            group.append([f"exact posterior{note}", "", "", ""])
        label = axis_label(name, unit)
        rows += [[label if i == 0 else "", *row] for i, row in enumerate(group)]
    header = ["parameter", "from", "median or value", "68 % interval", "95 % interval"]
    return table(header, rows, f"{observation.label}: parameters", num_text=2)


def _intervals(draws: np.ndarray, error: float) -> tuple[str, str, str]:
    """Format the median and the central 68 and 95 % intervals."""
    shares = (0.5, 0.16, 0.84, 0.025, 0.975)
    middle, *ends = (to_precision(q, error) for q in np.quantile(draws, shares))
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
