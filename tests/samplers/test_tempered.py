"""Tempered particles against posteriors in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.priors.latent import normal, uniform
from flowinv.samplers.tempered import tempered_posterior

KEY = jax.random.key(0)


class Line:
    """x = theta_1 + theta_2 with noise of sd .1: a narrow, slanted ridge."""

    x_shape = (1,)

    def log_prob(self, theta, x):
        return -0.5 * ((x[0] - theta.sum(-1)) / 0.1) ** 2


class Modes:
    """Four modes of x = |theta|, of sd .05; one of them is cut off below zero."""

    x_shape = (2,)

    def log_prob(self, theta, x):
        inside = theta[0] > -5.0
        like = -0.5 * (((jnp.abs(theta) - x) / 0.05) ** 2).sum(-1)
        return jnp.where(inside, like, -jnp.inf)


def test_a_ridge():
    """Posterior of N(0, I) in closed form; 4,000 particles: five errors of .016."""
    prior = normal([0.0, 0.0], [1.0, 1.0])
    found = tempered_posterior(Line(), prior, np.ones(1), 4_000, KEY)
    precision = np.eye(2) + 100.0
    covariance = np.linalg.inv(precision)
    mean = covariance @ np.full(2, 100.0)
    sd = np.sqrt(np.diag(covariance))
    assert found.draws.shape == (4_000, 2)
    assert (np.abs(found.draws.mean(0) - mean) / sd < 0.08).all()
    np.testing.assert_allclose(found.draws.std(0) / sd, 1.0, atol=0.06)
    off = np.corrcoef(found.draws.T)[0, 1] - covariance[0, 1] / sd.prod()
    assert abs(off) < 0.005
    assert found.r_hat.max() < 1.01
    # Evidence: N(1; 0, 2.01), up to the constant that the likelihood leaves out.
    evidence = -0.5 / 2.01 - 0.5 * np.log(2.01 / 0.01)
    assert found.log_evidence.mean() == pytest.approx(evidence, abs=0.15)


def test_four_modes_have_their_shares():
    """A fourth each: binomial sd .0068, and duplicates; five of .01."""
    prior = uniform([-2.0, -2.0], [2.0, 2.0])
    found = tempered_posterior(Modes(), prior, np.ones(2), 4_000, KEY)
    which = (found.draws > 0) @ [1, 2]
    np.testing.assert_allclose(np.bincount(which) / 4_000, 0.25, atol=0.05)
    assert (np.abs(np.abs(found.draws) - 1.0) < 0.3).all()
    np.testing.assert_allclose(np.abs(found.draws).std(0), 0.05, rtol=0.1)


def test_what_the_likelihood_excludes_is_not_drawn():
    prior = uniform([-8.0, -2.0], [8.0, 2.0])
    found = tempered_posterior(Modes(), prior, np.array([5.0, 1.0]), 1_000, KEY)
    assert found.draws[:, 0].min() > -5.0
    assert found.draws.shape == (1_000, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: tempered_posterior(object(), p, np.ones(2), 10, KEY), "log_prob"),
        (lambda p: tempered_posterior(Modes(), p, np.ones(3), 10, KEY), "x with shape"),
        (lambda p: tempered_posterior(Modes(), p, np.ones(2), 0, KEY), "num_samples"),
        (
            lambda p: tempered_posterior(
                Modes(), uniform([-8.0, -1], [-6.0, 1]), np.ones(2), 10, KEY
            ),
            "that a draw of the prior can give",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(uniform([-2.0, -2.0], [2.0, 2.0]))
