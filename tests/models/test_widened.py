"""Calibrated widths: normalised densities, draws that follow them, and files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.data.simulate import simulate
from flowinv.flows import CINN
from flowinv.models.estimator import Estimator
from flowinv.models.files import load, save
from flowinv.models.posterior import Posterior
from flowinv.models.widened import latent_width_factor, widened
from flowinv.tasks.registry import task as get_task
from flowinv.training.prepare import initial

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def made():
    """The solved posterior of a linear Gaussian in 2-D: right, without training."""
    task = get_task("gaussian_linear:dim=2")
    data = simulate(KEY, task.prior, task.simulator, 2_000)
    flow = CINN(num_layers=1, hidden=(4,), head_hidden=(4,))
    estimator = Estimator(task.prior, flow, input_scaling="none")
    return task, data, Posterior(estimator, initial(KEY, estimator, data, 200))


def test_draws_and_densities_are_those_of_the_factors(made):
    _, data, right = made
    x = np.asarray(data.x[0])
    wide = widened(right, [2.0, 0.5])
    mean, sd = (
        np.asarray(f(right.sample(KEY, x, 4_000), 0)) for f in (jnp.mean, jnp.std)
    )
    draws = np.asarray(wide.sample(KEY, x, 4_000))
    np.testing.assert_allclose(draws.std(0) / sd, [2.0, 0.5], rtol=0.01)
    exact = stats.norm(mean, sd * [2.0, 0.5]).logpdf(draws).sum(-1)
    # Mean and sd of 4,000 draws are known to 2 and 1 %.
    np.testing.assert_allclose(wide.log_prob(draws, x), exact, atol=0.4)
    again = widened(wide, [0.5, 2.0])
    np.testing.assert_allclose(
        again.sample(KEY, x, 10), right.sample(KEY, x, 10), rtol=1e-5
    )


def test_factors_undo_wrong_widths(made):
    """1,000 new simulations: factors are known to 3.4 %; five of these."""
    task, _, right = made
    new = simulate(jax.random.key(5), task.prior, task.simulator, 1_000)
    found = latent_width_factor(KEY, widened(right, [0.6, 1.5]), new)
    np.testing.assert_allclose(found.factor, [1 / 0.6, 1 / 1.5], rtol=0.17)
    assert (np.abs(found.error / found.factor - 0.03) < 0.01).all()


def test_there_and_back_through_a_file(made, tmp_path):
    _, data, right = made
    wide = widened(right, [2.0, 0.5])
    save(tmp_path / "model", wide)
    x = np.asarray(data.x[0])
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.sample(KEY, x, 5), wide.sample(KEY, x, 5))


@pytest.mark.parametrize(
    ("factor", "message"),
    [([1.0], "factor to be 2 numbers; got 1"), ([1.0, 0.0], "factor above 0; got 0")],
)
def test_bad_factors(made, factor, message):
    with pytest.raises(ValueError, match=message):
        widened(made[2], factor)
