"""Drivers of an epoch: one scan, or one jitted call per step. Same numbers.

An epoch is permute, step, ..., step, validate, compare. Before the first, what training
begins with is validated: it stays the best unless an epoch improves on it. The scan
driver runs several epochs in one program and suits small networks and accelerators;
wide networks on a CPU run 10-30 % faster one step at a time, because XLA's CPU code is
worse inside a loop.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowinv.compiling import compiled
from flowinv.losses.npe import Batch
from flowinv.training.source import Source
from flowinv.training.state import (
    EpochInfo,
    Schedule,
    StepInfo,
    TrainState,
    validated,
)
from flowinv.training.update import SURE, Choice, EpochEnd, finish_epoch

__all__ = ["EpochParts", "Run", "answer", "make_chunk", "make_stepper", "run_epoch"]

# Streams of one network's key. Steps fold their number in on top.
_ORDER, _STEP, _VALIDATION = 0, 1, 2


class EpochParts(NamedTuple):
    """Functions and numbers an epoch is made of.

    Attributes:
        source: rows.
        update: `(state, batch, key) -> (state, StepInfo)`.
        validate: `(params, blocks, key) -> (loss, out-of-range share)`.
        choose: `(start, best, blocks, key, sure) -> Choice`, see `make_choose`.
        schedule: how many epochs.
    """

    source: Source
    update: Callable[[TrainState, Batch, Array], tuple[TrainState, StepInfo]]
    validate: Callable[[Any, Batch, Array], tuple[Array, Array]]
    choose: Callable[..., Choice]
    schedule: Schedule


def _stream(state: TrainState, stream: int, number: Array) -> Array:
    return jax.random.fold_in(jax.random.fold_in(state.key, stream), number)


def _step(
    parts: EpochParts, state: TrainState, data: Any, shared: Any, position: Array
) -> tuple[TrainState, StepInfo]:
    key_rows, key_loss = jax.random.split(_stream(state, _STEP, state.step))
    batch = parts.source.batch(data, shared, key_rows, position)
    return parts.update(state, batch, key_loss)


def _finish(
    parts: EpochParts, state: TrainState, total: StepInfo, steps: Array, blocks: Batch
) -> tuple[TrainState, EpochInfo]:
    # One fixed key: atomic losses would otherwise see other atoms in every epoch.
    key = jax.random.fold_in(state.key, _VALIDATION)
    validation = parts.validate(validated(state), blocks, key)
    return finish_epoch(state, EpochEnd(total, steps, *validation), parts.schedule)


def answer(
    parts: EpochParts,
    start: Any,
    state: TrainState,
    blocks: Batch,
    sure: ArrayLike = SURE,
) -> Choice:
    """Return the trained parameters, or those training began with.

    Args:
        parts: functions.
        start: what training began with.
        state: the final state.
        blocks: validation rows.
        sure: errors by which the trained ones must gain.
    """
    key = jax.random.fold_in(state.key, _VALIDATION)
    return parts.choose(start, state.best_params, blocks, key, sure)


def _nothing() -> StepInfo:
    return StepInfo(*(jnp.zeros((), jnp.float32) for _ in StepInfo._fields))


def run_epoch(
    parts: EpochParts, state: TrainState, data: Any, blocks: Batch, steps: Array
) -> tuple[TrainState, EpochInfo]:
    """One epoch as a loop: pure, for programs that hold it in a loop of their own.

    Args:
        parts: functions.
        state: state of a network.
        data: the source's rows.
        blocks: validation rows, `[blocks, rows, ...]`.
        steps: steps to take; 0 only validates.
    """
    shared = parts.source.epoch(data, _stream(state, _ORDER, state.epoch))

    def body(
        position: Array, carry: tuple[TrainState, StepInfo]
    ) -> tuple[TrainState, StepInfo]:
        state, total = carry
        state, info = _step(parts, state, data, shared, position)
        return state, jax.tree.map(jnp.add, total, info)

    steps = jnp.asarray(steps, jnp.int32)
    first = jnp.zeros((), jnp.int32)
    state, total = jax.lax.fori_loop(first, steps, body, (state, _nothing()))
    return _finish(parts, state, total, steps, blocks)


Run = Callable[[TrainState, Any, Batch, Any], tuple[TrainState, EpochInfo]]
"""`run(state, data, blocks, begin)`: some epochs, of which the first only validates
where `begin` is True."""


def make_chunk(parts: EpochParts, num_epochs: int, ensemble: bool) -> Run:
    """Return a jitted `Run` of several epochs, state donated.

    Epochs after a stop are skipped, not computed (but under an ensemble's vmap, where
    all members run until the last has stopped).
    """

    def skip(state: TrainState, data: Any, blocks: Batch, steps: Array) -> Any:
        del data, blocks, steps
        nan = jnp.asarray(jnp.nan, jnp.float32)
        off = jnp.asarray(False)
        return state, EpochInfo(nan, nan, nan, nan, state.step, off)

    def chunk(state: TrainState, data: Any, blocks: Batch, begin: Array) -> Any:
        def body(state: TrainState, steps: Array) -> tuple[TrainState, EpochInfo]:
            return jax.lax.cond(
                state.stopped,
                skip,
                functools.partial(run_epoch, parts),
                state,
                data,
                blocks,
                steps,
            )

        # The same for all members of an ensemble: no state is selected step by step.
        steps = jnp.full(num_epochs, parts.source.steps, jnp.int32)
        steps = steps.at[0].set(jnp.where(begin, 0, steps[0]))
        return jax.lax.scan(body, state, steps)

    if ensemble:
        chunk = jax.vmap(chunk, in_axes=(0, None, None, None))
    return compiled(chunk, wide=parts.schedule.wide, donate=(0,))


def make_stepper(parts: EpochParts) -> Run:
    """Return a `Run` of one epoch as one jitted call per step.

    The host only dispatches; it waits for nothing before the epoch ends. The history
    has a leading axis of one epoch, as a chunk's.
    """

    def order(state: TrainState, data: Any) -> Any:
        return parts.source.epoch(data, _stream(state, _ORDER, state.epoch))

    def one(state: TrainState, total: Any, data: Any, shared: Any, at: Array) -> Any:
        state, info = _step(parts, state, data, shared, at)
        return state, jax.tree.map(jnp.add, total, info)

    def end(state: TrainState, total: StepInfo, steps: Array, blocks: Batch) -> Any:
        state, report = _finish(parts, state, total, steps, blocks)
        return state, jax.tree.map(lambda leaf: leaf[None], report)

    order = compiled(order, once=True)
    # The options of a chunk: others would round otherwise.
    wide = parts.schedule.wide
    one = compiled(one, wide=wide, donate=(0, 1))
    end = compiled(end, wide=wide, donate=(0,))

    def epoch(state: TrainState, data: Any, blocks: Batch, begin: Any) -> Any:
        total, steps = _nothing(), 0 if begin else parts.source.steps
        if steps:
            shared = order(state, data)
        for position in range(steps):
            state, total = one(state, total, data, shared, jnp.int32(position))
        return end(state, total, jnp.int32(steps), blocks)

    return epoch
