"""The page's first screen: the scan, the answer, how far to trust it, what next."""

import html

import numpy as np

from flowinv.diagnostics.answers import QUANTILES
from flowinv.diagnostics.check import Numbers
from flowinv.report.answer_text import ranges_apart
from flowinv.report.content import Observation, ReportContent
from flowinv.report.embed import embed_figure
from flowinv.report.posterior_plots import scan_plot
from flowinv.report.style import axis_label
from flowinv.report.tables import to_precision
from flowinv.tasks.task import Quantity, ScanLayout, quantities

__all__ = ["answer_section", "draw_scan", "shown_first"]


def shown_first(content: ReportContent) -> Observation | None:
    """A scan of the user's own, else the first observation that was answered."""
    model = content.models.get(content.best)
    if model is None:
        return None
    answered = [o for o in content.observations if o.label in model.answers]
    mine = [o for o in answered if o.theta_true is None]
    return next(iter(mine + answered), None)


def answer_section(content: ReportContent) -> str:
    """Return the answer of the best model to one scan; empty without one."""
    observation = shown_first(content)
    if observation is None:
        return ""
    model = content.models[content.best]
    others = len(content.observations) - 1
    plural = "s" * (others > 1)
    more = f" {others} more observation{plural} below." * (others > 0)
    why = ""
    if len(content.models) > 1:
        names = ", ".join(name for name in content.models if name != content.best)
        why = f" It has the best validation loss; {names} stands beside it below."
    head = (
        f"<p>{html.escape(observation.label)}, answered by "
        f"<b>{html.escape(content.best)}</b>.{html.escape(why + more)}</p>"
    )
    note = _note(content, observation)
    return (
        head
        + _table(content, observation)
        + note
        + _scan(content, observation)
        + (_steps(content) if model.results.verdicts else "")
    )


def _table(content: ReportContent, observation: Observation) -> str:
    """One row for each parameter: answer, interval, classical fit, verdict."""
    model, fit = content.models[content.best], observation.fit
    numbers = model.numbers("answers", observation.label)
    if not numbers:
        return ""
    verdicts = {v.parameter: v.status for v in model.results.verdicts}
    header = ["parameter", "answer", "95 % interval"]
    header += [fit.method] if fit is not None else []
    header += ["truth"] if observation.theta_true is not None else []
    rows = []
    for quantity in quantities(content.names, content.units, content.derived):
        status = verdicts.get(quantity.name, "unchecked")
        judged = f'<td class="{status.replace(" ", "-")}"><span>{status}</span></td>'
        kind = ""
        if quantity.is_derived:
            judged, kind = "<td></td>", ' class="derived"'
        cells = _cells(observation, numbers, quantity)
        rows.append(_row(axis_label(quantity.name, quantity.unit), cells, judged, kind))
    names = "".join(
        f'<th scope="col"{" class=n" * (i > 0)}>{html.escape(text)}</th>'
        for i, text in enumerate(header)
    )
    return (
        '<div class="scroll"><table class="answer"><thead><tr>'
        f'{names}<th scope="col">verdict</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(title: str, cells: list[str], judged: str, kind: str = "") -> str:
    numbers = "".join(f'<td class="n">{html.escape(cell)}</td>' for cell in cells)
    head = f'<th scope="row">{html.escape(title)}</th>'
    return f"<tr{kind}>{head}{numbers}{judged}</tr>"


def _cells(observation: Observation, numbers: Numbers, quantity: Quantity) -> list[str]:
    """Answer, 95 % interval, fit and truth of one quantity."""
    d, factor = quantity.index, quantity.factor
    middle, low, high, first, last = (
        factor * float(numbers[what][d]) for what in QUANTILES
    )
    half = (high - low) / 2
    cells = [
        f"{to_precision(middle, half)} ± {to_precision(half, half)}",
        f"{to_precision(first, half)} – {to_precision(last, half)}",
    ]
    if (fit := observation.fit) is not None:
        value, error = factor * float(fit.values[d]), factor * float(fit.errors[d])
        spread = f" ± {to_precision(error, half)}" if np.isfinite(error) else ""
        cells.append(f"{to_precision(value, half)}{spread}")
    if observation.theta_true is not None:
        cells.append(to_precision(factor * float(observation.theta_true[d]), half))
    return cells


def _note(content: ReportContent, observation: Observation) -> str:
    words = "Median and half the 68 % interval; both intervals hold probability."
    if observation.fit is not None:
        words += " The fit's ± is its reported standard error."
    if observation.scan_note:
        words += f" The scan as read: {observation.scan_note}."
    model = content.models[content.best]
    if model.rounds:
        words += " Inferred in rounds for this scan alone."
    apart = ranges_apart(content.names, model.answers[observation.label].samples)
    said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in apart)
    return f'{said}<p class="note">{html.escape(words)}</p>'


def _scan(content: ReportContent, observation: Observation) -> str:
    """The scan with the band that the answer predicts."""
    predicted = content.models[content.best].answers[observation.label].predictive
    bands = {} if predicted is None else {content.best: predicted}
    return draw_scan(observation, bands, "answer-scan")


def draw_scan(
    observation: Observation, predicted: dict[str, np.ndarray], name: str
) -> str:
    """Return one figure of a scan with what every model predicts."""
    drawn = observation.drawn
    plain = ScanLayout(("scan",), (np.arange(drawn.size),), "index", "value")
    layout = observation.layout or plain
    curve = None if observation.fit is None else observation.fit.curve
    figure = scan_plot(drawn, layout, predicted, curve)
    alt = f"{observation.label}: the scan"
    caption = "The scan."
    if predicted:
        models = " and ".join(predicted)
        alt += f" over what the posterior of {models} predicts"
        caption = (
            f"The scan over scans simulated from the posterior of {models}: bands hold "
            "50 and 90 % of them. Residuals are (scan - predicted mean) / predicted "
            "sd; about 95 % should lie in the grey band."
        )
    svg = embed_figure(figure, name, alt)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _steps(content: ReportContent) -> str:
    """What to do next, with the commands."""
    items = "".join(
        f"<li>{html.escape(step.words)}"
        + (f"<br><code>{html.escape(step.command)}</code>" if step.command else "")
        + "</li>"
        for step in content.next_steps
    )
    return f'<h3>Next</h3><ul class="steps">{items}</ul>' if items else ""
