"""The beam-profile surrogate: a 2-D normal spot seen as two count profiles.

theta = (mean_x, mean_y, std_x, std_y[, angle][, nuisance_1, ..., nuisance_K]): lengths
in grid units (the window is 0..100), the angle in degrees, counter-clockwise, and
nuisance parameters that x does not depend on (their posterior is their prior).
With pixel density p_ij (see `flowinv.simulators.spot`), the number of samples S and

    counts_ij ~ Binomial(S, p_ij),     r_i = sum_j counts_ij,    c_j = sum_i counts_ij,

x is the concatenation of r and c (`projections`), or of their cumulative sums
(`knife_edge`: the curve of *one* histogram. A real step scan exposes every position
independently: `flowinv.simulators.knife_edge.StepScan`).

What is exact and what is not:

- `image=True` draws the Binomial image itself, O(P^2), for checking.
- Upright spots draw Poisson counts, whose row and column sums are independent given
  their common total N: r_i ~ Poisson(S a_i B), N = sum r, c | N ~ Multinomial(N, b / B)
  with a_i = N(g_i; mean_x, std_x), b likewise, A = sum a, B = sum b. O(P). Poisson
  against Binomial: each pixel's variance is p_ij too large in relative size, 0.6 % at
  most for std 5, 16 % for std 1.
- Turned spots throw N ~ Poisson(S / h^2) photons on the lattice of spacing h and count
  those inside the window. Rounding a normal whose covariance is smaller by h^2 / 12
  gives the lattice's normal with a total-variation error below 1e-3 for std >= h.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import (
    check_at_least,
    check_known,
    check_last_axis,
    check_shape,
    fail,
)
from flowinv.simulators.counts import (
    multinomial_quantile,
    num_splits,
    open_uniforms,
    poisson_quantile,
)
from flowinv.simulators.profile_likelihood import (
    multinomial_log_prob,
    shared_correction,
    total_log_prob,
)
from flowinv.simulators.spot import (
    Spot,
    lattice,
    log_normal_density,
    log_projection,
    make_spot,
    pixel_density,
)

__all__ = ["BeamProfile"]

OBSERVABLES = ("projections", "knife_edge")


@dataclasses.dataclass(frozen=True)
class BeamProfile:
    """Two projections (or knife-edge curves) of a normal beam spot, in counts.

    Attributes:
        num_points: grid points per axis: 200 (0, 0.5, ..., 99.5) or 100
            (`linspace(0, 100, 100)`), in grid units.
        num_samples: trials per pixel, S; 1024 as published.
        rotation: theta has an angle in degrees after the four lengths.
        num_nuisance: number of trailing parameters without any effect.
        observable: "projections" or "knife_edge" (cumulative sums of them).
        image: draw the exact Binomial image, O(num_points^2); slow.
        noise_free: x is the expected counts, without noise.
    """

    num_points: int = 200
    num_samples: int = 1024
    rotation: bool = False
    num_nuisance: int = 0
    observable: Literal["projections", "knife_edge"] = "projections"
    image: bool = False
    noise_free: bool = False

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: for an unknown grid or observable, or a count out of range.
        """
        lattice(self.num_points)
        check_at_least("num_samples", self.num_samples, 1)
        check_at_least("num_nuisance", self.num_nuisance, 0)
        check_known("observable", self.observable, OBSERVABLES)
        if self.image and self.noise_free:
            fail("image and noise_free", "not to be set together", "both")

    @property
    def grid(self) -> np.ndarray:
        """Grid points of one axis, float64 `[P]`, grid units."""
        return lattice(self.num_points)

    @property
    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the values of x belong on each axis: pixels, or their upper edges.

        A cumulative sum counts what lies below g_i + h / 2, the edge of pixel i.
        """
        grid = self.grid
        half = 0.5 * (grid[1] - grid[0]) if self.observable == "knife_edge" else 0.0
        return grid + half, grid + half

    @property
    def deterministic(self) -> bool:
        """Whether x has no noise at all."""
        return self.noise_free

    @property
    def x_shape(self) -> tuple[int]:
        """Shape of one observation, `(2 P,)`."""
        return (2 * self.num_points,)

    @property
    def dim(self) -> int:
        """Number of parameters D."""
        return 4 + int(self.rotation) + self.num_nuisance

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""
        angle = ("angle",) if self.rotation else ()
        nuisance = tuple(f"nuisance_{k + 1}" for k in range(self.num_nuisance))
        return ("mean_x", "mean_y", "std_x", "std_y", *angle, *nuisance)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the parameters, in the order of theta."""
        angle = ("deg",) if self.rotation else ()
        return ("grid",) * 4 + angle + ("1",) * self.num_nuisance

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw one observation.

        Args:
            key: typed key.
            theta: parameters with shape `[D]`, see the module's text.

        Returns:
            Counts, float32 `[2 P]`: first over x, then over y.

        Raises:
            ValueError: if theta has not D entries.
        """
        theta = jnp.asarray(theta, jnp.float32)
        check_shape("theta", theta.shape, (self.dim,))
        spot = make_spot(theta, self.rotation)
        if self.noise_free:
            profiles = self._expected(spot)
        elif self.image:
            profiles = self._image(key, spot)
        elif self.rotation:
            profiles = self._photons(key, spot)
        else:
            profiles = self._upright(key, spot)
        if self.observable == "knife_edge":
            profiles = jnp.cumsum(profiles, axis=1)
        return profiles.reshape(-1)

    def counts(self, x: ArrayLike) -> Array:
        """Return the two profiles of counts behind `x`, shape `[..., 2, P]`."""
        x = jnp.asarray(x)
        check_last_axis("x", x.shape, 2 * self.num_points)
        profiles = x.reshape(*x.shape[:-1], 2, self.num_points)
        if self.observable == "knife_edge":
            profiles = jnp.diff(profiles, axis=-1, prepend=0.0)
        return profiles

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return the log-likelihood log p(x | theta), up to a constant in theta.

        log Poisson(N; S A B) + sum_i r_i log(a_i / A) + sum_j c_j log(b_j / B): exact
        for the fast path of upright spots, and near-exact (p_ij << 1) for the image.

        For turned spots a and b are the projections with the window's cut, and r and c
        are no longer independent given N (p(r, c | N) is a sum over all images). The
        product of their multinomials is corrected by two bivariate-normal terms in
        the standardised residuals of the profiles' means (correlation rho) and
        variances (rho^2): exact to leading order in 1 / N for a spot well inside the
        window. Without it the posterior of (mean_x, mean_y) would have lost its
        correlation.

        Args:
            theta: parameters with shape `[D]`; float64 stays float64.
            x: one observation with shape `[2 P]`.

        Returns:
            A scalar, differentiable in theta.

        Raises:
            ValueError: for wrong shapes, or if the simulator is noise-free.
        """
        if self.noise_free:
            fail("simulator", "with noise", "noise_free=True: it has no likelihood")
        theta = jnp.asarray(theta)
        theta = theta.astype(jnp.promote_types(theta.dtype, jnp.float32))
        check_shape("theta", theta.shape, (self.dim,))
        check_shape("x", jnp.shape(x), self.x_shape)
        row, column = self.counts(jnp.asarray(x, theta.dtype))
        grid = jnp.asarray(self.grid, theta.dtype)
        spot = make_spot(theta, self.rotation)
        if not self.rotation:
            log_a = log_normal_density(grid, spot.mean_x, spot.std_x)
            log_b = log_normal_density(grid, spot.mean_y, spot.std_y)
            log_total = jax.nn.logsumexp(log_a) + jax.nn.logsumexp(log_b)
            extra = jnp.zeros((), theta.dtype)
        else:
            log_a = log_projection(spot, grid)
            log_b = log_projection(spot.transposed(), grid)
            log_total = jax.nn.logsumexp(log_a)
            profiles = ((row, log_a), (column, log_b))
            extra = shared_correction(grid, *profiles, spot.correlation)
        log_mean = log_total + jnp.log(jnp.asarray(self.num_samples, theta.dtype))
        shape = multinomial_log_prob(row, log_a) + multinomial_log_prob(column, log_b)
        return total_log_prob(row.sum(), log_mean) + shape + extra

    def _expected(self, spot: Spot) -> Array:
        """Expected counts of both profiles, `[2, P]`."""
        grid = jnp.asarray(self.grid, jnp.float32)
        if self.rotation:
            logs = (log_projection(spot, grid), log_projection(spot.transposed(), grid))
            return self.num_samples * jnp.exp(jnp.stack(logs))
        along_x = jnp.exp(log_normal_density(grid, spot.mean_x, spot.std_x))
        along_y = jnp.exp(log_normal_density(grid, spot.mean_y, spot.std_y))
        profiles = jnp.stack([along_x * along_y.sum(), along_y * along_x.sum()])
        return self.num_samples * profiles

    def _upright(self, key: Array, spot: Spot) -> Array:
        """Poisson rows, and multinomial columns with the same total, `[2, P]`."""
        points = self.num_points
        uniforms = open_uniforms(key, (points + num_splits(points),))
        along_x, along_y = self._expected(spot)
        row = poisson_quantile(uniforms[:points], along_x)
        column = multinomial_quantile(uniforms[points:], row.sum(), along_y)
        return jnp.stack([row, column])

    def _photons(self, key: Array, spot: Spot) -> Array:
        """Throw photons one by one on the lattice, `[2, P]`."""
        spacing = float(self.grid[1] - self.grid[0])
        mean = self.num_samples / spacing**2
        # 8 standard deviations: more photons than this do not occur.
        most = int(np.ceil(mean + 8.0 * np.sqrt(mean) + 20.0))
        uniforms = open_uniforms(key, (2 * most + 1,))
        thrown = poisson_quantile(uniforms[-1], mean)
        normal = jax.lax.erf_inv(2.0 * uniforms[:-1].reshape(2, most) - 1.0) * 2.0**0.5
        # Sheppard: rounding to the lattice adds h^2 / 12 to each variance.
        cell = spacing**2 / 12.0
        var_x = jnp.maximum(spot.std_x**2 - cell, cell)
        var_y = jnp.maximum(spot.std_y**2 - cell, cell)
        covariance = spot.correlation * spot.std_x * spot.std_y
        slope = covariance / var_x
        rest = jnp.sqrt(jnp.maximum(var_y - slope * covariance, 0.0))
        offset_x = jnp.sqrt(var_x) * normal[0]
        place_x = spot.mean_x + offset_x
        place_y = spot.mean_y + slope * offset_x + rest * normal[1]
        index = jnp.round(jnp.stack([place_x, place_y]) / spacing).astype(jnp.int32)
        inside = jnp.all((index >= 0) & (index < self.num_points), axis=0)
        hit = (inside & (jnp.arange(most) < thrown)).astype(jnp.float32)
        index = jnp.clip(index, 0, self.num_points - 1)
        empty = jnp.zeros(self.num_points, jnp.float32)
        return jnp.stack([empty.at[index[0]].add(hit), empty.at[index[1]].add(hit)])

    def _image(self, key: Array, spot: Spot) -> Array:
        """Both projections of the exact Binomial image, `[2, P]`."""
        density = pixel_density(spot, jnp.asarray(self.grid, jnp.float32))
        rate = jnp.minimum(density, 1.0)
        trials = jnp.asarray(self.num_samples, jnp.float32)
        image = jax.random.binomial(key, trials, rate, dtype=jnp.float32)
        return jnp.stack([image.sum(axis=1), image.sum(axis=0)])
