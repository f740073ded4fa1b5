"""Flow matching: a velocity is learned from straight paths, without solving it.

A row's path goes from a draw of the base to the row itself, u_t = (1 - t) u_0 + t u_1.
The mean of |v(u_t, t, x) - (u_1 - u_0)|^2 over rows, draws and times is smallest where
v is the mean velocity of all paths through u_t, and the flow along that carries the
base to the posterior of every x.

References:
    Lipman et al. 2022, Flow matching for generative modeling, arXiv:2210.02747.
    Dax et al. 2023, Flow matching for scalable simulation-based inference,
    arXiv:2305.17161.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.losses.npe import Apply, Batch

__all__ = ["flow_matching_loss"]


def flow_matching_loss(apply: Apply, params: Any, batch: Batch, key: Array) -> Array:
    """Return half the squared error of the velocity of each row, `[B]`; no nats.

    The times of a batch are spread evenly over (0, 1), in an order of its own: each is
    uniform, and their mean varies little.

    Args:
        apply: of a network with the method `matching`.
        params: trained numbers.
        batch: rows from the joint distribution.
        key: of draws of the base and of times.
    """
    keys, size = jax.random.split(key, 3), len(batch.z)
    base = jax.random.normal(keys[0], batch.z.shape, batch.z.dtype)
    turn = jax.random.permutation(keys[1], size)
    time = (turn + jax.random.uniform(keys[2], (size,), batch.z.dtype)) / size
    value = batch.z, base, jnp.clip(time, 0.0, 1.0)
    return apply(params, value, batch.features, method="matching")
