"""Rows of a buffer that is filled round by round, as training data of a fixed size."""

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.sequential.method import Plan, Proposal
from flowinv.sequential.state import RoundsState
from flowinv.types import EMPTY

__all__ = [
    "append",
    "filled",
    "held_out",
    "newest",
    "packed",
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
    rows, count = jnp.arange(len(mask), dtype=jnp.int32), mask.sum()
    # Each to its rank, the others nowhere: a sort is more to compile and to run.
    ranks = jnp.where(mask, jnp.cumsum(mask) - 1, len(mask))
    order = jnp.zeros_like(rows).at[ranks].set(rows, mode="drop")
    return order[jnp.arange(size) % jnp.maximum(count, 1)], count


def newest(mask: Array, size: int) -> tuple[Array, Array]:
    """As `packed`, from the last row in `mask` on."""
    rows, count = packed(mask[::-1], size)
    return len(mask) - 1 - rows, count
