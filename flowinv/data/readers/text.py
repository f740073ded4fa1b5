"""Scans as text: a table of numbers under a header, among lines of metadata."""

import gzip
import re
from pathlib import Path

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
    separator, start, rows = _table(path, lines)
    values = np.array(rows, np.float64)
    header = _header(lines[:start], separator, values.shape[1])
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


def _table(path: Path, lines: list[str]) -> tuple[str, int, list[list[float]]]:
    """Separator, number of the first line and rows of the table."""
    best: tuple[str, int, list[list[float]]] = ("", 0, [])
    blocks = 0
    for separator in _SEPARATORS:
        found = _runs(lines, separator)
        if not found:
            continue
        start, rows = max(found, key=lambda run: len(run[1]) * (len(run[1][0]) > 1))
        better = (len(rows[0]) > 1, len(rows)) > (
            bool(best[2]) and len(best[2][0]) > 1,
            len(best[2]),
        )
        if better:
            best, blocks = (separator, start, rows), len(found)
            same = [run for run in found if len(run[1][0]) == len(rows[0])]
            if len(same) > 1:
                first, second = same[0], same[1]
                end = first[0] + len(first[1])
                bad = lines[end].strip()[:60] if end < second[0] else "another table"
                where = f"{bad!r} in line {end + 1}"
                fail(f"table of {path.name}", "in one piece", where)
    if not best[2] or not blocks:
        fail("scan file", f"with {LEAST_ROWS} rows of numbers at least", f"{path.name}")
    if best[0] in (";", "\t"):
        first, count = best[1], len(best[2])
        body = lines[first : first + count]
        check_commas(path, [cells_of(line, best[0]) for line in body])
    return best


def _runs(lines: list[str], separator: str) -> list[tuple[int, list[list[float]]]]:
    """Runs of at least five lines of numbers alone, all of one width."""
    runs: list[tuple[int, list[list[float]]]] = []
    start, rows = 0, []
    for number, line in enumerate([*lines, "end"]):
        values = _row(line, separator)
        if values is not None and (not rows or len(values) == len(rows[0])):
            start, rows = (start, rows) if rows else (number, [])
            rows.append(values)
            continue
        if not line.strip() and rows:
            continue_run = number + 1 < len(lines)
            following = _row(lines[number + 1], separator) if continue_run else None
            if following is not None and len(following) == len(rows[0]):
                continue
        if len(rows) >= LEAST_ROWS:
            runs.append((start, rows))
        start, rows = (number, [values]) if values is not None else (0, [])
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
