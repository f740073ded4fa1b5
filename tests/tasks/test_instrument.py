"""Instruments from scans: what a scan says of itself, and what it is matched with."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from flowinv.data.scan import Scan
from flowinv.files import to_plain
from flowinv.simulators.knife_edge import EdgeAxis, StepScan
from flowinv.tasks.instrument import (
    instrument_of,
    read_instrument,
    with_ranges,
)
from flowinv.tasks.matching import as_rows, as_x
from flowinv.tasks.step_scan import instrument_task, with_options

PLACES = np.sort(np.r_[np.linspace(-2, -0.5, 21), np.linspace(-0.4, 3, 60)])
MONITOR = 900 * (1 + 0.1 * np.cos(np.arange(81)))
THETA = (0.3, 0.25)


def scan_of(falling=False, per_count=1.0, **options):
    """A scan of 4,000 counts at most over a background of 30, with a monitor."""
    monitor = tuple((MONITOR / MONITOR.mean()).tolist())
    axis = EdgeAxis("", tuple(PLACES.tolist()), monitor, falling)
    simulator = StepScan((axis,), 4_000.0, 30.0, per_count=per_count, **options)
    x = jax.jit(simulator.simulate)(jax.random.key(1), np.float32(THETA))
    return Scan("knife", PLACES, np.asarray(x, float), MONITOR, unit="mm")


@pytest.mark.parametrize("falling", [False, True])
def test_a_scan_of_counts_says_what_made_it(falling):
    found = instrument_of([scan_of(falling)])
    (axis,) = found.axes
    np.testing.assert_allclose(axis.positions, PLACES)
    np.testing.assert_allclose(axis.monitor, MONITOR / MONITOR.mean())
    assert axis.falling == falling
    assert (found.unit, found.per_count, found.read_noise) == ("mm", 1.0, 0.0)
    # Medians of ten exposures: 1 % of the light, 3 of the background's counts.
    assert found.num_photons == pytest.approx(4_000, rel=0.05)
    assert found.background == pytest.approx(30, abs=8)
    assert found.dark[0] < 30 < found.dark[1]
    assert found.mean == ((-2.0, 3.0),)
    (std,) = found.std
    assert std[0] < 0.05 < 1 < std[1]


def test_a_current_is_counted_from_its_noise():
    """4 pA a count: to a half, from 81 scattered points; errors tell it better."""
    scan = scan_of(per_count=4e-12)
    found = instrument_of([scan])
    assert found.per_count == pytest.approx(4e-12, rel=0.5)
    errors = 4e-12 * np.sqrt(scan.signal / 4e-12 + 1)
    found = instrument_of([dataclasses.replace(scan, errors=errors)])
    assert found.per_count == pytest.approx(4e-12, rel=0.01)
    assert found.num_photons == pytest.approx(4_000, rel=0.05)


@pytest.mark.parametrize("per_count", [1.0, 4.0])
def test_noise_of_a_detector_is_seen(per_count):
    """Variances of the lit and of the dark plateau, each to a factor of two."""
    scan = scan_of(read_noise=40.0, per_count=per_count)
    found = instrument_of([scan])
    for counts in (4_030, 30):
        exact = per_count**2 * (counts + 40.0**2)
        own = counts * per_count / found.per_count + found.read_noise**2
        assert 0.5 < found.per_count**2 * own / exact < 2


def test_two_axes_have_one_light():
    first, second = scan_of(), scan_of(falling=True)
    found = instrument_of([first, second])
    assert found.simulator.names == (
        *("mean_x", "mean_y", "std_x", "std_y"),
        *("amplitude", "background"),
    )
    low, high = found.ranges
    assert len(low) == len(high) == 6
    brighter = dataclasses.replace(second, signal=2 * second.signal)
    with pytest.raises(ValueError, match="light of the two axes to be about the same"):
        instrument_of([first, brighter])
    with pytest.raises(ValueError, match="units of the axes to be one; got mm and um"):
        instrument_of([first, dataclasses.replace(second, unit="um")])


@pytest.mark.parametrize("signal", [np.zeros(81), np.full(81, 7.0), -np.ones(81)])
def test_no_edge_is_no_instrument(signal):
    with pytest.raises(ValueError, match="with an edge"):
        instrument_of([Scan("", PLACES, signal)])


def test_ranges_of_the_prior():
    own = instrument_of([scan_of(), scan_of()])
    both = with_ranges(own, ["std=0.1..0.5 mm", "mean_y=-1..1", "amplitude=0.9..1.1"])
    assert both.std == ((0.1, 0.5), (0.1, 0.5))
    assert both.mean == (own.mean[0], (-1.0, 1.0))
    assert both.amplitude == (0.9, 1.1)
    for text, message in (
        ("std=0.1..0.5um", "prior of std in mm; got um. Give it in mm"),
        ("std=0.5..0.1", "low < high"),
        ("std=0..1", "above 0"),
        ("std", 'like "std=5..50"'),
        ("width=1..2", "prior of one of"),
        ("mean_z=1..2", "prior of one of"),
    ):
        with pytest.raises(ValueError, match=message):
            with_ranges(own, [text])


def test_options_of_the_task_change_what_they_name():
    own = instrument_of([scan_of()])
    changed = with_options(own, "step_scan:jitter=0.01,fit_background=false", [])
    assert changed == dataclasses.replace(own, jitter=0.01, fit_background=False)
    for spec, message in (
        ("beam_profile", "task with --like to be step_scan"),
        ("step_scan:points=100", "that the scan does not say; got points"),
        ("step_scan:jiter=1", "Did you mean 'jitter'"),
    ):
        with pytest.raises(ValueError, match=message):
            with_options(own, spec, [])


def test_a_scan_becomes_x_or_is_refused():
    first = scan_of()
    own = instrument_of([first])
    np.testing.assert_allclose(as_x(own, [first], "f"), first.signal, rtol=1e-6)
    # Another monitor: the counts that the model's own would have given.
    other = MONITOR[::-1]
    moved = dataclasses.replace(first, monitor=other)
    expected = first.signal * MONITOR / other
    np.testing.assert_allclose(as_x(own, [moved], "f"), expected, rtol=1e-5)
    wild = np.linspace(1, 3, 81)
    for changes, message in (
        ({"position": PLACES + 0.1}, "positions of f knife to be the model's 81"),
        (
            {
                name: getattr(first, name)[1:]
                for name in ("position", "signal", "monitor")
            },
            "got 80",
        ),
        ({"unit": "um"}, "unit of f knife to be mm; got um"),
        ({"signal": first.signal[::-1]}, "to rise as the model's"),
        ({"monitor": wild}, "monitor of f knife within 1.2 times"),
    ):
        bad = dataclasses.replace(first, **changes)
        with pytest.raises(ValueError, match=message) as error:
            as_x(own, [bad], "f")
        assert "flowinv run --task step_scan --like f" in str(error.value)


def test_an_exposure_must_be_about_the_models():
    first = dataclasses.replace(scan_of(), exposure=0.5)
    own = instrument_of([first])
    assert own.exposure == 0.5
    assert own.monitor == pytest.approx(MONITOR.mean())
    longer = dataclasses.replace(first, exposure=2.0)
    with pytest.raises(ValueError, match="exposure of f knife about the model's 0.5 s"):
        as_x(own, [longer], "f")
    as_x(own, [dataclasses.replace(first, exposure=0.0)], "f")


def test_a_scan_becomes_rows_or_is_refused():
    """Position in half ranges, signal, exposure by the monitor or by the seconds."""
    first = dataclasses.replace(scan_of(), exposure=0.5)
    own = dataclasses.replace(instrument_of([first]), any_positions=90)
    (rows,) = as_rows(own, [first], "f")
    np.testing.assert_allclose(rows[:81, 0], (PLACES - 0.5) / 2.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rows[:81, 1], first.signal.astype(np.float32))
    np.testing.assert_allclose(rows[:81, 2], MONITOR / MONITOR.mean(), rtol=1e-6)
    assert not rows[81:].any()
    part = {name: getattr(first, name)[20:] for name in ("position", "signal")}
    bare = dataclasses.replace(first, **part, monitor=None, exposure=1.0)
    (rows,) = as_rows(own, [bare], "f")
    np.testing.assert_array_equal(rows[:61, 2], 2.0)
    assert not rows[61:].any()
    task = instrument_task(own)
    there, seen = task.of_scan(rows[None])
    np.testing.assert_allclose(there.simulator.positions[0], PLACES[20:], atol=1e-5)
    np.testing.assert_array_equal(seen, bare.signal.astype(np.float32))
    for changes, message in (
        ({"position": PLACES + 0.5}, "positions of f knife from -2 to 3; got -1.5"),
        ({"unit": "um"}, "unit of f knife to be mm"),
        ({"signal": first.signal[::-1]}, "to rise as the model's"),
        ({"monitor": 10 * MONITOR}, "exposures of f knife within 4.5 times"),
    ):
        bad = dataclasses.replace(first, **changes)
        with pytest.raises(ValueError, match=message) as error:
            as_rows(own, [bad], "f")
        assert "flowinv run --task step_scan --like f" in str(error.value)
    few = dataclasses.replace(own, any_positions=80)
    with pytest.raises(ValueError, match="to be 80 at most; got 81"):
        as_rows(few, [first], "f")


def test_there_and_back_through_files(tmp_path):
    own = instrument_of([scan_of(), scan_of(falling=True)])
    (tmp_path / "instrument.json").write_text(json.dumps(to_plain(own)))
    assert read_instrument(tmp_path / "instrument.json") == (own, ())
    text = """
