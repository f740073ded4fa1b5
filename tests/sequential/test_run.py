"""Rounds from start to end: lanes, traces, resume, failures, bad input."""

import dataclasses
import warnings

import chex
import jax
import numpy as np
import pytest

from flowinv.methods import APT, Truncated, truncated
from flowinv.sequential import run_rounds
from flowinv.training.config import TrainConfig
from flowinv.training.loop import Interrupted

KEY = jax.random.key(3)
X_OBS = np.array([[0.3, -0.6], [0.0, 0.9], [-1.2, 0.1]], np.float32)


def assert_same(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


@pytest.mark.later("box")
def test_every_method_runs_and_reports(estimator, simulator, quick, method):
    seen = []
    done = run_rounds(
        KEY,
        estimator,
        simulator,
        X_OBS[0],
        quick(method),
        progress=lambda lane, info: seen.append((lane, int(info.round))),
    )
    assert seen == [(0, 0), (0, 1), (0, 2)]
    (history,) = done.history
    assert history.round.tolist() == [0, 1, 2]
    assert history.num_failed.tolist() == [0, 0, 0]
    # Epochs are five steps at least, and a pass over the training rows in use: two of
    # them, and four in the last round.
    batches = np.maximum(5, 0.9 * history.num_used / 64)
    assert (np.abs(history.steps / [2, 2, 4] - batches) <= 1).all()
    assert history.steps[0] == 10
    for name in ("validation_loss", "mass_outside", "distance", "mean", "sd"):
        assert np.isfinite(getattr(history, name)).all(), name
    assert (history.sample_efficiency > 0).all()
    assert (history.sample_efficiency <= 1).all()
    state = done.states[0]
    assert np.isfinite(state.log_proposal).all()
    assert state.round.tolist() == np.repeat(range(3), 300).tolist()
    theta = done.posterior.sample(jax.random.key(0), X_OBS[0], 100)
    assert bool(estimator.prior.contains(theta).all())


@pytest.fixture
def compilations():
    """Names of programs, as often as they were compiled or read from the disk."""
    names = []

    def note(event, seconds, **more):
        del seconds
        if event.endswith("backend_compile_duration"):
            names.append(more["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(note)
    yield names
    jax.monitoring.unregister_event_duration_listener(note)


def test_training_is_traced_once_for_all_rounds_lanes_and_a_resumed_run(
    estimator, simulator, quick, monkeypatch, compilations, tmp_path
):
    chex.clear_trace_counter()
    """And the resumed run is the unbroken one, bitwise."""
    # Once for the step, once for validation, once to compare with the start.
    traced = chex.assert_max_traces(truncated.npe_loss, n=3)
    monkeypatch.setattr(truncated, "npe_loss", traced)
    # A size of its own: no other test has compiled these programs.
    rest = (KEY, estimator, simulator, X_OBS, quick("box", num_simulations=310))
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(Interrupted):
        run_rounds(*rest, folder=tmp_path, should_stop=stop)
    done = run_rounds(*rest, folder=tmp_path)
    assert [len(history.round) for history in done.history] == [3, 3, 3]
    unbroken = run_rounds(*rest)
    assert_same(done.states, unbroken.states)
    assert_same(done.history, unbroken.history)
    # Compiled ahead, and found by the calls.
    for stage in ("propose", "simulate", "put", "prepare", "train_round", "finish"):
        assert compilations.count(f"jit({stage})") == 1, stage


def test_a_lane_of_several_is_its_single_run(estimator, simulator, quick):
    """Bitwise, one lane a call."""
    together = run_rounds(KEY, estimator, simulator, X_OBS, quick("auto"))
    for lane in range(3):
        own = jax.random.fold_in(KEY, lane)[None]
        single = run_rounds(own, estimator, simulator, X_OBS[lane], quick("auto"))
        assert_same(single.states[0], together.states[lane])


# Vmapped programs take half a minute to compile: test_devices.py has boxes'.
@pytest.mark.slow
@pytest.mark.parametrize("method", ["box", "hdr", "apt", "hybrid"], indirect=True)
def test_lanes_of_one_program_are_single_runs(estimator, simulator, quick, method):
    """To 3e-4 of the prior's sd.

    Ten steps: rounding has not been amplified by training yet, and most differences are
    5e-5. But the start's penalty is one of seven, and rounding may choose a neighbour
    (seen: 1.2e-4), and the second region carries the rounding of the first: a row may
    fall in or out.
    """
    config = quick(method)
    alone, batched = (
        run_rounds(KEY, estimator, simulator, X_OBS, own)
        for own in (config, dataclasses.replace(config, lanes_per_call=3))
    )
    for lane in range(3):
        np.testing.assert_allclose(
            batched.states[lane].theta[:300], alone.states[lane].theta[:300], atol=1e-5
        )
        for name in ("mean", "sd"):
            many, one = (getattr(done.history[lane], name) for done in (batched, alone))
            np.testing.assert_allclose(many[0], one[0], atol=3e-4)
            np.testing.assert_allclose(many, one, atol=1e-3)


@pytest.mark.slow
def test_lanes_finish_on_their_own(estimator, simulator, quick):
    """A converged lane keeps its state while the others go on."""
    # The programs of the test before, but for the one that stops.
    config = quick("box", lanes_per_call=3)
    free = run_rounds(KEY, estimator, simulator, X_OBS, config)
    # Of round 1: a stop after the third round would be no early one.
    moved = np.array([history.distance[1] for history in free.history])
    # Between the lanes' movements: some converge, some do not.
    limit = float(np.sort(moved)[:2].mean())
    config = dataclasses.replace(config, stop_when_converged=limit)
    done = run_rounds(KEY, estimator, simulator, X_OBS, config)
    rounds = [len(history.round) for history in done.history]
    assert rounds == np.where(moved < limit, 2, 3).tolist()
    assert min(rounds) < max(rounds)
    for lane, count in enumerate(rounds):
        state = done.states[lane]
        assert int(state.index) == count
        assert int((state.round >= 0).sum()) == 300 * count


@pytest.mark.later("box")  # the test of traces has it
def test_interrupted_and_resumed_is_bitwise(
    estimator, simulator, quick, method, tmp_path
):
    config = quick(method)
    unbroken = run_rounds(KEY, estimator, simulator, X_OBS[0], config)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(Interrupted):
        run_rounds(
            KEY,
            estimator,
            simulator,
            X_OBS[0],
            config,
            folder=tmp_path,
            should_stop=stop,
        )
    seen = []
    resumed = run_rounds(
        KEY,
        estimator,
        simulator,
        X_OBS[0],
        config,
        folder=tmp_path,
        progress=lambda lane, info: seen.append(int(info.round)),
    )
    assert seen == [2]
    assert_same(resumed.states, unbroken.states)
    assert_same(resumed.history, unbroken.history)


def test_rounds_go_on_with_no_other_run(estimator, simulator, failing, quick, tmp_path):
    """Another key, another observation or another simulator starts anew."""
    method = quick("auto")
    cases = {
        "": (KEY, simulator, X_OBS[0]),
        "key": (jax.random.key(9), simulator, X_OBS[0]),
        "simulator": (KEY, failing, X_OBS[0]),
    }
    sds = []
    for what, (key, own, x_obs) in cases.items():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            done = run_rounds(key, estimator, own, x_obs, method, folder=tmp_path)
        words = [str(one.message) for one in said]
        assert not what or f"another {what}" in words[0].replace("key, ", "")
        sds.append(done.states[0].draws.std(0).tolist())
    assert len({tuple(sd) for sd in sds}) == len(cases)


@pytest.mark.parametrize("name", ["auto", "apt"])
def test_failed_simulations_are_counted_and_no_rows(estimator, failing, quick, name):
    done = run_rounds(KEY, estimator, failing, X_OBS[0], quick(name))
    failed = done.history[0].num_failed
    assert (failed > 10).all()
    assert (failed < 60).all()
    state = done.states[0]
    assert int((~state.valid).sum()) == failed.sum()
    assert np.isfinite(state.x).all()


class Host:
    """The same simulator, called from the host with numpy."""

    x_shape = (2,)

    def __init__(self):
        self.calls = []

    def simulate_batch(self, key, theta):
        self.calls.append(np.shape(theta))
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        x = np.asarray(theta) + 0.1 * rng.normal(size=np.shape(theta))
        return x.astype(np.float32), np.ones(len(x), bool)


@pytest.mark.parametrize("lanes_per_call", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_host_simulators(estimator, quick, lanes_per_call):
    host = Host()
    # Programs of the tests before, but for the simulator's.
    method = quick("auto", lanes_per_call=lanes_per_call)
    done = run_rounds(KEY, estimator, host, X_OBS, method)
    assert host.calls == [(300, 2)] * 9
    state = done.states[1]
    spread = np.std(np.asarray(state.x - state.theta))
    assert 0.08 < spread < 0.12


def test_the_same_x_everywhere_is_refused(estimator, quick):
    class Stuck(Host):
        def simulate_batch(self, key, theta):
            x, valid = super().simulate_batch(key, theta)
            return np.ones_like(x), valid

    with pytest.raises(ValueError, match="x to differ between rows; got the same"):
        run_rounds(KEY, estimator, Stuck(), X_OBS[0], quick("auto"))


BAD = [
    (Truncated(num_rounds=0), "num_rounds of at least 1; got 0"),
    (Truncated(num_simulations=10), "num_simulations of at least 100; got 10"),
    (
        Truncated(num_simulations=100, train=TrainConfig(batch_size=64)),
        "batch_size of at most half a round's 100",
    ),
    (Truncated(region="ball"), "region to be one of auto, box, hdr; got 'ball'"),
    (Truncated(epsilon=0.0), "epsilon above 0; got 0.0"),
    (Truncated(epsilon=0.5), "epsilon of at most 0.1; got 0.5"),
    (Truncated(margin=-0.1), "margin above 0; got -0.1"),
    (Truncated(stop_when_converged=-1.0), "stop_when_converged of at least 0"),
    (APT(num_atoms=1), "num_atoms of at least 2; got 1"),
    (APT(num_atoms=500), "num_atoms of at most the batch's 64 rows; got 500"),
    (APT(num_atoms="many"), "num_atoms to be a number or 'all'; got 'many'"),
    (APT(truncated_rounds=10), "truncated_rounds from 0 to 9, or 'auto'; got 10"),
    (APT(truncated_rounds="few"), "truncated_rounds from 0 to 9, or 'auto'; got 'few'"),
    (APT(widening=0.5), "widening from 1 to 10; got 0.5"),
]


@pytest.mark.parametrize(("config", "message"), BAD)
def test_bad_configs(estimator, simulator, config, message):
    with pytest.raises(ValueError, match=message):
        run_rounds(KEY, estimator, simulator, X_OBS[0], config)


@pytest.mark.parametrize(
    ("x_obs", "message"),
    [
        (np.zeros(3), r"x_obs with shape \(2,\) or"),
        (np.zeros((0, 2)), r"x_obs with shape"),
        (np.array([0.0, np.nan]), "x_obs to be finite"),
    ],
)
def test_bad_observations(estimator, simulator, quick, x_obs, message):
    with pytest.raises(ValueError, match=message):
        run_rounds(KEY, estimator, simulator, x_obs, quick("box"))


def test_a_prior_that_cannot_be_cut(make_estimator, simulator, quick):
    import numpyro.distributions as dist

    from flowinv.priors import independent

    prior = independent({"a": dist.VonMises(0.0, 2.0), "b": dist.Normal()})
    with pytest.raises(ValueError, match="prior of truncated rounds"):
        run_rounds(KEY, make_estimator(prior), simulator, X_OBS[0], quick("box"))
