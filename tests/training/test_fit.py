"""Whole trainings of a tiny flow on a problem with a known posterior."""

import dataclasses
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.flows import CINN
from flowinv.losses.npe import npe_loss
from flowinv.priors import normal
from flowinv.training.config import TrainConfig
from flowinv.training.fit import Interrupted, train
from flowinv.types import Dataset

KEY = jax.random.key(1)


def test_learns_the_linear_gaussian_posterior(fit, linear, prior):
    """Means within 0.15 posterior sds (rms), sds within 5 %, for 20 new observations.

    Trained on 5,400 rows: what is left is the network's own error (0.1 sds), ten times
    the error of 10,000 draws. Fixed keys: no false alarms.
    """
    theta = prior.sample(jax.random.key(2), 20)
    x = jax.vmap(linear.simulate)(jax.random.split(jax.random.key(3), 20), theta)
    draws = fit.posterior.sample(jax.random.key(4), x, 10_000)
    sd = np.sqrt(np.diag(linear.covariance))
    shift = (draws.mean(1) - linear.posterior_mean(x)) / sd
    assert np.sqrt((shift**2).mean()) < 0.15
    assert np.abs(shift).max() < 0.5
    np.testing.assert_allclose(draws.std(1) / sd, 1.0, atol=0.25)
    assert abs((draws.std(1) / sd).mean() - 1) < 0.05


def test_validation_loss_comes_down_to_the_entropy(fit, linear):
    """Within 0.15 nats: 600 validation rows leave a standard error of 0.04."""
    losses = fit.history["validation_loss"]
    assert losses[0] > linear.entropy + 0.1
    assert abs(losses.min() - linear.entropy) < 0.15
    assert losses.min() < losses[0] - 0.1


def test_history_and_verdict(fit, settings):
    epochs = len(fit.history["step"])
    assert epochs == settings.max_epochs == int(fit.state.epoch)
    assert fit.history["step"].tolist() == [18 * (i + 1) for i in range(epochs)]
    assert all(np.isfinite(values).all() for values in fit.history.values())
    assert (fit.history["out_of_range"] < 0.05).all()
    best = fit.history["validation_loss"].argmin()
    assert float(fit.state.best_loss) == fit.history["validation_loss"][best]
    np.testing.assert_allclose(fit.validation_loss, fit.state.best_loss, rtol=1e-5)
    expected = f"Ended after {epochs} epochs; best validation loss in epoch {best + 1}."
    assert fit.message == expected
    # The state may hold the numbers in another arrangement.
    found, best = (
        np.sort(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]))
        for tree in (fit.variables.params, fit.state.best_params)
    )
    np.testing.assert_array_equal(found, best)


def test_step_driver_gives_the_scan_drivers_numbers(
    estimator, data, settings, assert_same, optimised
):
    scanned, stepped = (
        train(KEY, estimator, data, dataclasses.replace(settings, driver=driver))
        for driver in ("scan", "step")
    )
    for name, values in scanned.history.items():
        np.testing.assert_array_equal(stepped.history[name], values)
    assert_same(stepped.variables.params, scanned.variables.params)


def test_the_key_decides_everything(fit, estimator, data, settings):
    """Same key: the same numbers, also when stopped and resumed. See test_resume."""
    other = train(
        jax.random.key(5), estimator, data, dataclasses.replace(settings, max_epochs=1)
    )
    assert other.history["train_loss"][0] != fit.history["train_loss"][0]


def test_one_trace_for_all_chunks_and_resume_is_bitwise(
    fit, estimator, data, settings, tmp_path, assert_same
):
    """Stopped after the second chunk and resumed: numbers of the unbroken run."""
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 2

    chex.clear_trace_counter()
    # jax traces the loss once for the step, once for validation, and once where the
    # run that ends compares with its start; both runs share their programs.
    traced = chex.assert_max_traces(npe_loss, n=3)
    with pytest.raises(Interrupted):
        train(
            KEY,
            estimator,
            data,
            settings,
            loss=traced,
            folder=tmp_path,
            should_stop=stop,
        )
    assert len(asked) == 2
    seen = []
    resumed = train(
        KEY,
        estimator,
        data,
        settings,
        loss=traced,
        folder=tmp_path,
        progress=seen.append,
    )
    # Where it stopped, losses included: two chunks of six, of which the first began
    # with the start.
    assert seen[0].step == 18 * 11
    assert np.isfinite(seen[0].validation_loss)
    assert seen[1].step > seen[0].step
    assert_same(resumed.state, fit.state)
    assert_same(resumed.variables, fit.variables)
    for name, values in fit.history.items():
        np.testing.assert_array_equal(resumed.history[name], values)
    assert resumed.message == fit.message
    # Finished: nothing is left to do, and the answer is the same.
    again = train(KEY, estimator, data, settings, loss=traced, folder=tmp_path)
    assert_same(again.state, fit.state)


