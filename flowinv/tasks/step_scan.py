"""The knife-edge step scan: on the grid of the slides, or as an instrument has it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flowinv.checks import fail
from flowinv.data.scan import ReadOptions, read_scan
from flowinv.priors.latent import uniform
from flowinv.simulators.knife_edge import StepScan, lattice_axes
from flowinv.tasks.beam_profile import (
    FIELDS,
    LEAST_STD,
    beam_task,
    common_options,
    window_prior,
)
from flowinv.tasks.instrument import Instrument, as_x, with_ranges
from flowinv.tasks.options import (
    boolean,
    choice,
    integer,
    number,
    parse_options,
    split_spec,
)
from flowinv.tasks.task import Task

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
    """Return the task of an instrument: it reads scan files of the same places."""
    simulator = instrument.simulator
    low, high = instrument.ranges
    prior = uniform(low, high, simulator.names, simulator.units)
    points = " and ".join(str(len(axis.positions)) for axis in instrument.axes)
    description = f"Knife-edge step scan at {points} places, in {instrument.unit}."
    task = beam_task("step_scan", simulator, prior, 0.0, description)
    label = f"signal ({instrument.signal_unit})"

    def read(path: Path, options: ReadOptions) -> np.ndarray:
        return as_x(instrument, read_scan(path, options), path.name)[None]

    layout = dataclasses.replace(task.layout, value_label=label)
    return dataclasses.replace(task, layout=layout, read=read)
