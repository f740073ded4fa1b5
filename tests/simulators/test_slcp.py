"""slcp against scipy's multivariate normal."""

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from flowinv.simulators.slcp import Slcp

THETA = np.float32(
    [[0.7, -2.9, -1.0, -0.9, 0.6], [0, 0, 3, 3, -3], [1, 2, 0.05, -0.3, 2.5]]
)


def moments(theta):
    theta = theta.astype(float)
    sd_1, sd_2, rho = theta[2] ** 2, theta[3] ** 2, np.tanh(theta[4])
    off = rho * sd_1 * sd_2
    return theta[:2], np.array([[sd_1**2 + 1e-6, off], [off, sd_2**2 + 1e-6]])


@pytest.mark.parametrize("theta", THETA)
def test_the_likelihood_is_scipys(theta):
    mean, covariance = moments(theta)
    rng = np.random.default_rng(0)
    points = rng.multivariate_normal(mean, covariance, size=(50, 4))
    expected = multivariate_normal.logpdf(points, mean, covariance).sum(-1)
    found = Slcp().log_prob(theta, np.float32(points.reshape(50, 8)))
    # float32 points of a normal whose smallest sd is 1e-2 of its largest.
    np.testing.assert_allclose(found, expected, atol=0.02, rtol=1e-3)


@pytest.mark.parametrize("theta", THETA)
def test_draws_have_the_moments(theta):
    mean, covariance = moments(theta)
    keys = jax.random.split(jax.random.key(0), 5_000)
    x = jax.vmap(Slcp().simulate, (0, None))(keys, theta)
    points = np.asarray(x, float).reshape(-1, 2)
    sd = np.sqrt(np.diag(covariance))
    # 20,000 points, five sd: 1 / sqrt(20,000) each for means, sqrt(2) times for the
    # covariance in units of the sds.
    assert (np.abs(points.mean(0) - mean) / sd).max() < 0.035
    error = (np.cov(points.T) - covariance) / np.outer(sd, sd)
    assert np.abs(error).max() < 0.05


def test_signs_of_the_sds_do_not_matter():
    x = np.float32(np.random.default_rng(1).normal(size=8))
    theta = np.float32([0.1, 0.2, 1.5, 0.8, 0.3])
    flipped = theta * np.float32([1, 1, -1, -1, 1])
    assert Slcp().log_prob(theta, x) == Slcp().log_prob(flipped, x)
