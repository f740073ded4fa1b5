"""The beam tasks: what they share, and two projections of a spot.

Priors over (mean_x, mean_y, std_x, std_y), uniform, in grid units: `slides` (November
2021) has stds from 5 to 15, `today` from 1 to 15 ("to make the task more tricky").
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from jax import Array

from flowinv.checks import fail
from flowinv.networks.edge_fit import EdgeFit
from flowinv.networks.moments import ProfileMoments
from flowinv.priors.latent import Prior, uniform
from flowinv.simulators.beam_profile import OBSERVABLES, BeamProfile
from flowinv.simulators.knife_edge import StepScan
from flowinv.tasks.exact import by_nuts
from flowinv.tasks.options import boolean, choice, integer, number, parse_options
from flowinv.tasks.task import (
    ClassicalFit,
    Derived,
    ExactDraws,
    Reference,
    ScanLayout,
    Task,
)

__all__ = [
    "BEAM_OPTIONS",
    "FIELDS",
    "LEAST_STD",
    "NUM_OBSERVATIONS",
    "OBSERVATION_KEY",
    "beam_profile",
    "beam_task",
    "common_options",
    "derived",
    "window_prior",
]

NUM_OBSERVATIONS = 10
OBSERVATION_KEY = 2021  # the year of the slides; fixes the ten observations

# Full width at half maximum of a normal density over its sd.
FWHM = 2 * math.sqrt(2 * math.log(2))

LEAST_STD = {"slides": 5.0, "today": 1.0}  # grid units

# Ranges of what theta may hold beyond the four lengths: (low, high).
EXTRA_RANGES = {
    "angle": (-45.0, 45.0),  # deg; beyond, std_x and std_y exchange their meaning
    "amplitude": (0.5, 1.5),
    "background": (0.0, 200.0),  # counts per exposure
}

BEAM_OPTIONS = {
    "prior": choice(*LEAST_STD),
    "pitch": number,
    "points": integer,
    "samples": integer,
    "rotation": boolean,
    "nuisance": integer,
    "observable": choice(*OBSERVABLES),
    "image": boolean,
    "noise_free": boolean,
}

FIELDS = {
    "points": "num_points",
    "samples": "num_samples",
    "nuisance": "num_nuisance",
    "photons": "num_photons",
}


def window_prior(name: str, simulator: BeamProfile | StepScan) -> Prior:
    """Uniform prior with the simulator's names and units; nuisances on [0, 1]."""
    low, high = [20.0, 20.0, LEAST_STD[name], LEAST_STD[name]], [80.0, 80.0, 15.0, 15.0]
    for extra in simulator.names[4:]:
        edges = EXTRA_RANGES.get(extra, (0.0, 1.0))
        low.append(edges[0])
        high.append(edges[1])
    return uniform(low, high, simulator.names, simulator.units)


def _reference(simulator: BeamProfile | StepScan, prior: Prior) -> Reference | None:
    """Grid where the posterior factorises, NUTS where a likelihood is left, or None."""
    if getattr(simulator, "noise_free", False):
        return None

    def exact(x: np.ndarray, num_samples: int, key: Array) -> np.ndarray | ExactDraws:
        # Imported here: scipy loads only when a reference is asked for.
        from flowinv.samplers.grid import grid_posterior, on_grid

        if on_grid(simulator):
            return grid_posterior(simulator, prior, x, num_samples, key)
        return by_nuts(simulator, prior, x, num_samples, key)

    return exact


def beam_task(
    name: str,
    simulator: BeamProfile | StepScan,
    prior: Prior,
    pitch: float,
    description: str,
) -> Task:
    """Return the task of a simulator of beams.

    Args:
        name: of the task.
        simulator: of profiles or of knife edges.
        prior: over its parameters, with edges.
        pitch: um a grid unit, 0 where it is unknown.
        description: one sentence.
    """
    is_scan = isinstance(simulator, StepScan)
    cumulative = is_scan or simulator.observable == "knife_edge"
    summaries: dict = {}
    if len({len(own) for own in simulator.positions}) == 1:
        count = len(simulator.positions)
        summaries["moments"] = ProfileMoments(count, cumulative)
    if is_scan:
        low, high = (tuple(map(float, a)) for a in (prior.low, prior.high))
        summaries["edges"] = EdgeFit(simulator, low, high)
    return Task(
        prior,
        simulator,
        name=name,
        description=description,
        num_observations=NUM_OBSERVATIONS,
        observation_key=OBSERVATION_KEY,
        # Read noise takes counts below 0, which have no root.
        input_scaling="asinh" if getattr(simulator, "read_noise", 0) else "root",
        # Moments of one histogram are sufficient up to the window's edges. Those of
        # a step scan's differences are too noisy: its edges are fitted.
        summary="edges" if is_scan else "moments",
        summaries=summaries,
        exact=_reference(simulator, prior),
        classical=_classical(simulator, prior, cumulative),
        layout=_layout(simulator),
        derived=derived(simulator, pitch),
    )


