"""Maximum a posteriori by gradient ascent in the latent space."""

import jax
import jax.numpy as jnp
import optax
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

    What is maximised is the density in theta, log q(z | x) - log |dtheta / dz|. Adam's
    steps are in units of the draws' sds per dimension; the best point seen on any path
    is returned.
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
    size = optax.cosine_decay_schedule(FIRST_STEP, num_steps, alpha=0.01)
    adam = optax.chain(
        optax.scale_by_adam(b1=0.9, b2=0.99, eps=1e-6), optax.scale_by_schedule(size)
    )

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        z, state, top, top_score = carry
        # Steps and slopes in units of the draws' sds.
        move, state = adam.update(jnp.nan_to_num(slope(z) * sd), state)
        z = jnp.clip(z + sd * move, -8.0, 8.0)
        score = density(z)
        better = score > top_score
        top = jnp.where(better[..., None], z, top)
        return (z, state, top, jnp.where(better, score, top_score)), None

    start = (z, adam.init(z), z, score)
    _, _, top, top_score = jax.lax.scan(step, start, None, length=num_steps)[0]
    winner = top_score.argmax(-1)
    top = jnp.take_along_axis(top, winner[:, None, None], 1)[:, 0]
    return prior.from_latent(top)
