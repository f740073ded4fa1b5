"""The edge fitted: what a knife-edge scan says about its parameters, as features.

Differences of a step scan drown in noise, and a network that reads the whole curve has
to learn the fit first. So the fit is solved: Fisher scoring on the scan's own model,
weighted by its counting noise, to the most likely parameters and their errors. Widths
and the amplitude are fitted by their logarithms, which keeps them positive.

A start is found by matched filters: among templates on a grid of places and widths the
one with the largest projection, whatever amplitude (and background) it takes.

References:
    Fisher scoring: Osborne 1992, doi:10.2307/1403504.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import finite_float32
from flowinv.simulators.knife_edge import StepScan
from flowinv.types import Placed

__all__ = ["EdgeFit"]

STEPS = 6
# In half ranges of the prior: a step, any estimate, and the sd of a prior that only
# holds what the scan does not determine.
LONGEST, FARTHEST, LOOSE = 0.5, 1.5, 3.0
PLACES, WIDTHS = 32, 8  # of the templates
LEAST_VARIANCE = 0.5  # counts^2: a place in the dark has no infinite weight
LEAST_RATIO = 1e-3  # of the edges of a range whose logarithm is taken
AT_ONCE = 512  # scans


@dataclass(frozen=True)
class EdgeFit:
    """Estimate, log errors and misfit of a scan, as a summary of an estimator.

    Attributes:
        scan: model of the scans.
        low: lower edges of the prior's range, `[D]`.
        high: upper edges, `[D]`.
    """

    scan: StepScan
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __call__(self, x: ArrayLike) -> Array:
        """Fit scans.

        Args:
            x: raw scans, `[..., L]`.

        Returns:
            Estimates and log errors in half ranges of the prior (of the logarithm for
            widths and amplitude), and log chi2 a point, `[..., 2 D + 1]`.
        """
        x = jnp.asarray(finite_float32("x", x))
        rows = x.reshape(-1, x.shape[-1]) / self.scan.per_count
        found = jax.lax.map(self._fit, rows, batch_size=AT_ONCE)
        return found.reshape(*x.shape[:-1], found.shape[-1])

    def estimate(self, values: Array) -> Placed:
        """Return theta and the log of its error from what a call returned, `[..., D]`.

        Both without the prior: an estimate may lie beyond its edges.
        """
        dim = self.scan.dim
        v, log_sd = values[..., :dim], values[..., dim : 2 * dim]
        theta, slope = self._theta(v)
        return Placed(theta, log_sd + jnp.log(slope))

    @property
    def _logs(self) -> np.ndarray:
        """Parameters whose logarithm is fitted, `[D]`."""
        names = self.scan.names
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
    def _templates(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each axis: v of places and widths `[G, 2]`, bases `[G, k, P]`."""
        from scipy.special import ndtr

        count, templates = self.scan.num_axes, []
        cells = [2.0 * (np.arange(n) + 0.5) / n - 1.0 for n in (PLACES, WIDTHS)]
        grid = np.stack(np.meshgrid(*cells, indexing="ij"), -1).reshape(-1, 2)
        middle, half = self._range
        for axis, positions in enumerate(self.scan.positions):
            own, pair = self.scan.axes[axis], [axis, count + axis]
            place, width = (middle[pair] + half[pair] * grid).T
            width = np.hypot(np.exp(width), self.scan.jitter)
            scaled = (positions - place[:, None]) / width[:, None]
            curves = ndtr(-scaled if own.falling else scaled)
            basis = [curves * (np.array(own.monitor) if own.monitor else 1.0)]
            if self.scan.fit_background:
                basis.append(np.ones_like(curves))
            ortho = np.linalg.qr(np.stack(basis, -1))[0]
            templates.append((grid, np.swapaxes(ortho, 1, 2)))
        return templates

    def _start(self, x: Array) -> Array:
        """Return v `[D]` of the templates that explain most of x `[L]`."""
        count = self.scan.num_axes
        v, first = jnp.zeros(self.scan.dim, jnp.float32), 0
        fixed = 0.0 if self.scan.fit_background else self.scan.background
        for axis, (places, bases) in enumerate(self._templates):
            own = x[first : first + bases.shape[-1]] - fixed
            first += bases.shape[-1]
            explained = ((jnp.asarray(bases, jnp.float32) @ own) ** 2).sum(-1)
            best = jnp.asarray(places, jnp.float32)[explained.argmax()]
            v = v.at[jnp.array([axis, count + axis])].set(best)
        return v

    def _fit(self, x: Array) -> Array:
        scan = self.scan
        axis = np.repeat(np.arange(scan.num_axes), [len(p) for p in scan.positions])
        on = jnp.asarray(axis[:, None] == np.arange(scan.num_axes), jnp.float32)
        loose = jnp.eye(scan.dim, dtype=jnp.float32) / LOOSE**2

        def scored(v: Array) -> tuple[Array, Array, Array]:
            """Gradient and information of the log-likelihood, and chi2 a point."""
            theta, by_v = self._theta(v)
            curve = scan.curve(theta, jitter=scan.jitter)
            columns = [curve.by_place[:, None] * on, curve.by_width[:, None] * on]
            columns += [curve.passed[:, None]] * scan.fit_amplitude
            columns += [jnp.ones((len(x), 1), jnp.float32)] * scan.fit_background
            slopes = jnp.concatenate(columns, 1) * by_v
            moved = (scan.jitter * curve.by_place) ** 2
            variance = jnp.maximum(curve.rate + moved, LEAST_VARIANCE)
            variance = variance + scan.read_noise**2
            residual = x - curve.rate
            weighted = slopes / variance[:, None]
            chi2 = (residual**2 / variance).mean()
            return residual @ weighted - loose @ v, slopes.T @ weighted + loose, chi2

        def step(v: Array, _: None) -> tuple[Array, None]:
            gradient, information, _ = scored(v)
            move = jnp.linalg.solve(information, gradient)
            v = v + jnp.clip(move, -LONGEST, LONGEST)
            return jnp.clip(v, -FARTHEST, FARTHEST), None

        v = jax.lax.scan(step, self._start(x), None, length=STEPS)[0]
        _, information, chi2 = scored(v)
        log_sd = 0.5 * jnp.log(jnp.diagonal(jnp.linalg.inv(information)))
        return jnp.concatenate([v, log_sd, jnp.log(chi2 + 1e-6)[None]])
