"""Rows of a buffer that is filled round by round, as training data of a fixed size."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.losses.npe import Batch
from flowinv.sequential.method import Plan, Proposal
from flowinv.sequential.state import RoundsState
from flowinv.training.source import Source
from flowinv.types import EMPTY

__all__ = [
    "append",
    "as_block",
    "filled",
    "held_out",
    "packed",
    "partial_source",
]

# Every tenth row of each round is kept for validation.
HELD_EVERY = 10


def append(
    plan: Plan, state: RoundsState, proposal: Proposal, x: Array, valid: Array
) -> RoundsState:
    """Write the rows of the next round into the buffers; a stopped lane keeps its own.

    Args:
        plan: what is static.
        state: state of the lane.
        proposal: parameters and their log density, `[N, D]` and `[N]`.
        x: simulations, `[N, *x_shape]`; non-finite numbers become 0.
        valid: False for failed simulations, `[N]`.
    """
    count = plan.method.num_simulations
    start = state.index * count

    def put(buffer: Array, rows: Array) -> Array:
        new = jax.lax.dynamic_update_slice_in_dim(buffer, rows, start, 0)
        return jnp.where(state.stopped, buffer, new)

    return state._replace(
        theta=put(state.theta, proposal.theta),
        z=put(state.z, plan.estimator.prior.to_latent(proposal.theta)),
        x=put(state.x, jnp.where(jnp.isfinite(x), x, 0.0).astype(jnp.float32)),
        valid=put(state.valid, valid),
        round=put(state.round, jnp.full(count, state.index, jnp.int32)),
        log_proposal=put(state.log_proposal, proposal.log_prob),
    )


def filled(state: RoundsState) -> Array:
    """True for rows of the rounds so far, failed ones among them, `[B]`."""
    return state.round != EMPTY


def held_out(count: int) -> Array:
    """True for the validation rows among `count`."""
    return jnp.arange(count) % HELD_EVERY == HELD_EVERY - 1


def packed(mask: Array, size: int) -> tuple[Array, Array]:
    """Numbers of the rows in `mask`, repeated in turn up to `size`, and their count.

    Statistics of the repeated rows are those of the rows, but for one turn's rounding,
    so that nothing after this needs to know a mask.
    """
    order = jnp.argsort(~mask, stable=True)
    count = mask.sum()
    return order[jnp.arange(size) % jnp.maximum(count, 1)], count


def partial_source(rows: Batch, count: Array, batch_size: int, steps: int) -> Source:
    """The first `count` rows in a new order every epoch; no row twice in a batch.

    Args:
        rows: packed rows.
        count: rows that differ, traced; at least `batch_size`.
        batch_size: rows per step.
        steps: steps per epoch: several passes of few rows, a part of many.
    """
    size = rows.z.shape[0]

    def epoch(data: Batch, key: Array) -> Array:
        del data
        draw = jax.random.uniform(key, (size,), jnp.float32)
        return jnp.argsort(jnp.where(jnp.arange(size) < count, draw, jnp.inf))

    def batch(data: Batch, order: Array, key: Array, position: Array) -> Batch:
        del key
        turn = position * batch_size + jnp.arange(batch_size)
        index = order[turn % jnp.maximum(count, batch_size)]
        return jax.tree.map(lambda leaf: leaf[index], data)

    return Source(rows, epoch, batch, steps)


def as_block(rows: Batch, count: Array) -> Any:
    """Validation rows as one block, repeated rows marked as invalid."""
    batch = jax.tree.map(lambda leaf: leaf[None], rows)
    size = rows.z.shape[0]
    return batch._replace(valid=(jnp.arange(size) < count)[None])
