"""The one training step, and the end of an epoch: both pure."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from flowinv.losses.npe import Batch
from flowinv.training.state import (
    EpochInfo,
    Schedule,
    StepInfo,
    TrainState,
    validated,
)

__all__ = [
    "SURE",
    "Choice",
    "EpochEnd",
    "finish_epoch",
    "make_choose",
    "make_update",
    "make_validate",
    "masked_mean",
    "surely_better",
]

# Standard errors by which training must beat its start.
SURE = 2.0
MOST_GAIN = 10.0  # nats

Loss = Callable[[Any, Batch, Array], Array]
"""`loss(params, batch, key)`: a method's loss with its `apply` bound, `[B]`."""


def masked_mean(values: Array, batch: Batch) -> Array:
    """Weighted mean over the rows that count; 0 for none.

    Their weights have the mean 1 over all rows, not over those of a batch: what a batch
    gives is then right on average.
    """
    return batch.weigh(values).sum() / jnp.maximum(batch.counts.sum(), 1)


def make_update(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    ema_every: int = 1,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, StepInfo]]:
    """Return `update(state, batch, key)`.

    A step whose loss or gradient is not finite changes nothing but `failed_step` and
    `stopped`; a stopped state stays as it is.

    Args:
        loss: the loss that is trained.
        optimizer: its steps.
        ema_decay: decay of the parameters' running mean by a step; 0 keeps none.
        ema_every: steps of which the mean takes one, with their decay together.
    """

    def update(
        state: TrainState, batch: Batch, key: Array
    ) -> tuple[TrainState, StepInfo]:
        def objective(params: Any) -> Array:
            return masked_mean(loss(params, batch, key), batch)

        value, gradient = jax.value_and_grad(objective)(state.params)
        norm = optax.tree.norm(gradient)
        good = jnp.isfinite(value) & jnp.isfinite(norm)
        go = good & ~state.stopped
        changes, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(go, a, b), new, old)

        ema = state.ema
        if ema_decay:
            ema = _averaged(state, params, go, (ema_decay, ema_every))
        failed = jnp.where(state.stopped | good, state.failed_step, state.step)
        state = state._replace(
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
            ema=ema,
            step=state.step + go,
            failed_step=failed,
            stopped=state.stopped | ~good,
        )
        return state, StepInfo(value, norm)

    return update


def _averaged(
    state: TrainState, params: Any, go: Array, past: tuple[float, int]
) -> Any:
    """Running mean after a step, of a decay and of the steps that it takes one of."""
    decay, every = past
    # The usual correction for a short past: the first steps average evenly.
    count = state.step.astype(jnp.float32) + 1.0
    own = jnp.minimum(decay, count / (count + 10.0)) ** every
    takes = go & ((state.step + 1) % every == 0)

    def mean(params: Any, old: Any) -> Any:
        return optax.incremental_update(params, old, 1.0 - own)

    # An accelerator's host would wait for a branch.
    if every > 1 and jax.default_backend() == "cpu":
        return jax.lax.cond(takes, mean, lambda _, old: old, params, state.ema)
    new = mean(params, state.ema)
    return jax.tree.map(lambda a, b: jnp.where(takes, a, b), new, state.ema)


def make_validate(
    loss: Loss, out_of_range: Callable[[Any, Batch], Array]
) -> Callable[[Any, Batch, Array], tuple[Array, Array]]:
    """Return `validate(params, blocks, key)`: mean loss and mean out-of-range share.

    `blocks` are validation rows of shape `[blocks, rows, ...]`, taken one block at a
    time to bound the memory.

    Args:
        loss: the loss that is trained.
        out_of_range: `(params, batch)`: share of latent entries beyond the flow's
            interval, `[B]`.
    """

    def validate(params: Any, blocks: Batch, key: Array) -> tuple[Array, Array]:
        def one(block: Batch) -> tuple[Array, Array]:
            both = jnp.stack([loss(params, block, key), out_of_range(params, block)])
            return jax.vmap(block.weigh)(both).sum(-1), block.counts.sum()

        sums, counts = jax.lax.map(one, blocks)
        mean = sums.sum(0) / jnp.maximum(counts.sum(), 1)
        return mean[0], mean[1]

    return validate


class Choice(NamedTuple):
    """What training gives in the end.

    Attributes:
        params: the trained parameters, or those that training began with.
        is_start: whether it is the latter.
        loss: validation loss of these, nats.
        losses: of every validation row, 0 for those that do not count,
            `[blocks, rows]`.
    """

    params: Any
    is_start: Array
    loss: Array
    losses: Array


