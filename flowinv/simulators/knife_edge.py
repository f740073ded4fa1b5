"""A knife-edge step scan: every knife position is exposed on its own.

For the knife at u_k, the k-th of P positions of an axis, at time t_k = k / (P - 1) of
its scan, with the monitor's factor m_k,

    I_k ~ Poisson(N0 m_k K(u_k + jitter_k) (1 + drift t_k) + background) + read noise,
    K(u) = Phi(+-(u - mean) / std), jitter_k ~ N(0, jitter^2),
    read noise ~ N(0, read_noise^2),

with the lower sign for a knife that moves in, whose curve falls. The counts of two
positions are independent given theta. This is not the cumulative sum of one histogram
(`BeamProfile(observable="knife_edge")`), whose noise adds up along the curve. Axes are
scanned one after the other, independently, each with its own time.

theta = (mean_x, mean_y, std_x, std_y[, amplitude][, background]) for two axes called x
and y, (mean, std, ...) for one: lengths in the unit of the positions, the amplitude as
a factor on N0, the background in counts per exposure, both common to all axes.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_positive, check_shape, fail
from flowinv.simulators.counts import open_uniforms, poisson_quantile
from flowinv.simulators.exposure import log_poisson, log_with_read_noise, over_jitter
from flowinv.simulators.spot import lattice

__all__ = ["EdgeAxis", "EdgeCurve", "Exposures", "StepScan", "lattice_axes"]

LEAST_POINTS, MOST_POINTS = 5, 2_000


@dataclasses.dataclass(frozen=True)
class EdgeAxis:
    """Where the knife stood along one axis, in the order of the exposures.

    Attributes:
        name: of the axis, "" where there is one only.
        positions: places of the knife, any unit, not necessarily even, `[P]`.
        monitor: beam of each exposure relative to N0, `[P]`; () for 1 everywhere.
        falling: the knife moves in: counts fall where positions rise.
    """

    name: str
    positions: tuple[float, ...]
    monitor: tuple[float, ...] = ()
    falling: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: too few or too many positions, two that are the same, numbers
                that are not finite, or a monitor that is not above 0.
        """
        count = len(self.positions)
        if not LEAST_POINTS <= count <= MOST_POINTS:
            fail("positions", f"to be {LEAST_POINTS} to {MOST_POINTS} of them", count)
        if not all(map(math.isfinite, self.positions)):
            fail("positions", "to be finite", "NaN or infinity")
        if len(set(self.positions)) < count:
            remedy = "Take the mean of exposures at one place."
            fail("positions", "to differ", "some twice", remedy)
        if len(self.monitor) not in (0, count):
            fail("monitor", f"with {count} numbers, one a position", len(self.monitor))
        for value in self.monitor:
            if not (math.isfinite(value) and value > 0):
                fail("monitor", "above 0", value)


def lattice_axes(num_points: int) -> tuple[EdgeAxis, EdgeAxis]:
    """Two axes on the beam profile's grid of 0..100, with 100 or 200 points.

    Raises:
        ValueError: for another number of points.
    """
    positions = tuple(lattice(num_points).tolist())
    return EdgeAxis("x", positions), EdgeAxis("y", positions)


class Exposures(NamedTuple):
    """What is known of each exposure before it is made, all `[L]`.

    Attributes:
        axis: number of the axis, from 0.
        place: of the knife.
        sign: 1 where light comes with rising places, -1 where it goes.
        factor: on N0: monitor, exposure and drift; 0 where there was no exposure.
    """

    axis: ArrayLike
    place: ArrayLike
    sign: ArrayLike
    factor: ArrayLike


class EdgeCurve(NamedTuple):
    """What theta predicts for every exposure, and its derivatives by theta.

    Attributes:
        rate: expected counts, `[L]`.
        by_place: derivative by the place of the edge, `[L]`.
        by_width: derivative by the width of the edge, `[L]`.
        passed: derivative by the amplitude, `[L]`.
    """

    rate: Array
    by_place: Array
    by_width: Array
    passed: Array