def test_a_checkpoint_is_taken_for_no_other_run(estimator, data, settings, tmp_path):
    """Key, config, network, loss, prior, summary, data: each gives its own fit."""
    short = dataclasses.replace(settings, max_epochs=1)
    wider = dataclasses.replace(
        estimator, flow=CINN(num_layers=2, hidden=(9,), head_hidden=(16,))
    )
    summed = dataclasses.replace(estimator, summary=lambda x: x[..., :2])
    moved = dataclasses.replace(estimator, prior=normal([0, 0.1], [1, 1]))
    flipped = data._replace(x=data.x[::-1])

    def scaled(*arguments):
        return 2 * npe_loss(*arguments)

    cases = {
        "": (KEY, estimator, data, short, npe_loss),
        "config": (KEY, estimator, data, replace_rate(short), npe_loss),
        "key": (jax.random.key(2), estimator, data, short, npe_loss),
        "flow": (KEY, wider, data, short, npe_loss),
        "summary": (KEY, summed, data, short, npe_loss),
        "prior": (KEY, moved, data, short, npe_loss),
        "data": (KEY, estimator, flipped, short, npe_loss),
        "loss": (KEY, estimator, data, short, scaled),
    }
    losses = []
    for what, (key, own, rows, config, loss) in cases.items():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            fit = train(key, own, rows, config, loss=loss, folder=tmp_path / "run")
        words = [str(one.message) for one in said]
        assert not what or what in words[0].split(":")[0]
        losses.append(float(fit.history["validation_loss"][0]))
    assert len(set(losses)) == len(cases)


def replace_rate(config):
    return dataclasses.replace(config, learning_rate=2e-2)


def test_first_member_of_an_ensemble_is_the_single_network(
    fit, estimator, data, settings
):
    """To 1e-5 while rounding has not yet been amplified: the first epochs."""
    members = train(KEY, estimator, data, dataclasses.replace(settings, num_members=3))
    losses = members.history["validation_loss"]
    assert losses.shape == (20, 3)
    np.testing.assert_allclose(losses[:3, 0], fit.history["validation_loss"][:3], 1e-5)
    np.testing.assert_allclose(losses[:, 0], fit.history["validation_loss"], 1e-2)
    assert len(np.unique(losses[-1])) == 3
    kernels = members.variables.params["flow"]["head"]["Dense_0"]["kernel"]
    single = fit.variables.params["flow"]["head"]["Dense_0"]["kernel"]
    assert kernels.shape == (3, *single.shape)
    assert members.posterior.variables.num_members == 3


def test_progress_of_an_ensemble_is_finite_when_some_have_stopped(
    estimator, data, settings
):
    config = dataclasses.replace(
        settings,
        num_members=3,
        patience=1,
        learning_rate=5e-2,
        max_epochs=40,
        ema_decay=0.0,
    )
    seen = []
    members = train(KEY, estimator, data, config, progress=seen.append)
    active = members.history["active"]
    # The case that is tested: not all stopped in one epoch.
    assert active.any(1).all()
    assert not active.all()
    assert all(np.isfinite(p.validation_loss + p.train_loss) for p in seen[1:])


def nan_above(limit):
    """The NPE loss, but NaN for every row with z_0 of at least `limit`."""

    def loss(apply, params, batch, key):
        values = npe_loss(apply, params, batch, key)
        return jnp.where(batch.z[..., 0] >= limit, jnp.nan, values)

    return loss


def test_nan_in_training_stops_names_the_step_and_keeps_the_best(
    estimator, data, settings
):
    """One training row gives NaN: it comes up in some step of the first epoch."""
    config = dataclasses.replace(settings, max_epochs=3)
    order = jax.random.permutation(jax.random.fold_in(KEY, 0), len(data.theta))
    training, held = np.split(np.asarray(data.theta)[np.asarray(order), 0], [5_400])
    assert training.max() > held.max()
    loss = nan_above(training.max() - 1e-4)
    stopped = train(KEY, estimator, data, config, loss=loss)
    step = int(stopped.state.failed_step)
    assert 0 <= step < 18
    assert int(stopped.state.step) == step
    assert stopped.message == (
        f"Stopped at step {step}: loss or gradient not finite; best kept."
    )
    assert np.isfinite(stopped.history["validation_loss"]).all()
    chex.assert_tree_all_finite(stopped.variables.params)