num_photons = 1e4
unit = "um"
mean = [[0, 100]]
std = [[1, 30]]
fit_background = false
[[axes]]
name = ""
positions = [0, 20, 40, 60, 80, 100]
"""
    (tmp_path / "mine.toml").write_text(text)
    found, scans = read_instrument(tmp_path / "mine.toml")
    assert scans == ()
    assert found.simulator.names == ("mean", "std", "amplitude")
    assert instrument_task(found).prior.high.tolist() == [100, 30, 1.5]
    (tmp_path / "bad.toml").write_text(text.replace("num_photons", "photons"))
    with pytest.raises(ValueError, match=r"bad.toml with num_photons"):
        read_instrument(tmp_path / "bad.toml")


def test_the_task_speaks_the_instruments_units():
    task = instrument_task(instrument_of([scan_of()]))
    assert task.prior.names == ("mean", "std", "amplitude", "background")
    assert task.prior.units == ("mm", "mm", "", "counts")
    assert [(q.name, q.unit) for q in task.derived] == [("fwhm", "mm")]
    assert task.layout.position_label == "position (mm)"
    x, theta = task.observation(1)
    fit = task.classical(x)
    assert abs(fit.values[0] - theta[0]) < 0.1
    # Its curve follows the monitor, as the scan does.
    lit = fit.curve[-10:] / np.array(task.simulator.axes[0].monitor)[-10:]
    assert np.ptp(lit) < 0.05 * lit.mean()
    assert np.isnan(fit.values[2:]).all()
