"""Knife-edge scans at any positions: x holds where the knife stood, not the model.

Every scan has its own number of exposures, places and light, drawn independently of
theta: windows of a fifth to all of the instrument's range, even steps or not, finer in
one part than in another, a third to three times its light, with or without a monitor
that varies. A network that has seen such scans answers every scan of the instrument.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_shape, fail
from flowinv.simulators.knife_edge import (
    LEAST_POINTS,
    MOST_POINTS,
    EdgeAxis,
    Exposures,
    StepScan,
)

__all__ = ["AnyScan"]

# Position, signal, exposure of a row.
ROW = 3
# Of the range that is scanned, of the light of an exposure, and of the sd of a monitor.
LEAST_WINDOW, MOST_LIGHT, MOST_MONITOR = 0.2, 3.0, 0.2
# Steps are finer by up to 1 + and 1 - of this.
WARP = 0.9


@dataclasses.dataclass(frozen=True)
class AnyScan:
    """Scans of an instrument at positions that x itself holds.

    x `[A, P, 3]` has a row (position, signal, exposure) for each of at most P exposures
    along each axis, in any order: the position in half ranges from the middle of the
    instrument's range, the signal in its units, the exposure (with the monitor)
    relative to the instrument's. Rows beyond a scan's own are 0.

    Attributes:
        scan: light, noise and parameters; the ends of its axes are the range.
        most: P, the largest number of exposures along an axis.
    """

    scan: StepScan
    most: int

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: too few or too many positions, or a beam that drifts.
        """
        if not LEAST_POINTS <= self.most <= MOST_POINTS:
            expected = f"from {LEAST_POINTS} to {MOST_POINTS}"
            fail("most positions of an axis", expected, self.most)
        if self.scan.drift:
            remedy = "Hand the drift in as a monitor."
            fail("drift with any positions", "to be 0", self.scan.drift, remedy)

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Shape of one observation, `(A, P, 3)`."""
        return (self.scan.num_axes, self.most, ROW)

    @property
    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half width of the range of each axis, `[A]`."""
        ends = np.array([[own.min(), own.max()] for own in self.scan.positions])
        return ends.mean(1), 0.5 * (ends[:, 1] - ends[:, 0])

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw where the knife stands, and what is seen there, float32 `[A, P, 3]`.

        Args:
            key: typed key.
            theta: parameters with shape `[D]`, as those of `scan`.

        Raises:
            ValueError: if theta has not D entries.
        """
        theta = jnp.asarray(theta, jnp.float32)
        check_shape("theta", theta.shape, (self.scan.dim,))
        key_design, key_counts = jax.random.split(key)
        keys = jax.random.split(key_design, self.scan.num_axes)
        place, factor = jax.vmap(self._design)(keys)
        x = jnp.stack([place, jnp.zeros_like(place), factor], -1)
        return self.again(key_counts, theta, x)

    def again(self, key: Array, theta: ArrayLike, x: ArrayLike) -> Array:
        """Draw what is seen where the knife stands in x, float32 `[A, P, 3]`.

        Args:
            key: typed key.
            theta: parameters with shape `[D]`.
            x: an observation, `[A, P, 3]`; its signal is not read.
        """
        x = jnp.asarray(x, jnp.float32)
        factor, (exposures, _) = x[..., 2], self.read(x)
        theta = jnp.asarray(theta, jnp.float32)
        counts = self.scan.counts(key, theta, exposures)
        seen = jnp.where(factor > 0, counts.reshape(factor.shape), 0.0)
        return x.at[..., 1].set(seen * self.scan.per_count)

    def _design(self, key: Array) -> tuple[Array, Array]:
        """Places and exposures of an axis, `[P]`."""
        keys = jax.random.split(key, 5)
        least = min(2 * LEAST_POINTS, self.most)
        u = jax.random.uniform(keys[0], (8,))
        spread = math.log((self.most + 1) / least)
        size = jnp.minimum(jnp.floor(least * jnp.exp(spread * u[0])), self.most)
        index = jnp.arange(self.most)
        # Half of the scans have even steps; the others up to a whole one off.
        uneven = jnp.maximum(2 * u[1] - 1, 0.0)
        off = uneven * (jax.random.uniform(keys[1], index.shape) - 0.5)
        inner = (index > 0) & (index < size - 1)
        t = (index + off * inner) / (size - 1)
        warp = WARP * jnp.maximum(2 * u[2] - 1, 0.0)
        turn = 2 * math.pi
        t = t + warp * (jnp.sin(turn * (t + u[3])) - jnp.sin(turn * u[3])) / turn
        # And half of them are of the whole range: edges are looked for.
        share = jnp.exp(math.log(LEAST_WINDOW) * jnp.maximum(2 * u[4] - 1, 0.0))
        place = -1.0 + 2 * ((1 - share) * u[5] + share * t)
        light = jnp.exp(math.log(MOST_LIGHT) * (2 * u[6] - 1))
        varies = MOST_MONITOR * jnp.maximum(2 * u[7] - 1, 0.0)
        factor = light * jnp.exp(varies * jax.random.normal(keys[2], index.shape))
        there = index < size
        return jnp.where(there, place, 0.0), jnp.where(there, factor, 0.0)

    def read(self, x: Array) -> tuple[Exposures, Array]:
        """What was exposed, and the counts, of one observation, `[A P]` each."""
        middle, half = (jnp.asarray(a, jnp.float32)[:, None] for a in self.window)
        axis = np.repeat(np.arange(self.scan.num_axes), self.most)
        sign = np.array([-1.0 if own.falling else 1.0 for own in self.scan.axes])
        place = (middle + half * x[..., 0]).ravel()
        exposures = Exposures(axis, place, sign[axis], x[..., 2].ravel())
        return exposures, x[..., 1].ravel() / self.scan.per_count

    def at(self, x: np.ndarray) -> tuple[StepScan, np.ndarray]:
        """The scan at the places of one observation, and its signal there.

        Args:
            x: one observation, `[A, P, 3]`.

        Returns:
            The step scan, and the signal of all axes one after the other, `[L]`.
        """
        axes, signal = [], []
        rows = zip(self.scan.axes, np.asarray(x, np.float64), *self.window, strict=True)
        for own, row, middle, half in rows:
            row = row[row[:, 2] > 0]
            row = row[np.argsort(row[:, 0])]
            places, factor = middle + half * row[:, 0], row[:, 2]
            there = tuple(places.tolist()), tuple(factor.tolist())
            axes.append(EdgeAxis(own.name, *there, own.falling))
            signal.append(row[:, 1])
        own = dataclasses.replace(self.scan, axes=tuple(axes))
        return own, np.concatenate(signal).astype(np.float32)
