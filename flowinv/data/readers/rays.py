"""Rays of RAY-UI (`*-RawRaysOutgoing.csv`), made into knife-edge scans of both axes."""

from pathlib import Path

import numpy as np

from flowinv.checks import check_known, fail
from flowinv.data.readers.text import lines_of
from flowinv.data.scan import ReadOptions, Scan

__all__ = ["is_rays", "read"]

NUM_POINTS = 200
LEAST_RAYS = 100
# The knife goes from where the first rays pass to where all do, and a little beyond.
BEYOND = 0.05


def is_rays(path: Path) -> bool:
    """Whether a text file's second line has RAY-UI's column names, `<Element>_OX`."""
    if path.suffix.lower() not in (".csv", ".txt"):
        return False
    with path.open("rb") as file:
        head = file.read(4_000)
    return b"_OX\t" in head and b"_OY\t" in head


def read(path: Path, options: ReadOptions) -> list[Scan]:
    """Count the rays that a knife lets pass, at 200 places along x and along y.

    A comment line, then tab-separated names `<Element>_OX` (mm, as all lengths), and a
    row for each ray. `entry` names the element where there are several.
    """
    lines = lines_of(path)
    at = next(i for i, line in enumerate(lines) if "_OX\t" in line)
    names = [name.strip() for name in lines[at].split("\t")]
    elements = [name[: -len("_OX")] for name in names if name.endswith("_OX")]
    if not options.entry and len(elements) > 1:
        remedy = f"Name one: --entry {elements[-1]}."
        fail(f"elements of {path.name}", "to be one", ", ".join(elements), remedy)
    element = options.entry or elements[0]
    check_known(f"element of {path.name}", element, elements)
    rows = [line.split("\t") for line in lines[at + 1 :] if line.strip()]
    scans = []
    for axis, end in (("x", "_OX"), ("y", "_OY")):
        column = names.index(element + end)
        try:
            rays = np.array([row[column].replace(",", ".") for row in rows], np.float64)
        except (ValueError, IndexError):
            fail(f"{element + end} of {path.name}", "as a number a ray", "others")
        if len(rays) < LEAST_RAYS or not np.isfinite(rays).all():
            fail(f"rays of {path.name}", f"to be {LEAST_RAYS} at least", len(rays))
        low, high = rays.min(), rays.max()
        pad = BEYOND * (high - low)
        places = np.linspace(low - pad, high + pad, NUM_POINTS)
        passed = np.searchsorted(np.sort(rays), places, side="right")
        scans.append(
            Scan(
                axis,
                places,
                passed,
                unit="mm",
                signal_unit="rays",
                source=f"{path} {element}",
                notes=("one set of rays for all places: its noise adds up",),
            )
        )
    return scans
