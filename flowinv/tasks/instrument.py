"""A knife-edge instrument as data: from a measured scan, or from a TOML file.

Positions, units, monitor and direction are the scan's own. What a scan does not say is
estimated from its two plateaus: the light of the whole beam, the background, how many
units of the signal one count is, and the detector's noise. Beam and background stay
parameters of the posterior, so that such estimates need not be exact.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowinv.checks import check_at_least, fail
from flowinv.data.scan import ReadOptions, Scan, read_scan
from flowinv.files import from_plain, read_json
from flowinv.simulators.knife_edge import EdgeAxis, StepScan

__all__ = ["Instrument", "instrument_of", "read_instrument", "with_ranges"]

# Share of a scan's points at its ends that tell its plateaus.
PLATEAU = 0.12
LEAST_PLATEAU = 3
# Beams of two axes that differ by more have no common amplitude.
MOST_RATIO = 1.3
# The narrowest edge that is looked for, in steps and in ranges; the widest in ranges.
LEAST_STEPS, LEAST_SHARE, MOST_SHARE = 0.5, 1 / 400, 1 / 3
AMPLITUDE = (0.5, 1.5)
# Sds of a variance that is surely another, and steps of a weighted regression.
SURE, STEPS = 3.0, 20
# Variance beyond the dark's counts, in those, that is read noise: of a current, of
# whole numbers.
LEAST_NOISE = (0.5, 4.0)
# Counts of a signal without any noise.
MOST_COUNTS = 1e6


@dataclasses.dataclass(frozen=True)
class Instrument:
    """What a knife-edge scan is made with, and what is looked for.

    Attributes:
        axes: one or two: places, relative monitor and direction.
        unit: of the positions.
        signal_unit: of the signal.
        per_count: units of the signal for one count; 1 for counts.
        num_photons: counts of an exposure of the whole beam.
        background: counts of an exposure with the beam blocked.
        read_noise: of the detector, counts.
        jitter: standard deviation of the knife's place, in `unit`.
        drift: relative change of the beam during a scan.
        fit_amplitude: the beam's light is a parameter.
        fit_background: the background is a parameter.
        mean: edges of the prior of the beam's place, for each axis.
        std: edges of the prior of its width, for each axis.
        amplitude: edges of the prior of the light, relative to `num_photons`.
        dark: edges of the prior of the background, counts.
        exposure: seconds of an exposure of `num_photons`; 0 where it is unknown.
        monitor: mean of the monitor of such exposures; 0 where it is unknown.
        any_positions: answer scans at any places in the range of these, of at most so
            many along an axis; 0 answers scans at these places.
    """

    axes: tuple[EdgeAxis, ...]
    num_photons: float
    mean: tuple[tuple[float, ...], ...]
    std: tuple[tuple[float, ...], ...]
    unit: str = "grid"
    signal_unit: str = "counts"
    per_count: float = 1.0
    background: float = 0.0
    read_noise: float = 0.0
    jitter: float = 0.0
    drift: float = 0.0
    fit_amplitude: bool = True
    fit_background: bool = True
    amplitude: tuple[float, ...] = AMPLITUDE
    dark: tuple[float, ...] = (0.0, 100.0)
    exposure: float = 0.0
    monitor: float = 0.0
    any_positions: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a range that is none, or not one for each axis.
        """
        for name in ("mean", "std"):
            ranges = getattr(self, name)
            if len(ranges) != len(self.axes):
                fail(f"prior of {name}", "for each axis", len(ranges))
        named = [("mean", own) for own in self.mean] + [("std", o) for o in self.std]
        for name, own in (*named, ("amplitude", self.amplitude), ("dark", self.dark)):
            if len(own) != 2 or not (math.isfinite(own[0]) and own[0] < own[1] < 1e30):
                fail(f"prior of {name}", "as [low, high] with low < high", list(own))
            if name != "mean" and own[0] < 0 or name == "std" and own[0] == 0:
                fail(f"prior of {name}", "above 0", list(own))
        for name in ("exposure", "monitor", "any_positions"):
            check_at_least(name, getattr(self, name), 0)

    @property
    def simulator(self) -> StepScan:
        """The step scan of this instrument."""
        names = ("num_photons", "background", "drift", "jitter", "read_noise")
        names += ("fit_amplitude", "fit_background", "unit", "per_count")
        return StepScan(self.axes, **{name: getattr(self, name) for name in names})

    @property
    def ranges(self) -> tuple[list[float], list[float]]:
        """Lower and upper edges of the prior, in the order of theta."""
        pairs = [*self.mean, *self.std]
        pairs += [self.amplitude] * self.fit_amplitude + [
            self.dark
        ] * self.fit_background
        return [low for low, _ in pairs], [high for _, high in pairs]


