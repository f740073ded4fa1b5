"""Moments of profiles: the summaries a physicist would take, as features.

For counts along a grid the total, the first and the second moment are sufficient for a
Gaussian beam; skewness and kurtosis tell how much of it the window cuts off.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import fail, finite_float32

__all__ = ["ProfileMoments", "profile_moments"]

NUM_MOMENTS = 6
# One point has no width.
LEAST_POINTS = 2


def profile_moments(
    x: ArrayLike, num_profiles: int = 2, cumulative: bool = False
) -> Array:
    """Log total, centre, width, log width, skewness and log kurtosis of each profile.

    Both the width and its log are given: theta may be linear in either.

    Args:
        x: non-negative profiles side by side, raw (not standardised), shape
            `[..., P x points]`. Negative entries (read noise) count as they are; a
            profile without a positive total gets the moments of a flat one.
        num_profiles: P.
        cumulative: x holds knife-edge curves, rising or falling; their differences are
            the profiles.

    Returns:
        Features with shape `[..., 6 P]`, positions in half windows from the middle.

    Raises:
        ValueError: if the length of x is no multiple of `num_profiles`.
    """
    x = jnp.asarray(finite_float32("x", x))
    if x.shape[-1] % num_profiles:
        fail("x", f"as {num_profiles} profiles of equal length", x.shape)
    profile = x.reshape(*x.shape[:-1], num_profiles, x.shape[-1] // num_profiles)
    if cumulative:
        # A knife that moves in gives a falling curve of the same beam.
        first = profile[..., :1]
        falls = profile[..., -1:] < first
        before = jnp.where(falls, first, 0.0)
        profile = jnp.abs(jnp.diff(profile, axis=-1, prepend=before))
    points = profile.shape[-1]
    if points < LEAST_POINTS:
        expected = f"with at least {LEAST_POINTS} points in each of {num_profiles}"
        remedy = "Moments are for curves: take --summary none."
        fail("x", f"{expected} profiles", points, remedy)
    grid = jnp.linspace(-1.0, 1.0, points, dtype=profile.dtype)
    total = profile.sum(-1, keepdims=True)
    weight = jnp.where(total > 0, profile / jnp.where(total > 0, total, 1), 1 / points)
    centre = (weight * grid).sum(-1, keepdims=True)
    # Central moments about the centre: E[g^2] - E[g]^2 would cancel for narrow beams.
    offset = grid - centre
    variance = (weight * offset**2).sum(-1, keepdims=True)
    width = jnp.sqrt(jnp.maximum(variance, (0.1 / points) ** 2))
    scaled = offset / width
    skewness = (weight * scaled**3).sum(-1, keepdims=True)
    kurtosis = (weight * scaled**4).sum(-1, keepdims=True)
    features = [
        jnp.log(jnp.maximum(total, 0.5)),
        centre,
        width,
        jnp.log(width),
        skewness,
        jnp.log(jnp.maximum(kurtosis, 0.1)),
    ]
    features = jnp.concatenate(features, -1)
    return features.reshape(*x.shape[:-1], NUM_MOMENTS * num_profiles)


@dataclass(frozen=True)
class ProfileMoments:
    """`profile_moments` as a summary of an estimator, with its settings.

    Attributes:
        num_profiles: profiles P side by side in x.
        cumulative: x holds knife-edge curves.
    """

    num_profiles: int = 2
    cumulative: bool = False

    def __call__(self, x: ArrayLike) -> Array:
        """Return the moments of x, `[..., L]` to `[..., 6 P]`."""
        return profile_moments(x, self.num_profiles, self.cumulative)
