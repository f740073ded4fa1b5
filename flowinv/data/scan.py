"""A measured scan: what an instrument wrote about one axis, whatever the format."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flowinv.checks import check_known, fail

__all__ = ["ReadOptions", "Scan", "read_scan"]

# Fewer exposures fit no edge.
LEAST_POINTS = 5
DUPLICATES = ("refuse", "mean")


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """What a file does not say itself.

    Attributes:
        columns: columns of a text file by number (from 1) or name, such as
            "position=1,signal=3,monitor=2"; a second axis follows after a semicolon.
        dataset: arrays of an npz or HDF5 file in the same way, such as
            "position=entry/x,signal=entry/counts".
        entry: entry of a NeXus file, chain of an eveH5 file, number of a SPEC scan
            (3, or 3.2 for the second of that number) or uid of a Bluesky run; "" takes
            the only one, or the file's default.
        duplicates: exposures at one place: "refuse", or take their "mean".
    """

    columns: str = ""
    dataset: str = ""
    entry: str = ""
    duplicates: str = "refuse"


@dataclasses.dataclass(frozen=True)
class Scan:
    """A knife-edge scan (or a profile) along one axis, sorted by position.

    Attributes:
        axis: name of what moved, "" where the file has none.
        position: places, float64 `[P]`, rising.
        signal: what was read there, float64 `[P]`.
        monitor: beam of each exposure, `[P]`, or None.
        errors: standard errors of the signal, `[P]`, or None.
        exposure: seconds of an exposure; 0 where it is unknown.
        unit: of the positions, "" where it is unknown.
        signal_unit: of the signal, "" where it is unknown.
        source: the file, and what in it.
        notes: what was done to it: sorted, means taken.
    """

    axis: str
    position: np.ndarray
    signal: np.ndarray
    monitor: np.ndarray | None = None
    errors: np.ndarray | None = None
    exposure: float = 0.0
    unit: str = ""
    signal_unit: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def falling(self) -> bool:
        """Whether the signal falls where positions rise: the knife moves in."""
        part = max(1, len(self.signal) // 4)
        scaled = self.signal
        if self.monitor is not None:
            scaled = scaled / np.maximum(self.monitor, 1e-300)
        return bool(np.median(scaled[:part]) > np.median(scaled[-part:]))


Reader = Callable[[Path, ReadOptions], Sequence[Scan]]


def read_scan(path: str | Path, options: ReadOptions | None = None) -> tuple[Scan, ...]:
    """Read the scans of a file: one for each axis.

    - text (csv, txt, tsv, dat, lvm, also gzipped): the table of numbers at the end,
      under a header that names position and signal with units in brackets;
    - npy, npz; NeXus (`@default`, `@signal`, `@axes`), eveH5 (`EVEH5Version`) and other
      HDF5 by `dataset`; SPEC; Bluesky documents as JSON lines; rays of RAY-UI.

    Args:
        path: the file.
        options: what the file does not say itself.

    Returns:
        One scan, or two: the first axis of the file first. Descending and unsorted
        positions are sorted, which `notes` says.

    Raises:
        ValueError: one line that says what was found, and what to name.
    """
    options = options or ReadOptions()
    check_known("duplicates", options.duplicates, DUPLICATES)
    path = Path(path).expanduser()
    if not path.is_file():
        fail("scan file", "to exist", path)
    if path.stat().st_size == 0:
        fail("scan file", "with numbers", f"the empty file {path}")
    scans = _reader(path)(path, options)
    if not 1 <= len(scans) <= 2:
        names = ", ".join(scan.axis or "(no name)" for scan in scans)
        fail(f"{path.name}", "with one or two axes", f"{len(scans)}: {names}")
    return tuple(_settled(path, scan, options) for scan in scans)


def _reader(path: Path) -> Reader:
    # Imported here: h5py is slow to load.
    from flowinv.data.readers import arrays, bluesky, hdf5, rays, spec, text

    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    if last == ".gz":
        last = suffixes[-2] if len(suffixes) > 1 else ""
    known = {
        ".npy": arrays.read_npy,
        ".npz": arrays.read_npz,
        **dict.fromkeys((".h5", ".hdf5", ".nxs", ".nx5"), hdf5.read),
        **dict.fromkeys((".jsonl", ".ndjson", ".json"), bluesky.read),
        **dict.fromkeys((".csv", ".txt", ".tsv", ".dat", ".lvm", ".asc"), text.read),
        ".spec": spec.read,
    }
    if last not in known and not spec.is_spec(path):
        check_known("suffix of the scan file", last, known)
    if rays.is_rays(path):
        return rays.read
    return spec.read if spec.is_spec(path) else known[last]


def _settled(path: Path, scan: Scan, options: ReadOptions) -> Scan:
    """The scan sorted, with one exposure a place, and checked."""
    where = f"{path.name}" + (f" ({scan.axis})" if scan.axis else "")
    arrays = {
        name: np.asarray(getattr(scan, name), np.float64).ravel()
        for name in ("position", "signal", "monitor", "errors")
        if getattr(scan, name) is not None
    }
    count = len(arrays["position"])
    for name, values in arrays.items():
        if len(values) != count:
            expected = f"with {count} numbers, one a position"
            fail(f"{name} of {where}", expected, len(values))
        if not np.isfinite(values).all():
            at = int(np.argmin(np.isfinite(values)))
            remedy = "Mend or leave out this point."
            fail(f"{name} of {where}", "to be finite", f"{values[at]} at {at}", remedy)
    if count < LEAST_POINTS:
        fail(f"scan of {where}", f"of at least {LEAST_POINTS} points", count)
    for name in ("monitor", "errors"):
        if name in arrays and not (arrays[name] > 0).all():
            fail(f"{name} of {where}", "above 0", f"{arrays[name].min():g}")
    notes, position = list(scan.notes), arrays["position"]
    if not np.all(np.diff(position) >= 0):
        order = np.argsort(position, kind="stable")
        arrays = {name: values[order] for name, values in arrays.items()}
        turned = bool(np.all(np.diff(position) <= 0))
        notes.append("descending positions turned" if turned else "positions sorted")
    places, first, counts = np.unique(
        arrays["position"], return_index=True, return_counts=True
    )
    if len(places) < count:
        if options.duplicates == "refuse":
            most = places[counts.argmax()]
            remedy = "Take their mean: --duplicates mean."
            got = f"{counts.max()} at {most:g}"
            fail(f"positions of {where}", "to differ", got, remedy)
        arrays = {
            name: np.add.reduceat(values, first) / counts
            for name, values in arrays.items()
        }
        if "errors" in arrays:
            arrays["errors"] = arrays["errors"] / np.sqrt(counts)
        notes.append(f"mean of {count - len(places)} repeated exposures")
    if len(places) < LEAST_POINTS:
        fail(f"scan of {where}", f"at {LEAST_POINTS} places at least", len(places))
    if not math.isfinite(scan.exposure) or scan.exposure < 0:
        fail(f"exposure of {where}", "in seconds", scan.exposure)
    return dataclasses.replace(scan, **arrays, notes=tuple(notes))
