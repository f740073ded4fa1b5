"""The edge fitted: what a knife-edge scan says about its parameters, as features.

Differences of a step scan drown in noise, and a network that reads the whole curve has
to learn the fit first. So the fit is solved: Fisher scoring on the scan's own model,
weighted by its counting noise, to the most likely parameters and their errors. Widths
and the amplitude are fitted by their logarithms, which keeps them positive.

A start is found by matched filters: among templates on a grid of places and widths the
one with the largest projection, whatever amplitude (and background) it takes.

Sums over exposures do not mind their order or number: the fit of a scan at any
positions (`AnyScan`) is an embedding of a set.

References:
    Fisher scoring: Osborne 1992, doi:10.2307/1403504.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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

STEPS = 6
# In half ranges of the prior: a step, any estimate, and the sd of a prior that only
# holds what the scan does not determine.
LONGEST, FARTHEST, LOOSE = 0.5, 1.5, 3.0
PLACES, WIDTHS = 32, 8  # of the templates
LEAST_VARIANCE = 0.5  # counts^2: a place in the dark has no infinite weight
LEAST_RATIO = 1e-3  # of the edges of a range whose logarithm is taken
LEAST_TEMPLATE = 1e-2  # squared norm; smaller ones see no edge
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

    def _bases(
        self, xp: Any, ndtr: Callable[[Any], Any], exposures: Exposures, axis: int
    ) -> Any:
        """Templates `[G, P]` of an axis, of norm 1, by numpy or jax.numpy."""
        own = exposures.axis == axis
        place, sign, factor = (a[own] for a in exposures[1:])
        _, places, widths = self._grid
        scaled = (place - places[axis][:, None]) / widths[axis][:, None]
        there = factor > 0
        curves = ndtr(sign * scaled) * factor
        if self._model.fit_background:
            # Whatever the background is: templates have no mean.
            mean = curves.sum(-1, keepdims=True) / there.sum()
            curves = xp.where(there, curves - mean, 0.0)
        norms = xp.maximum((curves**2).sum(-1, keepdims=True), LEAST_TEMPLATE)
        return curves / xp.sqrt(norms)

    @functools.cached_property
    def _fixed_bases(self) -> list[np.ndarray]:
        """Templates of a scan at its own positions."""
        from scipy.special import ndtr

        scan = self._model
        every = range(scan.num_axes)
        return [self._bases(np, ndtr, scan.exposures, axis) for axis in every]

    def _start(self, exposures: Exposures, counts: Array) -> Array:
        """Return v `[D]` of the templates that explain most of the counts `[L]`."""
        scan, grid = self._model, jnp.asarray(self._grid[0], jnp.float32)
        v = jnp.zeros(scan.dim, jnp.float32)
        fixed = 0.0 if scan.fit_background else scan.background
        for axis in range(scan.num_axes):
            if isinstance(self.scan, AnyScan):
                ndtr = jax.scipy.special.ndtr
                bases = self._bases(jnp, ndtr, exposures, axis)
            else:
                bases = jnp.asarray(self._fixed_bases[axis], jnp.float32)
            own = counts[exposures.axis == axis] - fixed
            best = grid[((bases @ own) ** 2).argmax()]
            v = v.at[jnp.array([axis, scan.num_axes + axis])].set(best)
        return v

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

        def scored(v: Array) -> tuple[Array, Array, Array]:
            """Gradient and information of the log-likelihood, and chi2 a point."""
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
            chi2 = (residual**2 * weight).sum() / there.sum()
            return residual @ weighted - loose @ v, slopes.T @ weighted + loose, chi2

        def step(v: Array, _: None) -> tuple[Array, None]:
            gradient, information, _ = scored(v)
            move = jnp.linalg.solve(information, gradient)
            v = v + jnp.clip(move, -LONGEST, LONGEST)
            return jnp.clip(v, -FARTHEST, FARTHEST), None

        start = self._start(exposures, counts)
        v = jax.lax.scan(step, start, None, length=STEPS)[0]
        _, information, chi2 = scored(v)
        log_sd = 0.5 * jnp.log(jnp.diagonal(jnp.linalg.inv(information)))
        return jnp.concatenate([v, log_sd, jnp.log(chi2 + 1e-6)[None]])
