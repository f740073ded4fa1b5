"""The compiled programs of a training; equal arguments find them again.

Repeated trainings of one kind (rounds, budgets, keys) neither trace nor compile twice:
rows, frozen numbers and keys are arguments of the programs, never constants.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.compiling import compiled, strong
from flowinv.identity import by_content
from flowinv.losses.npe import Batch, Loss
from flowinv.models.estimator import Estimator
from flowinv.training.config import TrainConfig
from flowinv.training.engine import form_of, make_parts
from flowinv.training.epoch import EpochParts, Run, answer, make_chunk, make_stepper
from flowinv.training.source import Source
from flowinv.training.state import Schedule, TrainState, init_state
from flowinv.training.update import Choice

__all__ = ["Programs", "make_programs"]

# Steps that a chunk of short epochs holds at least: hides the host's millisecond.
_CHUNK_STEPS = 100

# Streams of the caller's key.
_MEMBERS, _TRAIN = 1, 2


class Programs(NamedTuple):
    """Jitted stages; an ensemble's states have a leading member axis.

    Attributes:
        initial: `(key, frozen) -> state`, before the first step.
        run: some epochs, `(state, data, blocks, begin) -> (state, info)`.
        choose: `(start, state, blocks) -> Choice`, parameters as a tree.
    """

    initial: Callable[[Array, Any], TrainState]
    run: Run
    choose: Callable[[Any, TrainState, Batch], Choice]


@by_content(maxsize=8)
def make_programs(
    estimator: Estimator,
    loss: Loss,
    config: TrainConfig,
    source: Source,
    schedule: Schedule,
    frozen: Any,
) -> Programs:
    """Return the programs of a training.

    Args:
        estimator: what is trained, its input scaling resolved.
        loss: a method's loss.
        config: how to train.
        source: where rows come from.
        schedule: how long; whether the network is wide is found here.
        frozen: shapes and dtypes of its frozen numbers.
    """
    draw = jax.jit(estimator.draw)
    # The jitted function's trace gives the shapes; `member` finds it in jit's cache.
    form = form_of(jax.eval_shape(draw, jax.random.key(0), frozen))
    schedule = schedule._replace(wide=form.wide)
    parts, optimizer = make_parts(estimator, loss, config, source, form, schedule)

    def member(key: Array, frozen: Any, number: Array) -> TrainState:
        own = jax.random.fold_in(jax.random.fold_in(key, _MEMBERS), number)
        rng = jax.random.fold_in(own, _TRAIN)
        params = form.ravel(draw(own, frozen))
        return strong(init_state(rng, params, optimizer, config.ema_decay > 0))

    def choose(start: Any, state: TrainState, blocks: Batch) -> Choice:
        chosen = answer(parts, start, state, blocks)
        return chosen._replace(params=form.unravel(chosen.params))

    count = config.num_members
    several = jax.vmap(choose, (0, 0, None)) if count > 1 else choose
    initial = functools.partial(_stacked, compiled(member, once=True), count)
    return Programs(initial, _driver(parts, config), compiled(several, once=True))


def _stacked(member: Callable, count: int, key: Array, frozen: Any) -> TrainState:
    """State of one network, or of `count` with a leading axis."""
    states = [member(key, frozen, jnp.int32(number)) for number in range(count)]
    if count == 1:
        return states[0]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _driver(parts: EpochParts, config: TrainConfig) -> Run:
    ensemble = config.num_members > 1
    driver = config.driver
    if driver == "auto":
        on_cpu = jax.default_backend() == "cpu"
        driver = "step" if on_cpu and parts.schedule.wide else "scan"
    if driver == "step" and not ensemble:
        return make_stepper(parts)
    epochs = max(1, round(_CHUNK_STEPS / parts.source.steps))
    return make_chunk(parts, min(epochs, parts.schedule.max_epochs), ensemble)
