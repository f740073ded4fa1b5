"""Measured scans from files: csv, npy, npz and h5, checked before anything runs.

Whatever is wrong with a file, the answer is one line that names it; nothing is ever
guessed in silence.
"""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from flowinv.checks import InputError, check_known, fail
from flowinv.data.scan_layout import arrange_array, arrange_table, looks_like_positions
from flowinv.data.scan_text import read_table

__all__ = ["open_npy", "open_npz", "read_scans"]

# Names under which npz and h5 files hold the scans, in order of preference.
_ARRAY_NAMES = ("observation", "counts", "y", "signal", "intensity", "x")
_TEXT = (".csv", ".txt", ".tsv", ".dat")
_HDF5 = (".h5", ".hdf5", ".nxs", ".nx5")
_KNOWN = (*_TEXT, ".npy", ".npz", *_HDF5)


def read_scans(
    path: str | Path, x_shape: tuple[int, ...], *, counts: bool = False
) -> np.ndarray:
    """Read one scan or many as `[S, *x_shape]`, float32.

    Layouts that are understood, n being the product of `x_shape`:

    - csv, txt, tsv, dat: numbers separated by commas, semicolons, tabs or spaces; "#"
      starts a comment; lines without any number before the first are headers. One scan
      per row of n numbers; or one scan as a single column of n numbers; or, where
      `x_shape` is (2 P,) or (P, 2), one scan as P rows of two columns, the two axes
      side by side (a vector then takes the first column, then the second, as the beam
      profile does), or as two rows of P. Rows come first where both fit. Semicolons
      allow a decimal comma.
    - Columns that rise or fall in even steps, or whose header says so, are positions:
      they are left out, and falling ones turn the scan round.
    - npy, npz, h5, nxs: `x_shape` or `[S, *x_shape]`, or the same numbers flat as `[n]`
      or `[S, n]`, as a column `[n, 1]`, or by axes `[2, P]` or `[P, 2]`. npz: array
      `observation`, `counts`, `x`, `y`, `signal` or `intensity`, but no positions. h5:
      the signal that NeXus attributes name, such a dataset, or the only one.

    `FILE#NAME` takes the array NAME of an npz, the dataset NAME of an h5, or the
    columns of a text by name or number, `FILE#2,3`.

    Args:
        path: file; its suffix names the format.
        x_shape: shape of one scan.
        counts: also refuse negative numbers.

    Raises:
        ValueError: one line for a missing or empty file, an unknown suffix, text or a
            ragged row in a csv (with line and column), a pickled or broken file, an
            array that is absent, a wrong length, NaN or infinity, negative counts.
    """
    path, part = _split(path)
    suffix = path.suffix.lower()
    if not path.exists():
        fail("scan file", "to exist", path)
    if not path.is_file():
        fail("scan file", "to be a file", f"the folder {path}")
    check_known("suffix of the scan file", suffix, _KNOWN)
    if path.stat().st_size == 0:
        fail("scan file", "with numbers", f"the empty file {path}")
    if suffix in _TEXT:
        scans = arrange_table(path, read_table(path), tuple(x_shape), part)
    else:
        read = {".npy": _read_npy, ".npz": _read_npz}.get(suffix, _read_hdf5)
        array = _numbers(path, read(path, part, math.prod(x_shape)))
        scans = arrange_array(path, array, tuple(x_shape))
    _check_values(path, scans, counts)
    return scans.astype(np.float32)


def _split(path: str | Path) -> tuple[Path, str]:
    """File and what is named in it."""
    path = Path(path).expanduser()
    name, mark, part = path.as_posix().rpartition("#")
    if path.exists() or not mark:
        return path, ""
    return Path(name), part


def _read_npy(path: Path, part: str, size: int) -> np.ndarray:
    del size
    if part:
        fail(f"{path.name}", "without a name after #, as one array", repr(part))
    return open_npy(path)


def open_npy(path: Path) -> np.ndarray:
    """Return the array of an npy file.

    Raises:
        ValueError: for a broken file, pickled objects or an archive.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        _fail_numpy(path, error)
    if not isinstance(array, np.ndarray):
        fail(f"{path.name}", "as one npy array", "an npz archive")
    return array


def _read_npz(path: Path, part: str, size: int) -> np.ndarray:
    broken = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error)
    try:
        archive = np.load(path, allow_pickle=False)
    except broken as error:
        _fail_numpy(path, error)
    if isinstance(archive, np.ndarray):
        return archive
    with archive:
        try:
            return _picked(path, archive, list(archive.files), part, size)
        except InputError:
            raise
        except broken as error:
            return _fail_numpy(path, error)


def open_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file by name.

    Raises:
        ValueError: for a broken file, pickled objects or a single array.
    """
    broken = (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error)
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            fail(f"{path.name}", "as an npz archive", "one array")
        with archive:
            return {name: archive[name] for name in archive.files}
    except InputError:
        raise
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


def _read_hdf5(path: Path, part: str, size: int) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []

            def note(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    names.append(name)

            file.visititems(note)
            if part:
                check_known(f"dataset of {path.name}", part.strip("/"), names)
                return np.asarray(file[part][()])
            signal = _nexus_signal(file)
            if signal is not None:
                return np.asarray(signal[()])
            return _picked(path, file, names, "", size)
    except (OSError, KeyError, RuntimeError) as error:
        fail(f"{path.name}", "as a readable HDF5 file", _one_line(error))


def _nexus_signal(group: Any) -> Any:
    """The dataset that NeXus attributes lead to, by way of `default`; or None."""
    for _ in range(8):
        signal, default = (group.attrs.get(name) for name in ("signal", "default"))
        if signal is not None:
            name = signal.decode() if isinstance(signal, bytes) else str(signal)
            return group.get(name)
        if default is None:
            return None
        name = default.decode() if isinstance(default, bytes) else str(default)
        group = group.get(name)
        if group is None:
            return None
    return None


def _picked(
    path: Path, store: Any, names: list[str], part: str, size: int
) -> np.ndarray:
    """The array that holds the scans: the one that is named, or the first that may.

    What looks like positions may not; x is one beside a y that fits as well.
    """
    if part:
        check_known(f"array of {path.name}", part, names)
        return np.asarray(store[part])
    last = {name: name.rpartition("/")[2] for name in names}
    known = [name for one in _ARRAY_NAMES for name in names if last[name] == one]
    if len({last[name] for name in known}) < len(known):
        remedy = f"Name one: {path.name}#{known[0]}."
        fail(path.name, "with one array of a name", ", ".join(known), remedy)
    arrays = [np.asarray(store[name]) for name in known or names]
    arrays = [
        a for a in arrays if a.dtype.kind not in "biuf" or not looks_like_positions(a)
    ]
    fitting = [a for a in arrays if a.size and a.size % size == 0]
    if known and (fitting or arrays):
        return (fitting or arrays)[0]
    if len(names) == 1 == len(arrays):
        return arrays[0]
    known = ", ".join(map(repr, _ARRAY_NAMES))
    return fail(
        f"{path.name}",
        f"with an array of counts called {known}",
        f"{sorted(names)}",
        f"Name it: {path.name}#NAME.",
    )


def _numbers(path: Path, array: np.ndarray) -> np.ndarray:
    """The array as float64, if it holds real numbers."""
    if array.dtype.kind not in "iuf":
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
