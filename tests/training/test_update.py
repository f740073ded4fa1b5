"""One step: masked, clipped by the optimizer, and safe against what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowinv.losses.npe import Batch
from flowinv.training.epoch import make_chunk, make_stepper
from flowinv.training.state import init_state
from flowinv.training.update import (
    make_choose,
    make_update,
    make_validate,
    masked_mean,
)


def loss(params, batch, key):
    del key
    return ((params - batch.z) ** 2).sum(-1)


def beyond(params, batch):
    return (jnp.abs(batch.z - params) > 1).mean(-1)


def batch(z, valid=None):
    z = jnp.asarray(z, jnp.float32)
    return Batch(z, (), jnp.ones(len(z), bool) if valid is None else jnp.array(valid))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_masked_mean_ignores_what_invalid_rows_hold(bad):
    values, valid = jnp.array([1.0, bad, 3.0]), jnp.array([True, False, True])
    assert float(masked_mean(values, batch(np.zeros((3, 1)), valid))) == 2.0
    assert float(masked_mean(values, batch(np.zeros((3, 1)), [False] * 3))) == 0.0


def test_weights_count_in_a_step_and_in_validation():
    weight = jnp.array([0.5, 2.0, 9.0])
    rows = batch([[1.0], [3.0], [5.0]], [True, True, False])._replace(weight=weight)
    expected = (0.5 * 1.0 + 2.0 * 9.0) / 2
    assert float(masked_mean(loss(0.0, rows, None), rows)) == expected
    blocks = jax.tree.map(lambda leaf: leaf[None], rows)
    assert float(make_validate(loss, beyond)(0.0, blocks, None)[0]) == expected


def test_invalid_rows_change_no_step():
    update = make_update(loss, optax.sgd(0.1), 0.0)
    start = init_state(jax.random.key(0), jnp.zeros(2), optax.sgd(0.1))
    rows = [[1.0, 2.0], [50.0, -50.0], [3.0, 0.0]]
    some, info = update(start, batch(rows, [True, False, True]), None)
    kept, other = update(start, batch([rows[0], rows[2]]), None)
    np.testing.assert_allclose(some.params, kept.params, rtol=1e-6)
    np.testing.assert_allclose(info.loss, other.loss, rtol=1e-6)


def test_validation_is_the_mean_over_valid_rows_of_all_blocks():
    rows = np.arange(12.0).reshape(3, 2, 2)
    valid = np.array([[True, True], [True, False], [False, False]])
    blocks = Batch(jnp.asarray(rows, jnp.float32), (), jnp.asarray(valid))
    mean, outside = make_validate(loss, beyond)(jnp.zeros(2), blocks, None)
    expected = (rows[valid] ** 2).sum(-1).mean()
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    np.testing.assert_allclose(outside, (np.abs(rows[valid]) > 1).mean())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing_and_stops(bad):
    optimizer = optax.adam(0.1)
    update = make_update(loss, optimizer, 0.9)
    state = init_state(jax.random.key(0), jnp.zeros(2), optimizer, keep_mean=True)
    state, _ = update(state, batch([[1.0, 1.0]]), None)
    failed, _ = update(state, batch([[1.0, bad]]), None)
    assert bool(failed.stopped)
    assert int(failed.failed_step) == int(failed.step) == 1
    for name in ("params", "ema"):
        np.testing.assert_array_equal(getattr(failed, name), getattr(state, name))
    np.testing.assert_array_equal(failed.opt_state[0].mu, state.opt_state[0].mu)
    # Good rows do not wake a stopped run, and the step named stays the first.
    later, _ = update(failed, batch([[1.0, 1.0]]), None)
    np.testing.assert_array_equal(later.params, state.params)
    assert int(later.failed_step) == int(later.step) == 1


def test_a_gradient_that_is_not_finite_stops_too():
    def root(params, batch, key):
        del key
        return jnp.sqrt(jnp.abs(params - batch.z)).sum(-1)

    update = make_update(root, optax.sgd(0.1), 0.0)
    start = init_state(jax.random.key(0), jnp.zeros(1), optax.sgd(0.1))
    state, info = update(start, batch([[0.0]]), None)
    assert np.isfinite(info.loss)
    assert bool(state.stopped)
    assert int(state.failed_step) == 0
    assert float(state.params[0]) == 0.0


@pytest.mark.parametrize("driver", ["scan", "step"])
def test_nan_at_a_known_step_keeps_the_last_finite_best(toy, driver):
    """The loss turns NaN once p has come near the rows, in the middle of an epoch."""

    def breaking(params, batch, key):
        values = loss(params["p"], batch, key)
        return jnp.where(params["p"].mean() > 1.0, jnp.nan, values)

    toy = toy(loss=breaking)
    make = make_stepper if driver == "step" else lambda p: make_chunk(p, 1, False)
    chunk, state, losses = make(toy.parts), toy.start(), []
    for _ in range(8):
        state, info = chunk(state, toy.data, toy.blocks, False)
        losses += np.asarray(info.validation_loss)[np.asarray(info.active)].tolist()
        if state.stopped:
            break
    step = int(state.failed_step)
    assert step > 8  # later than the first epoch
    assert int(state.step) == step
    assert bool(state.stopped)
    assert np.isfinite(state.best_params["p"]).all()
    finite = [value for value in losses if np.isfinite(value)]
    assert float(state.best_loss) == np.float32(min(finite))


def test_training_must_be_surely_better_than_its_start():
    """Paired gains of 400 rows: their mean against twice its error."""
    rng = np.random.default_rng(0)
    choose = jax.jit(make_choose(loss))

    def kept(shift, start=0.0, noise=1.0):
        # Rows around 1: the loss gains start^2 - best^2 on average, seen from there.
        z = 1.0 + noise * rng.normal(size=(2, 200, 1))
        blocks = Batch(jnp.float32(z), (), jnp.ones((2, 200), bool))
        start, best = jnp.full(1, start), jnp.full(1, start + shift)
        chosen, is_start, own, rows = choose(start, best, blocks, None)
        np.testing.assert_array_equal(chosen, start if is_start else best)
        np.testing.assert_allclose(rows, loss(chosen, blocks, None), rtol=1e-6)
        np.testing.assert_allclose(own, rows.mean(), rtol=1e-5)
        values = np.asarray(loss(start, blocks, None) - loss(best, blocks, None))
        gain, error = values.mean(), values.std() / 20
        assert bool(is_start) == (gain <= 2 * error)
        return bool(is_start)

    assert not kept(0.9)  # gains 0.99 with an error of 0.09
    assert kept(-0.5)  # loses
    by_chance = [kept(0.1, start=0.95) for _ in range(40)]
    # No gain on average: sure by chance with 2.3 %; more than five of 40 once in 3,000.
    assert sum(by_chance) >= 35
    assert not kept(0.5, start=np.nan)


@pytest.mark.parametrize("noise", [0.1, 1.0, 2.0, 3.0])
def test_a_choice_by_weighted_rows(noise):
    """Gains of ten rows that weigh the most, and losses of a thousand others."""
    rng = np.random.default_rng(1)
    near = np.repeat([True, False], [10, 1_000])
    z = np.where(near, 0.9, 0.1) + noise * np.where(near, 1, 0.1) * rng.normal(
        size=1_010
    )
    weight = np.where(near, rng.uniform(0.5, 2.0, 1_010), 1e-5)
    start, best = jnp.zeros(1), jnp.ones(1)
    choose = jax.jit(make_choose(loss))

    def kept(weight):
        there = jnp.ones((1, 1_010), bool)
        blocks = Batch(jnp.float32(z[None, :, None]), (), there, None, weight)
        return bool(choose(start, best, blocks, None).is_start)

    gain = z**2 - (1 - z) ** 2
    mean = np.average(gain, weights=weight)
    error = np.sqrt((weight**2 * (gain - mean) ** 2).sum()) / weight.sum()
    assert (mean > 2 * error) == (noise < 3)
    assert kept(jnp.float32(weight[None])) == (mean <= 2 * error)
    assert kept(None)


def test_a_row_that_the_start_was_far_off_does_not_hide_the_gain_of_others():
    """Gains of 0.1 with an error of 0.005, and one of 1,000,000."""
    choose = jax.jit(make_choose(loss))
    z = jnp.ones((2, 200, 1)).at[0, 0].set(1e7)
    blocks = Batch(z, (), jnp.ones((2, 200), bool))
    start, best = jnp.zeros(1), jnp.full(1, 0.06)
    assert not choose(start, best, blocks, None).is_start
    assert choose(best, start, blocks, None).is_start


def test_nan_is_never_the_best(toy):
    held = jnp.full((4, 3), jnp.nan)
    toy = toy(held=held, max_epochs=3)
    state, info = make_chunk(toy.parts, 3, False)(
        toy.start(), toy.data, toy.blocks, False
    )
    assert np.isnan(info.validation_loss).all()
    assert np.isinf(state.best_loss)
    assert int(state.best_epoch) == 0
    np.testing.assert_array_equal(state.best_params["p"], toy.start().params["p"])


@pytest.mark.parametrize("every", [1, 4])
def test_running_mean_of_the_parameters(every):
    decay, rate = 0.9, 0.1
    update = jax.jit(make_update(loss, optax.sgd(rate), decay, every))
    state = init_state(jax.random.key(0), jnp.zeros(1), optax.sgd(rate), keep_mean=True)
    p = mean = 0.0
    for step in range(200):
        state, _ = update(state, batch([[1.0]]), None)
        p -= rate * 2 * (p - 1.0)
        if (step + 1) % every == 0:
            own = min(decay, (step + 1) / (step + 11)) ** every
            mean = own * mean + (1 - own) * p
    np.testing.assert_allclose(state.ema[0], mean, rtol=1e-5)
    np.testing.assert_allclose(state.params[0], p, rtol=1e-5)


def test_the_running_mean_is_what_is_validated_and_returned(toy):
    toy = toy(ema=0.99, max_epochs=2)
    state, info = make_chunk(toy.parts, 2, False)(
        toy.start(), toy.data, toy.blocks, False
    )
    expected = toy.parts.validate(state.ema, toy.blocks, None)[0]
    np.testing.assert_allclose(info.validation_loss[-1], expected, rtol=1e-6)
    np.testing.assert_array_equal(state.best_params["p"], state.ema["p"])
    assert not np.allclose(state.ema["p"], state.params["p"], atol=1e-3)
