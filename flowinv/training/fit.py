"""The host loop: chunks of epochs, history, checkpoints, early end."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import check_at_least, check_shape, fail
from flowinv.data.simulate import simulate
from flowinv.flows.estimator import Estimator, Variables
from flowinv.losses.npe import Batch, npe_loss
from flowinv.training.checkpoint import Checkpoints, fingerprint
from flowinv.training.config import TrainConfig, make_optimizer
from flowinv.training.epoch import EpochParts, make_chunk, make_stepper
from flowinv.training.packing import Packing, as_vector, unpacked
from flowinv.training.source import fixed_source, fresh_source
from flowinv.training.state import EpochInfo, TrainState, init_state
from flowinv.training.update import make_update, make_validate
from flowinv.types import Dataset, Simulator

__all__ = ["Fit", "Interrupted", "Progress", "train"]

# Rows of one validation block, and of the simulations that fresh mode solves on.
_BLOCK, _SOLVE = 1_024, 20_000
# Steps that a chunk of short epochs holds at least: hides the host's millisecond.
_CHUNK_STEPS = 100
# Weights above which parameters stay separate arrays, and above which one jitted step
# beats a scanned epoch on a CPU.
_WIDE = 400_000

# Streams of the caller's key.
_SPLIT, _MEMBERS, _TRAIN, _FIRST_ROWS = range(4)


class Interrupted(Exception):
    """Training was asked to stop; what is done is in the checkpoints."""


class Progress(NamedTuple):
    """What a progress bar shows after a chunk.

    Attributes:
        step: steps done.
        total_steps: steps at most.
        train_loss: last epoch's, nats.
        validation_loss: last epoch's.
        best_loss: best validation loss so far.
    """

    step: int
    total_steps: int
    train_loss: float
    validation_loss: float
    best_loss: float


class Fit(NamedTuple):
    """A finished training run.

    Attributes:
        estimator: the estimator with its input scaling resolved.
        variables: best parameters and frozen numbers.
        history: arrays over epochs (`[epochs]`, or `[epochs, E]` for an ensemble) of
            train_loss, validation_loss, gradient_norm, out_of_range, step, active.
        state: the final `TrainState`.
        message: why training ended, one sentence.
    """

    estimator: Estimator
    variables: Variables
    history: dict[str, np.ndarray]
    state: TrainState
    message: str


def train(
    key: Array,
    estimator: Estimator,
    data: Dataset | Simulator,
    config: TrainConfig,
    *,
    folder: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Fit:
    """Train `estimator` on simulations, or on fresh ones drawn at every step.

    Args:
        key: typed key; all randomness is derived from it by folding in numbers.
        estimator: what to train.
        data: a `Dataset` (fixed mode), or a jit-able simulator (fresh mode).
        config: how to train.
        folder: where checkpoints go; an earlier run's are continued. None keeps none.
        progress: called after every chunk.
        should_stop: asked after every chunk; True saves and raises `Interrupted`.

    Returns:
        The best networks by validation loss.

    Raises:
        ValueError: for a config out of range, fewer simulations than two batches, valid
            rows outside the prior or not finite, a folder of another config, or a loss
            that was never finite.
        Interrupted: if `should_stop` said so.
    """
    config.check()
    fresh = not isinstance(data, Dataset)
    rows, num_validation = _rows(key, estimator, data, config)
    estimator = estimator.resolve(rows)
    frozen = estimator.solve(rows, num_validation)
    split = jax.jit(_split, static_argnums=(0, 3))
    training, blocks = split(estimator, frozen, rows, num_validation)
    count = len(rows.theta) - num_validation
    if fresh:
        # Epochs of equal length: no more steps than were asked for.
        max_epochs = -(-config.num_steps // config.steps_per_epoch)
        steps = config.num_steps // max_epochs
        source = fresh_source(estimator, frozen, data, config.batch_size, steps)
    else:
        source = fixed_source(training, config.batch_size)
        max_epochs = config.max_epochs
    total = source.steps * max_epochs
    optimizer = make_optimizer(config, total)
    packing = _packing(estimator, frozen)
    loss = _make_loss(estimator, frozen, packing)
    parts = EpochParts(
        source,
        make_update(loss, optimizer, config.ema_decay),
        make_validate(loss),
        0 if fresh else config.patience,
        max_epochs,
    )
    keep_mean = config.ema_decay > 0
    members = config.num_members
    state = _initial(key, estimator, frozen, packing, optimizer, members, keep_mean)
    mark = fingerprint(
        {
            "config": dataclasses.asdict(config),
            "estimator": _words(estimator, state),
            "key": _numbers(key),
            "rows": count,
        }
    )
    run = _driver(parts, config, state)
    loop = _Loop(run, source.data, blocks, config, total, folder, mark)
    state, history = loop(state, frozen, progress, should_stop)
    message = _verdict(state, history)
    unpack = packing.unpack
    if config.num_members > 1:
        unpack = jax.vmap(unpack)
    best = Variables(jax.jit(unpack)(state.best_params), frozen)
    return Fit(estimator, best, history, state, message)


def _rows(
    key: Array, estimator: Estimator, data: Dataset | Simulator, config: TrainConfig
) -> tuple[Dataset, int]:
    """Valid rows with the validation rows last, and the number of those."""
    if not isinstance(data, Dataset):
        # Validation rows follow: their number does not change the solve.
        count = _SOLVE + config.num_validation
        own = jax.random.fold_in(key, _FIRST_ROWS)
        drawn = simulate(own, estimator.prior, data, count)
        held = int(np.asarray(drawn.valid[_SOLVE:]).sum())
        check_at_least("valid validation simulations", held, 2)
        return _valid(drawn, np.arange(count)), held
    _check_rows(estimator, data)
    total = int(np.asarray(data.valid).sum())
    num_validation = max(2, round(config.validation_share * total))
    count = total - num_validation
    if count < 2 * config.batch_size:
        fail(
            "number of training simulations",
            f"of at least two batches of {config.batch_size}",
            f"{count} valid ones after {num_validation} for validation",
            "Simulate more or lower batch_size.",
        )
    order = jax.random.permutation(jax.random.fold_in(key, _SPLIT), len(data.theta))
    return _valid(data, np.asarray(order)), num_validation


def _check_rows(estimator: Estimator, data: Dataset) -> None:
    """Raise unless all valid rows are finite and inside the prior."""
    check_shape("theta", data.theta.shape[1:], (estimator.prior.dim,))
    valid = np.asarray(data.valid)
    remedy = "Mark such rows as not valid."
    inside = np.asarray(estimator.prior.contains(data.theta))
    if bad := int((valid & ~inside).sum()):
        fail("theta of valid rows", "inside the prior", f"{bad} outside", remedy)
    axes = tuple(range(1, data.x.ndim))
    if bad := int((valid & ~np.isfinite(data.x).all(axes)).sum()):
        fail("x of valid rows", "to be finite", f"{bad} rows with NaN or inf", remedy)


def _valid(data: Dataset, order: np.ndarray) -> Dataset:
    order = order[np.asarray(data.valid)[order]]
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], data)


def _split(
    estimator: Estimator, frozen: Any, rows: Dataset, num_validation: int
) -> tuple[Batch, Batch]:
    """Training rows as one batch, and validation rows in blocks."""
    features = estimator.features(frozen, rows.x)
    batch = Batch(estimator.prior.to_latent(rows.theta), features, rows.valid)
    count = len(rows.theta) - num_validation
    training = jax.tree.map(lambda leaf: leaf[:count], batch)
    return training, _blocks(jax.tree.map(lambda leaf: leaf[count:], batch))


def _blocks(batch: Batch) -> Batch:
    """Rows as `[blocks, rows, ...]`, the last block filled with invalid rows."""
    count = batch.z.shape[0]
    size = min(_BLOCK, count)
    fill = -count % size

    def fold(leaf: Array) -> Array:
        leaf = jnp.concatenate([leaf, leaf[:fill]]) if fill else leaf
        return leaf.reshape(len(leaf) // size, size, *leaf.shape[1:])

    valid = jnp.concatenate([batch.valid, jnp.zeros(fill, bool)]).reshape(-1, size)
    return jax.tree.map(fold, batch)._replace(valid=valid)


def _packing(estimator: Estimator, frozen: Any) -> Packing:
    shapes = jax.eval_shape(lambda: estimator.draw(jax.random.key(0), frozen))
    weights = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return unpacked() if weights > _WIDE else as_vector(shapes)


def _make_loss(
    estimator: Estimator, frozen: Any, packing: Packing
) -> Callable[..., Any]:
    def apply(params: Any, z: Array, features: Any) -> tuple[Array, Array]:
        variables = Variables(packing.unpack(params), frozen)
        return estimator.latent_log_prob(variables, z, features)

    return lambda params, batch, key: npe_loss(apply, params, batch, key)


def _initial(
    key: Array,
    estimator: Estimator,
    frozen: Any,
    packing: Packing,
    optimizer: Any,
    num_members: int,
    keep_mean: bool,
) -> TrainState:
    """State of one network, or of an ensemble with a leading axis."""

    @jax.jit
    def one(member: int) -> TrainState:
        own = jax.random.fold_in(jax.random.fold_in(key, _MEMBERS), member)
        params = packing.pack(estimator.draw(own, frozen))
        return init_state(jax.random.fold_in(own, _TRAIN), params, optimizer, keep_mean)

    if num_members == 1:
        return one(0)
    states = [one(member) for member in range(num_members)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _driver(parts: EpochParts, config: TrainConfig, state: TrainState) -> Any:
    ensemble = config.num_members > 1
    weights = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    driver = config.driver
    if driver == "auto":
        on_cpu = jax.default_backend() == "cpu"
        driver = "step" if on_cpu and weights > _WIDE else "scan"
    if driver == "step" and not ensemble:
        return make_stepper(parts)
    epochs = max(1, round(_CHUNK_STEPS / parts.source.steps))
    return make_chunk(parts, min(epochs, parts.max_epochs), ensemble)


class _Loop:
    """Chunks until all networks have stopped."""

    def __init__(
        self,
        run: Callable[..., tuple[TrainState, EpochInfo]],
        data: Any,
        blocks: Batch,
        config: TrainConfig,
        total_steps: int,
        folder: str | Path | None,
        mark: np.ndarray,
    ) -> None:
        self.run, self.data, self.blocks = run, data, blocks
        self.config, self.total_steps = config, total_steps
        self.store = Checkpoints(Path(folder), mark) if folder is not None else None

    def __call__(
        self,
        state: TrainState,
        frozen: Any,
        progress: Callable[[Progress], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Run to the end, or to `Interrupted`."""
        history = {name: np.zeros((0,)) for name in EpochInfo._fields}
        if self.store is not None and self.store.latest() is not None:
            state, _, history = self.store.restore((state, frozen, history))
            history = {name: np.asarray(values) for name, values in history.items()}
        saved_at = time.monotonic()
        while not bool(state.stopped.all()):
            state, info = self.run(state, self.data, self.blocks)
            history = _append(history, info)
            if progress is not None:
                progress(self._progress(history, state))
            stop = should_stop is not None and should_stop()
            if stop or time.monotonic() - saved_at > self.config.checkpoint_seconds:
                self._save(state, frozen, history)
                saved_at = time.monotonic()
            if stop:
                raise Interrupted
        self._save(state, frozen, history)
        if self.store is not None:
            self.store.close()
        return state, history

    def _save(self, state: TrainState, frozen: Any, history: dict) -> None:
        if self.store is not None:
            step = int(state.step.max())
            if step != self.store.latest():
                self.store.save(step, (state, frozen, history))

    def _progress(self, history: dict, state: TrainState) -> Progress:
        last = {name: float(np.mean(values[-1])) for name, values in history.items()}
        return Progress(
            int(last["step"]),
            self.total_steps,
            last["train_loss"],
            last["validation_loss"],
            float(state.best_loss.mean()),
        )


