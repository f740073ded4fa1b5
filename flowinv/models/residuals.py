"""Whether residuals of a placed Gaussian are those of a normal distribution.

Reference: Neyman 1937, Smooth test for goodness of fit, Skandinavisk Aktuarietidskrift
20, 149.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.models.placing import FAR_OFF
from flowinv.types import Placed

__all__ = ["errors_from_normal"]


def errors_from_normal(placed: Placed, z: Array, weights: Array) -> Array:
    """By how many errors residuals are unlike independent standard normals, `[]`.

    The largest, without its sign, of means that are 0 for normals, each in its error:
    of Hermite's polynomials up to the fourth of every residual (mean, variance, skew,
    tails) and of the products of two residuals. Of 4,000 sets of 1,000
    normals in three dimensions the largest was 3.95.

    Args:
        placed: where each row is expected, and log sds, `[N, D]` each.
        z: where it is, `[N, D]`.
        weights: how much rows count, `[N]`; none below 0, one above.
    """
    r = (z - placed.mean) * jnp.exp(-placed.log_sd)
    r = jnp.clip(r, -FAR_OFF, FAR_OFF)
    i, j = np.triu_indices(r.shape[-1], 1)
    hermite = [r, (r**2 - 1) / 2**0.5, (r**3 - 3 * r) / 6**0.5]
    hermite.append((r**4 - 6 * r**2 + 3) / 24**0.5)
    terms = jnp.concatenate([*hermite, r[:, i] * r[:, j]], -1)
    share = (weights / weights.sum())[:, None]
    mean = (share * terms).sum(0)
    # Each has the variance 1 for normals; heavy tails know their means less well.
    spread = (share**2 * (terms - mean) ** 2).sum(0)
    error = jnp.sqrt(jnp.maximum(spread, (share**2).sum()))
    return (jnp.abs(mean) / error).max()
