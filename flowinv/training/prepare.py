"""From simulations to what a step reads: latents, solved numbers, features, blocks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import check_at_least, check_shape, fail
from flowinv.compiling import compiled
from flowinv.data.standardise import Statistics, fit_statistics
from flowinv.identity import by_content
from flowinv.losses.npe import Batch
from flowinv.models.estimator import (
    MAX_SOLVE,
    Estimator,
    Frozen,
    Params,
    Rows,
    Variables,
)
from flowinv.types import Dataset

__all__ = ["Prepared", "initial", "prepare"]

# Rows of one validation block.
_BLOCK = 1_024
# Up to so many rows, compiling the features' program costs more than running it.
_FEW = 50_000
# Rows that show whether summaries vary.
_LOOKED_AT = 512


class Prepared(NamedTuple):
    """A fixed set of simulations, ready for training.

    Attributes:
        frozen: numbers solved on the training rows.
        training: training rows.
        blocks: validation rows, `[blocks, rows, ...]`.
    """

    frozen: Frozen
    training: Batch
    blocks: Batch


def prepare(estimator: Estimator, data: Dataset, num_validation: int) -> Prepared:
    """Solve what is known before training, and turn the rows into features.

    Args:
        estimator: its input scaling is resolved.
        data: valid simulations or empty places, the validation rows last. Statistics
            and solves use the rows before them; validation rows choose penalties only.
        num_validation: number of validation rows, at least 2.

    Raises:
        ValueError: for unresolved `auto` scaling, too few rows, a theta of another
            size than the prior's, or summaries that are not finite.
    """
    count = len(data.theta) - num_validation
    check_at_least("num_validation", num_validation, 2)
    check_at_least("number of training simulations", count, 2)
    check_shape("theta", data.theta.shape[1:], (estimator.prior.dim,))
    once = len(data.theta) <= _FEW
    programs = _programs(estimator, once)
    z = programs.latent(data.theta)
    frozen = _solved(estimator, programs, data, z, num_validation)
    training, blocks = programs.split(frozen, data, z, num_validation)
    if estimator.summary is not None:
        known = np.asarray(training.features.known[:_LOOKED_AT])
        _check_summary(known[:, : frozen.summary[0].shape[-1]], data)
    return Prepared(frozen, training, blocks)


def initial(
    key: Array, estimator: Estimator, data: Dataset, num_validation: int
) -> Variables:
    """Return solved numbers and new networks: a posterior before training.

    Args:
        key: typed key of the networks.
        estimator: see `prepare`.
        data: see `prepare`.
        num_validation: see `prepare`.
    """
    frozen = prepare(estimator, data, num_validation).frozen
    draw = _programs(estimator, len(data.theta) <= _FEW).draw
    return Variables(draw(key, frozen), frozen)


class _Programs(NamedTuple):
    """Jitted parts of an estimator's preparation."""

    latent: Callable[[Array], Array]
    solve: Callable[[Statistics, Rows], Frozen]
    split: Callable[[Frozen, Dataset, Array, int], tuple[Batch, Batch]]
    draw: Callable[[Array, Frozen], Params]


@by_content(maxsize=8)
def _programs(estimator: Estimator, once: bool) -> _Programs:
    """Programs of an estimator; `once` for few rows."""
    return _Programs(
        compiled(lambda theta: estimator.prior.to_latent(theta), once=once),
        compiled(lambda *numbers: estimator.solve(*numbers), once=True),
        compiled(functools.partial(_split, estimator), once=once, static=(3,)),
        compiled(lambda *numbers: estimator.draw(*numbers), once=True),
    )


def _solved(
    estimator: Estimator,
    programs: _Programs,
    data: Dataset,
    z: Array,
    num_validation: int,
) -> Frozen:
    """`Estimator.solve` on the last training rows and the first held-out ones."""
    count = len(data.theta) - num_validation
    valid = np.asarray(data.valid)
    used = valid & (np.arange(len(valid)) < count)
    statistics = fit_statistics(data.x, used, estimator.input_scaling)
    some = slice(max(0, count - MAX_SOLVE), count + min(num_validation, MAX_SOLVE))
    train, held = (jnp.asarray(own[some]) for own in (used, valid & ~used))
    rows = Rows(data.theta[some], z[some], data.x[some], train, held)
    frozen = programs.solve(statistics, rows)
    if not np.isfinite(np.concatenate(frozen.summary)).all():
        fail("summaries of the training rows", "to be finite", "inf or NaN")
    return frozen


def _check_summary(found: np.ndarray, data: Dataset) -> None:
    """Raise for summaries of the first rows that are the same whatever x is."""
    varies = np.asarray(data.x[: len(found)]).std(0).max() > 0
    if varies and not (np.ptp(found, axis=0) > 0).any():
        remedy = "Such a summary throws x away: take another, or none."
        fail("summaries", "to vary with x", "the same for every row", remedy)


def _split(
    estimator: Estimator, frozen: Frozen, data: Dataset, z: Array, num_validation: int
) -> tuple[Batch, Batch]:
    """Training rows as one batch, and validation rows in blocks."""
    batch = Batch(z, estimator.features(frozen, data.x), data.valid)
    count = len(data.theta) - num_validation
    training = jax.tree.map(lambda leaf: leaf[:count], batch)
    return training, _blocks(jax.tree.map(lambda leaf: leaf[count:], batch))


def _blocks(batch: Batch) -> Batch:
    """Rows as `[blocks, rows, ...]`, the last block filled with invalid rows."""
    count = batch.z.shape[0]
    size = min(_BLOCK, count)
    fill = -count % size

    def fold(leaf: Array) -> Any:
        leaf = jnp.concatenate([leaf, leaf[:fill]]) if fill else leaf
        return leaf.reshape(len(leaf) // size, size, *leaf.shape[1:])

    valid = jnp.concatenate([batch.valid, jnp.zeros(fill, bool)]).reshape(-1, size)
    return jax.tree.map(fold, batch)._replace(valid=valid)
