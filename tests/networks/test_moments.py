"""Moments of profiles against numpy's."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.networks import ProfileMoments, profile_moments


def expected_moments(profile):
    grid = np.linspace(-1, 1, len(profile))
    weight = profile / profile.sum()
    centre = np.average(grid, weights=weight)
    width = np.sqrt(np.average((grid - centre) ** 2, weights=weight))
    scaled = (grid - centre) / width
    skewness = np.average(scaled**3, weights=weight)
    kurtosis = np.average(scaled**4, weights=weight)
    log_total = np.log(profile.sum())
    return [log_total, centre, width, np.log(width), skewness, np.log(kurtosis)]


def profiles(rows=5, num_profiles=2, points=60):
    rng = np.random.default_rng(0)
    grid = np.linspace(-1, 1, points)
    centre = rng.uniform(-0.4, 0.4, (rows, num_profiles, 1))
    width = rng.uniform(0.08, 0.3, (rows, num_profiles, 1))
    return rng.poisson(100 * np.exp(-0.5 * ((grid - centre) / width) ** 2)).astype(
        float
    )


def test_equal_those_of_numpy():
    counts = profiles()
    found = profile_moments(counts.reshape(5, -1))
    chex.assert_shape(found, (5, 12))
    expected = np.array([[expected_moments(p) for p in row] for row in counts])
    found = found.reshape(5, 2, 6)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_a_rising_knife_edge_has_the_moments_of_its_differences():
    counts = profiles()
    edges = np.cumsum(counts, -1)
    np.testing.assert_allclose(
        profile_moments(edges.reshape(5, -1), cumulative=True),
        profile_moments(counts.reshape(5, -1)),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("level", [0.0, 1.0, -1.0])
def test_flat_empty_and_negative_profiles_stay_finite(cumulative, level):
    x = jnp.full((3, 40), level)

    @jax.jit
    def found(x):
        moments = functools.partial(profile_moments, cumulative=cumulative)
        slope = jax.grad(lambda x: moments(x).sum())(x)
        return moments(x), jax.jacfwd(moments)(x), slope

    chex.assert_tree_all_finite(found(x))


def test_one_count_alone_has_a_finite_gradient():
    x = jnp.zeros(40).at[7].set(1.0).at[25].set(3.0)
    chex.assert_tree_all_finite(jax.grad(lambda x: profile_moments(x).sum())(x))
    centre = profile_moments(x).reshape(2, 6)[:, 1]
    np.testing.assert_allclose(centre, np.linspace(-1, 1, 20)[[7, 5]], atol=1e-6)


def test_a_summary_of_an_estimator_says_the_same():
    x = profiles(points=30, num_profiles=3).reshape(5, -1)
    summary = ProfileMoments(3)
    np.testing.assert_array_equal(summary(x), profile_moments(x, 3))
    assert summary == ProfileMoments(3)
    assert hash(summary) == hash(ProfileMoments(3))


def test_profiles_of_unequal_length_are_refused():
    with pytest.raises(
        ValueError, match=r"Expected x as 3 profiles of equal length; got"
    ):
        profile_moments(np.zeros((2, 40)), 3)
