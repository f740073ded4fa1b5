"""What trainings share: compiled programs, and rows with places that are empty yet."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.losses.npe import npe_loss
from flowinv.training import fit as fitting
from flowinv.training.fit import train
from flowinv.training.prepare import prepare
from flowinv.types import EMPTY, Dataset

KEY = jax.random.key(1)


def with_empty(data, count, size, number):
    """The first `count` rows, and places up to `size` that hold `number`."""
    there = jnp.arange(size) < count

    def put(leaf, value):
        own = leaf[:size]
        return jnp.where(there.reshape(-1, *[1] * (own.ndim - 1)), own, value)

    theta, x = put(data.theta, 0.0), put(data.x, number)
    return Dataset(theta, x, there, jnp.where(there, 0, EMPTY))


def test_trainings_of_one_kind_share_their_programs(estimator, data, settings):
    """Another key, other rows and an equal estimator: nothing is traced again."""
    # Once each for the step, for validation and for the comparison with the start.
    traced = chex.assert_max_traces(npe_loss, n=3)
    quick = dataclasses.replace(settings, max_epochs=2)
    fits = []
    for number in range(3):
        rows = jax.tree.map(lambda leaf, n=number: leaf[n * 1_500 :][:1_500], data)
        own = dataclasses.replace(estimator, flow=estimator.flow.clone())
        fits.append(train(jax.random.key(number), own, rows, quick, loss=traced))
    losses = {fit.validation_loss for fit in fits}
    assert len(losses) == 3
    # What is told apart is told apart: another number of steps is another program.
    with pytest.raises(AssertionError, match="max"):
        train(KEY, estimator, data, quick, loss=traced)


def test_programs_of_a_summary_that_has_changed_are_not_found_again(
    estimator, data, settings
):
    """An array that a summary reads, changed in place: its numbers are the new ones."""
    factor = np.ones(3, np.float32)

    def scaled(x):
        return x * factor

    quick = dataclasses.replace(settings, max_epochs=1)
    own = dataclasses.replace(estimator, summary=scaled)
    sds = []
    for value in (1.0, 3.0):
        factor[:] = value
        sds.append(train(KEY, own, data, quick).variables.frozen.summary[1])
    np.testing.assert_allclose(sds[1], 3.0 * sds[0], rtol=1e-5)


def test_places_of_later_rounds_are_not_trained_on(estimator, data, settings):
    """What they hold changes nothing, and programs are those of full rows."""
    quick = dataclasses.replace(settings, max_epochs=2, batch_size=64)
    one, two = (
        train(KEY, estimator, with_empty(data, 400, 1_000, number), quick)
        for number in (0.0, 1e3)
    )
    for a, b in zip(
        jax.tree.leaves(one.variables), jax.tree.leaves(two.variables), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    # Steps of an epoch are those of 900 rows.
    assert one.history["step"].tolist() == [14, 28]
    made = []
    for count in (400, 1_000):
        rows, held = fitting._rows(
            KEY, estimator, with_empty(data, count, 1_000, 0), quick
        )
        made.append(prepare(estimator.resolve(rows), rows, held))
        assert int(rows.valid.sum()) == count
        assert int(rows.valid[-held:].sum()) == count // 10
        seen, known = np.asarray(rows.theta[rows.valid]), np.asarray(data.theta[:count])
        np.testing.assert_array_equal(np.sort(seen[:, 0]), np.sort(known[:, 0]))
    chex.assert_trees_all_equal_shapes_and_dtypes(*made)
    # Solved as if they were not there.
    estimator = dataclasses.replace(estimator, placed=True)
    rows, held = fitting._rows(KEY, estimator, with_empty(data, 400, 1_000, 1e3), quick)
    alone = jax.tree.map(lambda leaf: leaf[rows.valid], rows)
    found, known = (
        prepare(estimator.resolve(own), own, count).frozen
        for own, count in ((rows, held), (alone, 40))
    )
    chex.assert_trees_all_close(found, known, rtol=1e-3, atol=1e-4)


def test_summaries_that_say_nothing_of_x_are_refused(estimator, data, settings):
    """The same for every row, as summaries of an x that never varies may be."""
    own = dataclasses.replace(estimator, summary=lambda x: 0 * x[..., :2] + 1.5)
    few = jax.tree.map(lambda leaf: leaf[:200], data)
    with pytest.raises(ValueError, match="summaries to vary with x; got the same for"):
        prepare(own, few, 20)
    still = few._replace(x=jnp.ones_like(few.x))
    assert np.isfinite(prepare(own, still, 20).training.features.known).all()
