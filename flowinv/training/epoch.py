"""Drivers of an epoch: one scan, or one jitted call per step. Same numbers.

An epoch is permute, step, ..., step, validate, compare. The scan driver runs several of
them in one program and suits small networks and accelerators; wide networks on a CPU
run 10-30 % faster one step at a time, because XLA's CPU code is worse inside a loop.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

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
from flowinv.training.update import finish_epoch

__all__ = ["EpochParts", "make_chunk", "make_stepper", "run_epoch"]

# Streams of one network's key. Steps fold their number in on top.
_ORDER, _STEP, _VALIDATION = 0, 1, 2


class EpochParts(NamedTuple):
    """Functions and numbers an epoch is made of.

    Attributes:
        source: rows.
        update: `(state, batch, key) -> (state, StepInfo)`.
        validate: `(params, blocks, key) -> (loss, out-of-range share)`.
        schedule: how many epochs.
    """

    source: Source
    update: Callable[[TrainState, Batch, Array], tuple[TrainState, StepInfo]]
    validate: Callable[[Any, Batch, Array], tuple[Array, Array]]
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
    parts: EpochParts, state: TrainState, info: StepInfo, blocks: Batch
) -> tuple[TrainState, EpochInfo]:
    # One fixed key: atomic losses would otherwise see other atoms in every epoch.
    key = jax.random.fold_in(state.key, _VALIDATION)
    validation = parts.validate(validated(state), blocks, key)
    return finish_epoch(state, info, validation, parts.schedule)


def run_epoch(
    parts: EpochParts, state: TrainState, data: Any, blocks: Batch
) -> tuple[TrainState, EpochInfo]:
    """One epoch as a scan: pure, for programs that hold it in a loop of their own."""
    shared = parts.source.epoch(data, _stream(state, _ORDER, state.epoch))

    def body(state: TrainState, position: Array) -> tuple[TrainState, StepInfo]:
        return _step(parts, state, data, shared, position)

    positions = jnp.arange(parts.source.steps, dtype=jnp.int32)
    state, info = jax.lax.scan(body, state, positions)
    return _finish(parts, state, info, blocks)


def make_chunk(
    parts: EpochParts, num_epochs: int, ensemble: bool
) -> Callable[[TrainState, Any, Batch], tuple[TrainState, EpochInfo]]:
    """Return a jitted `chunk(state, data, blocks)` of several epochs, state donated.

    Epochs after a stop are skipped, not computed (but under an ensemble's vmap, where
    all members run until the last has stopped).
    """

    def skip(state: TrainState, data: Any, blocks: Batch) -> Any:
        del data, blocks
        nan = jnp.asarray(jnp.nan, jnp.float32)
        off = jnp.asarray(False)
        return state, EpochInfo(nan, nan, nan, nan, state.step, off)

    def chunk(state: TrainState, data: Any, blocks: Batch) -> Any:
        def body(state: TrainState, _: None) -> tuple[TrainState, EpochInfo]:
            return jax.lax.cond(
                state.stopped,
                skip,
                functools.partial(run_epoch, parts),
                state,
                data,
                blocks,
            )

        return jax.lax.scan(body, state, None, length=num_epochs)

    if ensemble:
        chunk = jax.vmap(chunk, in_axes=(0, None, None))
    return compiled(chunk, wide=parts.schedule.wide, donate=(0,))


def make_stepper(
    parts: EpochParts,
) -> Callable[[TrainState, Any, Batch], tuple[TrainState, EpochInfo]]:
    """Return `epoch(state, data, blocks)` as one jitted call per step.

    The host only dispatches; it waits for nothing before the epoch ends. The history
    has a leading axis of one epoch, as a chunk's.
    """

    def order(state: TrainState, data: Any) -> Any:
        return parts.source.epoch(data, _stream(state, _ORDER, state.epoch))

    def one(state: TrainState, data: Any, shared: Any, position: Array) -> Any:
        return _step(parts, state, data, shared, position)

    def end(state: TrainState, infos: list[StepInfo], blocks: Batch) -> Any:
        info = jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos)
        state, report = _finish(parts, state, info, blocks)
        return state, jax.tree.map(lambda leaf: leaf[None], report)

    order = compiled(order, once=True)
    # The options of a chunk: others would round otherwise.
    one, end = (compiled(f, wide=parts.schedule.wide, donate=(0,)) for f in (one, end))

    def epoch(state: TrainState, data: Any, blocks: Batch) -> Any:
        shared, infos = order(state, data), []
        for position in range(parts.source.steps):
            state, info = one(state, data, shared, jnp.int32(position))
            infos.append(info)
        return end(state, infos, blocks)

    return epoch
