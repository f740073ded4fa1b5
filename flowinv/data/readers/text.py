"""Scans as text: a table of numbers under a header, among lines of metadata."""

import gzip
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowinv.checks import fail
from flowinv.data.readers.columns import Column, assigned, named, roles_of, with_unit
from flowinv.data.scan import ReadOptions, Scan
from flowinv.data.scan_text import cells_of, check_commas, decode, number_of

__all__ = ["lines_of", "read"]

_SEPARATORS = ("\t", ";", ",", "")
LEAST_ROWS = 5
# A name with what stands in brackets behind it.
_NAME = re.compile(r"[^\s,;\[(]+(?:\s*[\[(][^\])]*[\])])?")


def lines_of(path: Path) -> list[str]:
    """Lines of a text file, gzipped or not, in the encoding that it has."""
    blob = path.read_bytes()
    if blob[:2] == b"\x1f\x8b":
        try:
            blob = gzip.decompress(blob)
        except (OSError, EOFError) as error:
            fail(f"{path.name}", "as a readable gzip file", error)
    return decode(path, blob).splitlines()


def read(path: Path, options: ReadOptions) -> list[Scan]:
    """Read the table of a text file.

    Rows are lines of numbers alone; the longest run of them is the table, and the last
    line above it with as many words as columns names them. Comments after "#" count as
    lines above. Columns without any number (LabVIEW's Comment) are left out.
    """
    lines = lines_of(path)
    table = _table(path, lines)
    values = np.array(table.rows, np.float64)
    header = _header(lines[: table.start], table.separator, values.shape[1])
    columns = {}
    for index in range(values.shape[1]):
        if np.isnan(values[:, index]).all():
            continue
        name, unit = with_unit(header[index]) if header else (str(index + 1), "")
        name = name if name and name not in columns else f"{name}{index + 1}"
        columns[name] = Column(name, unit, values[:, index])
    if options.columns:
        return assigned(path, columns, named(options.columns))
    own = list(columns.values())
    if len(own) == 1:
        remedy = "Add a column of positions, or read it by a task of its own grid."
        fail(f"{path.name}", "with positions beside the signal", "one column", remedy)
    if not header:
        # Numbers are no names: nothing in them says what a third column is.
        own = [column._replace(name=f"column {column.name}") for column in own]
        columns = {column.name: column for column in own}
    scans = assigned(path, columns, roles_of(path, own))
    return [_plain(scan) for scan in scans]


def _plain(scan: Scan) -> Scan:
    """Columns that have numbers only name no axis."""
    if not re.fullmatch(r"column \d+", scan.axis):
        return scan
    return Scan(**{**vars(scan), "axis": ""})


class _Run(NamedTuple):
    """Lines of numbers alone, all of one width.

    Attributes:
        separator: of their cells, "" for blanks.
        start: number of the first line, from 0.
        end: number of the line behind the last.
        rows: their numbers.
    """

    separator: str
    start: int
    end: int
    rows: list[list[float]]


def _table(path: Path, lines: list[str]) -> _Run:
    """The longest run of all; numbers apart from it are refused, never left out."""
    runs = [run for separator in _SEPARATORS for run in _runs(lines, separator)]
    if not runs:
        fail("scan file", f"with {LEAST_ROWS} rows of numbers at least", path.name)
    best = max(runs, key=lambda run: (len(run.rows[0]) > 1, len(run.rows)))
    for number, line in enumerate(lines):
        if best.start <= number < best.end:
            continue
        values = _row(line, best.separator)
        if values is not None and len(values) == len(best.rows[0]):
            near = best.end if number >= best.end else number + 1
            got = f"{lines[near].strip()[:60]!r} in line {near + 1}"
            fail(f"table of {path.name}", "in one piece", got)
    if best.separator in (";", "\t"):
        body = lines[best.start : best.end]
        check_commas(path, [cells_of(line, best.separator) for line in body])
    return best


def _runs(lines: list[str], separator: str) -> list[_Run]:
    """Runs of at least five lines; blank lines between rows do not end one."""
    runs: list[_Run] = []
    run = _Run(separator, 0, 0, [])
    for number, line in enumerate([*lines, "end"]):
        values = _row(line, separator)
        if values is None and not line.strip():
            continue
        if values is not None and run.rows and len(values) == len(run.rows[0]):
            run.rows.append(values)
            run = run._replace(end=number + 1)
            continue
        if len(run.rows) >= LEAST_ROWS:
            runs.append(run)
        rows = [] if values is None else [values]
        run = _Run(separator, number, number + 1, rows)
    return runs


def _row(line: str, separator: str) -> list[float] | None:
    """Numbers of a line; empty cells are NaN. None for anything else."""
    body = line.partition("#")[0].strip("\r\n ")
    if not body.strip() or (separator and separator not in body):
        return None
    cells = cells_of(body, separator)
    values = [
        np.nan if cell == "" and separator else number_of(cell, separator)
        for cell in cells
    ]
    if any(value is None for value in values) or np.isnan(values).all():
        return None
    return values


def _header(lines: list[str], separator: str, width: int) -> list[str]:
    """The words of the last line that has one for each column, or []."""
    for line in reversed(lines):
        body = line.strip().lstrip("#").strip()
        if not body or re.fullmatch(r"\**\w*End\w*\**", body):
            continue
        ways = [cells_of(body, separator)] if separator else []
        for words in [*ways, _NAME.findall(body)]:
            # LabVIEW names a column of comments that no row has.
            if len(words) in (width, width + 1) and not any(
                number_of(word, separator) is not None for word in words
            ):
                return words[:width]
    return []
