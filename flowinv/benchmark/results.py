"""results.csv: a row for every number, appended when it is known, never twice."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flowinv.benchmark.cells import Cell
from flowinv.checks import fail
from flowinv.files import write_bytes

__all__ = ["COLUMNS", "Result", "append", "read"]

COLUMNS = (*Cell._fields, "value", "seconds", "simulations", "version")


class Result(NamedTuple):
    """A filled cell.

    Attributes:
        cell: what it is of.
        value: the number.
        seconds: of the training that it comes from, all observations together.
        simulations: that the training ran, for one observation.
        version: of flowinv and jax, and the device.
    """

    cell: Cell
    value: float
    seconds: float
    simulations: int
    version: str


def append(path: Path, results: Sequence[Result]) -> None:
    """Add rows at the end, in one write that is on the disk when this returns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        writer.writerow(COLUMNS)
    for own in results:
        value = (f"{own.value:.6g}", f"{own.seconds:.1f}", own.simulations, own.version)
        writer.writerow((*own.cell, *value))
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, text.getvalue().encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> dict[Cell, Result]:
    """Read all rows; a last line that was cut off is taken out of the file.

    Raises:
        ValueError: for a file with other columns, or a line that is none of ours.
    """
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_bytes(path, whole.encode())
    rows = list(csv.reader(io.StringIO(whole)))
    if rows and tuple(rows[0]) != COLUMNS:
        remedy = "Give another --out, or the file's own version of flowinv."
        fail(f"columns of {path}", ",".join(COLUMNS), ",".join(rows[0]), remedy)
    found = {}
    for number, row in enumerate(rows[1:], 2):
        try:
            result = _result(row)
        except (ValueError, TypeError):
            remedy = "Take it out."
            fail(f"line {number} of {path}", "to be a result", ",".join(row), remedy)
        found[result.cell] = result
    return found


def _result(row: Sequence[str]) -> Result:
    task, method, flow, budget, observation, seed, metric, protocol = row[:8]
    numbers = int(budget), int(observation), int(seed)
    cell = Cell(task, method, flow, *numbers, metric, protocol)
    value, seconds, simulations, version = row[8:]
    return Result(cell, float(value), float(seconds), int(simulations), version)