def test_a_loss_that_is_never_finite_is_an_error(estimator, data, settings):
    config = dataclasses.replace(settings, max_epochs=1)
    message = r"finite loss in the first epoch; got a non-finite one at step 0\. Lower"
    with pytest.raises(ValueError, match=message):
        train(KEY, estimator, data, config, loss=nan_above(-np.inf))


def test_invalid_rows_are_never_seen(fit, estimator, data, settings):
    """Rows marked invalid may hold NaN; 300 of 6,000 leave the rest learning."""
    config = dataclasses.replace(settings, max_epochs=2)
    rows = slice(0, 6_000, 20)
    dirty = data._replace(
        theta=data.theta.at[rows].set(jnp.nan),
        x=data.x.at[rows].set(jnp.nan),
        valid=data.valid.at[rows].set(False),
    )
    trained = train(KEY, estimator, dirty, config)
    assert "Ended after 2 epochs" in trained.message
    assert all(np.isfinite(values).all() for values in trained.history.values())
    assert trained.history["step"].tolist() == [17, 34]


def test_bad_rows_and_settings_answer_before_training(estimator, data, settings):
    few = Dataset(*(leaf[:610] for leaf in data))
    message = r"at least two batches of 300; got 549 valid ones after 61 for validation"
    with pytest.raises(ValueError, match=message):
        train(KEY, estimator, few, settings)
    half = data._replace(valid=jnp.arange(6_000) < 615)
    with pytest.raises(ValueError, match="553 valid ones"):
        train(KEY, estimator, half, settings)
    nan = data._replace(theta=data.theta.at[3].set(jnp.nan))
    with pytest.raises(ValueError, match="theta of valid rows inside the prior; got 1"):
        train(KEY, estimator, nan, settings)
    nan = data._replace(x=data.x.at[:2, 1].set(jnp.inf))
    with pytest.raises(ValueError, match="x of valid rows to be finite; got 2 rows"):
        train(KEY, estimator, nan, settings)
    with pytest.raises(ValueError, match="learning_rate above 0"):
        train(KEY, estimator, data, dataclasses.replace(settings, learning_rate=0.0))


@pytest.fixture(scope="module")
def fresh(estimator, failing):
    """Fresh mode on a simulator that fails in a tenth of its runs, and what it drew."""
    config = TrainConfig(
        batch_size=32, num_steps=45, steps_per_epoch=20, num_validation=200
    )
    return config, train(KEY, estimator, failing, config)


def test_fresh_mode_takes_the_steps_asked_for(fresh):
    config, trained = fresh
    assert trained.history["step"].tolist() == [15, 30, 45]
    assert int(trained.state.step) == config.num_steps


def test_fresh_mode_survives_failing_simulations(fresh):
    _, trained = fresh
    assert "Ended after 3 epochs" in trained.message
    assert all(np.isfinite(values).all() for values in trained.history.values())
    chex.assert_tree_all_finite(trained.variables)


def test_fresh_mode_resumes_to_the_same_numbers(
    fresh, estimator, failing, tmp_path, assert_same
):
    config, scanned = fresh
    slow = dataclasses.replace(config, driver="step")
    unbroken = train(KEY, estimator, failing, slow)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 1

    with pytest.raises(Interrupted):
        train(KEY, estimator, failing, slow, folder=tmp_path, should_stop=stop)
    resumed = train(KEY, estimator, failing, slow, folder=tmp_path)
    np.testing.assert_array_equal(
        resumed.history["train_loss"], unbroken.history["train_loss"]
    )
    assert_same(resumed.state.params, unbroken.state.params)
    # XLA sums over rows, some of them masked, in another order inside a loop.
    np.testing.assert_allclose(
        scanned.history["train_loss"], unbroken.history["train_loss"], rtol=1e-5
    )


@pytest.mark.slow
def test_fresh_mode_is_the_same_in_both_drivers(
    fresh, estimator, linear, assert_same, optimised
):
    """Bitwise where no simulation fails."""
    config, _ = fresh
    scanned, stepped = (
        train(KEY, estimator, linear, dataclasses.replace(config, driver=driver))
        for driver in ("scan", "step")
    )
    assert_same(scanned.state, stepped.state)
    assert_same(scanned.variables, stepped.variables)
    for name, values in scanned.history.items():
        np.testing.assert_array_equal(stepped.history[name], values)
