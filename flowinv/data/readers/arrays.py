"""Scans as numpy files: a table, or arrays by name."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowinv.checks import fail
from flowinv.data.readers.columns import Column, assigned, named, roles_of
from flowinv.data.scan import ReadOptions, Scan
from flowinv.data.scans import open_npy, open_npz

__all__ = ["of_arrays", "read_npy", "read_npz"]


def read_npy(path: Path, options: ReadOptions) -> list[Scan]:
    """Read a table `[P, columns]` or `[columns, P]`, positions before the signal."""
    table = np.asarray(open_npy(path))
    if table.dtype.kind not in "iuf" or table.ndim != 2:
        expected = "as a table [points, columns] of numbers"
        fail(path.name, expected, f"shape {table.shape}, dtype {table.dtype}")
    table = table if len(table) >= table.shape[1] else table.T
    columns = {
        str(i + 1): Column(str(i + 1), "", table[:, i]) for i in range(table.shape[1])
    }
    if options.columns:
        return assigned(path, columns, named(options.columns))
    return [
        Scan(**{**vars(scan), "axis": ""})
        for scan in assigned(path, columns, roles_of(path, list(columns.values())))
    ]


def read_npz(path: Path, options: ReadOptions) -> list[Scan]:
    """Read the arrays of an npz by name."""
    return of_arrays(path, open_npz(path), options)


def of_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], options: ReadOptions
) -> list[Scan]:
    """Scans of named arrays: as the caller says, or as their names do.

    Raises:
        ValueError: where names do not tell.
    """
    columns = {
        name: Column(name, "", np.asarray(values, np.float64).ravel())
        for name, values in arrays.items()
        if np.asarray(values).dtype.kind in "iuf" and np.size(values) > 1
    }
    if options.dataset:
        return assigned(path, columns, named(options.dataset))
    try:
        axes = roles_of(path, list(columns.values()), by_shape=False)
    except ValueError:
        axes = []
    if not axes:
        remedy = "Name them: --dataset position=NAME,signal=NAME."
        names = ", ".join(columns) or "none"
        fail(f"arrays of {path.name}", "that name position and signal", names, remedy)
    return assigned(path, columns, axes)
