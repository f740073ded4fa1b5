"""Counts by inversion against scipy's exact laws.

False alarms: chi-square tests fail at p < 1e-4 each (18 of them, 2e-3 together) and
covariances at 6 standard errors; seeds are fixed, so they pass or fail for good.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.simulators.counts import (
    SWITCH_MEAN,
    binomial_quantile,
    multinomial_quantile,
    num_splits,
    open_uniforms,
    poisson_quantile,
)

MEANS = [1e-3, 0.1, 1.0, 5.0, 9.99, 10.01, 15.0, 40.0, 163.0, 817.0, 4096.0]
EVEN = ((np.arange(2**20) + 0.5) / 2**20).astype(np.float32)


def variation(counts, law, size):
    """Total-variation distance of the counts' law to scipy's."""
    measured = np.bincount(np.asarray(counts).astype(int), minlength=size)
    exact = law.pmf(np.arange(measured.size))
    measured = measured / measured.sum()
    return 0.5 * (np.abs(measured - exact).sum() + 1.0 - exact.sum())


def chi_square_p(counts, law):
    """p-value of counts against a law, cells pooled to 10 expected ones at least."""
    counts = np.asarray(counts).astype(int)
    edges = np.unique(law.ppf(np.linspace(0, 1, 42)[1:-1]))
    measured = np.bincount(np.searchsorted(edges, counts), minlength=edges.size + 1)
    expected = np.diff(law.cdf(edges), prepend=0.0, append=1.0) * counts.size
    keep = expected > 10
    keep[np.argmax(expected)] = False
    measured = np.append(measured[keep], measured[~keep].sum())
    expected = np.append(expected[keep], expected[~keep].sum())
    return stats.chisquare(measured, expected).pvalue


@pytest.mark.parametrize("mean", MEANS)
def test_poisson_total_variation(mean):
    counts = jax.jit(poisson_quantile)(EVEN, jnp.float32(mean))
    distance = variation(counts, stats.poisson(np.float32(mean)), 1)
    assert distance < (1e-5 if mean < SWITCH_MEAN else 6e-4)


@pytest.mark.parametrize("trials", [1, 5, 25, 100, 4096])
@pytest.mark.parametrize("rate", [1e-3, 0.05, 0.11, 0.3, 0.5, 0.55, 0.8, 0.999])
def test_binomial_total_variation(trials, rate):
    rate = np.float32(rate)
    counts = jax.jit(binomial_quantile)(EVEN, jnp.float32(trials), rate)
    assert variation(counts, stats.binom(trials, rate), trials + 1) < 6e-4


@pytest.mark.parametrize("mean", [0.05, 0.7, 4.0, 9.5, 11.0, 30.0, 200.0, 2000.0])
def test_poisson_chi_square(mean):
    uniforms = open_uniforms(jax.random.key(1), (100_000,))
    counts = poisson_quantile(uniforms, jnp.float32(mean))
    assert chi_square_p(counts, stats.poisson(mean)) > 1e-4


def test_uniforms_stay_inside():
    extremes = jnp.asarray([2.0**-24, 1.0 - 2.0**-24], jnp.float32)
    assert extremes[1] < 1.0
    for mean in MEANS:
        low, high = np.asarray(poisson_quantile(extremes, jnp.float32(mean)))
        law = stats.poisson(mean)
        assert law.ppf(1e-9) <= low <= law.ppf(1e-6)
        assert law.ppf(1 - 1e-6) <= high <= law.ppf(1 - 1e-9) + 1
    uniforms = open_uniforms(jax.random.key(0), (1_000_000,))
    assert 0.0 < uniforms.min()
    assert uniforms.max() < 1.0


def test_edges_of_the_parameters():
    zero, one, ten = jnp.float32(0.0), jnp.float32(1.0), jnp.float32(10.0)
    assert np.all(poisson_quantile(EVEN, zero) == 0)
    assert np.all(binomial_quantile(EVEN, ten, zero) == 0)
    assert np.all(binomial_quantile(EVEN, ten, one) == 10)
    assert np.all(binomial_quantile(EVEN, zero, jnp.float32(0.3)) == 0)


@pytest.mark.parametrize("num_cells", [1, 2, 15, 16, 100, 200])
def test_multinomial_adds_up(num_cells):
    key_weights, key_uniforms = jax.random.split(jax.random.key(num_cells))
    weights = jax.random.exponential(key_weights, (num_cells,)) ** 8
    uniforms = open_uniforms(key_uniforms, (500, num_splits(num_cells)))
    counts = jax.vmap(lambda u: multinomial_quantile(u, 5000.0, weights))(uniforms)
    assert counts.shape == (500, num_cells)
    assert np.all(np.asarray(counts).sum(axis=1) == 5000)
    assert np.all(np.asarray(counts) >= 0)


def test_multinomial_keeps_empty_cells_empty():
    weights = jnp.zeros(50).at[jnp.asarray([3, 20, 49])].set(jnp.asarray([1e-20, 1, 2]))
    uniforms = open_uniforms(jax.random.key(0), (1000, num_splits(50)))
    counts = jax.vmap(lambda u: multinomial_quantile(u, 30.0, weights))(uniforms)
    assert np.all(np.asarray(counts)[:, np.asarray(weights) == 0] == 0)
    assert np.all(np.asarray(counts).sum(axis=1) == 30)


def test_multinomial_moments():
    weights = np.asarray([0.5, 3, 1, 0.01, 8, 20, 2, 2, 4, 1, 0.1, 9, 1, 1, 1, 1, 6, 5])
    share, n, trials = weights / weights.sum(), 40_000, 300
    uniforms = open_uniforms(jax.random.key(4), (n, num_splits(share.size)))
    draw = jax.jit(
        jax.vmap(lambda u: multinomial_quantile(u, trials, jnp.float32(weights)))
    )
    counts = np.asarray(draw(uniforms), np.float64)
    exact = trials * (np.diag(share) - np.outer(share, share))
    scale = np.sqrt(np.diag(exact))
    assert np.all(np.abs(counts.mean(0) - trials * share) < 5 * scale / np.sqrt(n))
    # Var of a sample covariance: c_ii c_jj + c_ij^2, plus a Poisson-like fourth
    # cumulant of at most c_ii on the diagonal.
    noise = np.outer(scale**2, scale**2) + exact**2 + np.diag(scale**2)
    error = np.abs(np.cov(counts.T) - exact) / np.sqrt(noise / n)
    assert error.max() < 6
    for cell in (3, 4, 10, 17):
        law = stats.binom(trials, share[cell])
        assert chi_square_p(counts[:, cell], law) > 1e-4
