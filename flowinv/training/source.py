"""Where the rows of a step come from: a fixed set, or fresh simulations.

A source is a pair of pure functions: `epoch(key, epoch)` prepares what the epoch's
steps share (a permutation), `batch(shared, key, position)` gives the rows of one step.
Keys are derived by folding in numbers, so a resumed run draws the same rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.data.simulate import simulate_rows
from flowinv.losses.npe import Batch
from flowinv.models.estimator import Estimator, Frozen
from flowinv.types import Simulator

__all__ = ["Source", "fixed_source", "fresh_rows", "fresh_source", "growing_source"]


class Source(NamedTuple):
    """Rows for training.

    Both read `data`, a pytree on the device: an argument, no constant of a program.

    Attributes:
        epoch: `(data, key) -> shared`.
        batch: `(data, shared, key, position) -> Batch`; position counts steps within
            the epoch.
        steps: steps per epoch.
    """

    epoch: Callable[[Any, Array], Any]
    batch: Callable[[Any, Any, Array, Array], Batch]
    steps: int


def fixed_source(batch_size: int, steps: int) -> Source:
    """All rows of a `Batch` once an epoch, in a new order.

    Args:
        batch_size: rows per step.
        steps: steps per epoch; an incomplete last batch is left out.
    """

    def epoch(data: Batch, key: Array) -> Array:
        return jax.random.permutation(key, data.z.shape[0])

    def batch(data: Batch, order: Array, key: Array, position: Array) -> Batch:
        del key
        index = jax.lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
        return jax.tree.map(lambda leaf: leaf[index], data)

    return Source(epoch, batch, steps)


def growing_source(batch_size: int, steps: int) -> Source:
    """Valid rows of a `Batch` in a new order every epoch; no row twice in a step.

    Args:
        batch_size: rows per step; as many at least are valid.
        steps: steps per epoch: several passes of few rows, a part of many.
    """

    def epoch(data: Batch, key: Array) -> tuple[Array, Array]:
        draw = jax.random.uniform(key, data.valid.shape, jnp.float32)
        order = jnp.argsort(jnp.where(data.valid, draw, jnp.inf))
        return order, jnp.maximum(data.valid.sum(), batch_size)

    def batch(data: Batch, shared: Any, key: Array, position: Array) -> Batch:
        del key
        order, count = shared
        turn = position * batch_size + jnp.arange(batch_size)
        index = order[turn % count]
        return jax.tree.map(lambda leaf: leaf[index], data)

    return Source(epoch, batch, steps)


def fresh_rows(
    estimator: Estimator,
    frozen: Frozen,
    simulator: Simulator,
    key: Array,
    count: int,
    at_once: int | None = None,
) -> Batch:
    """Draw `count` new rows of the joint distribution as a training batch.

    A simulation with non-finite numbers becomes an invalid row.
    """
    rows = jnp.arange(count, dtype=jnp.int32)
    theta, x, valid = simulate_rows(key, rows, estimator.prior, simulator, at_once)
    features = estimator.features(frozen, x)
    return Batch(estimator.prior.to_latent(theta), features, valid)


def fresh_source(
    estimator: Estimator,
    simulator: Simulator,
    batch_size: int,
    steps: int,
    at_once: int | None = None,
) -> Source:
    """New simulations in every step, no row ever twice; `data` are frozen numbers.

    Args:
        estimator: gives the prior and features.
        simulator: in JAX.
        batch_size: rows per step.
        steps: steps per epoch.
        at_once: rows simulated side by side; None for all.
    """

    def epoch(data: Frozen, key: Array) -> Array:
        del data, key
        return jnp.zeros((), jnp.float32)

    def batch(data: Frozen, shared: Array, key: Array, position: Array) -> Batch:
        del shared, position
        return fresh_rows(estimator, data, simulator, key, batch_size, at_once)

    return Source(epoch, batch, steps)
