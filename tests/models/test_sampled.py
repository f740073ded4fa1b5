"""Posteriors by a sampler against a linear Gaussian in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.models.sampled import SampledPosterior, SamplerConfig
from flowinv.priors.latent import normal

PRIOR = normal(np.array([1.0, -1.0]), np.array([2.0, 0.5]))
NOISE = 0.3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exact:
    """What a perfect network of x ~ N(theta, .3^2) has learned.

    Attributes:
        noise: sd, a number of the tree.
    """

    noise: jax.Array
    x_shape = (2,)
    prior = PRIOR

    def of_latents(self, z, x):
        theta = PRIOR.from_latent(z)
        return jax.scipy.stats.norm.logpdf(x, theta, self.noise).sum(-1)

    def log_prob(self, x, theta):
        return jax.scipy.stats.norm.logpdf(x, theta, self.noise).sum(-1)

    def told(self, x):
        return x


X = np.array([[1.5, -0.8], [3.0, -1.5], [-2.0, 0.0]], np.float32)
POSTERIOR = SampledPosterior(Exact(jnp.float32(NOISE)))


def closed(x):
    """Mean and sd of the exact posterior."""
    prior = np.array([1.0, -1.0]), np.array([4.0, 0.25])
    variance = 1 / (1 / prior[1] + 1 / NOISE**2)
    return variance * (prior[0] / prior[1] + x / NOISE**2), np.sqrt(variance)


@pytest.fixture(scope="module")
def draws():
    return np.asarray(POSTERIOR.sample(jax.random.key(0), X, 2_000))


def test_draws_are_those_of_the_exact_posterior(draws):
    """Means and sds of 2,000 draws in 4 runs' worth: within 6 errors of 500 draws."""
    mean, sd = closed(X)
    assert draws.shape == (3, 2_000, 2)
    assert (np.abs(draws.mean(1) - mean) / sd < 6 / np.sqrt(500)).all()
    assert (np.abs(draws.std(1) / sd - 1) < 6 / np.sqrt(1_000)).all()
    across = [np.corrcoef(own.T)[0, 1] for own in draws]
    assert np.abs(across).max() < 6 / np.sqrt(500)


def test_other_rows_change_no_draw():
    """In calls of one size: other sizes round otherwise, which Metropolis amplifies."""
    key = jax.random.key(0)
    three = POSTERIOR.sample(key, X, 500, chunk=1)
    two = POSTERIOR.sample(key, X[:2], 500, chunk=1)
    np.testing.assert_array_equal(three[:2], two)
    others = POSTERIOR.sample(key, np.stack([X[0], X[2]]), 500, chunk=1)
    np.testing.assert_array_equal(others[0], three[0])


def test_density_is_normalised_and_the_evidence_is_known():
    mean, sd = closed(X)
    theta = mean[:, None] + sd * np.linspace(-2, 2, 5)[:, None]
    expected = stats.norm.logpdf(theta, mean[:, None], sd).sum(-1)
    found = np.asarray(POSTERIOR.log_prob(theta, X))
    np.testing.assert_allclose(found, expected, atol=0.25)
    # One evidence for all theta of an x: differences are exact.
    np.testing.assert_allclose(
        np.diff(found, axis=1), np.diff(expected, axis=1), atol=2e-3
    )
    spread = np.sqrt(np.array([4.0, 0.25]) + NOISE**2)
    evidence = stats.norm.logpdf(X, [1.0, -1.0], spread).sum(-1)
    np.testing.assert_allclose(POSTERIOR.log_evidence(X), evidence, atol=0.25)
    one = POSTERIOR.log_prob(theta[0, 0], X[0])
    np.testing.assert_allclose(one, found[0, 0], atol=1e-4)


def test_point_estimates_and_what_the_network_is_told(draws):
    mean, sd = closed(X)
    key = jax.random.key(1)
    for name in ("mean", "median", "map"):
        found = np.asarray(getattr(POSTERIOR, name)(key, X))
        assert found.shape == (3, 2)
        assert (np.abs(found - mean) < 0.5 * sd).all(), name
    np.testing.assert_array_equal(POSTERIOR.context(X), X)


@pytest.mark.slow
def test_another_sampler_gives_the_same_posterior():
    own = POSTERIOR.with_sampler(SamplerConfig(sampler="nuts"))
    draws = np.asarray(own.sample(jax.random.key(0), X[:1], 1_000))[0]
    mean, sd = closed(X[0])
    assert (np.abs(draws.mean(0) - mean) / sd < 6 / np.sqrt(500)).all()
    assert (np.abs(draws.std(0) / sd - 1) < 6 / np.sqrt(1_000)).all()


def test_it_is_a_pytree_and_refuses_what_does_not_fit():
    leaves, structure = jax.tree.flatten(POSTERIOR)
    assert leaves == [jnp.float32(NOISE)]
    assert jax.tree.unflatten(structure, leaves).sampler == POSTERIOR.sampler
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"x with shape \(..., 2"):
        POSTERIOR.sample(key, X[:, :1], 10)
    with pytest.raises(ValueError, match="x to be finite"):
        POSTERIOR.sample(key, X * np.nan, 10)
    with pytest.raises(ValueError, match="theta with shape"):
        POSTERIOR.log_prob(np.zeros((2, 2)), X)
    with pytest.raises(ValueError, match="sampler .*particles"):
        POSTERIOR.with_sampler(SamplerConfig(sampler="slice"))
    with pytest.raises(ValueError, match="effective"):
        POSTERIOR.with_sampler(SamplerConfig(effective=1.0))