def _append(history: dict[str, np.ndarray], info: EpochInfo) -> dict[str, np.ndarray]:
    """Add the epochs that any network was active in; the epoch axis leads."""
    grown = {}
    active = np.asarray(info.active)
    rows = active if active.ndim == 1 else active.any(0)
    for name, values in info._asdict().items():
        values = np.asarray(values)
        values = np.moveaxis(values, -1, 0)[rows]
        old = history[name]
        grown[name] = np.concatenate([old, values]) if old.size else values
    return grown


def _words(estimator: Estimator, state: TrainState) -> list[str]:
    """What tells two estimators apart and is the same in every process."""
    shapes = [str(leaf.shape) for leaf in jax.tree.leaves(state.params)]
    flow = f"{type(estimator.flow).__name__} {estimator.flow}"
    low, high = estimator.prior.low.tolist(), estimator.prior.high.tolist()
    prior, scaling = f"{estimator.prior} {low} {high}", estimator.input_scaling
    return [flow, prior, scaling, str(estimator.anchored), *shapes]


def _numbers(key: Array) -> list[int]:
    return np.asarray(jax.random.key_data(key)).ravel().tolist()


def _verdict(state: TrainState, history: dict[str, np.ndarray]) -> str:
    """One sentence on why training ended.

    Raises:
        ValueError: if no validation loss was ever finite.
    """
    failed = np.atleast_1d(np.asarray(state.failed_step))
    best = np.atleast_1d(np.asarray(state.best_loss))
    if not np.isfinite(best).all():
        step = int(failed.max())
        fail(
            "a finite loss",
            "in the first epoch",
            f"a non-finite one at step {step}" if step >= 0 else "none in validation",
            "Lower the learning rate or check the simulations.",
        )
    epochs = len(history["step"])
    if (failed >= 0).any():
        step = int(failed.max())
        return f"Stopped at step {step}: loss or gradient not finite; best kept."
    at = np.atleast_1d(np.asarray(state.best_epoch)).max()
    return f"Ended after {epochs} epochs; best validation loss in epoch {int(at)}."
