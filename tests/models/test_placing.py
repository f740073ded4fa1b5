"""The placed Gaussian near the edges of a prior, and beyond."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import truncnorm

from flowinv import priors
from flowinv.models.placing import (
    SelectedRows,
    cut_normal_quantile,
    edge_distances,
    nearness,
    place,
    predict,
    regression_terms,
    rest,
    scaled_estimate,
    settled,
)
from flowinv.models.ridge import Ridge, solve_ridges
from flowinv.priors.cut import Box, CutPrior
from flowinv.types import Placed

# Compiled: one by one their operations take longer.
solve_ridge = jax.jit(lambda *rows: solve_ridges(*rows)[0])
place = jax.jit(place, static_argnums=0)
BOUNDED = priors.uniform([0.0, -3.0], [1.0, 1e4], names=("a", "b"))


@jax.jit
def placed_with_slope(start, features):
    """Where estimates place the posterior, and the gradient of the sum."""

    def total(features):
        placed = place(BOUNDED, predict(start, features))
        return sum(part.sum() for part in placed), placed

    slope, placed = jax.grad(total, has_aux=True)(features)
    return placed, slope


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("log_sd", [-20.0, -6.0, 0.0, 5.0])
def test_estimates_beyond_the_edges_are_finite(size, log_sd):
    kernel = np.zeros((2, 2), np.float32)
    start = Ridge(
        np.float32([[1, 0], [0, 1], *3 * [[0, 0]]]),
        kernel[0],
        0.0 * np.ones((5, 2), np.float32),
        kernel[0] + np.float32(log_sd),
    )
    draws = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    edges = np.float32([[1, -1], [0, 0], [0.999999, -0.999999]])
    features = np.concatenate([size * draws, edges])
    placed, gradient = placed_with_slope(start, features)
    chex.assert_shape(placed, (503, 2))
    chex.assert_tree_all_finite((placed, gradient))


def test_the_place_finds_a_linear_parameter_and_its_error():
    prior = priors.uniform([0.0], [10.0])
    rng = np.random.default_rng(0)
    theta = rng.uniform(0, 10, (4_000, 1))
    x = np.float32((theta - 5.0 + 0.1 * rng.normal(size=theta.shape)) / 2.887)
    z = prior.to_latent(np.float32(theta))
    held = np.arange(4_000) >= 3_600
    targets = prior.to_scaled(np.float32(theta), z)
    solved = solve_ridge(regression_terms(x), targets, ~held, held)
    inner = np.abs(theta[:, 0] - 5.0) < 4.0
    mean, log_sd = (
        np.asarray(part)[inner, 0] for part in place(prior, predict(solved, x))
    )
    pull = (np.asarray(z)[inner, 0] - mean) / np.exp(log_sd)
    # 3,200 pulls: their sd is known to 1.3 %, the calibrated scale to 6 %.
    assert pull.std() == pytest.approx(1.0, abs=0.2)
    assert abs(pull.mean()) < 0.1


def test_an_estimate_is_carried_as_the_regression_would():
    """Edges 0..10, whole and cut; a normal parameter is regressed in z all the same."""
    prior = priors.mixed(
        [priors.uniform([0.0], [10.0], names=("a",)), priors.normal([0.0], [1.0])]
    )
    theta = np.float32([[5.0, 0.3], [11.0, -2.0]])
    estimate = Placed(jnp.asarray(theta), jnp.full((2, 2), np.log(0.5), jnp.float32))
    whole = scaled_estimate(prior, estimate)
    np.testing.assert_allclose(whole.mean, [[0.0, 0.0], [1.2, 0.0]], atol=1e-6)
    np.testing.assert_allclose(np.exp(whole.log_sd), [[0.1, 1.0]] * 2, rtol=1e-5)
    z = prior.to_latent(np.float32([[4.0, 0.0], [6.0, 0.0]]))
    half = CutPrior(
        prior, Box(z[0] - jnp.asarray([0, 8.0]), z[1] + jnp.asarray([0, 8]))
    )
    cut = scaled_estimate(half, estimate)
    np.testing.assert_allclose(cut.mean[:, 0], [0.0, 6.0], atol=1e-4)
    np.testing.assert_allclose(np.exp(cut.log_sd[:, 0]), 0.5, rtol=1e-4)
    # What is left of the truth is in errors of the estimate, and adds up again.
    target = prior.to_scaled(np.float32([[5.5, 0.3], [10.0, -2.0]]))
    left = rest(target, whole)
    np.testing.assert_allclose(left[:, 0], [1.0, -2.0], atol=1e-4)
    np.testing.assert_allclose(left[:, 1], [0.3, -2.0], atol=1e-6)
    solved = Ridge(*(np.zeros((2, 2), np.float32), np.float32([1.0, 0.3])) * 2)
    again = predict(solved, jnp.zeros((1, 1)), Placed(*(leaf[:1] for leaf in whole)))
    np.testing.assert_allclose(again.mean[0], target[0], atol=1e-5)
    assert float(again.log_sd[0, 0]) == pytest.approx(np.log(0.1) + 1.0, abs=1e-5)


def test_products_of_two_join_few_features_only():
    assert regression_terms(np.zeros((3, 4))).shape == (3, 4 + 10)
    assert regression_terms(np.zeros((3, 100))).shape == (3, 100)
    terms = np.asarray(regression_terms(np.float32([[100.0, 2.0]])))
    np.testing.assert_allclose(terms, [[6.0, 2.0, 36.0, 12.0, 4.0]])


def test_distances_from_the_edges_are_in_errors_and_go_beyond():
    prior = priors.mixed(
        [priors.uniform([0.0], [10.0], names=("a",)), priors.normal([0.0], [1.0])]
    )
    sd = 0.1
    kernel = np.float32([[1, 1], *4 * [[0, 0]]])
    start = Ridge(
        kernel, np.zeros(2, np.float32), 0 * kernel, np.full(2, np.log(sd), np.float32)
    )
    # Estimates at the centre, one error inside the upper edge, on it, one beyond it.
    features = np.float32([[0.0, 0], [1 - sd, 0], [1.0, 0], [1 + sd, 0]])
    distances = np.asarray(edge_distances(prior, predict(start, features)))
    assert distances.shape == (4, 4)
    np.testing.assert_array_equal(distances[:, [1, 3]], 1.0)  # the normal has no edges
    np.testing.assert_allclose(distances[:, 0], 1.0, atol=4e-3)
    reach = np.tanh(1 / 3)
    expected = [np.tanh(10 / 3), reach, 0.0, -reach]
    np.testing.assert_allclose(distances[:, 2], expected, atol=1e-5)


@pytest.mark.parametrize("sd", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("errors", [-4.0, -1.0, 0.0, 2.0])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_quantiles_of_the_cut_normal_are_scipys(sd, errors, side):
    mean = side * (1.0 - errors * sd)
    p = np.array([0.1587, 0.5, 0.8413])
    centre = np.clip(mean, -1 - 4 * sd, 1 + 4 * sd)
    expected = truncnorm.ppf(p, (-1 - centre) / sd, (1 - centre) / sd, centre, sd)
    quantiles = cut_normal_quantile(np.float32(mean), np.float32(sd), np.float32(p))
    # float32: 1e-7 of 1, and 1e-4 of the error where the tail is that of 4 sd.
    np.testing.assert_allclose(quantiles, expected, atol=2e-6 + 2e-4 * min(sd, 1.0))


# Prior, edges of theta, noise of x, x_obs.
SELECTED = {
    "tail": (priors.normal([0.0], [1.0]), (0.4, 6.0), 1.0, 4.5),
    "middle": (priors.normal([0.0], [1.0]), (-2.0, 0.0), 0.2, -1.1),
    "interval": (priors.uniform([-1.0], [3.0]), (0.3, 1.9), 0.2, 1.0),
    # 3.9 sds of the posterior to both sides; the latent knows nothing of it.
    "region": (priors.normal([0.0], [1.0]), (-0.09, 0.685), 0.1, 0.3),
}


@pytest.mark.later("middle", "interval")
@pytest.mark.parametrize("name", SELECTED)
def test_selected_rows_place_the_posterior_of_the_whole_prior(name):
    """A linear Gaussian: mean and sd of the exact posterior, cut where a box cuts it.

    Eight times three thousand rows: errors of 0.02 sd in a mean, 1.5 % in an sd. (By
    the regression itself the tail's mean is 0.4 sd off, and the region's sd 0.92.)
    """
    prior, edges, noise, x_obs = SELECTED[name]
    precision = 0.0 if name == "interval" else 1.0
    sd = (precision + noise**-2) ** -0.5
    mean = x_obs / noise**2 * sd**2
    low, high = np.asarray(prior.to_latent(np.float32(edges)[:, None]))[:, 0]
    cut = CutPrior(prior, Box(np.full(1, low), np.full(1, high)))
    own = prior if name == "region" else cut

    @jax.jit
    def answers(key):
        keys = jax.random.split(key)
        theta = cut.from_latent(cut.sample_latent(keys[0], 3_000))
        x = theta + noise * jax.random.normal(keys[1], theta.shape)
        centre, scale = x.mean(0), x.std(0)
        terms = regression_terms((x - centre) / scale)
        held = (jnp.arange(3_000) % 10 == 0).astype(jnp.float32)
        scaled = own.to_scaled(theta, prior.to_latent(theta))
        ridges = solve_ridges(terms, scaled, 1.0 - held, held, False, 1)
        where = regression_terms((jnp.asarray([x_obs]) - centre) / scale)
        rows = SelectedRows(
            terms, scaled, own.to_latent(theta), 1.0 - held, held, where
        )
        ridges = ridges[1], settled(own, ridges, rows)
        places = [place(own, Placed(*ridge.predict(where))) for ridge in ridges]
        base = jax.random.normal(keys[0], (20_000, 1))
        draws = [own.from_latent(p.mean + jnp.exp(p.log_sd) * base) for p in places]
        return jnp.stack(draws)[..., 0]

    draws = np.asarray(jax.vmap(answers)(jax.random.split(jax.random.key(3), 8)))
    exact = truncnorm(*((end - mean) / sd for end in edges), mean, sd)
    shift = (draws.mean(-1) - exact.mean()) / exact.std()
    assert np.sqrt((shift[:, 1] ** 2).mean()) < 0.06, shift
    np.testing.assert_allclose(draws[:, 1].std(-1) / exact.std(), 1.0, atol=0.08)
    if name == "tail":
        assert abs(shift[:, 0].mean()) > 0.3
    if name == "region":
        assert (draws[:, 0].std(-1) / exact.std()).mean() < 0.95


def test_near_is_by_the_errors_of_the_one():
    own = Placed(jnp.asarray([1.0, -2.0]), jnp.log(jnp.asarray([0.5, 4.0])))
    others = Placed(jnp.asarray([[1.0, -2.0], [2.0, -2.0], [1.5, 2.0]]), jnp.zeros(()))
    np.testing.assert_allclose(
        nearness(own, others), np.exp([0.0, -1.0, -0.5]), rtol=1e-6
    )


def test_what_x_does_not_tell_starts_as_the_prior():
    prior = priors.uniform([3.0], [7.0])
    kernel = np.zeros((2, 1), np.float32)
    bias = np.full(1, -0.5 * np.log(3.0), np.float32)  # the prior's own sd on (-1, 1)
    start = Ridge(kernel, np.zeros(1, np.float32), kernel, bias)
    placed = place(prior, predict(start, np.zeros(1, np.float32)))
    np.testing.assert_allclose(np.concatenate(placed), [0.0, 0.0], atol=0.02)
