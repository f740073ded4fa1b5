"""sbibm's interface by stand-ins of its signatures."""

import jax
import numpy as np
import pytest

from flowinv.benchmark import sbibm
from flowinv.benchmark.cells import Training
from flowinv.benchmark.sbibm import SbibmTask, run
from flowinv.methods import NPE, Truncated
from flowinv.priors.latent import normal
from flowinv.training.config import TrainConfig

QUICK = TrainConfig(max_epochs=2, steps_per_epoch=5, warmup_steps=1)


class Tensor(np.ndarray):
    """What the adapter asks of a tensor of torch."""

    def new_tensor(self, data):
        return np.array(data, np.float32).view(Tensor)


def tensor(data):
    return np.array(data, np.float32).view(Tensor)


class StandIn:
    """A task with the methods that sbibm's tasks have: x = theta + .1 e in a box."""

    name = "mine"
    prior_params = {"low": tensor([-1.0, -1.0]), "high": tensor([1.0, 1.0])}

    def __init__(self):
        self.random, self.calls = np.random.default_rng(0), 0

    def get_prior(self):
        return lambda num_samples=1: tensor(
            self.random.uniform(-1, 1, (num_samples, 2))
        )

    def get_simulator(self, max_calls=None):
        def simulator(parameters):
            assert isinstance(parameters, Tensor)
            self.calls += len(parameters)
            return parameters + tensor(0.1 * self.random.normal(size=parameters.shape))

        return simulator

    def get_observation(self, num_observation):
        return tensor([[0.3, -0.2]])

    def get_true_parameters(self, num_observation):
        return tensor([[0.25, -0.25]])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    def settings(training):
        if training.method == "npe":
            return NPE(num_simulations=str(training.budget), train=QUICK)
        each = training.budget // 2
        return Truncated(num_rounds=2, num_simulations=each, region="box", train=QUICK)

    monkeypatch.setattr(Training, "settings", settings)


@pytest.mark.parametrize(
    "method", ["npe", pytest.param("tsnpe", marks=pytest.mark.slow)]
)
def test_a_method_runs_as_sbibms_do(method):
    """The solved start alone knows x: a mean within a tenth, an sd within a third."""
    task = StandIn()
    draws, calls, log_prob = run(task, 500, 600, num_observation=1, method=method)
    assert isinstance(draws, Tensor)
    assert draws.shape == (500, 2)
    # Rounds look at an unknown simulator first; that is counted too.
    assert calls == task.calls
    assert calls == 600 if method == "npe" else 600 <= calls <= 850
    np.testing.assert_allclose(draws.mean(0), [0.3, -0.2], atol=0.1)
    np.testing.assert_allclose(draws.std(0), 0.1, rtol=0.35)
    assert log_prob.shape == (1,)
    assert np.isfinite(log_prob).all()
    assert np.abs(draws).max() < 1


def test_an_observation_may_be_given_and_the_prior_too():
    task = StandIn()
    task.prior_params = {"loc": tensor([0.0, 0.0]), "scale": tensor([1.0, 1.0])}
    given = {"observation": tensor([[0.1, 0.1]]), "method": "npe"}
    with pytest.raises(ValueError, match="prior of mine of a box; got .*loc.*prior="):
        run(task, 10, 600, **given)
    prior = normal(np.zeros(2), np.ones(2))
    draws, _, log_prob = run(task, 10, 600, prior=prior, **given)
    assert draws.shape == (10, 2)
    assert log_prob is None
    with pytest.raises(ValueError, match="observation by number or by itself"):
        run(task, 10, 600)
    with pytest.raises(ValueError, match="method"):
        run(task, 10, 600, 1, method="bayes")


def test_a_standard_task_brings_its_own_prior():
    task = StandIn()
    task.name, task.prior_params = "two_moons", None
    draws, _, _ = run(task, 50, 600, num_observation=1)
    assert draws.shape == (50, 2)


def test_our_tasks_speak_sbibms_language(monkeypatch):
    task = SbibmTask("gaussian_linear:dim=2")
    assert (task.dim_parameters, task.dim_data, task.num_observations) == (2, 2, 10)
    theta = task.get_prior()(num_samples=5)
    assert theta.shape == (5, 2)
    assert not np.array_equal(task.get_prior()(num_samples=5), theta)
    simulator = task.get_simulator(max_calls=7)
    x = simulator(theta)
    assert x.shape == (5, 2)
    assert simulator(theta[0]).shape == (1, 2)
    assert simulator.num_simulations == 6
    with pytest.raises(ValueError, match="simulations at most 7; got 11"):
        simulator(theta)
    seen, truth = task.get_observation(1), task.get_true_parameters(1)
    assert seen.shape == truth.shape == (1, 2)
    exact = np.asarray(task.get_reference_posterior_samples(1))
    assert exact.shape == (10_000, 2)
    np.testing.assert_allclose(exact.mean(0), np.asarray(seen)[0] / 2, atol=0.01)
    assert task.get_labels_parameters() == ["theta_1", "theta_2"]
    assert task.unflatten_data(task.flatten_data(x)).shape == (5, 2)
    # Its own algorithms and ours take it alike.
    draws, calls, log_prob = run(task, 100, 600, num_observation=1)
    assert draws.shape == (100, 2)
    assert calls >= 600
    assert np.isfinite(log_prob).all()


def test_a_task_on_the_host_is_simulated_there():
    class Host:
        x_shape = (3,)

        def simulate_batch(self, key, theta):
            x = np.repeat(np.asarray(theta)[:, :1], 3, 1)
            return x, np.asarray(theta)[:, 0] > 0

    found = sbibm.SbibmSimulator(Host(), lambda: jax.random.key(0), None)(
        np.array([[1.0, 0.0], [-1.0, 0.0]])
    )
    np.testing.assert_array_equal(found[0], [1, 1, 1])
    assert np.isnan(found[1]).all()