def instrument_of(scans: Sequence[Scan]) -> Instrument:
    """The instrument that has made these scans, one for each axis.

    Raises:
        ValueError: for scans without an edge, in different units, or with beams of
            different light.
    """
    units = {scan.unit for scan in scans}
    if len(units) > 1:
        fail("units of the axes", "to be one", " and ".join(sorted(units)))
    plateaus = [_plateaus(scan) for scan in scans]
    noises = [_noise(scan) for scan in scans]
    known = zip(scans, noises, plateaus, strict=True)
    per_count = float(np.median([_per_count(*own) for own in known]))
    lights = [(lit - dark) / per_count for lit, dark in plateaus]
    if max(lights) > MOST_RATIO * min(lights):
        got = " and ".join(f"{light:.4g}" for light in lights)
        remedy = "Scan them with one exposure, or hand them in one at a time."
        fail("light of the two axes", "to be about the same", got, remedy)
    dark = max(0.0, float(np.mean([dark for _, dark in plateaus])) / per_count)
    noise = _read_noise(noises, plateaus, per_count)
    low_dark = min(max(0.0, own / per_count) for _, own in plateaus)
    high_dark = max(max(0.0, own / per_count) for _, own in plateaus)
    margin = 6 * math.sqrt(high_dark + noise**2 + 1.0)
    ends = ("",) if len(scans) == 1 else ("x", "y")
    axes, means, stds = [], [], []
    for scan, end in zip(scans, ends, strict=True):
        steps, size = np.diff(scan.position), float(np.ptp(scan.position))
        monitor = ()
        if scan.monitor is not None:
            monitor = tuple((scan.monitor / scan.monitor.mean()).tolist())
        axes.append(EdgeAxis(end, tuple(scan.position.tolist()), monitor, scan.falling))
        means.append((float(scan.position[0]), float(scan.position[-1])))
        least = max(LEAST_STEPS * float(np.median(steps)), LEAST_SHARE * size)
        stds.append((least, MOST_SHARE * size))
    return Instrument(
        tuple(axes),
        float(np.mean(lights)),
        tuple(means),
        tuple(stds),
        unit=scans[0].unit or "positions",
        signal_unit=scans[0].signal_unit or "counts",
        per_count=per_count,
        background=dark,
        read_noise=noise,
        dark=(max(0.0, low_dark - margin), high_dark + margin),
        exposure=scans[0].exposure,
        monitor=0.0 if scans[0].monitor is None else float(scans[0].monitor.mean()),
    )


