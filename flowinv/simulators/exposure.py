"""The likelihood of one exposure: Poisson counts, read noise, a knife that jitters.

The convolution of a Poisson count with normal read noise is a sum over the counts
nearby where the noise is below one count, and else its saddlepoint with the first
correction (Daniels 1954, doi:10.1214/aoms/1177728652), to 0.2 % at one count of noise
and 1e-5 at five. The integral over the knife's place is a Gauss-Hermite sum around the
integrand's own mode.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["log_poisson", "log_with_read_noise", "over_jitter"]

LEAST_RATE = 1e-6  # counts; keeps the logarithm finite far in the dark

OMEGA_STEPS = 5
NEAR = 7  # counts on either side
MODE_STEPS = 12
FARTHEST = 6.0  # sds of the jitter
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(31)


def log_poisson(counts: Array, rate: Array) -> Array:
    """Return log P(counts | rate) in deviance form: 0 where the two are equal."""
    rate = jnp.maximum(rate, LEAST_RATE)
    ratio = jnp.log(rate) - jnp.log(jnp.maximum(counts, 1.0))
    excess = jnp.where(counts > 0, rate - counts, rate)
    return jnp.where(counts > 0, counts * ratio, 0.0) - excess


def log_with_read_noise(x: Array, rate: Array, read_noise: float) -> Array:
    """Return log p(x | rate) of a count plus read noise, up to a constant.

    Args:
        x: what was read; may be negative.
        rate: expected counts, of the same shape.
        read_noise: standard deviation in counts, above 0.
    """
    variance = read_noise**2
    rate = jnp.maximum(rate, LEAST_RATE)
    if read_noise < 1.0:
        near = jnp.arange(-NEAR, NEAR + 1, dtype=x.dtype)
        counts = jnp.round(x)[..., None] + near
        known = jnp.maximum(counts, 0.0)
        poisson = log_poisson(known, rate[..., None]) + _log_ceiling(known)
        terms = poisson - 0.5 * (x[..., None] - counts) ** 2 / variance
        return jax.nn.logsumexp(jnp.where(counts < 0, -jnp.inf, terms), axis=-1)
    log_rate = jnp.log(rate / variance)
    # The tilted mean y solves y + r^2 log(y / rate) = x: Wright's omega function.
    log_y = _log_omega(log_rate + x / variance)
    tilt = log_y - log_rate
    mean = variance * jnp.exp(log_y)
    spread = mean + variance
    exponent = mean - rate + 0.5 * variance * tilt**2 - tilt * x
    fourth, third = mean / spread**2, mean**2 / spread**3
    correction = jnp.log1p(fourth / 8.0 - 5.0 * third / 24.0)
    return exponent - 0.5 * jnp.log(spread) + correction


def _log_ceiling(counts: Array) -> Array:
    """Return log P(counts | rate = counts), the Poisson's largest value."""
    logs = jnp.log(jnp.maximum(counts, 1.0))
    return counts * (logs - 1.0) - jax.lax.lgamma(counts + 1.0)


@jax.custom_jvp
def _log_omega(c: Array) -> Array:
    """Return s with s + exp(s) = c, by Newton steps from above: none overshoots."""
    s = jnp.where(c > 1.0, jnp.log(jnp.maximum(c, 1.0)), c)
    for _ in range(OMEGA_STEPS):
        s = s - (s + jnp.exp(s) - c) / (1.0 + jnp.exp(s))
    return s


@_log_omega.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    s = _log_omega(*primals)
    return s, tangents[0] / (1.0 + jnp.exp(s))


def over_jitter(
    log_prob: Callable[[Array], Array],
    slope: Callable[[Array], tuple[Array, Array]],
    like: Array,
) -> Array:
    """Return the log of exp(log_prob(j)) averaged over j ~ N(0, 1), entry by entry.

    Args:
        log_prob: log-likelihood with the knife j sds off.
        slope: `(j) -> (gradient, information)` of it; the second at least 0.
        like: an array of the shape and dtype of j.
    """

    def climb(j: Array, _: None) -> tuple[Array, None]:
        gradient, information = slope(j)
        step = (gradient - j) / (information + 1.0)
        return jnp.clip(j + jnp.clip(step, -1.0, 1.0), -FARTHEST, FARTHEST), None

    mode = jax.lax.scan(climb, jnp.zeros_like(like), None, length=MODE_STEPS)[0]
    scale = 1.0 / jnp.sqrt(1.0 + slope(mode)[1])
    # Where the nodes lie is no matter of theta's.
    mode, scale = jax.lax.stop_gradient((mode, scale))
    shape = (-1, *(1,) * like.ndim)
    nodes = jnp.asarray(NODES, like.dtype).reshape(shape)
    weights = np.log(WEIGHTS / np.sqrt(2.0 * np.pi)) + 0.5 * NODES**2
    j = mode + scale * nodes
    terms = jax.vmap(log_prob)(j) - 0.5 * j**2
    weights = jnp.asarray(weights, like.dtype).reshape(shape)
    return jax.nn.logsumexp(terms + weights, axis=0) + jnp.log(scale)