@dataclasses.dataclass(frozen=True)
class StepScan:
    """Knife-edge scans of a normal spot along one or two axes, in counts per exposure.

    Attributes:
        axes: one or two, of any positions.
        num_photons: N0, counts per exposure of the whole beam.
        background: counts per exposure with the beam blocked.
        drift: relative change of the beam's intensity from first to last exposure.
        jitter: standard deviation of the knife's position, in the positions' unit.
        read_noise: standard deviation of the detector's noise, counts.
        fit_amplitude: theta has an amplitude that multiplies `num_photons`.
        fit_background: theta has a background instead of the fixed one.
        unit: of the positions.
        per_count: units of x for one count; 1 where x are counts.
    """

    axes: tuple[EdgeAxis, ...] = lattice_axes(200)
    num_photons: float = 4096.0
    background: float = 0.0
    drift: float = 0.0
    jitter: float = 0.0
    read_noise: float = 0.0
    fit_amplitude: bool = False
    fit_background: bool = False
    unit: str = "grid"
    per_count: float = 1.0

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: for another number of axes or a number out of its range.
        """
        if len(self.axes) not in (1, 2):
            fail("axes", "to be one or two", len(self.axes))
        check_positive("num_photons", self.num_photons)
        check_positive("per_count", self.per_count)
        for name in ("background", "jitter", "read_noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                fail(name, "of at least 0", value)
        if not (math.isfinite(self.drift) and self.drift > -1):
            fail("drift", "above -1 (the beam is gone at -1)", self.drift)

    @property
    def positions(self) -> tuple[np.ndarray, ...]:
        """Where the values of x belong: the knife's places of each axis, float64."""
        return tuple(np.array(axis.positions) for axis in self.axes)

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(L,)`: the axes one after the other."""
        return (sum(len(axis.positions) for axis in self.axes),)

    @property
    def num_axes(self) -> int:
        """Number of axes A; theta begins with A means and A stds."""
        return len(self.axes)

    @property
    def dim(self) -> int:
        """Number of parameters D."""
        return 2 * self.num_axes + int(self.fit_amplitude) + int(self.fit_background)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""
        amplitude = ("amplitude",) if self.fit_amplitude else ()
        background = ("background",) if self.fit_background else ()
        ends = [f"_{axis.name}" if axis.name else "" for axis in self.axes]
        lengths = [f"{name}{end}" for name in ("mean", "std") for end in ends]
        return (*lengths, *amplitude, *background)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the parameters, in the order of theta."""
        amplitude = ("",) if self.fit_amplitude else ()
        background = ("counts",) if self.fit_background else ()
        return (self.unit,) * (2 * self.num_axes) + amplitude + background

    @property
    def observable(self) -> str:
        """How a classical fit reads x: "knife_edge"."""
        return "knife_edge"

    @functools.cached_property
    def exposures(self) -> Exposures:
        """Every exposure of a scan, numpy `[L]`."""
        counts = [len(axis.positions) for axis in self.axes]
        axis = np.repeat(np.arange(self.num_axes), counts)
        place = np.concatenate(self.positions)
        sign = np.repeat([-1.0 if axis.falling else 1.0 for axis in self.axes], counts)
        time = np.concatenate([np.linspace(0.0, 1.0, count) for count in counts])
        monitor = np.concatenate(
            [a.monitor or np.ones(len(a.positions)) for a in self.axes]
        )
        return Exposures(axis, place, sign, monitor * (1.0 + self.drift * time))

    def read(self, x: Array) -> tuple[Exposures, Array]:
        """What was exposed, and the counts `[L]`, of one observation."""
        return self.exposures, x / self.per_count

    def curve(
        self,
        theta: Array,
        offset: ArrayLike = 0.0,
        jitter: float = 0.0,
        exposures: Exposures | None = None,
    ) -> EdgeCurve:
        """Return the expected counts and their derivatives.

        Args:
            theta: parameters with shape `[D]`.
            offset: of the knife from its positions, broadcasts with `[L]`.
            jitter: sd of the knife's place that is averaged over: a wider edge.
            exposures: others than this scan's.
        """
        axis, *rest = self.exposures if exposures is None else exposures
        place, sign, factor = (jnp.asarray(a, theta.dtype) for a in rest)
        amplitude = theta[2 * self.num_axes] if self.fit_amplitude else 1.0
        background = theta[-1] if self.fit_background else self.background
        std = theta[self.num_axes : 2 * self.num_axes][axis]
        width = jnp.sqrt(std**2 + jitter**2) if jitter else std
        scaled = (place + offset - theta[: self.num_axes][axis]) / width
        full = self.num_photons * factor
        passed = full * jax.scipy.special.ndtr(sign * scaled)
        density = full * amplitude * jnp.exp(-0.5 * scaled**2) / math.sqrt(2 * math.pi)
        by_place = -sign * density / width
        return EdgeCurve(
            amplitude * passed + background,
            by_place,
            by_place * scaled * (std / width),
            passed,
        )

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw one observation.

        Args:
            key: typed key.
            theta: parameters with shape `[D]`, see the module's text.

        Returns:
            Counts times `per_count`, float32 `[L]`: the scans of the axes one after the
            other. With read noise counts are no whole numbers and may be negative.

        Raises:
            ValueError: if theta has not D entries.
        """
        theta = jnp.asarray(theta, jnp.float32)
        check_shape("theta", theta.shape, (self.dim,))
        return self.counts(key, theta, self.exposures) * self.per_count

    def counts(self, key: Array, theta: Array, exposures: Exposures) -> Array:
        """Draw the counts of any exposures, float32 `[L]`."""
        shape = jnp.shape(exposures.place)
        key_counts, key_jitter, key_read = jax.random.split(key, 3)
        offset = 0.0
        if self.jitter > 0:
            noise = jax.random.normal(key_jitter, shape, jnp.float32)
            offset = self.jitter * noise
        rate = self.curve(theta, offset, exposures=exposures).rate
        counts = poisson_quantile(open_uniforms(key_counts, shape), rate)
        if self.read_noise > 0:
            noise = jax.random.normal(key_read, shape, jnp.float32)
            counts = counts + self.read_noise * noise
        return counts

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta), up to a constant in theta.

        Exact without read noise and jitter, and then in deviance form: 0 if every rate
        equals its count. See `flowinv.simulators.exposure` for these.

        Args:
            theta: parameters with shape `[D]`; float64 stays float64.
            x: one observation with shape `[L]`.

        Returns:
            A scalar, differentiable in theta.

        Raises:
            ValueError: for wrong shapes.
        """
        theta = jnp.asarray(theta)
        theta = theta.astype(jnp.promote_types(theta.dtype, jnp.float32))
        check_shape("theta", theta.shape, (self.dim,))
        check_shape("x", jnp.shape(x), self.x_shape)
        counts = jnp.asarray(x, theta.dtype) / self.per_count

        def exposed(j: ArrayLike) -> Array:
            rate = self.curve(theta, self.jitter * j).rate
            if self.read_noise:
                return log_with_read_noise(counts, rate, self.read_noise)
            return log_poisson(counts, rate)

        if not self.jitter:
            return exposed(0.0).sum()

        def slope(j: Array) -> tuple[Array, Array]:
            found = self.curve(theta, self.jitter * j)
            by_j = -self.jitter * found.by_place
            variance = jnp.maximum(found.rate, 1.0) + self.read_noise**2
            return by_j * (counts - found.rate) / variance, by_j**2 / variance

        return over_jitter(exposed, slope, counts).sum()
