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

from flowinv.data.entrance import rows_at_once
from flowinv.data.simulate import simulate_rows
from flowinv.losses.npe import Batch
from flowinv.models.estimator import Estimator, Frozen
from flowinv.types import Simulator

__all__ = ["Source", "fixed_source", "fresh_rows", "fresh_source", "growing_source"]


class Source(NamedTuple):
    """Rows for training.

    Attributes:
        data: pytree on the device that `epoch` and `batch` read; passed as an
            argument, so that it is no constant of the program.
        epoch: `(data, key) -> shared`.
        batch: `(data, shared, key, position) -> Batch`; position counts steps within
            the epoch.
        steps: steps per epoch.
    """

    data: Any
    epoch: Callable[[Any, Array], Any]
    batch: Callable[[Any, Any, Array, Array], Batch]
    steps: int


def fixed_source(rows: Batch, batch_size: int) -> Source:
    """All rows once an epoch in a new order; an incomplete last batch is left out."""
    count = rows.z.shape[0]
    steps = count // batch_size

    def epoch(data: Batch, key: Array) -> Array:
        return jax.random.permutation(key, data.z.shape[0])

    def batch(data: Batch, order: Array, key: Array, position: Array) -> Batch:
        del key
        index = jax.lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
        return jax.tree.map(lambda leaf: leaf[index], data)

    return Source(rows, epoch, batch, steps)


def growing_source(rows: Batch, batch_size: int) -> Source:
    """Valid rows in a new order, again and again in the steps that all rows make.

    Args:
        rows: of which at least `batch_size` are valid.
        batch_size: rows per step, no row twice among them.
    """
    steps = rows.z.shape[0] // batch_size

    def epoch(data: Batch, key: Array) -> Array:
        draw = jax.random.uniform(key, data.valid.shape, jnp.float32)
        return jnp.argsort(jnp.where(data.valid, draw, jnp.inf))

    def batch(data: Batch, order: Array, key: Array, position: Array) -> Batch:
        del key
        turn = position * batch_size + jnp.arange(batch_size)
        index = order[turn % jnp.maximum(data.valid.sum(), batch_size)]
        return jax.tree.map(lambda leaf: leaf[index], data)

    return Source(rows, epoch, batch, steps)


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
    frozen: Frozen,
    simulator: Simulator,
    batch_size: int,
    steps: int,
) -> Source:
    """New simulations in every step: no row is ever seen twice."""
    at_once = rows_at_once(simulator, estimator.prior)

    def epoch(data: Frozen, key: Array) -> Array:
        del data, key
        return jnp.zeros((), jnp.float32)

    def batch(data: Frozen, shared: Array, key: Array, position: Array) -> Batch:
        del shared, position
        return fresh_rows(estimator, data, simulator, key, batch_size, at_once)

    return Source(frozen, epoch, batch, steps)
