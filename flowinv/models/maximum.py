"""Maximum a posteriori by gradient ascent in the latent space."""

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.models.estimator import Estimator, Variables
from flowinv.models.latent_density import latent_log_prob, latent_sample

__all__ = ["NUM_DRAWS", "maximise"]

NUM_DRAWS = 512
# First step in posterior sds; it falls to a hundredth on a cosine.
FIRST_STEP = 0.1


def maximise(
    estimator: Estimator,
    variables: Variables,
    keys: Array,
    x: Array,
    num_starts: int,
    num_steps: int,
) -> Array:
    """Return theta of highest q(theta | x) for x `[N, *x_shape]`, shape `[N, D]`.

    What is maximised is the density in theta, log q(z | x) - log |dtheta / dz|. Steps
    are sign-free normalised gradients in units of the draws' sds per dimension; the
    best point seen on any path is returned.
    """
    prior = estimator.prior_of(variables.frozen)

    def density(z: Array) -> Array:
        log_det = prior.from_latent_and_log_det(z)[1]
        return latent_log_prob(estimator, variables, z, x) - log_det

    z = latent_sample(estimator, variables, keys, x, NUM_DRAWS)
    sd = z.std(1, keepdims=True) + 1e-7
    score, best = jax.lax.top_k(density(z), num_starts)
    z = jnp.take_along_axis(z, best[..., None], 1)
    slope = jax.grad(lambda z: density(z).sum())
    moments = (jnp.zeros_like(z), jnp.zeros_like(z))

    def step(carry: tuple, t: Array) -> tuple[tuple, None]:
        z, (first, second), top, top_score = carry
        gradient = jnp.nan_to_num(slope(z) * sd)
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        scaled = first / (1 - 0.9 ** (t + 1))
        scaled = scaled / (jnp.sqrt(second / (1 - 0.99 ** (t + 1))) + 1e-6)
        size = FIRST_STEP * (0.505 + 0.495 * jnp.cos(jnp.pi * t / num_steps))
        z = jnp.clip(z + size * sd * scaled, -8.0, 8.0)
        score = density(z)
        better = score > top_score
        top = jnp.where(better[..., None], z, top)
        return (z, (first, second), top, jnp.where(better, score, top_score)), None

    steps = jnp.arange(num_steps, dtype=jnp.float32)
    _, _, top, top_score = jax.lax.scan(step, (z, moments, z, score), steps)[0]
    winner = top_score.argmax(-1)
    top = jnp.take_along_axis(top, winner[:, None, None], 1)[:, 0]
    return prior.from_latent(top)
