"""A 2-D normal beam spot seen on a square lattice of grid points.

The spot has standard deviations std_x and std_y along its own axes, which are turned
by `angle` degrees, counter-clockwise, against the axes of the grid. All lengths are in
grid units (the window is 0..100). The spot is a *density* at the lattice points, not
multiplied by the area of a pixel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import fail

__all__ = [
    "Spot",
    "lattice",
    "log_normal_density",
    "log_projection",
    "make_spot",
    "pixel_density",
]

HALF_LOG_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


class Spot(NamedTuple):
    """First and second moments of a spot, in grid units.

    Attributes:
        mean_x: centre along x.
        mean_y: centre along y.
        std_x: standard deviation of the projection on x.
        std_y: standard deviation of the projection on y.
        correlation: correlation of x and y, 0 for an upright spot.
    """

    mean_x: Array
    mean_y: Array
    std_x: Array
    std_y: Array
    correlation: Array

    def transposed(self) -> "Spot":
        """Exchange the two axes."""
        mean_x, mean_y, std_x, std_y, correlation = self
        return Spot(mean_y, mean_x, std_y, std_x, correlation)


def lattice(num_points: int) -> np.ndarray:
    """Return the grid of one axis, float64 `[num_points]`, in grid units.

    200 points: 0, 0.5, ..., 99.5; 100 points: `linspace(0, 100, 100)`, as published.

    Raises:
        ValueError: for another number of points.
    """
    if num_points == 200:
        return np.arange(200) * 0.5
    if num_points == 100:
        return np.linspace(0.0, 100.0, 100)
    return fail("num_points", "to be 100 or 200", num_points)


def make_spot(theta: Array, rotation: bool) -> Spot:
    """Return the spot of theta = (mean_x, mean_y, std_x, std_y[, angle], ...)."""
    mean_x, mean_y, own_x, own_y = theta[0], theta[1], theta[2], theta[3]
    if not rotation:
        return Spot(mean_x, mean_y, own_x, own_y, jnp.zeros_like(mean_x))
    angle = jnp.deg2rad(theta[4])
    cos2, sin2 = jnp.cos(angle) ** 2, jnp.sin(angle) ** 2
    std_x = jnp.sqrt(own_x**2 * cos2 + own_y**2 * sin2)
    std_y = jnp.sqrt(own_x**2 * sin2 + own_y**2 * cos2)
    covariance = (own_x - own_y) * (own_x + own_y) * 0.5 * jnp.sin(2.0 * angle)
    return Spot(mean_x, mean_y, std_x, std_y, covariance / (std_x * std_y))


def log_normal_density(points: ArrayLike, mean: ArrayLike, std: ArrayLike) -> Array:
    """Return log N(points; mean, std^2), of the broadcast shape."""
    scaled = (points - mean) / std
    return -0.5 * scaled * scaled - jnp.log(std) - HALF_LOG_TWO_PI


def log_projection(spot: Spot, grid: ArrayLike) -> Array:
    """Return log sum_j p_ij, the projection on x of a turned spot, shape `[P]`.

    p_ij = N(g_i; mean_x, std_x) N(g_j; mean given g_i). The sum over the lattice of the
    conditional density is the normal probability of the window divided by the spacing
    h, up to exp(-2 pi^2 s^2 / h^2) in relative size (3e-9 at s = h) inside the
    window, and to second order in h / s at the window's edge.
    """
    spacing = grid[1] - grid[0]
    root = jnp.sqrt(1.0 - spot.correlation**2)
    slope = spot.correlation * spot.std_y / spot.std_x
    centre = spot.mean_y + slope * (grid - spot.mean_x)
    width = spot.std_y * root
    low = (grid[0] - 0.5 * spacing - centre) / width
    high = (grid[-1] + 0.5 * spacing - centre) / width
    cdf = jax.scipy.special.ndtr
    inside = jnp.maximum(cdf(high) - cdf(low), jnp.finfo(low.dtype).tiny)
    density = log_normal_density(grid, spot.mean_x, spot.std_x)
    return density + jnp.log(inside / spacing)


def pixel_density(spot: Spot, grid: ArrayLike) -> Array:
    """Return the spot's density at every lattice point, shape `[P, P]` (x first)."""
    along_x = log_normal_density(grid, spot.mean_x, spot.std_x)
    slope = spot.correlation * spot.std_y / spot.std_x
    centre = spot.mean_y + slope * (grid - spot.mean_x)
    width = spot.std_y * jnp.sqrt(1.0 - spot.correlation**2)
    along_y = log_normal_density(grid[None, :], centre[:, None], width)
    return jnp.exp(along_x[:, None] + along_y)
