"""The knife-edge step scan: on the grid of the slides, or as an instrument has it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jax import Array

from flowinv.checks import fail
from flowinv.data.scan import ReadOptions, Scan, read_scan
from flowinv.networks.edge_fit import EdgeFit
from flowinv.priors.latent import Prior, uniform
from flowinv.simulators.any_scan import AnyScan
from flowinv.simulators.knife_edge import StepScan, lattice_axes
from flowinv.tasks.beam_profile import (
    FIELDS,
    LEAST_STD,
    NUM_OBSERVATIONS,
    OBSERVATION_KEY,
    beam_task,
    common_options,
    derived,
    window_prior,
)
from flowinv.tasks.instrument import Instrument, with_ranges
from flowinv.tasks.matching import as_rows, as_x
from flowinv.tasks.options import (
    boolean,
    choice,
    integer,
    number,
    parse_options,
    split_spec,
)
from flowinv.tasks.task import ExactDraws, Scans, Task

__all__ = ["SCAN_OPTIONS", "instrument_task", "step_scan", "with_options"]

SCAN_OPTIONS = {
    "prior": choice(*LEAST_STD),
    "pitch": number,
    "points": integer,
    "photons": number,
    "background": number,
    "drift": number,
    "jitter": number,
    "read_noise": number,
    "fit_amplitude": boolean,
    "fit_background": boolean,
}

# Options that an instrument's scan says itself.
_OF_THE_GRID = ("points", "prior", "pitch")


def step_scan(texts: Mapping[str, str]) -> Task:
    """Build the task of the knife-edge step scan from its options as texts.

    Raises:
        ValueError: for an unknown option or a bad value.
    """
    options = parse_options("step_scan", texts, SCAN_OPTIONS)
    prior, pitch = common_options(options)
    points = int(options.pop("points", 200))
    fields = {FIELDS.get(option, option): value for option, value in options.items()}
    simulator = StepScan(lattice_axes(points), **fields)
    description = f"Two knife-edge step scans of {points} independent exposures."
    own = window_prior(prior, simulator)
    return beam_task("step_scan", simulator, own, pitch, description)


def with_options(
    instrument: Instrument, spec: str, ranges: Sequence[str]
) -> Instrument:
    """Change an instrument by the options of a task's spec and ranges of the prior.

    Raises:
        ValueError: for another task than step_scan, an option that a scan says itself,
            a bad value or a bad range.
    """
    name, texts = split_spec(spec)
    if name != "step_scan":
        fail("task with --like", "to be step_scan", repr(name))
    options = parse_options("step_scan", texts, SCAN_OPTIONS)
    for option in _OF_THE_GRID:
        if option in options:
            remedy = "Ranges of the prior: --prior std=5..50."
            fail("options with --like", "that the scan does not say", option, remedy)
    fields = {FIELDS.get(option, option): value for option, value in options.items()}
    return with_ranges(dataclasses.replace(instrument, **fields), ranges)


def instrument_task(instrument: Instrument) -> Task:
    """Return the task of an instrument: scans of the same places, or of any."""
    if instrument.any_positions:
        return _any_positions_task(instrument)
    simulator, prior = instrument.simulator, _prior(instrument)
    points = " and ".join(str(len(axis.positions)) for axis in instrument.axes)
    description = f"Knife-edge step scan at {points} places, in {instrument.unit}."
    task = beam_task("step_scan", simulator, prior, 0.0, description)
    label = f"signal ({instrument.signal_unit})"

    def read(path: Path, options: ReadOptions) -> Scans:
        scans = read_scan(path, options)
        return Scans(as_x(instrument, scans, path.name)[None], _notes(scans))

    layout = dataclasses.replace(task.layout, value_label=label)
    return dataclasses.replace(task, layout=layout, read=read)


def _prior(instrument: Instrument) -> Prior:
    simulator, (low, high) = instrument.simulator, instrument.ranges
    return uniform(low, high, simulator.names, simulator.units)


def _notes(scans: Sequence[Scan]) -> tuple[str, ...]:
    """What was done to scans; the axis is named where there are two."""
    many = len(scans) > 1
    return tuple(
        f"{scan.axis}: {note}" if many else note
        for scan in scans
        for note in scan.notes
    )


def _any_positions_task(instrument: Instrument) -> Task:
    """The task of scans at any places: positions are numbers of x."""
    most = instrument.any_positions
    simulator, prior = AnyScan(instrument.simulator, most), _prior(instrument)
    low, high = (tuple(map(float, edges)) for edges in (prior.low, prior.high))

    def at(x: np.ndarray) -> tuple[Task, np.ndarray]:
        own, seen = simulator.at(x)
        there = dataclasses.replace(instrument, axes=own.axes, any_positions=0)
        return instrument_task(there), seen

    def exact(x: np.ndarray, num_samples: int, key: Array) -> np.ndarray | ExactDraws:
        own, seen = at(x)
        return own.exact(seen, num_samples, key)

    def read(path: Path, options: ReadOptions) -> Scans:
        scans = read_scan(path, options)
        return Scans(as_rows(instrument, scans, path.name)[None], _notes(scans))

    ends = [(min(own.positions), max(own.positions)) for own in instrument.axes]
    window = " and ".join(f"{first:g} to {last:g}" for first, last in ends)
    return Task(
        prior,
        simulator,
        name="step_scan",
        description=(
            f"Knife-edge step scans at any (up to {most}) places of {window} "
            f"{instrument.unit}."
        ),
        num_observations=NUM_OBSERVATIONS,
        observation_key=OBSERVATION_KEY,
        input_scaling="none",
        summary="edges",
        summaries={"edges": EdgeFit(simulator, low, high)},
        exact=exact,
        derived=derived(instrument.simulator, 0.0),
        read=read,
        at=at,
        again=simulator.again,
    )
