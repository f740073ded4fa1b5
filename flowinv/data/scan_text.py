"""A text file of numbers as a table: encoding, separator, header words, numbers."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowinv.checks import fail

__all__ = [
    "Table",
    "cells_of",
    "check_commas",
    "decode",
    "is_counting",
    "number_of",
    "read_table",
]

_SEPARATORS = (";", "\t", ",")
# Separators beside which a comma is a decimal one.
_DECIMAL_COMMA = (";", "\t")
_WITH_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")
# Byte-order marks.
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class Table(NamedTuple):
    """Numbers of a file, and what its header calls them.

    Attributes:
        values: `[rows, columns]`, float64.
        names: one for each column, or () without a header that fits.
    """

    values: np.ndarray
    names: tuple[str, ...]


def read_table(path: Path) -> Table:
    """Read a text file.

    Lines without any number before the first row are headers, as are comments after
    "#"; the last one with a word for each column names them. A first row that counts
    0, 1, 2, ... (or from 1), as data frames write it, is a header too; so is a first
    column that counts the rows. Exponents may be Fortran's, 1.0D+03.

    Raises:
        ValueError: one line with the place of what is no number, or of a ragged row.
    """
    comments, kept = _lines(path)
    separator = _separator([text for _, text in kept])
    if separator in _DECIMAL_COMMA:
        check_commas(path, [cells_of(text, separator) for _, text in kept])
    headers, rows, has_index = comments, [], False
    for number, text in kept:
        cells = cells_of(text, separator)
        values = [number_of(cell, separator) for cell in cells]
        if not rows and len(kept) > 1 and all(value is None for value in values):
            headers = [*headers, cells]
            continue
        if not rows and cells[0] == "" and is_counting(np.array(values[1:], float)):
            has_index = True  # an empty corner above it
            continue
        if None in values:
            column = values.index(None)
            where = f"{cells[column]!r} in line {number}, column {column + 1}"
            fail(f"numbers in {path.name}", "only", where)
        if rows and len(values) != len(rows[0]):
            expected = f"to have {len(rows[0])} numbers like the first"
            fail(f"line {number} of {path.name}", expected, len(values))
        rows.append(values)
    if not rows:
        fail("scan file", "with numbers", f"only a header in {path}")
    table = np.array(rows, np.float64)
    if is_counting(table[0]):
        if len(table) == 1:
            fail("scan file", "with numbers", f"only a header 0, 1, 2, ... in {path}")
        table = table[1:]
    width = table.shape[1]
    names = next((tuple(h) for h in reversed(headers) if len(h) == width), ())
    if has_index or (width > 2 and is_counting(table[:, 0])):
        table, names = table[:, 1:], names[1:]
    return Table(table, names)


def is_counting(values: np.ndarray) -> bool:
    """Whether values are 0, 1, 2, ... or 1, 2, 3, ..., five of them at least."""
    if len(values) < 5 or values[0] not in (0, 1):
        return False
    return np.array_equal(values, values[0] + np.arange(len(values)))


def _lines(path: Path) -> tuple[list[list[str]], list[tuple[int, str]]]:
    """Words of the comments, and the numbered lines that hold something else."""
    text, comments, kept = decode(path, path.read_bytes()), [], []
    for number, line in enumerate(text.splitlines(), start=1):
        body, _, comment = line.partition("#")
        if comment.strip() and not kept:
            words = comment.replace(",", " ").replace(";", " ").split()
            comments.append(words)
        if body.strip():
            kept.append((number, body.strip()))
    if not kept:
        fail("scan file", "with numbers", f"the empty file {path}")
    return comments, kept


def decode(path: Path, blob: bytes) -> str:
    """The text, by its byte-order mark, as UTF-8, or as what spreadsheets wrote."""
    for mark, encoding in _MARKS.items():
        if blob.startswith(mark):
            try:
                return blob.decode(encoding)
            except UnicodeDecodeError:
                fail("scan file", f"in {encoding}, as it begins", f"damage in {path}")
    if b"\x00" not in blob:
        try:
            return blob.decode("utf-8")
        except UnicodeDecodeError:
            if not re.search(rb"[\x00-\x08\x0e-\x1f]", blob):
                return blob.decode("latin-1")  # every byte is a character
    # UTF-16 without a mark: every second byte of plain numbers is 0.
    for encoding, zeros in (("utf-16-le", blob[1::2]), ("utf-16-be", blob[::2])):
        if len(blob) % 2 == 0 and zeros.count(0) > 0.9 * len(zeros) > 0:
            return blob.decode(encoding, errors="replace")
    return fail("scan file", "as text", f"binary data in {path}")


def _separator(lines: list[str]) -> str:
    """The separator of the file, "" for blanks.

    The first line decides only if it holds numbers, as a header may hold anything.
    """
    for separator in _SEPARATORS:
        first = [number_of(cell, separator) for cell in cells_of(lines[0], separator)]
        if any(separator in line for line in lines[1:]) or (
            separator in lines[0] and (len(lines) == 1 or None not in first)
        ):
            return separator
    return ""


def cells_of(text: str, separator: str) -> list[str]:
    """Cells of one line; one trailing separator is forgiven."""
    if not separator:
        return text.split()
    cells = [cell.strip().strip('"') for cell in text.split(separator)]
    return cells[:-1] if len(cells) > 1 and cells[-1] == "" else cells


def check_commas(path: Path, lines: list[list[str]]) -> None:
    """Refuse commas that may be decimal ones or those of thousands: 1,234."""
    found = [
        cell for cells in lines for cell in cells if re.fullmatch(_WITH_COMMA, cell)
    ]
    if found and all(re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", cell) for cell in found):
        fail(
            f"numbers in {path.name}",
            "with commas of one meaning",
            f"{found[0]!r}, which may be thousands",
            "Write them with a point, or without a comma.",
        )


def number_of(cell: str, separator: str) -> float | None:
    """The number in a cell, None for text (nan and inf are numbers, refused later)."""
    if separator in _DECIMAL_COMMA and re.fullmatch(_WITH_COMMA, cell):
        cell = cell.replace(",", ".")
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[dD][-+]?\d+", cell):
        cell = cell.lower().replace("d", "e")
    try:
        # float() alone would take "1_000".
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
