"""Scans of SPEC files: `#S` begins one, `#L` names its columns, rows follow."""

from pathlib import Path

import numpy as np

from flowinv.checks import check_known, fail
from flowinv.data.readers.columns import Column, assigned, named
from flowinv.data.readers.text import lines_of
from flowinv.data.scan import ReadOptions, Scan

__all__ = ["is_spec", "read"]

LEAST_COLUMNS = 2


def is_spec(path: Path) -> bool:
    """Whether a file begins as SPEC's do: with #F or #S."""
    with path.open("rb") as file:
        head = file.read(200).lstrip()
    return head.startswith((b"#F ", b"#S "))


def read(path: Path, options: ReadOptions) -> list[Scan]:
    """Read a scan: the motor is the first column of `#L`, the counter the last.

    `columns` takes others by name, such as "position=Theta,signal=diode,monitor=I0".
    `entry` names the scan by its number; the second one of a number is "3.2".
    """
    blocks = _blocks(lines_of(path))
    if not blocks:
        fail(path.name, "with a scan (#S)", "none")
    number = options.entry or (next(iter(blocks)) if len(blocks) == 1 else "")
    if not number:
        remedy = f"Name one: --entry {next(reversed(blocks))}."
        fail(f"scans of {path.name}", "to be one", ", ".join(blocks), remedy)
    check_known(f"scan of {path.name}", number, blocks)
    names, rows, exposure = _scan(path, number, blocks[number])
    values = np.array(rows, np.float64)
    columns = {
        name: Column(name, "", values[:, index]) for index, name in enumerate(names)
    }
    axes = [{"position": names[0], "signal": names[-1]}]
    if options.columns:
        axes = named(options.columns)
    scans = assigned(path, columns, axes)
    return [
        Scan(**{**vars(scan), "exposure": exposure, "source": f"{path} scan {number}"})
        for scan in scans
    ]


def _blocks(lines: list[str]) -> dict[str, list[str]]:
    """Lines of every scan by its number; one run again has its turn: 3, then 3.2."""
    blocks: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        if line.startswith("#S "):
            current, number = [], line.split()[1]
            again = sum(1 for name in blocks if name.partition(".")[0] == number)
            blocks[f"{number}.{again + 1}" if again else number] = current
        elif current is not None:
            current.append(line)
    return blocks


def _scan(
    path: Path, number: str, lines: list[str]
) -> tuple[list[str], list[list[float]], float]:
    names, rows, exposure = [], [], 0.0
    for line in lines:
        if line.startswith("#L "):
            # Names may hold single blanks: two separate them.
            names = [name for name in line[3:].strip().split("  ") if name.strip()]
            names = [name.strip() for name in names]
        elif line.startswith("#T "):
            exposure = float(line.split()[1])
        elif line.strip() and not line.startswith(("#", "@")):
            try:
                row = [float(cell) for cell in line.split()]
            except ValueError:
                fail(f"scan {number} of {path.name}", "of numbers", repr(line[:60]))
            if len(row) != len(names):
                expected = f"with {len(names)} numbers, as #L says"
                fail(f"rows of scan {number} of {path.name}", expected, len(row))
            rows.append(row)
    if len(names) < LEAST_COLUMNS or not rows:
        fail(f"scan {number} of {path.name}", "with #L and rows", "none")
    return names, rows, exposure
