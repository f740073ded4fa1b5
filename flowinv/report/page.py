"""One self-contained report.html: figures inside, no network, light and dark."""

import html
from pathlib import Path

import numpy as np

from flowinv.diagnostics.check import Check, Numbers
from flowinv.diagnostics.table import CHECKS
from flowinv.files import write_bytes
from flowinv.report.answer_section import answer_section
from flowinv.report.content import ModelResult, ReportContent
from flowinv.report.embed import embed_figure
from flowinv.report.observation_sections import observation_sections, scores_section
from flowinv.report.plots import (
    coverage_curves,
    ecdf_differences,
    errors_in_sds,
    rank_histograms,
    training_curves,
)
from flowinv.report.rounds_section import rounds_section
from flowinv.report.style import axis_label
from flowinv.report.tables import meanings, number, p_value, percent, table
from flowinv.report.theme import STYLESHEET
from flowinv.report.zoom import ZOOM

__all__ = ["render_report", "write_report"]

DRAWN_HISTORY = ("train_loss", "validation_loss", "gradient_norm", "out_of_range")


def write_report(content: ReportContent, path: str | Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_bytes(path, render_report(content).encode())


def render_report(content: ReportContent) -> str:
    """Return the page as one HTML document; parts without data are left out."""
    sections = [
        ("verdicts", "How far to trust it", _verdicts(content)),
        ("observations", "Observations", observation_sections(content)),
        ("scores", "Against the exact posterior", scores_section(content)),
        ("calibration", "Calibration on held-out simulations", _calibration(content)),
        ("estimates", "Errors of point estimates", _estimates(content)),
        ("rounds", "Round by round", rounds_section(content)),
        ("training", "Training", _training(content)),
        ("numbers", "Every number", _every_number(content)),
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
        f"<body><h1>{title}</h1><nav>{links}</nav>{_first(content)}{body}"
        f"<script>{ZOOM}</script></body></html>\n"
    )


def _heading(content: ReportContent, name: str) -> str:
    """Return a model's heading, empty when there is only one model."""
    return f"<h3>{html.escape(name)}</h3>" if len(content.models) > 1 else ""


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _first(content: ReportContent) -> str:
    """Return the first screen: the answer to one scan."""
    inner = answer_section(content)
    if not inner:
        return ""
    return f'<section class="summary" id="answer"><h2>The answer</h2>{inner}</section>'


def _verdicts(content: ReportContent) -> str:
    """Return the verdict per model and parameter, in words."""
    parts = []
    for name, model in content.models.items():
        judged = model.results.verdicts
        trusted = sum(verdict.status == "trusted" for verdict in judged)
        items = "".join(
            f'<li class="{v.status.replace(" ", "-")}"><b>{html.escape(v.parameter)}'
            f"</b><span>{v.status}</span>"
            f"<p>{html.escape(v.words)}</p></li>"
            for v in judged
        )
        head = f"{name}: {trusted} of {len(judged)} parameters trusted"
        parts.append(
            f'<h3>{html.escape(head)}</h3>{_mean_scores(model)}<ul class="verdicts">'
            f"{items}</ul>"
        )
    if not parts:
        return ""
    limits = "; ".join(
        f"{check.name}: {check.limit}" for check in CHECKS if check.judge is not None
    )
    note = f'<p class="note">Limits. {html.escape(limits)}.</p>'
    return "".join(parts) + note


def _mean_scores(model: ModelResult) -> str:
    """Return one sentence of mean C2ST over the observations."""
    numbers = model.results.numbers.get("exactness", {})
    words = [
        f"{numbers[key]:.3f} ({classifier})"
        for key, classifier in (
            ("mean/c2st_forest", "forest"),
            ("mean/c2st_mlp", "MLP"),
        )
        if key in numbers
    ]
    if not words:
        return ""
    return (
        f"<p>Mean C2ST against the exact posterior: {', '.join(words)}; "
        "0.5 is indistinguishable, 1.0 disjoint.</p>"
    )


def _every_number(content: ReportContent) -> str:
    """Return all numbers of all checks, folded up: what `metrics.json` holds."""
    parts = []
    for name, model in content.models.items():
        for check in CHECKS:
            if check.name in model.results.numbers:
                parts.append(_numbers(content, name, check, model))
    return "".join(parts)


def _numbers(
    content: ReportContent, name: str, check: Check, model: ModelResult
) -> str:
    """Return the numbers of one check, one row each."""
    rows = []
    for what, value in model.results.numbers[check.name].items():
        cells = value if np.ndim(value) else [value]
        texts = [number(float(cell)) for cell in cells]
        rows.append([what, *texts, *[""] * (len(content.names) - len(texts))])
    title = f"{name}, {check.name}: {check.asks}"
    note = f"<p>{html.escape(f'{check.meaning} Limit: {check.limit}.')}</p>"
    shown = table(["number", *content.names], rows, title)
    return f"<details><summary>{html.escape(title)}</summary>{note}{shown}</details>"


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


def _estimates(content: ReportContent) -> str:
    """Return estimates against truth with their errors, per model."""
    parts = []
    for index, (name, model) in enumerate(content.models.items()):
        numbers = model.results.numbers.get("accuracy")
        if numbers is None:
            continue
        parts += [_heading(content, name), _errors_table(content, numbers)]
        if model.errors is None:
            continue
        figure = errors_in_sds(
            *(model.errors.truth, model.errors.in_sds, numbers["error_in_sds"]),
            *(content.names, content.units),
        )
        alt = f"{name}: error over truth for {', '.join(content.names)}"
        svg = embed_figure(figure, f"estimates-{index}", alt)
        caption = (
            "Each dot is one held-out simulation: how many of its own standard "
            "deviations the posterior mean lies from the truth. Right posteriors "
            "scatter with sd 1 about 0; 95 % of the dots lie in the grey band."
        )
        parts.append(_figure(svg, caption))
    return "".join(parts) + meanings(["rmse", "r2", "bias"]) if parts else ""


def _errors_table(content: ReportContent, numbers: Numbers) -> str:
    """Return RMSE, R2 and bias of each estimate, one row per parameter."""
    kinds = [what[5:] for what in numbers if what.startswith("rmse/")]
    header = ["parameter"]
    for kind in kinds:
        header += [f"{kind}: RMSE", "R²", "bias"]
    rows = []
    for d, (name, unit) in enumerate(zip(content.names, content.units, strict=True)):
        row = [axis_label(name, unit)]
        for kind in kinds:
            rmse, r2, bias = (numbers[f"{w}/{kind}"][d] for w in ("rmse", "r2", "bias"))
            row += [number(rmse), f"{r2:.5f}", number(bias, 2)]
        rows.append(row)
    return table(header, rows, "Errors on held-out simulations")


def _calibration(content: ReportContent) -> str:
    """Return SBC and interval coverage of every model."""
    models = {
        name: model.calibration
        for name, model in content.models.items()
        if model.calibration and "calibration" in model.results.numbers
    }
    if not models:
        return ""
    parts = []
    for index, (name, calibration) in enumerate(models.items()):
        parts.append(_heading(content, name))
        numbers = content.models[name].results.numbers["calibration"]
        parts.append(_calibration_table(content, numbers))
        figure = rank_histograms(calibration, numbers["sbc_chi2_p"], content.names)
        alt = f"{name}: rank histograms of {', '.join(content.names)}"
        caption = (
            "Ranks of the true value among posterior draws. Right posteriors give flat "
            "histograms: 99 % of bars end in the grey band. High ends: too narrow; a "
            "hump: too wide; a slope: biased."
        )
        parts.append(_figure(embed_figure(figure, f"ranks-{index}", alt), caption))
        parts.append(_together(content, name))
    figure = ecdf_differences(models, content.names)
    caption = (
        "How far the distribution of ranks is from a uniform one; 95 % of right curves "
        "stay in the band from end to end. The dash-dotted line is of the density of "
        "all parameters together."
    )
    alt = f"Distribution of ranks minus uniform of {', '.join(models)}"
    parts.append(_figure(embed_figure(figure, "ecdf", alt), caption))
    figure = coverage_curves(models, content.names)
    caption = (
        "How much more (above 0) or less (below 0) often than promised central "
        "intervals hold the truth; bands are one and three binomial standard "
        "deviations. Below the bands the posterior is overconfident."
    )
    alt = f"Observed minus promised coverage of {', '.join(models)}"
    parts.append(_figure(embed_figure(figure, "coverage", alt), caption))
    names = ["chi2_p", "chi2_p_holm", "ks_p", "interval_coverage", "z_score"]
    return "".join(parts) + meanings(names)


def _together(content: ReportContent, name: str) -> str:
    """Return what is tested of all parameters together, and what would mend it."""
    every = content.models[name].results.numbers
    rows = []
    if regions := every.get("regions"):
        seen = f"the 90 % region holds {percent(regions['regions_90'])} of truths"
        rows.append(["regions of highest density", seen, p_value(regions["regions_p"])])
    if balls := every.get("tarp"):
        kinds = {"tarp": "anywhere", "tarp_near": "where x points"}
        for own, where in kinds.items():
            seen = f"spread {balls[f'{own}_spread']:.2f} of right ones"
            words = f"balls around random points {where} (TARP)"
            rows.append([words, seen, p_value(balls[f"{own}_p"])])
    if mended := every.get("recalibration"):
        before, after = (percent(mended[f"region_{w}_90"]) for w in ("before", "after"))
        mass = percent(mended["region_mass_for_90"])
        seen = f"mass {mass} (on the other half: {before} before, {after} after)"
        rows.append(["regions that hold 90 % on average over the prior", seen, ""])
    if not rows:
        return ""
    return table(["all parameters together", "seen", "p"], rows, "All parameters", 2)


def _calibration_table(content: ReportContent, numbers: Numbers) -> str:
    """Return p-values of SBC and coverage of intervals, one row per parameter."""
    count = numbers["num_heldout"]
    shown = [
        (name.removesuffix("_nominal"), float(value))
        for name, value in numbers.items()
        if name.endswith("_nominal")
    ]
    header = ["parameter", "SBC χ² p", "χ² p (Holm)", "SBC KS p"]
    for _, nominal in shown:
        header += [f"{100 * nominal:.3g} % interval", "z"]
    rows = []
    for d, parameter in enumerate(content.names):
        tests = ("sbc_chi2_p", "sbc_chi2_p_holm", "sbc_ks_p")
        row = [parameter, *(p_value(numbers[test][d]) for test in tests)]
        for name, _ in shown:
            sd = 100 * numbers[f"{name}_sd"]
            row.append(f"{percent(numbers[name][d])[:-2]} ± {sd:.1f} %")
            row.append(f"{numbers[f'{name}_z'][d]:+.1f}".replace("-", "−"))
        rows.append(row)
    draws = f"{numbers['num_draws']:,.0f} draws each"
    return table(header, rows, f"{count:,.0f} held-out simulations, {draws}")
