"""Draws and density in the latent space, of one network or an equal mixture."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.models.estimator import Estimator, Features, Variables

__all__ = ["latent_log_prob", "latent_sample"]


def latent_sample(
    estimator: Estimator, variables: Variables, keys: Array, x: Array, num_samples: int
) -> Array:
    """Draw z ~ q(. | x): one key per row of x `[N, *x_shape]`, to `[N, n, D]`.

    An ensemble gives every member the same number of draws (one more for some, chosen
    at random), which is a mixture's sample with less noise. With jax's usual keys the
    first draws of many are those of few.
    """
    features = estimator.features(variables.frozen, x)
    num_members = variables.num_members
    if num_members == 1:
        return _draw(estimator, variables.params, keys, features, num_samples)
    each = -(-num_samples // num_members)

    def member(params: Any, index: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        return _draw(estimator, params, own, features, each)

    z = jax.vmap(member)(variables.params, jnp.arange(num_members))
    # Turns of one draw of each member, every turn in an order of its own.
    z = jnp.moveaxis(z, 0, 2)
    order = jax.vmap(lambda k: jax.random.fold_in(k, num_members))(keys)
    shape = (each, num_members)
    turns = jax.vmap(lambda k: jax.random.uniform(k, shape, jnp.float32))(order)
    z = jnp.take_along_axis(z, jnp.argsort(turns, -1)[..., None], 2)
    return z.reshape(x.shape[0], num_members * each, -1)[:, :num_samples]


def _draw(
    estimator: Estimator,
    params: Any,
    keys: Array,
    features: Features,
    num_samples: int,
) -> Array:
    shape = (num_samples, estimator.prior.dim)
    z0 = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
    features = jax.tree.map(lambda leaf: leaf[:, None], features)
    return estimator.apply_flow("forward", params, z0, features)


def latent_log_prob(
    estimator: Estimator, variables: Variables, z: Array, x: Array
) -> Array:
    """Log q(z | x) for z `[N, n, D]` and x `[N, *x_shape]`, shape `[N, n]`."""
    features = estimator.features(variables.frozen, x)
    features = jax.tree.map(lambda leaf: leaf[:, None], features)

    def one(params: Any) -> Array:
        return estimator.apply_flow("log_prob", params, z, features)

    if variables.num_members == 1:
        return one(variables.params)
    parts = jax.vmap(one)(variables.params)
    return jax.scipy.special.logsumexp(parts, axis=0) - math.log(variables.num_members)
