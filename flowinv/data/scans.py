"""Measured scans from files: csv, npy, npz and h5, checked before anything runs.

Whatever is wrong with a file, the answer is one line that names it.
"""

import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np

from flowinv.checks import check_known, fail

__all__ = ["read_scans"]

# Names under which npz and h5 files hold the scans, in order of preference.
_ARRAY_NAMES = ("x", "observation")
_TEXT = (".csv", ".txt", ".tsv", ".dat")
_HDF5 = (".h5", ".hdf5")
_KNOWN = (*_TEXT, ".npy", ".npz", *_HDF5)


def read_scans(
    path: str | Path, x_shape: tuple[int, ...], *, counts: bool = False
) -> np.ndarray:
    """Read one scan or many as `[S, *x_shape]`, float32.

    Layouts that are understood, n being the product of `x_shape`:

    - csv, txt, tsv, dat: numbers separated by commas, semicolons, tabs or spaces; "#"
      starts a comment; a first line without any number is a header. One scan per row
      of n numbers; or one scan as a single column of n numbers; or, where `x_shape` is
      (2 P,) or (P, 2), one scan as P rows of two columns, the two axes side by side
      (a vector then takes the first column, then the second, as the beam profile
      does). Rows come first where both fit. Semicolons allow a decimal comma.
    - npy, npz, h5: `x_shape` or `[S, *x_shape]`, or the same numbers flat as `[n]` or
      `[S, n]`. npz: array `x` or `observation`. h5: dataset `x` or `observation`, or
      the only one.

    Args:
        path: file; its suffix names the format.
        x_shape: shape of one scan.
        counts: also refuse negative numbers.

    Raises:
        ValueError: one line for a missing or empty file, an unknown suffix, text or a
            ragged row in a csv (with line and column), a pickled or broken file, an
            array that is absent, a wrong length, NaN or infinity, negative counts.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        fail("scan file", "to exist", path)
    if not path.is_file():
        fail("scan file", "to be a file", f"the folder {path}")
    check_known("suffix of the scan file", suffix, _KNOWN)
    if path.stat().st_size == 0:
        fail("scan file", "with numbers", f"the empty file {path}")
    if suffix in _TEXT:
        scans = _arrange_text(path, _read_text(path), tuple(x_shape))
    else:
        read = {".npy": _read_npy, ".npz": _read_npz}.get(suffix, _read_hdf5)
        scans = _arrange(path, _numbers(path, read(path)), tuple(x_shape))
    _check_values(path, scans, counts)
    return scans.astype(np.float32)


def _read_text(path: Path) -> np.ndarray:
    """Numbers of a text file, `[rows, columns]`, float64."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        fail("scan file", "as text", f"binary data in {path}")
    kept = [(n, text.split("#")[0].strip()) for n, text in enumerate(lines, start=1)]
    kept = [(number, text) for number, text in kept if text]
    if not kept:
        fail("scan file", "with numbers", f"the empty file {path}")
    separator = _separator([text for _, text in kept])
    rows, first = [], True
    for number, text in kept:
        cells = _cells(text, separator)
        values = [_number(cell, separator) for cell in cells]
        header = first and len(kept) > 1 and all(value is None for value in values)
        first = False
        if header:
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
    return np.array(rows, np.float64)


def _separator(lines: list[str]) -> str:
    """The separator of the file, "" for blanks.

    The first line decides only if it holds numbers, as a header may hold anything.
    """
    for separator in (";", "\t", ","):
        first = [_number(cell, separator) for cell in _cells(lines[0], separator)]
        if any(separator in line for line in lines[1:]) or (
            separator in lines[0] and (len(lines) == 1 or None not in first)
        ):
            return separator
    return ""


def _cells(text: str, separator: str) -> list[str]:
    """Cells of one line; one trailing separator is forgiven."""
    if not separator:
        return text.split()
    cells = [cell.strip().strip('"') for cell in text.split(separator)]
    return cells[:-1] if len(cells) > 1 and cells[-1] == "" else cells