def make_choose(loss: Loss) -> Callable[..., Choice]:
    """Return `choose(start, best, blocks, key, sure)`: `best` where surely better.

    The best of many epochs is better than the start on its own validation rows by
    chance alone: the gain must exceed its error by a factor of `sure`. Nothing is
    learned then from rows that say nothing beyond the start. A row gains or loses
    `MOST_GAIN` at most: one that the start was far off must not hide what others gain.
    """

    def choose(
        start: Any, best: Any, blocks: Batch, key: Array, sure: ArrayLike = SURE
    ) -> Choice:
        which = jnp.asarray([True, False])

        def picked(keeps: Array) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(keeps, a, b), start, best)

        def one(block: Batch) -> tuple[Array, Array, Array]:
            # One after the other: the compiled program holds the loss once.
            losses = jax.lax.map(lambda first: loss(picked(first), block, key), which)
            gain = jnp.clip(losses[0] - losses[1], -MOST_GAIN, MOST_GAIN)
            both = jax.vmap(block.weigh)(losses)
            pairs = jnp.stack([block.weigh(jnp.ones_like(gain)), block.weigh(gain)])
            return (
                pairs.sum(-1),
                jnp.matmul(pairs, pairs.T, precision="highest"),
                both,
                block.counts.sum(),
            )

        sums, squares, losses, counts = jax.lax.map(one, blocks)
        (total, gained), squares = sums.sum(0), squares.sum(0)
        # Of weighted rows: sum w^2 (gain - mean)^2, over the squared sum of w.
        total = jnp.maximum(total, 1e-30)
        mean = gained / total
        spread = squares[1, 1] - 2.0 * mean * squares[0, 1] + mean**2 * squares[0, 0]
        error = jnp.sqrt(jnp.maximum(spread, 0.0)) / total
        first, trained = losses.sum((0, 2)) / jnp.maximum(counts.sum(), 1)
        # A start without a finite loss is no rival.
        keeps = jnp.isfinite(first) & (mean <= sure * error)
        own = jnp.where(keeps, first, trained)
        rows = jnp.where(keeps, losses[:, 0], losses[:, 1])
        return Choice(picked(keeps), keeps, own, rows)

    return choose


def surely_better(losses: np.ndarray, others: np.ndarray) -> bool:
    """Whether a network is better than another on the same validation rows.

    By more than its gain's error times `SURE`, as in `make_choose`.

    Args:
        losses: of the one, nats, `[N]`.
        others: of the other.
    """
    gain = np.clip(np.float64(others) - losses, -MOST_GAIN, MOST_GAIN)
    return bool(gain.mean() > SURE * gain.std() / np.sqrt(len(gain)))


class EpochEnd(NamedTuple):
    """What an epoch has given.

    Attributes:
        total: sums over its steps.
        steps: how many; 0 where what training begins with was validated.
        loss: validation loss, nats.
        outside: share of latent entries beyond the flow's interval, validation.
    """

    total: StepInfo
    steps: Array
    loss: Array
    outside: Array


def finish_epoch(
    state: TrainState, end: EpochEnd, schedule: Schedule
) -> tuple[TrainState, EpochInfo]:
    """Compare with the best, wait or stop, and sum the epoch up.

    Only a finite validation loss can become the best.
    """
    loss = end.loss
    better = (loss < state.best_loss) & jnp.isfinite(loss)

    def choose(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)

    # The start is no epoch to wait for.
    waited = jnp.where(better | (state.epoch < 0), 0, state.waited + 1)
    epoch = state.epoch + 1
    patience = schedule.patience
    tired = (waited >= patience) if patience else False
    done = (epoch >= schedule.max_epochs) | tired
    mean = jax.tree.map(lambda total: total / jnp.maximum(end.steps, 1), end.total)
    report = EpochInfo(
        train_loss=mean.loss,
        validation_loss=loss,
        gradient_norm=mean.gradient_norm,
        out_of_range=end.outside,
        step=state.step,
        active=end.steps > 0,
    )
    state = state._replace(
        epoch=epoch,
        best_params=choose(validated(state), state.best_params),
        best_loss=jnp.where(better, loss, state.best_loss),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
        waited=waited,
        stopped=state.stopped | done,
    )
    return state, report
