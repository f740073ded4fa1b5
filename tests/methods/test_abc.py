"""ABC on problems with known answers; the slow rest is in test_rivals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowinv as fi
from flowinv.methods import SMCABC, RejectionABC
from flowinv.priors.latent import normal, uniform
from flowinv.types import Dataset

NOISE = 0.5


class Linear:
    x_shape = (1,)

    def simulate(self, key, theta):
        x = theta + NOISE * jax.random.normal(key, (1,))
        # One of seven fails, whatever theta: no answer changes.
        return jnp.where(
            jax.random.uniform(jax.random.fold_in(key, 1)) < 1 / 7, jnp.nan, x
        )


PRIOR = normal(np.zeros(1), np.ones(1))
X = np.array([[1.0], [-0.5]], np.float32)
MEAN, SD = X[:, 0] / (1 + NOISE**2), NOISE / np.sqrt(1 + NOISE**2)
ESTIMATOR = fi.Estimator(PRIOR, fi.flows.CINN(), input_scaling="none")


@pytest.mark.parametrize("adjusted", [True, False])
def test_the_nearest_are_the_posterior(adjusted):
    """300 of 6,000: mean and sd within a tenth and a fifth of an sd."""
    data = fi.simulate(jax.random.key(0), PRIOR, Linear(), 6_000)
    method = RejectionABC("6000", num_kept=300, adjusted=adjusted)
    method.check()
    posterior = method.fit(None, ESTIMATOR, data).posterior
    draws = np.asarray(posterior.sample(jax.random.key(1), X, 4_000))
    assert draws.shape == (2, 4_000, 1)
    np.testing.assert_allclose(draws.mean(1)[:, 0], MEAN, atol=0.15 * SD)
    np.testing.assert_allclose(draws.std(1)[:, 0], SD, rtol=0.2)
    grid = np.linspace(-4, 4, 801)[:, None].astype(np.float32)
    density = np.exp(posterior.log_prob(np.stack([grid, grid]), X))
    np.testing.assert_allclose(np.trapezoid(density, grid[:, 0]), 1.0, atol=0.01)
    one = posterior.log_prob(grid[400], X[0])
    np.testing.assert_allclose(one, np.log(density[0, 400]), atol=1e-4)
    with pytest.raises(ValueError, match="x to be finite"):
        posterior.sample(jax.random.key(0), X * np.nan, 5)
    with pytest.raises(ValueError, match="x with shape"):
        posterior.sample(jax.random.key(0), X[:, :0], 5)


def test_no_draw_is_outside_the_prior():
    prior = uniform(np.zeros(1), np.ones(1))
    theta = prior.sample(jax.random.key(0), 2_000)
    data = Dataset(theta, theta, jnp.ones(2_000, bool), jnp.zeros(2_000, jnp.int32))
    estimator = fi.Estimator(prior, fi.flows.CINN(), input_scaling="none")
    posterior = RejectionABC("2000").fit(None, estimator, data).posterior
    draws = posterior.sample(jax.random.key(1), np.array([0.999], np.float32), 2_000)
    assert ((draws > 0) & (draws < 1)).all()
    outside = posterior.log_prob(np.array([1.1], np.float32), np.array([0.999]))
    assert np.isneginf(outside)


def test_generations_come_nearer_and_their_weights_are_right():
    """Ten generations of 1,000: mean and sd within a tenth and a fifth of an sd."""
    method = SMCABC(num_rounds=8, num_simulations=1_000)
    keys = jax.random.split(jax.random.key(3), 2)
    done = method.run(keys, ESTIMATOR, Linear(), X)
    assert done.distances.shape == (2, 8)
    assert (np.diff(done.distances) < 0).all()
    for posterior, x, mean in zip(done.posteriors, X, MEAN, strict=True):
        draws = np.asarray(posterior.sample(jax.random.key(1), x, 4_000))[:, 0]
        assert abs(draws.mean() - mean) < 0.2 * SD
        assert draws.std() == pytest.approx(SD, rel=0.25)
    again = method.run(keys[:1], ESTIMATOR, Linear(), X[:1])
    np.testing.assert_array_equal(again.distances[0], done.distances[0])


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (RejectionABC("fresh"), "num_simulations to be a whole number"),
        (RejectionABC("50"), "num_simulations of at least 100"),
        (RejectionABC(share=0.0), "share above 0"),
        (SMCABC(share=1.0), "share between"),
        (SMCABC(num_simulations=50), "num_simulations of at least 100"),
        (SMCABC(widening=0.5), "widening"),
    ],
)
def test_settings_out_of_range_are_refused(method, words):
    with pytest.raises(ValueError, match=words):
        method.check()
