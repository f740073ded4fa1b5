"""A knife-edge step scan: every knife position is exposed on its own.

For the knife at u_k, the k-th of P positions, at time t_k = k / (P - 1) of its scan,

    I_k ~ Poisson(N0 K(u_k + jitter_k) (1 + drift t_k) + background) + read noise,
    K(u) = Phi((u - mean) / std), jitter_k ~ N(0, jitter^2), read ~ N(0, read_noise^2).

The counts of two positions are independent given theta. This is not the cumulative sum
of one histogram (`BeamProfile(observable="knife_edge")`), whose noise adds up along the
curve. Both axes are scanned one after the other, independently, each with its own time.

theta = (mean_x, mean_y, std_x, std_y[, amplitude][, background]): lengths in grid units
(the window is 0..100), the amplitude as a factor on N0, the background in counts per
exposure, both common to the two scans.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_positive, check_shape, fail
from flowinv.simulators.counts import open_uniforms, poisson_quantile
from flowinv.simulators.spot import lattice

__all__ = ["StepScan"]

LEAST_RATE = 1e-6  # counts; keeps the logarithm finite far in the dark


@dataclasses.dataclass(frozen=True)
class StepScan:
    """Two knife-edge scans of a normal spot, in counts per exposure.

    Attributes:
        num_points: knife positions per axis, 200 (0, 0.5, ..., 99.5) or 100
            (`linspace(0, 100, 100)`), in grid units.
        num_photons: N0, counts per exposure of the whole beam.
        background: counts per exposure with the beam blocked.
        drift: relative change of the beam's intensity from first to last exposure.
        jitter: standard deviation of the knife's position, grid units.
        read_noise: standard deviation of the detector's noise, counts.
        fit_amplitude: theta has an amplitude that multiplies `num_photons`.
        fit_background: theta has a background instead of the fixed one.
    """

    num_points: int = 200
    num_photons: float = 4096.0
    background: float = 0.0
    drift: float = 0.0
    jitter: float = 0.0
    read_noise: float = 0.0
    fit_amplitude: bool = False
    fit_background: bool = False

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: for an unknown grid or a number out of its range.
        """
        lattice(self.num_points)
        check_positive("num_photons", self.num_photons)
        for name in ("background", "jitter", "read_noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                fail(name, "of at least 0", value)
        if not (math.isfinite(self.drift) and self.drift > -1):
            fail("drift", "above -1 (the beam is gone at -1)", self.drift)

    @property
    def grid(self) -> np.ndarray:
        """Knife positions of one axis, float64 `[P]`, grid units."""
        return lattice(self.num_points)

    @property
    def positions(self) -> np.ndarray:
        """Where a value of x belongs, float64 `[P]`: the knife positions."""
        return self.grid

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(2 P,)`."""
        return (2 * self.num_points,)

    @property
    def dim(self) -> int:
        """Number of parameters D."""
        return 4 + int(self.fit_amplitude) + int(self.fit_background)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""
        amplitude = ("amplitude",) if self.fit_amplitude else ()
        background = ("background",) if self.fit_background else ()
        return ("mean_x", "mean_y", "std_x", "std_y", *amplitude, *background)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the parameters, in the order of theta."""
        amplitude = ("1",) if self.fit_amplitude else ()
        background = ("counts",) if self.fit_background else ()
        return ("grid",) * 4 + amplitude + background

    @property
    def observable(self) -> str:
        """How a classical fit reads x: "knife_edge"."""
        return "knife_edge"

    @property
    def has_likelihood(self) -> bool:
        """Whether `log_prob` exists: without jitter and read noise."""
        return self.jitter == 0 and self.read_noise == 0

    def rate(self, theta: Array, positions: Array) -> Array:
        """Return expected counts, `[2, P]`, with the knife at `positions` `[2, P]`."""
        time = jnp.linspace(0.0, 1.0, self.num_points, dtype=theta.dtype)
        amplitude = theta[4] if self.fit_amplitude else 1.0
        background = theta[-1] if self.fit_background else self.background
        scaled = (positions - theta[0:2, None]) / theta[2:4, None]
        passed = jax.scipy.special.ndtr(scaled) * (1.0 + self.drift * time)
        return self.num_photons * amplitude * passed + background

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw one observation.

        Args:
            key: typed key.
            theta: parameters with shape `[D]`, see the module's text.

        Returns:
            Counts, float32 `[2 P]`: first the scan along x, then along y. With read
            noise they are no whole numbers and may be negative.

        Raises:
            ValueError: if theta has not D entries.
        """
        theta = jnp.asarray(theta, jnp.float32)
        check_shape("theta", theta.shape, (self.dim,))
        key_counts, key_jitter, key_read = jax.random.split(key, 3)
        shape = (2, self.num_points)
        positions = jnp.broadcast_to(jnp.asarray(self.grid, jnp.float32), shape)
        if self.jitter > 0:
            noise = jax.random.normal(key_jitter, shape, jnp.float32)
            positions = positions + self.jitter * noise
        rate = self.rate(theta, positions)
        x = poisson_quantile(open_uniforms(key_counts, shape), rate)
        if self.read_noise > 0:
            noise = jax.random.normal(key_read, shape, jnp.float32)
            x = x + self.read_noise * noise
        return x.reshape(-1)

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(x | theta) = sum_k I_k log rate_k - rate_k, up to a constant.

        Exact. The value is the deviance form: 0 if every rate equals its count.

        Args:
            theta: parameters with shape `[D]`; float64 stays float64.
            x: one observation with shape `[2 P]`.

        Returns:
            A scalar, differentiable in theta.

        Raises:
            ValueError: for wrong shapes, or with jitter or read noise, which leave
                the likelihood without a closed form.
        """
        if not self.has_likelihood:
            got = f"jitter={self.jitter}, read_noise={self.read_noise}"
            fail("step scan with a likelihood", "without jitter and read noise", got)
        theta = jnp.asarray(theta)
        theta = theta.astype(jnp.promote_types(theta.dtype, jnp.float32))
        check_shape("theta", theta.shape, (self.dim,))
        check_shape("x", jnp.shape(x), self.x_shape)
        counts = jnp.asarray(x, theta.dtype).reshape(2, self.num_points)
        positions = jnp.asarray(self.grid, theta.dtype)[None, :]
        rate = jnp.maximum(self.rate(theta, positions), LEAST_RATE)
        ratio = jnp.log(rate) - jnp.log(jnp.maximum(counts, 1.0))
        excess = jnp.where(counts > 0, rate - counts, rate)
        return jnp.sum(jnp.where(counts > 0, counts * ratio, 0.0) - excess)
