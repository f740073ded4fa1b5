"""From a table or an array to scans: which columns are positions, which are counts."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowinv.checks import check_known, fail
from flowinv.data.scan_text import Table

__all__ = ["arrange_array", "arrange_table", "looks_like_positions"]

# Fewer numbers in a row are evenly spaced by chance.
_LEAST = 5
# Steps of one size, but for the rounding of what was written.
_EVEN = 0.02
# Words for the axes, the first before the second.
_AXES = ((("horizontal", "hor", "h"), ("vertical", "ver", "v")), (("x",), ("y",)))
_WORDS = re.compile(r"(^|[^a-z])(pos|position|stage|motor|encoder|index|step|steps)")


def looks_like_positions(values: np.ndarray) -> bool:
    """Whether numbers rise or fall in steps of one size, as counts never do.

    Also those of two axes, one after the other.
    """
    values = np.squeeze(values)
    if values.ndim != 1 or len(values) < _LEAST or not np.isfinite(values).all():
        return False
    half = len(values) // 2
    parts = [(values,), (values[:half], values[half:])]
    return any(all(map(_is_even, part)) for part in parts[: 1 + (half >= _LEAST)])


def _is_even(values: np.ndarray) -> bool:
    steps = np.diff(values.astype(np.float64))
    size = steps.mean()
    return bool(size != 0 and np.all(np.abs(steps - size) <= _EVEN * abs(size)))


def arrange_table(
    path: Path, table: Table, x_shape: tuple[int, ...], columns: str = ""
) -> np.ndarray:
    """Rows, a column or columns side by side as `[S, *x_shape]`.

    Args:
        path: named in messages.
        table: numbers and column names.
        x_shape: shape of one scan.
        columns: names or numbers (from 1) of the columns to take, "a,b".

    Raises:
        ValueError: a shape that does not fit, positions that are not evenly spaced, an
            unknown column.
    """
    size, values = math.prod(x_shape), table.values
    if columns:
        values = values[:, _chosen(path, table, columns)]
    elif values.shape[1] == size:
        return _without_position_row(values).reshape(-1, *x_shape)
    else:
        values, names = _without_positions(path, table, size)
        _check_order(path, names)
    return _side_by_side(path, values, x_shape, table.values.shape)


def arrange_array(
    path: Path, array: np.ndarray, x_shape: tuple[int, ...]
) -> np.ndarray:
    """One scan or many, in shape, flat, or by axes, as `[S, *x_shape]`.

    Raises:
        ValueError: an array of another shape.
    """
    size, shape = math.prod(x_shape), array.shape
    if array.size == 0:
        fail("scan file", "with numbers", f"an array of shape {shape} in {path}")
    if shape in (x_shape, (size,)):
        return array.reshape(1, *x_shape)
    if shape[1:] in (x_shape, (size,)):
        return array.reshape(shape[0], *x_shape)
    if array.ndim == 2 and array.size == size and len(x_shape) == 1:
        if shape[1] == 1 or shape[0] in (1, 2):
            return array.reshape(1, *x_shape)
        if shape[1] == 2:
            return array.T.reshape(1, *x_shape)
    return fail(
        f"scan in {path.name}",
        f"with shape {x_shape} or (scans, {', '.join(map(str, x_shape))})",
        shape,
    )


def _side_by_side(
    path: Path,
    values: np.ndarray,
    x_shape: tuple[int, ...],
    written: tuple[int, ...],
) -> np.ndarray:
    """A column, two columns, or two rows, as one scan."""
    size, (rows, columns) = math.prod(x_shape), values.shape
    if columns == size:
        return values.reshape(rows, *x_shape)
    if columns == 1 and rows == size:
        return values.reshape(1, *x_shape)
    if columns == 2 and 2 * rows == size:
        if x_shape == (rows, 2):
            return values[None]
        if len(x_shape) == 1 or x_shape == (2, rows):
            return values.T.reshape(1, *x_shape)
    if rows == 2 and 2 * columns == size:
        return values.reshape(1, *x_shape)
    return fail(
        f"scan in {path.name}",
        f"with {size} numbers per row (or {size} rows of one)",
        f"{written[0]} x {written[1]} (rows x columns)",
        "Name its columns: FILE#2,3.",
    )


def _without_position_row(values: np.ndarray) -> np.ndarray:
    """Leave out a first row of positions above others."""
    half = values[0, : max(_LEAST, values.shape[1] // 2)]
    if len(values) > 1 and looks_like_positions(half):
        return values[1:]
    return values


def _check_order(path: Path, names: Sequence[str]) -> None:
    """Refuse two columns whose names say that the second axis comes first."""
    if len(names) != 2:
        return
    words = [re.split(r"[^a-z]+", name.lower()) for name in names]
    for first, second in _AXES:
        if set(second) & set(words[0]) and set(first) & set(words[1]):
            fail(
                f"columns of {path.name}",
                f"in the order {first[0]}, {second[0]}",
                ", ".join(names),
                f"Name them in that order: {path.name}#{names[1]},{names[0]}.",
            )


def _without_positions(
    path: Path, table: Table, size: int
) -> tuple[np.ndarray, Sequence[str]]:
    """Leave out columns (or rows) of positions; falling ones turn the scan round.

    Returns:
        What is left, and its names if there are any.
    """
    values, names = table
    if values.shape[0] <= 4 < values.shape[1]:
        values, names = values.T, ()  # rows of positions and counts
    named = [bool(_WORDS.search(name.lower())) for name in names] or [False] * len(
        values.T
    )
    even = [looks_like_positions(column) for column in values.T]
    at = [a or b for a, b in zip(named, even, strict=True)]
    if values.shape[1] == 1 and len(values) == size and not named[0]:
        return values, names
    positions, kept = values[:, np.array(at)], values[:, ~np.array(at)]
    for column in positions.T:
        _check_even(path, column)
    if not any(at):
        return values, names
    if kept.shape[1] == 0 or kept.size != size:
        fail(
            f"scan in {path.name}",
            f"with {size} counts",
            f"{kept.shape[0]} x {kept.shape[1]} besides positions (columns "
            f"{', '.join(str(i + 1) for i, is_at in enumerate(at) if is_at)})",
            "A scan holds both axes; FILE#2,3 takes columns as they are.",
        )
    falling = positions[0, 0] > positions[-1, 0]
    names = [name for name, is_at in zip(names, at, strict=False) if not is_at]
    return (kept[::-1] if falling else kept), names


def _check_even(path: Path, positions: np.ndarray) -> None:
    if not looks_like_positions(positions):
        remedy = "Interpolate the scan to even steps, or take columns by FILE#2,3."
        got = f"steps from {np.diff(positions).min():.3g} to "
        got += f"{np.diff(positions).max():.3g}"
        fail(f"positions in {path.name}", "to be evenly spaced", got, remedy)


def _chosen(path: Path, table: Table, columns: str) -> list[int]:
    """Numbers (from 0) of the columns that "a,b" names."""
    chosen = []
    for name in (part.strip() for part in columns.split(",")):
        if name in table.names:
            chosen.append(table.names.index(name))
        elif name.isdecimal() and 1 <= int(name) <= table.values.shape[1]:
            chosen.append(int(name) - 1)
        else:
            count = table.values.shape[1]
            known = [*table.names, *(str(i + 1) for i in range(count))]
            check_known(f"column of {path.name}", name, known)
    return chosen