def _number(cell: str, separator: str) -> float | None:
    """The number in a cell, None for text (nan and inf are numbers, refused later)."""
    if separator in (";", "\t") and re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", cell):
        cell = cell.replace(",", ".")
    try:
        # float() alone would take "1_000".
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _arrange_text(
    path: Path, table: np.ndarray, x_shape: tuple[int, ...]
) -> np.ndarray:
    """Rows, a column or two columns of numbers as `[S, *x_shape]`."""
    size, (rows, columns) = math.prod(x_shape), table.shape
    if columns == size:
        return table.reshape(rows, *x_shape)
    if columns == 1 and rows == size:
        return table.reshape(1, *x_shape)
    if columns == 2 and 2 * rows == size:
        if x_shape == (rows, 2):
            return table[None]
        if len(x_shape) == 1 or x_shape == (2, rows):
            return table.T.reshape(1, *x_shape)
    return fail(
        f"scan in {path.name}",
        f"with {size} numbers per row (or {size} rows of one)",
        f"{rows} x {columns} (rows x columns)",
    )


def _arrange(path: Path, array: np.ndarray, x_shape: tuple[int, ...]) -> np.ndarray:
    """One scan or many, in shape or flat, as `[S, *x_shape]`."""
    size, shape = math.prod(x_shape), array.shape
    if array.size == 0:
        fail("scan file", "with numbers", f"an array of shape {shape} in {path}")
    if shape == x_shape or shape == (size,):
        return array.reshape(1, *x_shape)
    if shape[1:] == x_shape or shape[1:] == (size,):
        return array.reshape(shape[0], *x_shape)
    return fail(
        f"scan in {path.name}",
        f"with shape {x_shape} or (scans, {', '.join(map(str, x_shape))})",
        shape,
    )


def _read_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        _fail_numpy(path, error)
    if not isinstance(array, np.ndarray):
        fail(f"{path.name}", "as one npy array", "an npz archive")
    return array


def _read_npz(path: Path) -> np.ndarray:
    broken = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error)
    try:
        archive = np.load(path, allow_pickle=False)
    except broken as error:
        _fail_numpy(path, error)
    if isinstance(archive, np.ndarray):
        return archive
    with archive:
        name = _pick(path, list(archive.files), only=False)
        try:
            return archive[name]
        except broken as error:
            return _fail_numpy(path, error)


def _fail_numpy(path: Path, error: Exception) -> NoReturn:
    # numpy takes all bytes that are not its own for a pickle.
    with path.open("rb") as file:
        begins = file.read(6)
    if begins != b"\x93NUMPY" and not begins.startswith(b"PK"):
        fail(f"{path.name}", "to begin as a numpy file", repr(begins))
    if "pickle" in str(error).lower():
        fail(
            f"{path.name}",
            "as plain numbers",
            "pickled objects, which could run code",
            "Save a float array.",
        )
    fail(f"{path.name}", "as a readable numpy file", _one_line(error))


def _read_hdf5(path: Path) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []

            def note(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    names.append(name)

            file.visititems(note)
            return np.asarray(file[_pick(path, names, only=True)][()])
    except (OSError, KeyError, RuntimeError) as error:
        fail(f"{path.name}", "as a readable HDF5 file", _one_line(error))


def _pick(path: Path, names: list[str], *, only: bool) -> str:
    """Name of the array that holds the scans."""
    for name in _ARRAY_NAMES:
        if name in names:
            return name
    if only and len(names) == 1:
        return names[0]
    expected = f"with an array {' or '.join(map(repr, _ARRAY_NAMES))}"
    return fail(f"{path.name}", expected, f"{sorted(names)}")


def _numbers(path: Path, array: np.ndarray) -> np.ndarray:
    """The array as float64, if it holds real numbers."""
    if array.dtype.kind not in "biuf":
        fail(f"{path.name}", "to hold real numbers", f"dtype {array.dtype}")
    return array.astype(np.float64)


def _check_values(path: Path, scans: np.ndarray, counts: bool) -> None:
    """Refuse NaN, infinity, float32 overflow and, for counts, negative numbers."""
    bad = ~(np.abs(scans) <= np.finfo(np.float32).max)
    if bad.any():
        _fail_at(path, "to be finite", scans, bad, "Mend or leave out this point.")
    if counts and (scans < 0).any():
        remedy = "Subtract no background from counts."
        _fail_at(path, "of at least 0, as counts are", scans, scans < 0, remedy)


def _fail_at(
    path: Path, expected: str, scans: np.ndarray, bad: np.ndarray, remedy: str
) -> NoReturn:
    scan, *rest = (int(i) for i in np.argwhere(bad)[0])
    point = rest[0] if len(rest) == 1 else tuple(rest)
    got = f"{scans[(scan, *rest)]:g} at point {point} of scan {scan} (from 0)"
    more = int(bad.sum()) - 1
    fail(f"numbers in {path.name}", expected, f"{got}, {more} more", remedy)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
