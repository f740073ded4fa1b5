"""Theta as a network is told of it: ranks of uniform parameters, latents of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist
from scipy import stats

import flowinv as fi
from flowinv.flows import CouplingFlow
from flowinv.methods import NLE
from flowinv.models import likelihood
from flowinv.models.coordinates import coordinates, evenly_spread
from flowinv.priors import from_numpyro, uniform
from flowinv.training.config import TrainConfig
from flowinv.types import Dataset

LOW, HIGH = np.array([-1.0, 2.0]), np.array([3.0, 2.5])
UNIFORM = uniform(LOW, HIGH)


@pytest.mark.parametrize(
    ("distribution", "even"),
    [
        (dist.Uniform(2.0, 5.0), True),
        (dist.LogUniform(1e-3, 1e3), True),
        (dist.Beta(0.5, 0.5), True),
        (dist.Normal(3.0, 0.1), False),
        (dist.LogNormal(0.0, 2.0), False),
        (dist.TruncatedNormal(0.0, 1.0, low=-6.0, high=6.0), False),
        (dist.StudentT(3.0), False),
    ],
)
def test_even_are_those_without_tails(distribution, even):
    prior = from_numpyro(distribution)
    assert evenly_spread(prior).tolist() == [even]


def test_ranks_are_linear_in_uniform_parameters():
    """Of mean 0 and sd 1, as latents are; under jit, too."""
    theta = UNIFORM.sample(jax.random.key(0), 500)
    found = jax.jit(lambda z: coordinates(UNIFORM, z))(UNIFORM.to_latent(theta))
    expected = np.sqrt(3.0) * (2 * (np.asarray(theta) - LOW) / (HIGH - LOW) - 1)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.slow
def test_a_linear_likelihood_of_uniform_parameters_is_solved(monkeypatch):
    """From 900 rows and one epoch; told of latents it is not, so the test can fail."""
    noise = np.array([0.1, 0.05], np.float32)

    def rows(count, key):
        theta = UNIFORM.sample(jax.random.key(key), count)
        x = theta + noise * jax.random.normal(jax.random.key(key + 1), (count, 2))
        valid, rounds = jnp.ones(count, bool), jnp.zeros(count, jnp.int32)
        return Dataset(theta, x.astype(jnp.float32), valid, rounds)

    def excess():
        flow = CouplingFlow(num_layers=2, hidden=(8,), head_hidden=())
        estimator = fi.Estimator(UNIFORM, flow, input_scaling="none")
        quick = TrainConfig(max_epochs=1, warmup_steps=1)
        fit = NLE("900", quick).fit(jax.random.key(5), estimator, rows(900, 0))
        fresh = rows(2_000, 7)
        found = fit.posterior.learned.log_prob(fresh.x, fresh.theta)
        exact = stats.norm.logpdf(fresh.x, np.asarray(fresh.theta), noise).sum(-1)
        return float((exact - found).mean())

    assert excess() < 0.05
    monkeypatch.setattr(likelihood, "coordinates", lambda prior, z: z)
    assert excess() > 0.2
