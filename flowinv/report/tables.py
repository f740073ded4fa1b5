"""Numbers as text and tables as HTML."""

import html
import math
from collections.abc import Iterable, Sequence

from flowinv.report.meanings import METRICS

__all__ = [
    "grouped_table",
    "meanings",
    "number",
    "p_value",
    "percent",
    "table",
    "to_precision",
]

MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:#.{digits}g}"
    if "e+" in text and abs(value) < 1e7:
        text = f"{float(text):,.0f}"
    return text.rstrip(".").replace("-", "−")


def p_value(value: float) -> str:
    """Return a p-value with two significant digits, or that it is below 0.0001."""
    return "< 0.0001" if value < 1e-4 else number(value, 2)


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{100 * value:.1f} %".replace("-", "−")


def to_precision(value: float, error: float) -> str:
    """Return `value` with as many decimals as two significant digits of `error` need.

    A value without a finite positive error is given four significant digits.
    """
    if not math.isfinite(value):
        return MISSING
    if not (math.isfinite(error) and error > 0):
        return number(value, 4)
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{min(decimals, 12)}f}".replace("-", "−")


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str,
    num_text: int = 1,
) -> str:
    """Return an HTML table; every cell is escaped.

    Args:
        header: column headings.
        rows: cells as text; the first column heads its row.
        caption: one line above the table.
        num_text: how many leading columns are words, the rest are aligned as numbers.
    """
    lines = [
        "<tr>"
        + "".join(_cell(t, i, num_text, i == 0) for i, t in enumerate(row))
        + "</tr>"
        for row in rows
    ]
    return _framed(header, f"<tbody>{''.join(lines)}</tbody>", caption, num_text)


def grouped_table(
    header: Sequence[str],
    groups: Iterable[tuple[str, Sequence[Sequence[str]]]],
    caption: str,
) -> str:
    """Return an HTML table of groups of rows, each with a heading at its left.

    Args:
        header: column headings; the first is that of the groups.
        groups: heading, and its rows as cells; the first of a row are words.
        caption: one line above the table.
    """
    bodies = []
    for heading, rows in groups:
        first = (
            f'<th scope="rowgroup" rowspan="{len(rows)}">{html.escape(heading)}</th>'
        )
        lines = [
            "".join(_cell(text, i, 1, False) for i, text in enumerate(row))
            for row in rows
        ]
        lines = [f"<tr>{first * (i == 0)}{line}</tr>" for i, line in enumerate(lines)]
        bodies.append(f'<tbody class="group">{"".join(lines)}</tbody>')
    return _framed(header, "".join(bodies), caption, 2)


def _framed(header: Sequence[str], bodies: str, caption: str, num_text: int) -> str:
    """Put headings and a caption over rows."""
    head = "".join(
        f'<th scope="col"{_kind(i, num_text)}>{html.escape(str(text))}</th>'
        for i, text in enumerate(header)
    )
    return (
        f'<div class="scroll"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>{bodies}</table></div>"
    )


def _cell(text: str, column: int, num_text: int, heads: bool) -> str:
    """One escaped cell; `heads` makes it the heading of its row."""
    tag, scope = ("th", ' scope="row"') if heads else ("td", "")
    kind = _kind(column, num_text)
    return f"<{tag}{scope}{kind}>{html.escape(str(text))}</{tag}>"


def _kind(column: int, num_text: int) -> str:
    return "" if column < num_text else ' class="n"'


def meanings(names: Iterable[str]) -> str:
    """Return the sentences of meaning of the named numbers as an HTML list."""
    items = "".join(
        f"<div><dt>{html.escape(METRICS[name].label)}</dt>"
        f"<dd>{html.escape(METRICS[name].sentence)}</dd></div>"
        for name in names
    )
    return f'<dl class="meaning">{items}</dl>'
