"""Which column is which: by what the caller names, or by what the header says."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowinv.checks import check_known, fail
from flowinv.data.scan import Scan

__all__ = ["Column", "assigned", "named", "roles_of", "with_unit"]

ROLES = ("position", "signal", "monitor", "errors")
# Words of a header, whole ones; what else it says is left to the caller.
_WORDS = {
    "position": "position pos stage motor encoder knife displacement x y z",
    "signal": "signal counts count intensity current detector diode photodiode det",
    "monitor": "monitor mon i0 ring",
    "errors": "error errors err sigma uncertainty stderr",
}
_UNIT = re.compile(r"^(.*?)\s*(?:[\[(]([^\])]*)[\])]|/\s*([A-Za-zµμ%]+))\s*$")


class Column(NamedTuple):
    """Numbers with the name and unit that the file gives them."""

    name: str
    unit: str
    values: np.ndarray


def with_unit(header: str) -> tuple[str, str]:
    """Cut "position (um)", "position [um]" or "position/um" into name and unit."""
    found = _UNIT.match(header.strip())
    if found is None or not found[1]:
        return header.strip(), ""
    unit = (found[2] or found[3] or "").strip()
    return found[1].strip(), unit.replace("µ", "u").replace("μ", "u")


def named(text: str) -> list[dict[str, str]]:
    """Read "position=1,signal=3;position=4,signal=5" as one dict for each axis.

    Raises:
        ValueError: for an unknown role, one that is named twice, or an axis without
            position or signal.
    """
    axes = []
    for part in filter(None, text.split(";")):
        axis: dict[str, str] = {}
        for piece in filter(None, (p.strip() for p in part.split(","))):
            role, equals, name = (p.strip() for p in piece.partition("="))
            if not (equals and name):
                fail("columns", 'like "position=1,signal=2"', repr(piece))
            check_known("role of a column", role, ROLES)
            if role in axis:
                fail(f"column {role}", "once for each axis", "twice")
            axis[role] = name
        for role in ("position", "signal"):
            if role not in axis:
                fail("columns", f"with {role}= for each axis", repr(part))
        axes.append(axis)
    return axes


def assigned(
    path: Path, columns: Mapping[str, Column], axes: Sequence[Mapping[str, str]]
) -> list[Scan]:
    """Scans of named columns; a number counts from 1 where no column has that name.

    Raises:
        ValueError: for a column that is not there.
    """
    names, scans = list(columns), []
    for axis in axes:
        found = {}
        for role, name in axis.items():
            if name not in columns and name.isdecimal() and 0 < int(name) <= len(names):
                name = names[int(name) - 1]
            check_known(f"column of {path.name}", name, names)
            found[role] = columns[name]
        position, signal = found["position"], found["signal"]
        scans.append(
            Scan(
                position.name,
                position.values,
                signal.values,
                found["monitor"].values if "monitor" in found else None,
                found["errors"].values if "errors" in found else None,
                unit=position.unit,
                signal_unit=signal.unit,
                source=str(path),
            )
        )
    return scans


def roles_of(
    path: Path, columns: Sequence[Column], by_shape: bool = True
) -> list[dict[str, str]]:
    """Axes (role to column name) as the names say.

    Args:
        path: named in messages.
        columns: in the file's order: a signal belongs to the position before it.
        by_shape: two columns without names are told apart where one is in order and
            the other is not, and so are four.

    Raises:
        ValueError: where names do not tell, or tell two things.
    """
    kinds = [_role(column.name) for column in columns]
    if by_shape and len(columns) == 2 and None in kinds:
        kinds = _of_two(path, columns, kinds)
    if by_shape and len(columns) == 4 and not any(kinds):
        if all(_is_monotone(columns[i].values) for i in (0, 2)):
            kinds = ["position", "signal"] * 2
    axes: list[dict[str, str]] = []
    before: list[tuple[str | None, str]] = []
    for kind, column in zip(kinds, columns, strict=True):
        if kind == "position":
            axes.append({"position": column.name})
        elif not axes:
            before.append((kind, column.name))
        elif kind is None or kind in axes[-1]:
            return _unclear(path, columns)
        else:
            axes[-1][kind] = column.name
    for kind, name in before:
        if len(axes) != 1 or kind is None or kind in axes[0]:
            return _unclear(path, columns)
        axes[0][kind] = name
    if not axes or any("signal" not in axis for axis in axes):
        return _unclear(path, columns)
    return axes


def _role(name: str) -> str | None:
    words = re.findall(r"[a-z]+0?", name.lower().replace("_", " "))
    for role in ("errors", "monitor", "position", "signal"):
        if set(words) & set(_WORDS[role].split()):
            return role
    return None


def _of_two(
    path: Path, columns: Sequence[Column], kinds: Sequence[str | None]
) -> list[str | None]:
    """Roles of two columns of which not both are named."""
    if kinds[0] == "position" or kinds[1] == "signal":
        return ["position", "signal"]
    if kinds[0] == "signal" or kinds[1] == "position":
        return ["signal", "position"]
    first, second = (_is_monotone(column.values) for column in columns)
    if first == second:
        _unclear(path, columns)
    return ["position", "signal"] if first else ["signal", "position"]


def _is_monotone(values: np.ndarray) -> bool:
    steps = np.diff(values)
    return bool(np.all(steps > 0) or np.all(steps < 0))


def _unclear(path: Path, columns: Sequence[Column]) -> list[dict[str, str]]:
    names = ", ".join(column.name for column in columns)
    remedy = "Name them: --columns position=1,signal=2 (also monitor=, errors=)."
    return fail(
        f"columns of {path.name}", "that name position and signal", names, remedy
    )
