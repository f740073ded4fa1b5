"""Theta as a network is told of it: linear in what is spread evenly, else the latent.

The latent z = Phi^-1(CDF(theta)) bends a uniform parameter at its edges, and a network
that learns x from it has to bend it back. The rank 2 CDF(theta) - 1 is linear in a
uniform parameter, and in the logarithm of a log-uniform one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import erf

from flowinv.priors.latent import Prior

__all__ = ["coordinates", "evenly_spread"]

# Latents between which linear is asked: 95 % of the prior.
REACH, POINTS = 2.0, 41
# Standard deviation 1, as z has.
RANK_SCALE = float(np.sqrt(3.0))


def coordinates(prior: Prior, z: Array) -> Array:
    """Ranks, of standard deviation 1, of evenly spread parameters; z of others.

    Args:
        prior: prior of theta.
        z: latents, `[..., D]`.
    """
    ranks = RANK_SCALE * erf(z / np.sqrt(2.0).astype(z.dtype))
    return jnp.where(evenly_spread(prior), ranks, z)


@functools.lru_cache(maxsize=32)
def evenly_spread(prior: Prior) -> np.ndarray:
    """True for parameters that, or whose logs, are closer to linear in the rank, `[D]`.

    Closer than in z, by the correlation over the prior's middle 95 %.
    """
    line = np.linspace(-REACH, REACH, POINTS)
    with jax.ensure_compile_time_eval():
        z = jnp.asarray(line, jnp.float32)[:, None] * jnp.ones(prior.dim, jnp.float32)
        theta = np.asarray(prior.from_latent(z), np.float64)
        ranks = np.asarray(erf(line / np.sqrt(2.0)), np.float64)
    values = [theta]
    if (theta > 0).all(0).any():
        values.append(np.log(np.where(theta > 0, theta, 1.0)))
    in_rank, in_z = (
        np.max([_linear(value, scale) for value in values], axis=0)
        for scale in (ranks, line)
    )
    return in_rank > in_z


def _linear(value: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """|correlation| of columns `[P, D]` with a scale `[P]`; 0 for constant ones."""
    value, scale = value - value.mean(0), scale - scale.mean()
    size = np.sqrt((value**2).sum(0) * (scale**2).sum())
    return np.abs(scale @ value) / np.where(size > 0, size, 1.0)
