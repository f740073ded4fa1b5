"""Kernel densities against scipy and normals."""

import jax
import numpy as np
from scipy import stats

from flowinv.models.kernel_density import (
    kernel_density,
    kernel_log_prob,
    kernel_sample,
)


def points(count, key=0):
    own = jax.random.normal(jax.random.key(key), (count, 2))
    return own @ np.array([[2.0, 1.0], [0.0, 0.5]], np.float32) + 3.0


def test_density_is_scipys_at_the_same_width():
    z, weights = points(200), np.linspace(0.1, 1, 200).astype(np.float32)
    found = jax.jit(kernel_density)(z, weights)
    assert 0.05 < found.width < 1.5
    covariance = np.cov(np.asarray(z).T, aweights=weights, ddof=0)
    kernels = [
        stats.multivariate_normal.pdf(points(20, 1), own, found.width**2 * covariance)
        for own in np.asarray(z)
    ]
    expected = np.log((weights / weights.sum()) @ np.stack(kernels))
    np.testing.assert_allclose(
        kernel_log_prob(found, points(20, 1)), expected, atol=2e-3
    )


def test_draws_are_of_that_density():
    """Mean and covariance of 20,000 draws, to 5 % (a tenth of that expected)."""
    z, weights = points(500), np.ones(500, np.float32)
    own = kernel_density(z, weights)
    draws = np.asarray(kernel_sample(jax.random.key(5), own, 20_000))
    spread = np.cov(np.asarray(z).T, ddof=0) * (1 + float(own.width) ** 2)
    np.testing.assert_allclose(draws.mean(0), np.asarray(z).mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), spread, rtol=0.08)
    half = np.where(np.arange(500) < 250, 1.0, 0.0).astype(np.float32)
    only = kernel_sample(jax.random.key(5), kernel_density(z, half), 1_000)
    assert abs(np.asarray(only).mean(0) - np.asarray(z)[:250].mean(0)).max() < 0.3


def test_width_is_chosen_by_what_lies_between():
    """Two far modes want narrow kernels; a normal wants Scott's, about."""
    plain = kernel_density(points(300), np.ones(300, np.float32))
    modes = points(300).at[150:].add(60.0)
    both = kernel_density(modes, np.ones(300, np.float32))
    scott = 300 ** (-1 / 6)
    assert 0.5 < plain.width / scott < 1.6
    assert both.width < 0.4 * plain.width
