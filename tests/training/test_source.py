"""Rows of a step: fresh ones never twice, of a growing set all as often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.losses.npe import Batch
from flowinv.training.prepare import initial
from flowinv.training.source import fresh_rows, fresh_source, growing_source


@pytest.fixture(scope="module")
def frozen(estimator, data):
    return initial(jax.random.key(0), estimator, data, 600).frozen


def test_no_row_comes_twice(estimator, frozen, linear):
    """60 steps of 32 rows under the keys that training derives: all 1,920 differ."""
    source = fresh_source(estimator, linear, 32, 60)
    batch = jax.jit(lambda key: source.batch(frozen, jnp.zeros(()), key, 0))
    stream = jax.random.fold_in(jax.random.key(3), 1)
    seen = []
    for step in range(60):
        key = jax.random.split(jax.random.fold_in(stream, step))[0]
        seen.append(np.asarray(batch(key).z))
    rows = np.concatenate(seen)
    assert len(np.unique(rows, axis=0)) == 60 * 32
    # Independent N(0, 1) rows: false alarm 1e-6 for each of the two.
    assert (np.abs(rows.mean(0)) * np.sqrt(len(rows)) < 4.9).all()


def test_failed_simulations_become_invalid_rows(estimator, frozen, failing):
    rows = fresh_rows(estimator, frozen, failing, jax.random.key(1), 2_000)
    # Binomial(2000, 0.1): sd 0.0067, false alarm 1e-6.
    assert abs(float(rows.valid.mean()) - 0.9) < 0.033
    assert np.isfinite(rows.z).all()
    assert np.isfinite(rows.features.inputs).all()
    assert np.isfinite(rows.features.known).all()


def test_rows_of_a_growing_set_are_seen_equally_often():
    valid = jnp.asarray([True, False, True, True, False, True, True, False])
    numbers = jnp.arange(8.0)[:, None]
    rows, source = Batch(numbers, numbers, valid), growing_source(4, 2)
    counts = np.zeros(8, int)
    for epoch in range(20):
        order = source.epoch(rows, jax.random.key(epoch))
        for position in range(source.steps):
            batch = source.batch(rows, order, jax.random.key(1), position)
            own = np.asarray(batch.z[:, 0], int)
            assert batch.valid.all()
            assert len({*own}) == 4
            counts[own] += 1
    assert (counts[~np.asarray(valid)] == 0).all()
    # 160 places for 5 rows: each in four of five batches, 32 times +- 3.
    assert np.ptp(counts[np.asarray(valid)]) <= 12


@pytest.mark.parametrize("count", [8, 20, 50])
def test_few_rows_are_passed_several_times_and_many_in_part(count):
    """Five steps of eight among `count` rows: none twice in a step, all in turn."""
    numbers = jnp.arange(50.0)[:, None]
    rows = Batch(numbers, None, jnp.arange(50) < count)
    source = growing_source(8, 5)
    order = source.epoch(rows, jax.random.key(0))
    seen = []
    for position in range(5):
        batch = source.batch(rows, order, jax.random.key(1), jnp.int32(position))
        own = batch.z[:, 0].astype(int).tolist()
        assert len(set(own)) == 8
        assert max(own) < count
        seen += own
    often = np.bincount(seen, minlength=count)
    assert often.max() - often.min() <= 1
    other, _ = source.epoch(rows, jax.random.key(5))
    assert not np.array_equal(order[0][:count], other[:count])
