"""Exact posterior draws on a grid, for upright beams and axis-wise priors.

The likelihood factorises into one term for (mean_x, std_x), one for (mean_y, std_y),
and, for `BeamProfile`, a weak one for the common total N. Each axis pair is tabulated
in float64 on a grid that is laid around its posterior first; a draw is a cell plus a
uniform place inside it. The total's term, and a prior that is not uniform, enter by
rejection, so that draws are independent and never repeated.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_shape, fail
from flowinv.priors.latent import Prior
from flowinv.simulators.beam_profile import BeamProfile
from flowinv.simulators.exposure import LEAST_RATE
from flowinv.simulators.knife_edge import StepScan

__all__ = ["grid_posterior", "on_grid"]

CELLS = 500  # per parameter: a cell is 0.025 posterior standard deviations wide
SEARCH_CELLS = 80
DEPTH = 20.0  # log-likelihood below the maximum: 6.3 standard deviations
MAX_PASSES = 200  # proposals of 4 n draws each before giving up
EDGE = 1000.0  # grid units; stands in for an infinite prior edge

AxisTable = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class _Axis(NamedTuple):
    """A tabulated axis pair: cell edges, cell probabilities, and log A per cell."""

    mean_edges: np.ndarray
    std_edges: np.ndarray
    probability: np.ndarray
    log_total: np.ndarray


def _profile_table(grid: np.ndarray, counts: np.ndarray) -> AxisTable:
    """Log-likelihood of one projection given its total, and log A.

    The profile enters by three sums only: N, S1 and S2 about the profile's mean.
    """
    total = counts.sum()
    centre = (counts * grid).sum() / total
    second = (counts * (grid - centre) ** 2).sum()

    def table(mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = second + total * (mean[:, None] - centre) ** 2
        log_total = np.empty((mean.size, std.size))
        for column, width in enumerate(std):
            scaled = -0.5 * ((grid - mean[:, None]) / width) ** 2
            best = scaled.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(scaled - best).sum(axis=1)) + best[:, 0]
            log_total[:, column] = log_sum - np.log(width * np.sqrt(2.0 * np.pi))
        log_weight = -0.5 * square / std**2 - total * np.log(std)
        log_weight = log_weight - total * (log_total + 0.5 * np.log(2.0 * np.pi))
        return log_weight, log_total

    return table


def _scan_table(simulator: StepScan, axis: int, counts: np.ndarray) -> AxisTable:
    """Log-likelihood of one step scan; its log A is 0, there is no common total."""
    from scipy.special import ndtr

    own, grid = simulator.axes[axis], simulator.positions[axis]
    time = np.linspace(0.0, 1.0, grid.size)
    scale = simulator.num_photons * (1.0 + simulator.drift * time)
    scale = scale * (np.array(own.monitor) if own.monitor else 1.0)
    sign = -1.0 if own.falling else 1.0

    def table(mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_weight = np.empty((mean.size, std.size))
        for column, width in enumerate(std):
            passed = ndtr(sign * (grid - mean[:, None]) / width)
            rate = scale * passed + simulator.background
            rate = np.maximum(rate, LEAST_RATE)
            log_weight[:, column] = (counts * np.log(rate) - rate).sum(axis=1)
        return log_weight, np.zeros_like(log_weight)

    return table


def _middles(edges: np.ndarray) -> np.ndarray:
    return 0.5 * (edges[1:] + edges[:-1])


def _tabulate(table: AxisTable, box: np.ndarray) -> _Axis:
    """Zoom from the prior's `box` `[2 parameters, 2]` on the posterior, tabulate it."""
    for _ in range(12):
        edges = [np.linspace(*side, SEARCH_CELLS + 1) for side in box]
        log_weight, _ = table(_middles(edges[0]), _middles(edges[1]))
        likely = log_weight > log_weight.max() - DEPTH
        shrunk = []
        for axis, side in enumerate(edges):
            hit = np.flatnonzero(likely.any(axis=1 - axis))
            first, last = max(hit[0] - 2, 0), min(hit[-1] + 3, SEARCH_CELLS)
            shrunk.append((side[first], side[last]))
        shrunk = np.array(shrunk)
        done = np.all(np.ptp(shrunk, axis=1) > 0.8 * np.ptp(box, axis=1))
        box = shrunk
        if done:
            break
    edges = [np.linspace(*side, CELLS + 1) for side in box]
    log_weight, log_total = table(_middles(edges[0]), _middles(edges[1]))
    weight = np.exp(log_weight - log_weight.max())
    return _Axis(edges[0], edges[1], weight / weight.sum(), log_total)


