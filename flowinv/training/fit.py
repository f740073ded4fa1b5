"""Training from simulations to the best networks: what is built, in which order."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import check_at_least, check_shape, fail
from flowinv.compiling import compiler_options
from flowinv.data.simulate import simulate
from flowinv.flows.estimator import Estimator, Variables
from flowinv.losses.npe import Batch, npe_loss
from flowinv.training.checkpoint import fingerprint
from flowinv.training.config import TrainConfig, make_optimizer
from flowinv.training.epoch import EpochParts, make_chunk, make_stepper
from flowinv.training.loop import Interrupted, Loop, Progress
from flowinv.training.packing import Packing, as_vector, unpacked
from flowinv.training.source import Source, fixed_source, fresh_source
from flowinv.training.state import TrainState, init_state
from flowinv.training.update import make_update, make_validate
from flowinv.types import Dataset, Simulator

__all__ = ["Fit", "Interrupted", "Progress", "train"]

# Rows of one validation block, and of the simulations that fresh mode solves on.
_BLOCK, _SOLVE = 1_024, 20_000
# Up to so many rows, compiling the features' program costs more than running it.
_FEW = 50_000
# Steps that a chunk of short epochs holds at least: hides the host's millisecond.
_CHUNK_STEPS = 100
# Weights above which parameters stay separate arrays, and above which one jitted step
# beats a scanned epoch on a CPU.
_WIDE = 400_000

# Streams of the caller's key.
_SPLIT, _MEMBERS, _TRAIN, _FIRST_ROWS = range(4)


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
        progress: called before the first chunk and after every one.
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
    training, blocks = _featured(estimator, frozen, rows, num_validation)
    if fresh:
        source, max_epochs = _fresh(estimator, frozen, data, config)
    else:
        source, max_epochs = _fixed(training, config)
    total = source.steps * max_epochs
    optimizer = make_optimizer(config, total)
    draw = jax.jit(lambda key: estimator.draw(key, frozen))
    packing, wide = _packing(draw)
    loss = _make_loss(estimator, frozen, packing)
    parts = EpochParts(
        source,
        make_update(loss, optimizer, config.ema_decay),
        make_validate(loss),
        0 if fresh else config.patience,
        max_epochs,
        wide,
    )
    state = _initial(key, draw, packing, optimizer, config)
    mark = _mark(key, estimator, config, state, len(rows.theta) - num_validation)
    run = _driver(parts, config)
    loop = Loop(run, source.data, blocks, config, total, folder, mark)
    state, history = loop(state, frozen, progress, should_stop)
    best = Variables(_tree(packing, state.best_params, config.num_members), frozen)
    return Fit(estimator, best, history, state, _verdict(state, history))


def _tree(packing: Packing, trained: Any, num_members: int) -> Any:
    """Trained form back to the parameter tree, member by member for an ensemble."""
    unpack = jax.vmap(packing.unpack) if num_members > 1 else packing.unpack
    return jax.jit(unpack, compiler_options=compiler_options(once=True))(trained)


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
    # numpy's generator, seeded with the key: nothing to compile.
    words = jax.random.key_data(jax.random.fold_in(key, _SPLIT))
    order = np.random.default_rng(np.asarray(words)).permutation(len(data.theta))
    return _valid(data, order), num_validation


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
    options = compiler_options(once=True)
    take = jax.jit(
        lambda data, order: jax.tree.map(lambda leaf: leaf[order], data),
        compiler_options=options,
    )
    return take(data, order)


def _featured(
    estimator: Estimator, frozen: Any, rows: Dataset, num_validation: int
) -> tuple[Batch, Batch]:
    """`_split` compiled."""
    options = compiler_options(once=len(rows.theta) <= _FEW)
    split = jax.jit(_split, static_argnums=(0, 3), compiler_options=options)
    return split(estimator, frozen, rows, num_validation)


def _split(
    estimator: Estimator, frozen: Any, rows: Dataset, num_validation: int
) -> tuple[Batch, Batch]:
    """Training rows as one batch, and validation rows in blocks."""
    features = estimator.features(frozen, rows.x)
    z = estimator.prior_of(frozen).to_latent(rows.theta)
    batch = Batch(z, features, rows.valid)
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


def _packing(draw: Callable[[Array], Any]) -> tuple[Packing, bool]:
    """How the parameters are kept, and whether they are a wide network's."""
    # The jitted function's trace gives the shapes; `_initial` finds it in jit's cache.
    shapes = jax.eval_shape(draw, jax.random.key(0))
    weights = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    wide = weights > _WIDE
    return unpacked() if wide else as_vector(shapes), wide


def _make_loss(
    estimator: Estimator, frozen: Any, packing: Packing
) -> Callable[..., Any]:
    def apply(params: Any, z: Array, features: Any) -> tuple[Array, Array]:
        variables = Variables(packing.unpack(params), frozen)
        return estimator.latent_log_prob(variables, z, features)

    return lambda params, batch, key: npe_loss(apply, params, batch, key)


def _initial(
    key: Array,
    draw: Callable[[Array], Any],
    packing: Packing,
    optimizer: Any,
    config: TrainConfig,
) -> TrainState:
    """State of one network, or of an ensemble with a leading axis."""

    @functools.partial(jax.jit, compiler_options=compiler_options(once=True))
    def one(member: int) -> TrainState:
        own = jax.random.fold_in(jax.random.fold_in(key, _MEMBERS), member)
        params = packing.pack(draw(own))
        return init_state(
            jax.random.fold_in(own, _TRAIN), params, optimizer, config.ema_decay > 0
        )

    if config.num_members == 1:
        return one(0)
    states = [one(member) for member in range(config.num_members)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _driver(parts: EpochParts, config: TrainConfig) -> Any:
    ensemble = config.num_members > 1
    driver = config.driver
    if driver == "auto":
        on_cpu = jax.default_backend() == "cpu"
        driver = "step" if on_cpu and parts.wide else "scan"
    if driver == "step" and not ensemble:
        return make_stepper(parts)
    epochs = max(1, round(_CHUNK_STEPS / parts.source.steps))
    return make_chunk(parts, min(epochs, parts.max_epochs), ensemble)


def _fixed(rows: Batch, config: TrainConfig) -> tuple[Source, int]:
    """All rows in every epoch."""
    source = fixed_source(rows, config.batch_size)
    return source, config.epochs(source.steps)


def _fresh(
    estimator: Estimator, frozen: Any, simulator: Simulator, config: TrainConfig
) -> tuple[Source, int]:
    """Fresh rows in epochs of equal length: no more steps than were asked for."""
    max_epochs = -(-config.num_steps // config.steps_per_epoch)
    steps = config.num_steps // max_epochs
    source = fresh_source(estimator, frozen, simulator, config.batch_size, steps)
    return source, max_epochs


def _mark(
    key: Array,
    estimator: Estimator,
    config: TrainConfig,
    state: TrainState,
    count: int,
) -> np.ndarray:
    """What a checkpoint must share with the run that continues it."""
    return fingerprint(
        {
            "config": dataclasses.asdict(config),
            "estimator": _words(estimator, state),
            "key": _numbers(key),
            "rows": count,
        }
    )


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
