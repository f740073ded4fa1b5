"""One self-contained report.html: figures inside, no network, light and dark."""

import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowinv.diagnostics.coverage import interval_coverage
from flowinv.diagnostics.estimates import estimate_errors
from flowinv.diagnostics.sbc import rank_test
from flowinv.files import write_bytes
from flowinv.report.content import Calibration, Estimates, ModelResult, ReportContent
from flowinv.report.embed import embed_figure
from flowinv.report.observation_sections import observation_sections, scores_section
from flowinv.report.plots import (
    coverage_curves,
    estimates_against_truth,
    rank_histograms,
    training_curves,
)
from flowinv.report.rounds_section import rounds_section
from flowinv.report.style import axis_label
from flowinv.report.tables import meanings, number, p_value, percent, table
from flowinv.report.theme import STYLESHEET
from flowinv.report.verdict import interval_levels, verdicts

__all__ = ["render_report", "write_report"]

DRAWN_HISTORY = ("train_loss", "validation_loss", "gradient_norm", "out_of_range")
MOST_COLUMNS = 4
"""Parameters side by side in one figure."""


def write_report(content: ReportContent, path: str | Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_bytes(path, render_report(content).encode())


def render_report(content: ReportContent) -> str:
    """Return the page as one HTML document; parts without data are left out."""
    sections = [
        ("scores", "Against the exact posterior", scores_section(content)),
        ("calibration", "Calibration on held-out simulations", _calibration(content)),
        ("estimates", "Point estimates against truth", _estimates(content)),
        ("rounds", "Round by round", rounds_section(content)),
        ("observations", "Observations", observation_sections(content)),
        ("training", "Training", _training(content)),
        ("facts", "The run", _facts(content)),
    ]
    sections = [section for section in sections if section[2]]
    links = " ".join(f'<a href="#{name}">{title}</a>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{title}</h2>{inner}</section>'
        for name, title, inner in sections
    )
    title = html.escape(content.title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>\n{STYLESHEET}\n</style></head>\n"
        f"<body><h1>{title}</h1><nav>{links}</nav>{_summary(content)}{body}</body>"
        "</html>\n"
    )


def _heading(content: ReportContent, name: str) -> str:
    """Return a model's heading, empty when there is only one model."""
    return f"<h3>{html.escape(name)}</h3>" if len(content.models) > 1 else ""


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _summary(content: ReportContent) -> str:
    """Return the verdict per model and parameter, in words."""
    parts = []
    for name, model in content.models.items():
        judged = verdicts(content, model)
        trusted = sum(verdict.status == "trusted" for verdict in judged)
        items = "".join(
            f'<li class="{v.status.replace(" ", "-")}"><b>{html.escape(v.parameter)}'
            f"</b><span>{v.status}</span>"
            f"<p>{html.escape(v.words)}</p></li>"
            for v in judged
        )
        head = f"{name}: {trusted} of {len(judged)} parameters trusted"
        parts.append(
            f"<h3>{html.escape(head)}</h3>{_mean_scores(model)}<ul>{items}</ul>"
        )
    if not parts:
        return ""
    note = (
        '<p class="note">Trusted: rank histograms are uniform (Holm-corrected p above '
        "0.01), intervals hold as often as promised (within 3 binomial sd), and, where "
        "an exact posterior exists, it is matched on average: mean within 0.3 sd, "
        "width within 25 %.</p>"
    )
    return f'<section class="summary"><h2>Summary</h2>{"".join(parts)}{note}</section>'


def _mean_scores(model: ModelResult) -> str:
    """Return one sentence of mean C2ST over the observations."""
    words = []
    for key, classifier in (("c2st_forest", "forest"), ("c2st_mlp", "MLP")):
        values = [a.metrics[key] for a in model.answers.values() if key in a.metrics]
        if values:
            words.append(f"{np.mean(values):.3f} ({classifier})")
    if not words:
        return ""
    num = len(model.answers)
    scans = f"{num} observation" + "s" * (num != 1)
    return (
        f"<p>Mean C2ST against the exact posterior over {scans}: {', '.join(words)}; "
        "0.5 is indistinguishable, 1.0 disjoint.</p>"
    )


def _facts(content: ReportContent) -> str:
    """Return what was run, where and how long."""
    parts = []
    if content.facts:
        parts.append(table(("fact", "value"), content.facts.items(), "Run", 2))
    models = content.models
    facts = list(dict.fromkeys(fact for m in models.values() for fact in m.facts))
    if facts:
        rows = [[f, *(m.facts.get(f, "") for m in models.values())] for f in facts]
        header = ["fact", *models]
        parts.append(table(header, rows, "Models", len(header)))
    return "".join(parts)


def _training(content: ReportContent) -> str:
    """Return the training curves of every model."""
    parts, used = [], []
    for index, (name, model) in enumerate(content.models.items()):
        drawn = {n: model.history[n] for n in DRAWN_HISTORY if n in model.history}
        if not drawn:
            continue
        used += [n for n in drawn if n not in used]
        names = ", ".join(n.replace("_", " ") for n in drawn)
        svg = embed_figure(
            training_curves(drawn), f"training-{index}", f"{name}: {names} by epoch"
        )
        parts.append(_heading(content, name) + f"<figure>{svg}</figure>")
    return "".join(parts) + meanings(used) if parts else ""


def _columns(content: ReportContent) -> Iterator[slice]:
    """Yield slices of parameters that fit side by side."""
    for start in range(0, len(content.names), MOST_COLUMNS):
        yield slice(start, start + MOST_COLUMNS)


def _estimates(content: ReportContent) -> str:
    """Return estimates against truth with their errors, per model."""
    parts = []
    for index, (name, model) in enumerate(content.models.items()):
        if model.estimates is None or not model.estimates.named():
            continue
        parts.append(_heading(content, name))
        parts.append(_errors_table(content, model.estimates))
        for block, shown in enumerate(_columns(content)):
            names = content.names[shown]
            figure = estimates_against_truth(
                model.estimates.truth[:, shown],
                {k: v[:, shown] for k, v in model.estimates.named().items()},
                names,
                content.units[shown],
            )
            kinds = ", ".join(model.estimates.named())
            alt = f"{name}: posterior {kinds} over truth for {', '.join(names)}"
            svg = embed_figure(figure, f"estimates-{index}-{block}", alt)
            parts.append(_figure(svg, "Each dot is one held-out simulation."))
    return "".join(parts) + meanings(["rmse", "r2", "bias"]) if parts else ""


def _errors_table(content: ReportContent, estimates: Estimates) -> str:
    """Return RMSE, R2 and bias of each estimate, one row per parameter."""
    kinds = estimates.named()
    errors = [estimate_errors(estimates.truth, value) for value in kinds.values()]
    header = ["parameter"]
    for kind in kinds:
        header += [f"{kind}: RMSE", "R²", "bias"]
    rows = []
    for d, (name, unit) in enumerate(zip(content.names, content.units, strict=True)):
        row = [axis_label(name, unit)]
        for e in errors:
            row += [number(e.rmse[d]), f"{e.r2[d]:.5f}", number(e.bias[d], 2)]
        rows.append(row)
    caption = f"Errors on {len(estimates.truth):,} held-out simulations"
    return table(header, rows, caption)


def _calibration(content: ReportContent) -> str:
    """Return SBC and interval coverage of every model."""
    models = {n: m.calibration for n, m in content.models.items()}
    models = {n: c for n, c in models.items() if c is not None}
    if not models:
        return ""
    parts = []
    for index, (name, calibration) in enumerate(models.items()):
        parts.append(_heading(content, name))
        parts.append(_calibration_table(content, calibration))
        figure = rank_histograms(
            calibration.ranks, calibration.num_samples, content.names
        )
        alt = f"{name}: rank histograms of {', '.join(content.names)}"
        caption = (
            "Ranks of the true value among posterior draws. Right posteriors give flat "
            "histograms: 99 % of bars end in the grey band. High ends: too narrow; a "
            "hump: too wide; a slope: biased."
        )
        parts.append(_figure(embed_figure(figure, f"ranks-{index}", alt), caption))
    figure = coverage_curves(
        {n: (c.ranks, c.num_samples) for n, c in models.items()}, content.names
    )
    caption = (
        "How much more (above 0) or less (below 0) often than promised central "
        "intervals hold the truth; bands are one and three binomial standard "
        "deviations. Below the bands the posterior is overconfident."
    )
    alt = f"Observed minus promised coverage of {', '.join(models)}"
    parts.append(_figure(embed_figure(figure, "coverage", alt), caption))
    names = ["chi2_p", "chi2_p_holm", "ks_p", "interval_coverage", "z_score"]
    return "".join(parts) + meanings(names)


def _calibration_table(content: ReportContent, calibration: Calibration) -> str:
    """Return p-values of SBC and coverage of intervals, one row per parameter."""
    ranks, num_samples = calibration.ranks, calibration.num_samples
    result = rank_test(ranks, num_samples)
    levels = interval_levels(num_samples)
    coverage = interval_coverage(ranks, num_samples, levels) if levels else None
    header = ["parameter", "SBC χ² p", "χ² p (Holm)", "SBC KS p"]
    for nominal in () if coverage is None else coverage.nominal:
        header += [f"{100 * nominal:.3g} % interval", "z"]
    rows = []
    for d, name in enumerate(content.names):
        tests = (result.chi2_p[d], result.chi2_p_holm[d], result.ks_p[d])
        row = [name, *(p_value(p) for p in tests)]
        for k in range(len(levels)):
            sd = 100 * coverage.sd[k]
            row.append(f"{percent(coverage.observed[k, d])[:-2]} ± {sd:.1f} %")
            row.append(f"{coverage.z_score[k, d]:+.1f}".replace("-", "−"))
        rows.append(row)
    caption = f"{len(ranks):,} held-out simulations, {num_samples:,} draws each"
    return table(header, rows, caption)