def _propose(
    axis: _Axis, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw (mean, std) `[size, 2]` and the cell's log A `[size]`."""
    cumulative = np.cumsum(axis.probability.ravel())
    place = rng.random(size) * cumulative[-1]
    cell = np.minimum(np.searchsorted(cumulative, place, "right"), cumulative.size - 1)
    row, column = np.unravel_index(cell, axis.probability.shape)
    pair = []
    for edges, index in ((axis.mean_edges, row), (axis.std_edges, column)):
        low, high = edges[index], edges[index + 1]
        pair.append(low + (high - low) * rng.random(size))
    return np.stack(pair, axis=1), axis.log_total.ravel()[cell]


def _total_term(
    simulator: BeamProfile | StepScan, total: float, log_total: np.ndarray
) -> np.ndarray:
    """Log Poisson(N; S A B) minus its largest value, 0 for a step scan."""
    if isinstance(simulator, StepScan):
        return np.zeros_like(log_total)
    ratio = log_total + np.log(simulator.num_samples / total)
    return total * (ratio - np.expm1(ratio))


def on_grid(simulator: BeamProfile | StepScan) -> bool:
    """Whether `grid_posterior` serves this simulator."""
    if isinstance(simulator, BeamProfile):
        return not (simulator.rotation or simulator.noise_free)
    plain = simulator.jitter == 0 == simulator.read_noise and simulator.per_count == 1
    return plain and simulator.num_axes == 2 and simulator.dim == 4


def _checked_counts(
    simulator: BeamProfile | StepScan, x: ArrayLike
) -> list[np.ndarray]:
    """Return the two axes' counts, float64 `[P]` each."""
    if not isinstance(simulator, BeamProfile | StepScan):
        fail("simulator", "to be a BeamProfile or StepScan", type(simulator).__name__)
    if isinstance(simulator, BeamProfile):
        if simulator.noise_free:
            fail("simulator", "with noise", "noise_free=True: it has no likelihood")
        if simulator.rotation:
            remedy = "Use nuts_posterior."
            fail("beam", "upright for a grid", "rotation=True", remedy)
    elif not on_grid(simulator):
        expected = "of two axes and four parameters without jitter or read noise"
        fail("step scan", expected, simulator, "Use nuts_posterior.")
    x = np.asarray(x, np.float64)
    check_shape("x", x.shape, simulator.x_shape)
    counts = np.split(x, [len(simulator.positions[0])])
    is_profile = isinstance(simulator, BeamProfile)
    if is_profile and simulator.observable == "knife_edge":
        counts = [np.diff(own, prepend=0.0) for own in counts]
    for own in counts:
        if not np.all(np.isfinite(own)) or own.min() < 0:
            fail("x", "of finite counts of at least 0", "others")
        if own.sum() < 1:
            fail("x", "with counts on both axes", "an empty profile")
    return counts


def grid_posterior(
    simulator: BeamProfile | StepScan,
    prior: Prior,
    x: ArrayLike,
    num_samples: int,
    key: Array | np.random.Generator,
) -> np.ndarray:
    """Draw from the exact posterior of an upright beam.

    The prior must have its support as a box in the four beam parameters, independent of
    the nuisance ones, whose draws come from the prior.

    Args:
        simulator: an upright `BeamProfile` of either observable (the near-exact
            Poisson likelihood), or a `StepScan` of two axes and four parameters
            without jitter and read noise (exact).
        prior: prior over the simulator's parameters.
        x: one observation with the simulator's `x_shape`.
        num_samples: number of draws n.
        key: typed key, or a numpy generator.

    Returns:
        Independent draws, float64 `[n, D]`, inside the prior's edges.

    Raises:
        ValueError: for a turned or noise-free beam, another kind of scan,
            wrong shapes, bad counts, or a prior that contradicts the observation.
    """
    counts = _checked_counts(simulator, x)
    check_at_least("num_samples", num_samples, 1)
    if prior.dim != simulator.dim:
        fail("prior", f"of {simulator.dim} parameters", prior.dim)
    if not isinstance(key, np.random.Generator):
        seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
        rng = np.random.default_rng(seed)
    else:
        rng, key = key, jax.random.key(int(key.integers(2**31)))
    low, high = np.maximum(prior.low, -EDGE), np.minimum(prior.high, EDGE)
    axes = []
    for axis in (0, 1):
        box = np.array([(low[i], high[i]) for i in (axis, 2 + axis)], np.float64)
        box[1, 0] = max(box[1, 0], 1e-3)
        if isinstance(simulator, BeamProfile):
            table = _profile_table(simulator.grid, counts[axis])
        else:
            table = _scan_table(simulator, axis, counts[axis])
        axes.append(_tabulate(table, box))
    others = np.asarray(prior.sample(key, num_samples), np.float64)[:, 4:]
    draws = _accepted(simulator, prior, axes, counts[0].sum(), others, rng)
    return np.concatenate([draws, others], axis=1)


def _accepted(
    simulator: BeamProfile | StepScan,
    prior: Prior,
    axes: list[_Axis],
    total: float,
    others: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw from the axes' tables and keep by the total's and the prior's weight.

    The bound is the largest weight among all proposals so far; when a pass raises
    it, earlier draws are thinned to the new bound.
    """
    num_samples = others.shape[0]
    kept, log_uniform = np.empty((0, 4)), np.empty(0)
    bound = -np.inf
    for _ in range(MAX_PASSES):
        pair_x, log_a = _propose(axes[0], rng, 4 * num_samples)
        pair_y, log_b = _propose(axes[1], rng, 4 * num_samples)
        proposal = np.stack([pair_x[:, 0], pair_y[:, 0], pair_x[:, 1], pair_y[:, 1]], 1)
        fixed = np.broadcast_to(others[:1], (len(proposal), others.shape[1]))
        theta = np.concatenate([proposal, fixed], axis=1)
        # A draw next to the edge may round outside in float32: it has the edge's
        # density.
        density = np.asarray(prior.log_prob(_nudged(prior, theta)), np.float64)
        weight = density + _total_term(simulator, total, log_a + log_b)
        bound = max(bound, weight.max())
        # Kept: log u < weight - bound, stored as weight - log u > bound.
        score = weight + rng.exponential(size=weight.size)
        kept = np.concatenate([kept, proposal])
        log_uniform = np.concatenate([log_uniform, score])
        alive = log_uniform > bound
        kept, log_uniform = kept[alive], log_uniform[alive]
        if len(kept) >= num_samples:
            return kept[:num_samples]
    return fail("prior", "that agrees with the observation", "almost no overlap")


def _nudged(prior: Prior, theta: np.ndarray) -> np.ndarray:
    """Return theta in float32, moved inside the prior's edges."""
    low = np.nextafter(prior.low.astype(np.float32), np.float32(np.inf))
    high = np.nextafter(prior.high.astype(np.float32), np.float32(-np.inf))
    return np.clip(theta.astype(np.float32), low, high)