def _ends(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Signal of the two plateaus, the lit one first, relative to the monitor."""
    signal = scan.signal
    if scan.monitor is not None:
        signal = signal * scan.monitor.mean() / scan.monitor
    size = max(LEAST_PLATEAU, round(PLATEAU * len(signal)))
    first, last = signal[:size], signal[-size:]
    return (first, last) if scan.falling else (last, first)


def _plateaus(scan: Scan) -> tuple[float, float]:
    """Light of the whole beam and of none, in units of the signal."""
    lit, dark = (float(np.median(end)) for end in _ends(scan))
    noise = float(np.std(np.diff(scan.signal))) / math.sqrt(len(scan.signal))
    if not lit - dark > noise or lit <= 0:
        remedy = "A knife-edge scan has a plateau at one end and the dark at the other."
        fail(f"scan {scan.source}", "with an edge", f"{dark:.4g} to {lit:.4g}", remedy)
    return lit, dark


def _noise(scan: Scan) -> tuple[float, float]:
    """Variance of the signal as `a signal + b`: a and b, both at least 0.

    From what every point differs by from the line between its neighbours, and from a
    fitted edge: either adds what it cannot follow, so the smaller one counts.
    """
    from flowinv.samplers.classical import classical_fit

    relative = np.ones(len(scan.signal))
    if scan.monitor is not None:
        relative = scan.monitor / scan.monitor.mean()
    flat, places = scan.signal / relative, scan.position
    share = (places[1:-1] - places[:-2]) / (places[2:] - places[:-2])
    line = (1 - share) * flat[:-2] + share * flat[2:]
    inner = slice(1, -1)
    scale = 1.0 + share**2 + (1 - share) ** 2
    off = (flat[inner] - line) * relative[inner] / np.sqrt(scale)
    found = [_variances(off, scan.signal[inner])]
    fit = classical_fit(flat, [places], "knife_edge")
    if fit.converged:
        left = (flat - fit.curve) * relative
        found.append(_variances(left, scan.signal))
    top = float(scan.signal.max())
    return min(found, key=lambda own: own[0] * top + own[1])


def _variances(off: np.ndarray, signal: np.ndarray) -> tuple[float, float]:
    """Most likely a and b of normal numbers `off` with variance a signal + b."""
    from scipy.optimize import nnls

    design = np.stack([np.maximum(signal, 0.0), np.full(len(signal), signal.max())], 1)
    variance = np.full(len(off), max(float((off**2).mean()), 1e-300))
    for _ in range(STEPS):
        # The square of a normal number is known to its own size.
        a, b = nnls(design / variance[:, None], off**2 / variance)[0]
        least = 1e-6 * variance.max()
        variance = np.maximum(design @ [a, b], max(least, 1e-300))
    return float(a), float(b * signal.max())


def _per_count(
    scan: Scan, noise: tuple[float, float], plateaus: tuple[float, float]
) -> float:
    """Units of the signal for one count."""
    (a, _), (lit, dark) = noise, plateaus
    # Whole numbers may be an amplifier's: counts scatter as their root.
    sure = 1.0 + SURE * math.sqrt(2.0 / len(scan.signal))
    is_whole = np.all(scan.signal == np.round(scan.signal)) and scan.signal.max() > 1
    if is_whole and a < sure:
        return 1.0
    if scan.errors is not None:
        # Poisson: variance = per_count * signal; brighter half, to leave read noise.
        bright = scan.signal > 0.5 * lit
        a = float(np.median(scan.errors[bright] ** 2 / scan.signal[bright]))
    return max(a, (lit - dark) / MOST_COUNTS)


def _read_noise(
    noises: Sequence[tuple[float, float]],
    plateaus: Sequence[tuple[float, float]],
    per_count: float,
) -> float:
    """Noise of the dark beyond that of its counts, in counts; 0 where none is sure."""
    found = [0.0]
    for (_, b), (_, dark) in zip(noises, plateaus, strict=True):
        level = max(dark / per_count, 0.0)
        # A few dark points tell a variance to a half of it; counters have none.
        times = LEAST_NOISE[per_count == 1.0]
        if b / per_count**2 > times * (level + 1.0):
            found.append(b / per_count**2)
    return math.sqrt(max(found))


def read_instrument(
    path: str | Path, options: ReadOptions | None = None
) -> tuple[Instrument, tuple[Scan, ...]]:
    """Read a scan, a .toml or an instrument.json; the scans are those of a scan file.

    Raises:
        ValueError: one line for a file that is none of them.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix == ".toml":
        if not path.is_file():
            fail("instrument", "to exist", path)
        try:
            data = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            fail(path.name, "as TOML", " ".join(str(error).split()))
        return _from_data(data, path.name), ()
    if path.name == "instrument.json":
        return _from_data(read_json(path, "instrument"), path.name), ()
    scans = read_scan(path, options)
    return instrument_of(scans), scans


def _from_data(data: object, where: str) -> Instrument:
    if isinstance(data, dict):
        for name in ("axes", "num_photons", "mean", "std"):
            if name not in data:
                fail(where, f"with {name}", ", ".join(data) or "nothing")
    return from_plain(Instrument, data, where)


_RANGE = re.compile(r"\s*([-+.\deE]+)\s*\.\.\s*([-+.\deE]+)\s*([^\d\s].*)?$")


def with_ranges(instrument: Instrument, texts: Sequence[str]) -> Instrument:
    """Change ranges of the prior by texts such as "std=5..50um" or "mean_x=-1..1".

    Raises:
        ValueError: for another name, no range, or another unit than the instrument's.
    """
    names = [axis.name for axis in instrument.axes]
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        found = _RANGE.match(value)
        if found is None:
            fail("prior", 'like "std=5..50"', repr(text))
        try:
            pair = float(found[1]), float(found[2])
        except ValueError:
            fail("prior", 'like "std=5..50"', repr(text))
        unit = (found[3] or "").strip()
        kind, _, end = name.partition("_")
        known = {"mean": instrument.unit, "std": instrument.unit, "dark": "counts"}
        known["amplitude"] = "1"
        if kind not in known or (end and end not in names):
            ends = [f"{k}_{n}" for k in ("mean", "std") for n in names if n]
            fail("prior of", f"one of {[*known, *ends]}", name)
        if unit and unit != known[kind]:
            remedy = f"Give it in {known[kind]}."
            fail(f"prior of {name}", f"in {known[kind]}", unit, remedy)
        if kind in ("mean", "std"):
            whole = getattr(instrument, kind)
            pairs = zip(names, whole, strict=True)
            new = tuple(pair if end in ("", own) else old for own, old in pairs)
        else:
            new = pair
        instrument = dataclasses.replace(instrument, **{kind: new})
    return instrument
