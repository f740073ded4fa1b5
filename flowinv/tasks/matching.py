"""Measured scans as x of an instrument, or the reason why they are none."""

from collections.abc import Iterator, Sequence

import numpy as np

from flowinv.checks import fail
from flowinv.data.scan import Scan
from flowinv.simulators.any_scan import MOST_LIGHT
from flowinv.simulators.knife_edge import EdgeAxis
from flowinv.tasks.instrument import Instrument

__all__ = ["as_rows", "as_x"]

# Of the usual step: two scans at the same places.
SAME_PLACE = 1e-2
# Relative monitors that a scan may be divided by without changing its noise much.
MOST_MONITOR = 1.2
# Of the range that a network of any positions has seen: places beyond it.
BEYOND = 0.02


def as_x(instrument: Instrument, scans: Sequence[Scan], name: str) -> np.ndarray:
    """The scans as x of the instrument's simulator, float32 `[L]`.

    Counts are never interpolated: places must be the instrument's. A monitor of the
    scan's own takes the place of the instrument's by its ratio.

    Raises:
        ValueError: for other places, another direction, unit or exposure, or too
            different a monitor.
    """
    parts = []
    for scan, axis, where, again in _matched(instrument, scans, name):
        places = np.array(axis.positions)
        near = SAME_PLACE * float(np.median(np.diff(places)))
        same = len(scan.position) == len(places)
        if not same or np.abs(scan.position - places).max() > near:
            expected = f"the model's {len(places)}, {places[0]:g} to {places[-1]:g}"
            got = f"{len(scan.position)}, {scan.position[0]:g} to {scan.position[-1]:g}"
            fail(f"positions of {where}", f"to be {expected}", got, again)
        low, high = instrument.amplitude
        if scan.exposure and instrument.exposure:
            ratio = scan.exposure / instrument.exposure
            if not low < ratio < high:
                expected = f"about the model's {instrument.exposure:g} s"
                fail(f"exposure of {where}", expected, f"{scan.exposure:g} s", again)
        signal = scan.signal
        if scan.monitor is not None or axis.monitor:
            own = np.ones(len(places)) if scan.monitor is None else scan.monitor
            model = np.array(axis.monitor) if axis.monitor else np.ones(len(places))
            ratio = model / (own / own.mean())
            if max(ratio.max(), 1 / ratio.min()) > MOST_MONITOR:
                expected = f"within {MOST_MONITOR:g} times the model's"
                fail(f"monitor of {where}", expected, f"{ratio.max():.3g}", again)
            signal = signal * ratio
        parts.append(signal)
    return np.concatenate(parts).astype(np.float32)


def as_rows(instrument: Instrument, scans: Sequence[Scan], name: str) -> np.ndarray:
    """The scans as rows (position, signal, exposure) of `AnyScan`, `[A, P, 3]`.

    An exposure is relative to the instrument's: by the monitor where both have one,
    else by the seconds where both have them.

    Raises:
        ValueError: for places beyond the instrument's range, more than it takes,
            another direction or unit, or another light than was trained for.
    """
    most = instrument.any_positions
    x = np.zeros((len(instrument.axes), most, 3))
    for row, (scan, axis, where, again) in zip(
        x, _matched(instrument, scans, name), strict=True
    ):
        low, high = min(axis.positions), max(axis.positions)
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        places = (scan.position - middle) / half
        if np.abs(places).max() > 1 + BEYOND:
            got = f"{scan.position[0]:g} to {scan.position[-1]:g}"
            fail(f"positions of {where}", f"from {low:g} to {high:g}", got, again)
        count = len(places)
        if count > most:
            fail(f"positions of {where}", f"to be {most} at most", count, again)
        factor = np.ones(count)
        if scan.monitor is not None:
            factor = scan.monitor / (instrument.monitor or scan.monitor.mean())
        if scan.exposure and instrument.exposure:
            if scan.monitor is None or not instrument.monitor:
                factor = factor * scan.exposure / instrument.exposure
        least, largest = float(factor.min()), float(factor.max())
        if largest > 1.5 * MOST_LIGHT or least < 1 / (1.5 * MOST_LIGHT):
            expected = f"within {1.5 * MOST_LIGHT:g} times the model's"
            got = f"{least:.3g} to {largest:.3g} times"
            fail(f"exposures of {where}", expected, got, again)
        row[:count] = np.stack([places, scan.signal, factor], -1)
    return x.astype(np.float32)


def _matched(
    instrument: Instrument, scans: Sequence[Scan], name: str
) -> Iterator[tuple[Scan, EdgeAxis, str, str]]:
    """Each scan with its axis, its name and a remedy, of the instrument's kind."""
    again = f"Train for it: flowinv run --task step_scan --like {name}"
    axes = instrument.axes
    if len(scans) != len(axes):
        fail(f"axes of {name}", f"to be {len(axes)}", len(scans), again)
    for scan, axis in zip(scans, axes, strict=True):
        where = f"{name} {scan.axis}".strip()
        if scan.unit and scan.unit != instrument.unit:
            fail(f"unit of {where}", f"to be {instrument.unit}", scan.unit, again)
        if scan.falling != axis.falling:
            words = ("rise", "fall")
            expected = f"to {words[axis.falling]} as the model's"
            got = f"one that {words[scan.falling]}s"
            fail(f"edge of {where}", expected, got, again)
        yield scan, axis, where, again