def _classical(
    simulator: BeamProfile | StepScan, prior: Prior, cumulative: bool
) -> Callable[[np.ndarray], ClassicalFit]:
    """The fit that such scans are read by today: erf of an edge, Gauss of a profile."""
    kind = "knife_edge" if cumulative else "projections"
    method = "erf least-squares fit" if cumulative else "Gaussian fit"

    def fit(x: np.ndarray) -> ClassicalFit:
        from flowinv.samplers.classical import classical_fit

        # The fit knows of no monitor: it sees what the whole beam would have given.
        relative = _monitor(simulator)
        found = classical_fit(np.ravel(x) / relative, simulator.positions, kind)
        values, errors = (np.full(prior.dim, np.nan) for _ in range(2))
        size = len(found.value)
        values[:size], errors[:size] = found.value, found.error
        return ClassicalFit(values, errors, found.curve * relative, method)

    return fit


def _monitor(simulator: BeamProfile | StepScan) -> np.ndarray:
    """Relative beam of every number of x, 1 where nothing is known."""
    sizes = [len(own) for own in simulator.positions]
    if not isinstance(simulator, StepScan):
        return np.ones(sum(sizes))
    pairs = zip(simulator.axes, sizes, strict=True)
    return np.concatenate([axis.monitor or np.ones(size) for axis, size in pairs])


def derived(simulator: BeamProfile | StepScan, pitch: float) -> tuple[Derived, ...]:
    """Full widths at half maximum; with a pitch, all lengths in um.

    Args:
        simulator: whose first four parameters are lengths in grid units.
        pitch: um a grid unit, 0 where it is unknown.
    """
    own = isinstance(simulator, StepScan)
    count = simulator.num_axes if own else 2
    lengths, scale = simulator.names[: 2 * count], 1.0
    unit = simulator.units[0]
    found: list[Derived] = []
    if pitch:
        unit, scale = "um", pitch
        found += [Derived(name, unit, name, pitch) for name in lengths]
    found += [
        Derived(name.replace("std", "fwhm"), unit, name, FWHM * scale)
        for name in lengths[count:]
    ]
    return tuple(found)


def _layout(simulator: BeamProfile | StepScan) -> ScanLayout:
    """Both axes side by side."""
    positions, unit, counts = simulator.positions, simulator.units[0], "counts"
    names = ("horizontal (x)", "vertical (y)") if len(positions) == 2 else ("scan",)
    label = "grid units" if unit == "grid" else unit
    return ScanLayout(names, positions, f"position ({label})", counts)


def common_options(options: dict) -> tuple[str, float]:
    """Take the options that are not the simulator's: name of the prior, and pitch."""
    pitch = float(options.pop("pitch", 0.0))
    if pitch < 0:
        fail("option pitch", "in um a grid unit, above 0", pitch)
    return str(options.pop("prior", "today")), pitch


def beam_profile(texts: Mapping[str, str]) -> Task:
    """Build the task of the beam-profile surrogate from its options as texts.

    Raises:
        ValueError: for an unknown option or a bad value.
    """
    options = parse_options("beam_profile", texts, BEAM_OPTIONS)
    prior, pitch = common_options(options)
    fields = {FIELDS.get(option, option): value for option, value in options.items()}
    simulator = BeamProfile(**fields)
    seen = "knife-edge curves" if "knife" in simulator.observable else "projections"
    points = simulator.num_points
    description = f"2-D normal beam spot seen as two {seen} of {points} points."
    own = window_prior(prior, simulator)
    return beam_task("beam_profile", simulator, own, pitch, description)
