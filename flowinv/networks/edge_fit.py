"""The edge fitted: what a knife-edge scan says about its parameters, as features.

Differences of a step scan drown in noise, and a network that reads the whole curve has
to learn the fit first. So the fit is solved: damped Fisher scoring on the scan's own
model, weighted by its counting noise, to the most likely parameters and their errors.
Widths and the amplitude are fitted by their logarithms, which keeps them positive.

A start is found by matched filters: among templates on a grid of places and widths the
nearest one, with the amplitude and background that suit it best.

Sums over exposures do not mind their order or number: the fit of a scan at any
positions (`AnyScan`) is an embedding of a set.

References:
    Fisher scoring: Osborne 1992, doi:10.2307/1403504.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import finite_float32
from flowinv.simulators.any_scan import AnyScan
from flowinv.simulators.knife_edge import Exposures, StepScan
from flowinv.types import Placed

__all__ = ["EdgeFit"]

# At any positions many scans hold no edge, or half of one: they take longer.
STEPS, STEPS_ANYWHERE = 6, 12
# Nats that a step may lose; factors on the damping of steps after a good and a bad one,
# and what a bad one adds.
SLACK, LESS, MORE, DAMPING = 0.5, 0.2, 4.0, 0.3
# In half ranges of the prior: a step, any estimate, and the sd of a prior that only
# holds what the scan does not determine.
LONGEST, FARTHEST, LOOSE = 0.5, 1.5, 3.0
PLACES, WIDTHS = 32, 8  # of the templates
LEAST_VARIANCE = 0.5  # counts^2: a place in the dark has no infinite weight
LEAST_RATIO = 1e-3  # of the edges of a range whose logarithm is taken
# Scans at once, and numbers of their templates where each has its own.
AT_ONCE, MOST_NUMBERS = 512, 2**24


@dataclass(frozen=True)
class EdgeFit:
    """Estimate, log errors and misfit of a scan, as a summary of an estimator.

    Attributes:
        scan: model of the scans, at its own positions or at any.
        low: lower edges of the prior's range, `[D]`.
        high: upper edges, `[D]`.
    """

    scan: StepScan | AnyScan
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __call__(self, x: ArrayLike) -> Array:
        """Fit scans.

        Args:
            x: raw scans, `[..., *x_shape]`.

        Returns:
            Estimates and log errors in half ranges of the prior (of the logarithm for
            widths and amplitude), and log chi2 a point, `[..., 2 D + 1]`. At any
            positions also the first and the last place of each axis, and the logs of
            the number and of the mean light of its exposures.
        """
        x = jnp.asarray(finite_float32("x", x))
        shape = self.scan.x_shape
        rows = x.reshape(-1, *shape)
        at_once = AT_ONCE
        if isinstance(self.scan, AnyScan):
            own = MOST_NUMBERS // (PLACES * WIDTHS * self.scan.most)
            at_once = min(AT_ONCE, max(1, own))
        found = jax.lax.map(self._features, rows, batch_size=at_once)
        return found.reshape(*x.shape[: x.ndim - len(shape)], found.shape[-1])

    def estimate(self, values: Array) -> Placed:
        """Return theta and the log of its error from what a call returned, `[..., D]`.

        Both without the prior: an estimate may lie beyond its edges.
        """
        dim = self._model.dim
        v, log_sd = values[..., :dim], values[..., dim : 2 * dim]
        theta, slope = self._theta(v)
        return Placed(theta, log_sd + jnp.log(slope))

    @property
    def _model(self) -> StepScan:
        return self.scan.scan if isinstance(self.scan, AnyScan) else self.scan

    @property
    def _logs(self) -> np.ndarray:
        """Parameters whose logarithm is fitted, `[D]`."""
        names = self._model.names
        return np.array([n.startswith("std") or n == "amplitude" for n in names])

    @functools.cached_property
    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half width of the range of what is fitted, `[D]`."""
        low, high = np.array(self.low), np.array(self.high)
        safe = np.maximum(low, LEAST_RATIO * high)
        low = np.where(self._logs, np.log(np.where(self._logs, safe, 1.0)), low)
        high = np.where(self._logs, np.log(np.where(self._logs, high, 1.0)), high)
        return 0.5 * (low + high), 0.5 * (high - low)

    def _theta(self, v: Array) -> tuple[Array, Array]:
        """Theta and its derivative by v, `[..., D]`."""
        middle, half = (jnp.asarray(a, jnp.float32) for a in self._range)
        linear = middle + half * v
        theta = jnp.where(self._logs, jnp.exp(jnp.where(self._logs, linear, 0)), linear)
        return theta, half * jnp.where(self._logs, theta, 1.0)

    @functools.cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Templates: v of an axis `[G, 2]`, and places and widths of each `[A, G]`."""
        cells = [2.0 * (np.arange(n) + 0.5) / n - 1.0 for n in (PLACES, WIDTHS)]
        grid = np.stack(np.meshgrid(*cells, indexing="ij"), -1).reshape(-1, 2)
        count = self._model.num_axes
        middle, half = (a[: 2 * count, None] for a in self._range)
        places, widths = np.split(middle + half * np.repeat(grid.T, count, 0), 2)
        return grid, places, np.hypot(np.exp(widths), self._model.jitter)

    def _templates(
        self, ndtr: Callable[[Any], Any], exposures: Exposures, axis: int
    ) -> Any:
        """Counts `[G, P]` of an axis for the whole beam, by numpy or jax.numpy."""
        own = exposures.axis == axis
        place, sign, factor = (a[own] for a in exposures[1:])
        _, places, widths = self._grid
        scaled = (place - places[axis][:, None]) / widths[axis][:, None]
        return ndtr(sign * scaled) * factor * self._model.num_photons

    @functools.cached_property
    def _fixed_templates(self) -> list[np.ndarray]:
        """Templates of a scan at its own positions."""
        from scipy.special import ndtr

        scan = self._model
        every = range(scan.num_axes)
        return [self._templates(ndtr, scan.exposures, axis) for axis in every]

    def _start(self, exposures: Exposures, counts: Array) -> Array:
        """Return v `[D]` of the templates that are nearest to the counts `[L]`.

        With amplitude and background that suit each best, in the prior's range.
        """
        scan, grid = self._model, jnp.asarray(self._grid[0], jnp.float32)
        v = jnp.zeros(scan.dim, jnp.float32)
        found = []
        for axis in range(scan.num_axes):
            own = exposures.axis == axis
            if isinstance(self.scan, AnyScan):
                ndtr = jax.scipy.special.ndtr
                templates = self._templates(ndtr, exposures, axis)
            else:
                templates = jnp.asarray(self._fixed_templates[axis], jnp.float32)
            there = jnp.asarray(exposures.factor[own] > 0, jnp.float32)
            best, light, dark = self._nearest(templates, there, counts[own])
            v = v.at[jnp.array([axis, scan.num_axes + axis])].set(grid[best])
            found.append(jnp.stack([light, dark]))
        light, dark = sum(found) / len(found)
        middle, half = (jnp.asarray(a, jnp.float32) for a in self._range)
        if scan.fit_amplitude:
            at = 2 * scan.num_axes
            v = v.at[at].set((jnp.log(light) - middle[at]) / half[at])
        if scan.fit_background:
            v = v.at[-1].set((dark - middle[-1]) / half[-1])
        return v

    def _nearest(
        self, templates: Array, there: Array, counts: Array
    ) -> tuple[Array, Array, Array]:
        """Number of the nearest template `[G, P]`, its amplitude and background."""
        scan = self._model
        noise = 1.0 + scan.read_noise**2
        weight = there / (jnp.maximum(counts, 0.0) + noise)
        weighted = weight * counts
        square, cross = templates**2 @ weight, templates @ weighted
        first, total = templates @ weight, weight.sum()
        light, dark = jnp.ones_like(first), jnp.full_like(first, scan.background)
        at = 2 * scan.num_axes
        if scan.fit_amplitude and scan.fit_background:
            inner = square * total - first**2
            light = cross * total - first * weighted.sum()
            light = light / jnp.maximum(inner, 1e-6 * square * total + 1e-30)
        elif scan.fit_amplitude:
            light = (cross - scan.background * first) / jnp.maximum(square, 1e-30)
        if scan.fit_amplitude:
            least = max(self.low[at], LEAST_RATIO * self.high[at])
            light = jnp.clip(light, least, self.high[at])
        if scan.fit_background:
            dark = (weighted.sum() - light * first) / jnp.maximum(total, 1e-30)
            dark = jnp.clip(dark, self.low[-1], self.high[-1])
        chi2 = light**2 * square + 2 * light * (dark * first - cross)
        chi2 = chi2 + dark**2 * total - 2 * dark * weighted.sum()
        best = chi2.argmin()
        return best, light[best], dark[best]

    def _features(self, x: Array) -> Array:
        exposures, counts = self.scan.read(x)
        found = self._fit(exposures, counts)
        if not isinstance(self.scan, AnyScan):
            return found
        there = x[..., 2] > 0
        size = there.sum(-1)
        ends = [jnp.where(there, sign * x[..., 0], -2.0).max(-1) for sign in (-1, 1)]
        light = jnp.log(x[..., 2].sum(-1) / size)
        return jnp.concatenate([found, *ends, jnp.log(size), light])

    def _fit(self, exposures: Exposures, counts: Array) -> Array:
        scan, axis = self._model, exposures.axis
        on = jnp.asarray(axis[:, None] == np.arange(scan.num_axes), jnp.float32)
        loose = jnp.eye(scan.dim, dtype=jnp.float32) / LOOSE**2
        there = jnp.asarray(exposures.factor > 0, jnp.float32)
        ones = jnp.ones((len(counts), 1), jnp.float32)

        def scored(v: Array) -> _Scored:
            theta, by_v = self._theta(v)
            curve = scan.curve(theta, jitter=scan.jitter, exposures=exposures)
            columns = [curve.by_place[:, None] * on, curve.by_width[:, None] * on]
            columns += [curve.passed[:, None]] * scan.fit_amplitude
            columns += [ones] * scan.fit_background
            slopes = jnp.concatenate(columns, 1) * by_v
            moved = (scan.jitter * curve.by_place) ** 2
            variance = jnp.maximum(curve.rate + moved, LEAST_VARIANCE)
            variance = variance + scan.read_noise**2
            residual = counts - curve.rate
            weight = there / variance
            weighted = slopes * weight[:, None]
            # Of a quasi-likelihood whose variance grows with the rate: the loss has
            # this gradient. As a deviance it keeps its digits.
            seen = jnp.maximum(variance + residual, LEAST_VARIANCE)
            excess = (variance - seen) / seen
            loss = (there * seen * (excess - jnp.log1p(excess))).sum()
            return _Scored(
                residual @ weighted - loose @ v,
                slopes.T @ weighted + loose,
                loss + 0.5 * v @ loose @ v,
                (residual**2 * weight).sum() / there.sum(),
            )

        def step(state: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], None]:
            v, own, damping = state
            damped = own.information * (1.0 + damping * eye)
            move = jnp.linalg.solve(damped, own.gradient)
            trial = v + jnp.clip(move, -LONGEST, LONGEST)
            trial = jnp.clip(trial, -FARTHEST, FARTHEST)
            new = scored(trial)
            good = new.loss < own.loss + SLACK
            kept = jax.tree.map(
                lambda a, b: jnp.where(good, a, b), (trial, new), (v, own)
            )
            damping = jnp.where(good, damping * LESS, damping * MORE + DAMPING)
            return (*kept, damping), None

        eye = jnp.eye(scan.dim, dtype=jnp.float32)
        v = self._start(exposures, counts)
        state = (v, scored(v), jnp.float32(0.0))
        steps = STEPS_ANYWHERE if isinstance(self.scan, AnyScan) else STEPS
        (v, found, _), _ = jax.lax.scan(step, state, None, length=steps)
        log_sd = 0.5 * jnp.log(jnp.diagonal(jnp.linalg.inv(found.information)))
        return jnp.concatenate([v, log_sd, jnp.log(found.chi2 + 1e-6)[None]])


class _Scored(NamedTuple):
    """How well a scan is described.

    Attributes:
        gradient: of the log-likelihood, `[D]`.
        information: of the parameters, `[D, D]`.
        loss: that is smaller for better ones.
        chi2: a point.
    """

    gradient: Array
    information: Array
    loss: Array
    chi2: Array
