"""Training from simulations to the best networks: what is built, in which order."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, ShapeDtypeStruct

from flowinv.checks import check_at_least, fail, one_key
from flowinv.compiling import indexed
from flowinv.data.entrance import (
    admit_dataset,
    admit_simulator,
    probe,
    rows_at_once,
)
from flowinv.data.simulate import simulate
from flowinv.files import settled
from flowinv.flows.candidates import Candidates
from flowinv.identity import identity
from flowinv.losses.flow_matching import flow_matching_loss
from flowinv.losses.npe import Loss, npe_loss
from flowinv.models.entrance import admit_estimator, admit_parts, estimator_marks
from flowinv.models.estimator import Estimator, Variables
from flowinv.models.posterior import Posterior
from flowinv.training.candidates import NeverFinite, preferred
from flowinv.training.checkpoint import Marks, kept_in
from flowinv.training.config import TrainConfig
from flowinv.training.loop import Interrupted, Loop, Progress
from flowinv.training.prepare import Prepared, prepare
from flowinv.training.programs import make_programs
from flowinv.training.source import Source, fixed_source, fresh_source, growing_source
from flowinv.training.state import Schedule, TrainState
from flowinv.types import EMPTY, Dataset, Simulator

__all__ = ["Fit", "Interrupted", "Progress", "train"]

# Simulations that fresh mode solves on.
_SOLVE = 20_000

# Streams of the caller's key; those of networks are in `programs`.
_SPLIT, _FIRST_ROWS = 0, 3


class Fit(NamedTuple):
    """A finished training run.

    Attributes:
        estimator: the estimator with its input scaling resolved.
        variables: best parameters and frozen numbers.
        history: arrays over epochs (`[epochs]`, or `[epochs, E]` for an ensemble) of
            train_loss, validation_loss, gradient_norm, out_of_range, step, active.
        state: the final `TrainState`.
        message: why training ended, one sentence.
        validation_loss: of `variables`, nats (mean over an ensemble).
        validation_losses: of every validation row, `[N]`.
    """

    estimator: Estimator
    variables: Variables
    history: dict[str, np.ndarray]
    state: TrainState
    message: str
    validation_loss: float
    validation_losses: np.ndarray

    @property
    def posterior(self) -> Posterior:
        """The posterior of the best networks."""
        return Posterior(self.estimator, self.variables)


def train(
    key: Array,
    estimator: Estimator,
    data: Dataset | Simulator,
    config: TrainConfig,
    *,
    loss: Loss = npe_loss,
    folder: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Fit:
    """Train `estimator` on simulations, or on fresh ones drawn at every step.

    Args:
        key: typed key; all randomness is derived from it by folding in numbers.
        estimator: what to train; with `Candidates` for its flow, the first of them
            unless another is surely better on the validation rows.
        data: a `Dataset` (fixed mode), or a jit-able simulator (fresh mode).
        config: how to train.
        loss: a method's loss; plain maximum likelihood by default.
        folder: where checkpoints go; an earlier run's are continued. None keeps none.
        progress: called before the first chunk and after every one.
        should_stop: asked after every chunk; True saves and raises `Interrupted`.

    Returns:
        The best networks by validation loss.

    Raises:
        ValueError: for a config out of range, fewer simulations than two batches, what
            the doors refuse (`admit_dataset`, `admit_simulator`, `admit_estimator`), a
            folder of another run, or a loss that was never finite.
        Interrupted: if `should_stop` said so.
    """
    key, config = one_key(key), settled(TrainConfig, config, "config")
    config.check()
    if isinstance(getattr(estimator, "flow", None), Candidates):
        options = {"config": config, "loss": loss, "should_stop": should_stop}
        one = functools.partial(train, key, data=data, **options)
        return preferred(one, estimator.candidates(), folder, progress)
    data = _admitted(estimator, data, loss)
    rows, num_validation = _rows(key, estimator, data, config)
    estimator = estimator.resolve(rows)
    ready = prepare(estimator, rows, num_validation)
    source, schedule = _source(estimator, ready, data, config)
    programs = make_programs(
        estimator, loss, config, source, schedule, _shapes(ready.frozen)
    )
    state = programs.initial(key, ready.frozen)
    marks = functools.partial(_marks, key, estimator, loss, config, state, data)
    start = jax.tree.map(jnp.copy, state.params)  # the state's own are donated
    with kept_in(folder, marks) as store:
        feed = ready.training if isinstance(data, Dataset) else ready.frozen
        total = schedule.rate_steps
        loop = Loop(programs.run, feed, ready.blocks, config, total, store)
        state, history = loop(state, ready.frozen, progress, should_stop)
    chosen = programs.choose(start, state, ready.blocks)
    message = _verdict(state, history, bool(chosen.is_start.all()))
    best = Variables(chosen.params, ready.frozen, config.num_members)
    own, losses = float(chosen.loss.mean()), _of_rows(chosen.losses, ready)
    return Fit(estimator, best, history, state, message, own, losses)


def _of_rows(losses: Array, ready: Prepared) -> np.ndarray:
    """Losses of the validation rows `[N]`, the mean over an ensemble."""
    counts = np.asarray(ready.blocks.counts)
    return np.asarray(losses).reshape(-1, *counts.shape).mean(0)[counts]


def _admitted(
    estimator: Estimator, data: Dataset | Simulator, loss: Loss
) -> Dataset | Simulator:
    """Data that fits the estimator and the loss, checked."""
    admit_parts(estimator)
    if isinstance(data, Dataset) or not hasattr(data, "x_shape"):
        data = admit_dataset(data, estimator.prior)
        later = int((np.asarray(data.round) > 0).sum())
        if later and loss in (npe_loss, flow_matching_loss):
            remedy = "Take flowinv.run_rounds, or the rows of round 0."
            got = f"{later} of later rounds, whose proposals would bend the answer"
            fail("data", "to hold rows of the prior (round 0)", got, remedy)
        x_shape = data.x.shape[1:]
    else:
        x_shape = admit_simulator(data, estimator.prior)
    admit_estimator(estimator, x_shape)
    return data


def _rows(
    key: Array, estimator: Estimator, data: Dataset | Simulator, config: TrainConfig
) -> tuple[Dataset, int]:
    """Valid rows with the validation rows last, and the number of those.

    Empty places of the data are shared out in the same way, and stay empty.
    """
    if not isinstance(data, Dataset):
        # Validation rows follow: their number does not change the solve.
        count = _SOLVE + config.num_validation
        own = jax.random.fold_in(key, _FIRST_ROWS)
        drawn = simulate(own, estimator.prior, data, count)
        held = int(np.asarray(drawn.valid[_SOLVE:]).sum())
        check_at_least("valid validation simulations", held, 2)
        return indexed(drawn, np.flatnonzero(np.asarray(drawn.valid))), held
    total = int(np.asarray(data.valid).sum())
    num_validation = max(2, round(config.validation_share * total))
    count = total - num_validation
    if count < 2 * config.rows():
        fail(
            "number of training simulations",
            f"of at least two batches of {config.rows()}",
            f"{count} valid ones after {num_validation} for validation",
            "Simulate more or lower batch_size.",
        )
    # numpy's generator, seeded with the key: nothing to compile.
    words = jax.random.key_data(jax.random.fold_in(key, _SPLIT))
    order = np.random.default_rng(np.asarray(words)).permutation(len(data.theta))
    order = order[np.asarray(data.valid)[order]]
    spare = np.flatnonzero(np.asarray(data.round) == EMPTY)
    slots = max(2, round(config.validation_share * (total + len(spare))))
    own = len(spare) - (slots - num_validation)
    # Empty ones first and last: solves look at rows next to the border.
    parts = spare[:own], order[:count], order[count:], spare[own:]
    return indexed(data, np.concatenate(parts)), slots


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _source(
    estimator: Estimator,
    ready: Prepared,
    data: Dataset | Simulator,
    config: TrainConfig,
) -> tuple[Source, Schedule]:
    """Where rows come from, and for how long.

    Fresh rows come in epochs of equal length: no more steps than were asked for.
    """
    if isinstance(data, Dataset):
        steps = len(ready.training.z) // config.rows()
        is_full = np.asarray(ready.training.valid).all()
        make_source = fixed_source if is_full else growing_source
        epochs, patience = config.epochs(steps), config.patience
        source = make_source(config.rows(), steps)
    else:
        epochs, patience = -(-config.num_steps // config.steps_per_epoch), 0
        steps = config.num_steps // epochs
        at_once = rows_at_once(data, estimator.prior)
        rows = config.rows(fresh=True)
        source = fresh_source(estimator, data, rows, steps, at_once)
    return source, Schedule(epochs, patience, rate_steps=steps * epochs)


def _marks(
    key: Array,
    estimator: Estimator,
    loss: Loss,
    config: TrainConfig,
    state: TrainState,
    data: Dataset | Simulator,
) -> Marks:
    """What a checkpoint must share with the run that continues it."""
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state.params)]
    marks: Marks = {
        "config": identity(config)[0],
        "key": identity(key)[0],
        "loss": identity(loss)[0],
        "parameters": identity(shapes)[0],
        **estimator_marks(estimator),
    }
    if isinstance(data, Dataset):
        return {**marks, "data": identity(tuple(data))[0]}
    return {**marks, "simulator": probe(data, estimator.prior)}


def _verdict(state: TrainState, history: dict[str, np.ndarray], is_start: bool) -> str:
    """One sentence on why training ended.

    Raises:
        ValueError: if no validation loss was ever finite.
    """
    failed = np.atleast_1d(np.asarray(state.failed_step))
    best = np.atleast_1d(np.asarray(state.best_loss))
    at = np.atleast_1d(np.asarray(state.best_epoch))
    if not np.isfinite(best).all() or ((failed >= 0) & (at == 0)).any():
        step = int(failed.max())
        fail(
            "a finite loss",
            "in the first epoch",
            f"a non-finite one at step {step}" if step >= 0 else "none in validation",
            "Lower the learning rate or check the simulations.",
            NeverFinite,
        )
    epochs = len(history["step"])
    if (failed >= 0).any():
        step = int(failed.max())
        return f"Stopped at step {step}: loss or gradient not finite; best kept."
    if is_start:
        return f"Ended after {epochs} epochs, none surely better than the solved start."
    return f"Ended after {epochs} epochs; best validation loss in epoch {at.max()}."
