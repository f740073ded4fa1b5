"""The beam tasks: two projections of a spot, and a knife-edge step scan.

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
from flowinv.simulators.knife_edge import StepScan, lattice_axes
from flowinv.tasks.options import boolean, choice, integer, number, parse_options
from flowinv.tasks.task import (
    ClassicalFit,
    Derived,
    ExactDraws,
    Reference,
    ScanLayout,
    Task,
)

__all__ = ["BEAM_OPTIONS", "SCAN_OPTIONS", "beam_profile", "step_scan"]

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

FIELDS = {
    "points": "num_points",
    "samples": "num_samples",
    "nuisance": "num_nuisance",
    "photons": "num_photons",
}


def _prior(name: str, simulator: BeamProfile | StepScan) -> Prior:
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
        # Imported here: numpyro and scipy load only when a reference is asked for.
        from flowinv.samplers.grid import grid_posterior, on_grid

        if on_grid(simulator):
            return grid_posterior(simulator, prior, x, num_samples, key)
        from flowinv.samplers.nuts import nuts_posterior

        found = nuts_posterior(simulator, prior, x, num_samples, key)
        r_hat, ess = float(found.r_hat.max()), float(found.ess.min())
        return ExactDraws(found.draws, r_hat, ess, int(found.num_divergent))

    return exact


def _task(
    name: str,
    simulator: BeamProfile | StepScan,
    common: tuple[str, float],
    description: str,
) -> Task:
    prior_name, pitch = common
    prior = _prior(prior_name, simulator)
    is_scan = isinstance(simulator, StepScan)
    cumulative = is_scan or simulator.observable == "knife_edge"
    summaries: dict = {"moments": ProfileMoments(cumulative=cumulative)}
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
        derived=_derived(simulator, pitch),
    )


def _classical(
    simulator: BeamProfile | StepScan, prior: Prior, cumulative: bool
) -> Callable[[np.ndarray], ClassicalFit]:
    """The fit that such scans are read by today: erf of an edge, Gauss of a profile."""
    kind = "knife_edge" if cumulative else "projections"
    method = "erf least-squares fit" if cumulative else "Gaussian fit"

    def fit(x: np.ndarray) -> ClassicalFit:
        from flowinv.samplers.classical import classical_fit

        found = classical_fit(x, simulator.positions, kind)
        values, errors = (np.full(prior.dim, np.nan) for _ in range(2))
        values[:4], errors[:4] = found.value, found.error
        return ClassicalFit(values, errors, found.curve, method)

    return fit


def _derived(simulator: BeamProfile | StepScan, pitch: float) -> tuple[Derived, ...]:
    """Full widths at half maximum; with a pitch, all lengths in um.

    Args:
        simulator: whose first four parameters are lengths in grid units.
        pitch: um a grid unit, 0 where it is unknown.
    """
    lengths, unit, scale = simulator.names[:4], "grid", 1.0
    found: list[Derived] = []
    if pitch:
        unit, scale = "um", pitch
        found += [Derived(name, unit, name, pitch) for name in lengths]
    found += [
        Derived(name.replace("std", "fwhm"), unit, name, FWHM * scale)
        for name in lengths[2:]
    ]
    return tuple(found)


def _layout(simulator: BeamProfile | StepScan) -> ScanLayout:
    """Both axes side by side."""
    names = ("horizontal (x)", "vertical (y)")
    return ScanLayout(names, simulator.positions, "position (grid units)", "counts")


def _common(options: dict) -> tuple[str, float]:
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
    common = _common(options)
    fields = {FIELDS.get(option, option): value for option, value in options.items()}
    simulator = BeamProfile(**fields)
    seen = "knife-edge curves" if "knife" in simulator.observable else "projections"
    points = simulator.num_points
    description = f"2-D normal beam spot seen as two {seen} of {points} points."
    return _task("beam_profile", simulator, common, description)


def step_scan(texts: Mapping[str, str]) -> Task:
    """Build the task of the knife-edge step scan from its options as texts.

    Raises:
        ValueError: for an unknown option or a bad value.
    """
    options = parse_options("step_scan", texts, SCAN_OPTIONS)
    common = _common(options)
    points = int(options.pop("points", 200))
    fields = {FIELDS.get(option, option): value for option, value in options.items()}
    simulator = StepScan(lattice_axes(points), **fields)
    description = f"Two knife-edge step scans of {points} independent exposures."
    return _task("step_scan", simulator, common, description)
