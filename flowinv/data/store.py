"""A Dataset on disk: one zarr (version 3) group of theta, x, valid and round.

`num_rows` in the group's attributes is written last: rows beyond it belong to an
append that was cut short, are never read, and are overwritten by the next append.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from flowinv.checks import fail
from flowinv.types import Dataset

if TYPE_CHECKING:
    import zarr

__all__ = ["append_dataset", "num_rows", "read_dataset", "write_dataset"]

_FORMAT = "flowinv-simulations"
_SCHEMA = 1
# Bytes of one zarr chunk: few files for 1e6 rows, little to rewrite for an append.
_CHUNK_BYTES = 2**22
_DTYPES = {"theta": "float32", "x": "float32", "valid": "bool", "round": "int32"}


def write_dataset(
    path: str | Path,
    dataset: Dataset,
    *,
    attributes: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Create a store that holds `dataset`.

    Args:
        path: folder to create.
        dataset: rows to write; may have none, to fix the shapes for later appends.
        attributes: JSON-able notes kept beside the arrays (prior, seed, task).
        overwrite: replace an existing store.

    Raises:
        ValueError: the folder exists and `overwrite` is False, or it is no store, or
            the columns of the dataset have different lengths.
    """
    import zarr

    path = Path(path).expanduser()
    _check_lengths(dataset)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not overwrite:
            fail("simulation store", "in a new folder", path, "Append or overwrite.")
        _open(path, "r")
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name, dtype in _DTYPES.items():
        column = np.asarray(getattr(dataset, name), dtype)
        row_bytes = max(1, int(np.prod(column.shape[1:])) * column.dtype.itemsize)
        rows = max(1, min(_CHUNK_BYTES // row_bytes, 2**16))
        group.create_array(
            name,
            shape=(0, *column.shape[1:]),
            chunks=(rows, *(max(1, n) for n in column.shape[1:])),
            dtype=dtype,
        )
    notes = {} if attributes is None else {"notes": attributes}
    group.attrs.update({"format": _FORMAT, "schema": _SCHEMA, "num_rows": 0, **notes})
    _extend(group, dataset)


def append_dataset(path: str | Path, dataset: Dataset) -> int:
    """Add rows to a store and return its new number of rows.

    Raises:
        ValueError: no store there, or theta or x of another shape than its rows.
    """
    _check_lengths(dataset)
    group = _open(Path(path).expanduser(), "r+")
    for name in _DTYPES:
        expected, got = group[name].shape[1:], getattr(dataset, name).shape[1:]
        if tuple(expected) != tuple(got):
            fail(f"{name} to append", f"with rows of shape {tuple(expected)}", got)
    return _extend(group, dataset)


def read_dataset(path: str | Path, rows: slice | None = None) -> Dataset:
    """Read the store, or a slice of its rows, into memory.

    Raises:
        ValueError: no store there.
    """
    group = _open(Path(path).expanduser(), "r")
    span = (rows or slice(None)).indices(int(group.attrs["num_rows"]))
    if span[2] != 1:
        fail("rows", "to be contiguous", rows)
    start, stop = span[0], max(span[0], span[1])
    return Dataset(*(jnp.asarray(group[name][start:stop]) for name in _DTYPES))


def num_rows(path: str | Path) -> int:
    """Number of complete rows in a store.

    Raises:
        ValueError: no store there.
    """
    return int(_open(Path(path).expanduser(), "r").attrs["num_rows"])


def _open(path: Path, mode: str) -> "zarr.Group":
    """Open a group and check that flowinv wrote it."""
    import zarr

    if not path.exists():
        fail("simulation store", "to exist", path)
    try:
        group = zarr.open_group(path, mode=mode, zarr_format=3)
    except (FileNotFoundError, NotADirectoryError, zarr.errors.GroupNotFoundError):
        fail("simulation store", "as a zarr 3 group", path)
    except (ValueError, KeyError, TypeError) as error:
        fail("simulation store", "as a readable zarr 3 group", f"{path} ({error})")
    found = group.attrs.get("format"), group.attrs.get("schema")
    if found != (_FORMAT, _SCHEMA):
        expected = f"with format {_FORMAT!r} and schema {_SCHEMA}"
        fail("simulation store", expected, f"{found[0]!r}, {found[1]!r} in {path}")
    missing = [name for name in _DTYPES if name not in group]
    if missing:
        fail("simulation store", f"with the arrays {list(_DTYPES)}", f"no {missing}")
    return group


def _extend(group: "zarr.Group", dataset: Dataset) -> int:
    """Write rows behind the last complete one, then count them."""
    start = int(group.attrs["num_rows"])
    stop = start + dataset.theta.shape[0]
    for name, dtype in _DTYPES.items():
        column = np.asarray(getattr(dataset, name), dtype)
        array = group[name]
        array.resize((stop, *column.shape[1:]))
        array[start:stop] = column
    group.attrs["num_rows"] = stop
    return stop


def _check_lengths(dataset: Dataset) -> None:
    lengths = {name: len(getattr(dataset, name)) for name in _DTYPES}
    if len(set(lengths.values())) != 1:
        fail("columns of the dataset", "of one length", lengths)
