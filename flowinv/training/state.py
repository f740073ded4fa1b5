"""The state of a training run: one pytree, and what a human reads of an epoch."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

__all__ = [
    "EpochInfo",
    "Schedule",
    "StepInfo",
    "TrainState",
    "init_state",
    "validated",
]


class TrainState(NamedTuple):
    """All that changes while training; an ensemble has a leading axis on every leaf.

    Attributes:
        params: trained numbers.
        opt_state: optimizer state.
        ema: running mean of the parameters, None when turned off.
        key: typed key of this network; steps and epochs fold in their numbers.
        step: steps taken, int32.
        epoch: epochs finished, int32; -1 until what training begins with was validated.
        best_params: parameters (or running mean) with the best validation loss.
        best_loss: that loss, +inf before the first finite one.
        best_epoch: epoch that gave it, from 1; 0 for what training began with.
        waited: epochs since.
        failed_step: step of the first non-finite loss or gradient, -1 if none.
        stopped: no more steps are taken.
    """

    params: Any
    opt_state: Any
    ema: Any
    key: Array
    step: Array
    epoch: Array
    best_params: Any
    best_loss: Array
    best_epoch: Array
    waited: Array
    failed_step: Array
    stopped: Array


class Schedule(NamedTuple):
    """How long training goes on, and how its programs are compiled.

    Attributes:
        max_epochs: epochs at most; may be traced.
        patience: epochs to wait for a better validation loss; 0 never stops.
        wide: the network is wide: compile for speed, not for a quick start.
        rate_steps: steps that the learning rate's schedule is laid out for.
        longer: how many times as many are taken at most; may be traced.
    """

    max_epochs: ArrayLike
    patience: int = 0
    wide: bool = False
    rate_steps: int = 1
    longer: ArrayLike = 1


class StepInfo(NamedTuple):
    """Loss (nats) and gradient norm before clipping of a step."""

    loss: Array
    gradient_norm: Array


class EpochInfo(NamedTuple):
    """One line of the history.

    Attributes:
        train_loss: mean over the epoch's steps, nats.
        validation_loss: mean over the validation rows, nats.
        gradient_norm: mean over the steps, before clipping.
        out_of_range: share of latent entries beyond the flow's interval, validation.
        step: steps taken so far.
        active: False where no step was taken: after the stop, or before the first.
    """

    train_loss: Array
    validation_loss: Array
    gradient_norm: Array
    out_of_range: Array
    step: Array
    active: Array


def init_state(
    key: Array,
    params: Any,
    optimizer: optax.GradientTransformation,
    keep_mean: bool = False,
) -> TrainState:
    """Return the state before the first step; buffers are copies, fit for donation.

    `keep_mean` makes room for the running mean, for an update with an `ema_decay`.
    """

    def copy(tree: Any) -> Any:
        return jax.tree.map(jnp.copy, tree)

    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        params=copy(params),
        opt_state=optimizer.init(params),
        ema=copy(params) if keep_mean else None,
        key=key,
        step=zero,
        epoch=zero - 1,
        best_params=copy(params),
        best_loss=jnp.asarray(jnp.inf, jnp.float32),
        best_epoch=jnp.copy(zero),
        waited=jnp.copy(zero),
        failed_step=jnp.asarray(-1, jnp.int32),
        stopped=jnp.asarray(False),
    )


def validated(state: TrainState) -> Any:
    """Return what is validated and kept: the running mean, or the parameters."""
    return state.params if state.ema is None else state.ema
