"""Numbers as text and tables as HTML."""

import html
import math
from collections.abc import Iterable, Sequence

from flowinv.report.meanings import METRICS

__all__ = ["meanings", "number", "p_value", "percent", "table", "to_precision"]

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

    def cell(text: str, column: int, tag: str) -> str:
        kind = "" if column < num_text else ' class="n"'
        scope = {"th": ' scope="col"', "rh": ' scope="row"'}.get(tag, "")
        tag = "th" if tag in ("th", "rh") else "td"
        return f"<{tag}{scope}{kind}>{html.escape(str(text))}</{tag}>"

    head = "".join(cell(text, i, "th") for i, text in enumerate(header))
    body = "".join(
        "<tr>"
        + "".join(cell(text, i, "td" if i else "rh") for i, text in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def meanings(names: Iterable[str]) -> str:
    """Return the sentences of meaning of the named numbers as an HTML list."""
    items = "".join(
        f"<div><dt>{html.escape(METRICS[name].label)}</dt>"
        f"<dd>{html.escape(METRICS[name].sentence)}</dd></div>"
        for name in names
    )
    return f'<dl class="meaning">{items}</dl>'
