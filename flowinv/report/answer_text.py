"""The answer to one scan as a table for a terminal, and what it cannot show."""

from collections.abc import Mapping, Sequence

import numpy as np

from flowinv.diagnostics.answers import QUANTILES, summary
from flowinv.diagnostics.modes import separate_parts
from flowinv.priors.latent import Prior
from flowinv.report.tables import to_precision
from flowinv.tasks.task import ClassicalFit, Derived, Quantity, quantities

__all__ = ["answer_table", "ranges_apart"]


def answer_table(
    prior: Prior,
    draws: np.ndarray,
    fit: ClassicalFit | None,
    derived: Sequence[Derived] = (),
) -> str:
    """Parameter, unit, median, 68 and 95 % interval, and the classical fit, as text.

    Args:
        prior: whose names and units lead the rows.
        draws: of the posterior, `[n, D]`.
        fit: the classical fit, or None.
        derived: quantities beside the parameters.
    """
    head = ["parameter", "unit", "median", "68 % interval", "95 % interval"]
    if fit is not None:
        head.append(fit.method)
    numbers, rows = summary(draws), [head]
    for quantity in quantities(prior.names, prior.units, derived):
        cells = _cells(numbers, quantity, fit)
        rows.append([quantity.name, quantity.unit or "-", *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *ranges_apart(prior.names, draws)])


def ranges_apart(names: Sequence[str], draws: np.ndarray) -> list[str]:
    """A sentence for each parameter whose draws lie in ranges apart.

    Args:
        names: of the parameters.
        draws: of the posterior, `[n, D]`.
    """
    said = []
    for name, own in zip(names, np.asarray(draws).T, strict=True):
        parts = separate_parts(own)
        if len(parts) > 1:
            least = max(min(part.high - part.low for part in parts), 1e-12)
            shown = " or ".join(
                f"{to_precision(part.low, least)} – {to_precision(part.high, least)} "
                f"({100 * part.share:.0f} %)"
                for part in parts
            )
            said.append(
                f"{name} is {shown}, with next to nothing between: "
                "its median and intervals say little."
            )
    return said


def _cells(
    numbers: Mapping[str, np.ndarray], quantity: Quantity, fit: ClassicalFit | None
) -> list[str]:
    """Median, intervals and fit of one quantity."""
    d, factor = quantity.index, quantity.factor
    middle, *ends = (factor * float(numbers[what][d]) for what in QUANTILES)
    # Two digits of the error decide how many decimals mean anything.
    # No interval is narrower than float32, in which draws are made, can tell.
    least = abs(factor) * float(np.spacing(np.float32(abs(middle / factor))))
    ends = [
        min(end, middle - least) if side == 0 else max(end, middle + least)
        for side, end in zip((0, 1, 0, 1), ends, strict=True)
    ]
    error = max((ends[1] - ends[0]) / 2, 1e-12)
    places = int(np.clip(1 - np.floor(np.log10(error)), 0, 8))
    shown = [f"{value:.{places}f}" for value in (middle, *ends)]
    cells = [shown[0], f"{shown[1]} .. {shown[2]}", f"{shown[3]} .. {shown[4]}"]
    if fit is None:
        return cells
    value, spread = factor * fit.values[d], factor * fit.errors[d]
    known = np.isfinite(value)
    return [*cells, f"{value:.{places}f} +- {spread:.{places}f}" if known else "-"]
