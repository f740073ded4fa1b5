"""Draws, density and point estimates of a posterior, for any batch of x."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.models import posterior as posterior_module
from flowinv.models.posterior import Posterior

KEY = jax.random.key(11)


@pytest.mark.parametrize(
    "batch", [(), pytest.param((3,), marks=pytest.mark.slow), (2, 3)]
)
def test_shapes_follow_the_batch(boxed, scans, batch):
    x = scans[(0,) * (2 - len(batch))]
    assert boxed.x_shape == (3,)
    draws = boxed.sample(KEY, x, 40)  # as many as below: one program
    assert draws.shape == (*batch, 40, 2)
    assert draws.dtype == jnp.float32
    assert boxed.log_prob(draws, x).shape == (*batch, 40)
    assert boxed.log_prob(draws[..., 0, :], x).shape == batch
    assert boxed.mean(KEY, x, 40).shape == (*batch, 2)
    assert boxed.median(KEY, x, 40).shape == (*batch, 2)
    assert boxed.map(KEY, x, num_starts=2, num_steps=2).shape == (*batch, 2)


def test_log_prob_of_a_batch_is_that_of_its_rows(boxed, scans):
    draws = boxed.sample(KEY, scans, 4)
    whole = boxed.log_prob(draws, scans)
    for i in range(2):
        for j in range(3):
            own = boxed.log_prob(draws[i, j], scans[i, j])
            np.testing.assert_allclose(whole[i, j], own, rtol=2e-5, atol=2e-5)


@pytest.mark.later("2", "4")
@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_chunks_change_no_draw(boxed, scans, chunk):
    """The keys are the row's own; what is left is rounding of other matrix shapes."""
    x = scans.reshape(6, 3)[:5]
    draws = boxed.sample(KEY, x, 64)
    np.testing.assert_allclose(boxed.sample(KEY, x, 64, chunk), draws, atol=2e-5)
    density = boxed.log_prob(draws, x)
    np.testing.assert_allclose(boxed.log_prob(draws, x, chunk), density, atol=1e-4)


def test_other_rows_change_no_draw(boxed, scans):
    x = scans.reshape(6, 3)
    few, many = boxed.sample(KEY, x[:2], 32), boxed.sample(KEY, x, 32)
    np.testing.assert_allclose(few, many[:2], atol=2e-5)
    assert not np.allclose(many[0], boxed.sample(KEY, x[[0, 0]], 32)[1])


def grid(prior, points):
    """Midpoints of cells over the prior's box and the cell's volume."""
    axes = [
        low + (np.arange(points) + 0.5) * (high - low) / points
        for low, high in zip(prior.low, prior.high, strict=True)
    ]
    volume = np.prod((prior.high - prior.low) / points)
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    return mesh.reshape(-1, prior.dim).astype(np.float32), volume


@pytest.mark.slow
def test_density_integrates_to_one_over_a_line(line, scans):
    theta, volume = grid(line.estimator.prior, 20_001)
    x = scans.reshape(6, 3)
    density = jnp.exp(line.log_prob(np.tile(theta, (6, 1, 1)), x))
    np.testing.assert_allclose(density.sum(-1) * volume, 1.0, atol=5e-3)


def test_density_integrates_to_one_over_a_box(boxed, scans):
    theta, volume = grid(boxed.estimator.prior, 401)
    for x in scans[0]:
        total = jnp.exp(boxed.log_prob(theta, x)).sum() * volume
        np.testing.assert_allclose(total, 1.0, atol=2e-2)


@pytest.mark.parametrize(
    "theta",
    [[2.001, 3.0], [-2.001, 3.0], [0.0, 4.001], [0.0, -1e9], [np.nan, 3], [np.inf, 3]],
)
def test_density_is_zero_outside_the_prior(boxed, scans, theta):
    theta = np.array(theta, np.float32)
    assert boxed.log_prob(theta, scans[0, 0]) == -np.inf
    slope = jax.grad(lambda t: jnp.exp(boxed.log_prob(t, scans[0, 0])))(theta)
    np.testing.assert_array_equal(slope, 0.0)


def test_a_million_draws_of_a_bad_network_stay_inside(boxed, line, scans):
    x = 30.0 * scans.reshape(6, 3)[:4]  # far from everything it was solved on
    numbers = jax.tree.map(lambda leaf: 4 * np.asarray(leaf), boxed.variables)
    wild = Posterior(boxed.estimator, numbers)
    for posterior in (wild, line):
        prior = posterior.estimator.prior
        theta = np.asarray(posterior.sample(KEY, x, 250_000))
        assert np.isfinite(theta).all()
        assert (theta > prior.low.astype(np.float32)).all()
        assert (theta < prior.high.astype(np.float32)).all()


def test_draws_follow_the_density(boxed, line, scans):
    """Share of 20,000 draws in each of 8 slabs against the integrated density.

    Binomial sd at most 0.0035; 5 of them plus the grid's 0.005, false alarm 1e-5.
    """
    for posterior, points in ((boxed, 401), (line, 20_001)):
        prior, x = posterior.estimator.prior, scans[1, 1]
        theta, volume = grid(prior, points)
        density = np.asarray(jnp.exp(posterior.log_prob(theta, x))) * volume
        draws = np.asarray(posterior.sample(KEY, x, 20_000))
        for d in range(prior.dim):
            edges = np.linspace(prior.low[d], prior.high[d], 9)
            expected, _ = np.histogram(theta[:, d], edges, weights=density)
            got, _ = np.histogram(draws[:, d], edges)
            np.testing.assert_allclose(got / 20_000, expected, atol=0.023)


@pytest.mark.slow
def test_solved_start_is_the_linear_gaussian_posterior(solved, linear):
    """Means within 0.1 sds and sds within 5 %: 3,600 rows solve the regression."""
    x = np.array([[1.0, 0.2, 0.1], [-1.5, 0.5, 0.3], [0.2, -1.0, 0.0]], np.float32)
    sd = np.sqrt(np.diag(linear.covariance))
    exact = linear.posterior_mean(x)
    draws = solved.sample(KEY, x, 20_000)
    np.testing.assert_allclose((draws.mean(1) - exact) / sd, 0.0, atol=0.1)
    np.testing.assert_allclose(draws.std(1) / sd, 1.0, atol=0.05)
    # 20,000 draws: standard errors of mean and median are 0.007 and 0.009 sds.
    mean, median = solved.mean(KEY, x, 20_000), solved.median(KEY, x, 20_000)
    np.testing.assert_allclose((mean - draws.mean(1)) / sd, 0.0, atol=1e-3)
    np.testing.assert_allclose((median - exact) / sd, 0.0, atol=0.12)
    highest = solved.map(KEY, x)
    np.testing.assert_allclose((highest - exact) / sd, 0.0, atol=0.1)


def test_map_is_higher_than_any_draw(boxed, line, scans):
    """In the density of theta, which is what the answer is the maximum of."""
    for posterior in (boxed, line):
        x = scans[0]
        highest = posterior.map(KEY, x)
        draws = posterior.sample(KEY, x, 2_000)
        best = posterior.log_prob(draws, x).max(-1)
        assert (posterior.log_prob(highest, x) >= best - 1e-3).all()
        assert posterior.estimator.prior.contains(highest).all()


def test_context_is_what_the_flow_is_told(boxed, scans):
    """The density is the flow's own, given this context."""
    est, own = boxed.estimator, boxed.variables
    found = boxed.context(scans)
    assert found.shape[:2] == (2, 3)
    features = est.features(own.frozen, scans.reshape(6, 3))
    told = est.context(own.params, features)
    np.testing.assert_allclose(found.reshape(6, -1), told, atol=1e-5)
    np.testing.assert_allclose(boxed.context(scans[0, 0]), told[0], atol=1e-5)


def test_context_of_an_ensemble_is_that_of_all_networks(ensemble, scans):
    mixture, members = ensemble
    each = [member.context(scans[0]) for member in members]
    found = mixture.context(scans[0])
    np.testing.assert_allclose(found, np.concatenate(each, -1), atol=1e-5)


def test_log_prob_of_an_ensemble_is_the_mixtures(ensemble, scans):
    mixture, members = ensemble
    assert mixture.variables.num_members == 3
    draws = mixture.sample(KEY, scans[0], 50)
    parts = jnp.stack([member.log_prob(draws, scans[0]) for member in members])
    expected = jax.nn.logsumexp(parts, axis=0) - np.log(3)
    got = mixture.log_prob(draws, scans[0])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert mixture.log_prob(np.array([2.5, 3.0]), scans[0, 0]) == -np.inf


def test_draws_of_an_ensemble_come_from_all_members(ensemble, scans):
    """Equal shares: moments are the means of the members'.

    30,000 draws: standard error below 0.006 in each of 4 numbers, 5 of them.
    """
    mixture, members = ensemble
    x = scans[0, 0]
    draws = np.asarray(mixture.sample(KEY, x, 30_000))
    assert draws.shape == (30_000, 2)
    own = np.stack([m.sample(KEY, x, 30_000) for m in members])
    np.testing.assert_allclose(draws.mean(0), own.mean((0, 1)), atol=0.03)
    squares = (own**2).mean((0, 1))
    np.testing.assert_allclose((draws**2).mean(0), squares, atol=0.2)
    # In random order: the first tenth is a sample too.
    np.testing.assert_allclose(draws[:3_000].mean(0), own.mean((0, 1)), atol=0.1)
    # A number of draws that three do not divide.
    assert mixture.sample(KEY, x, 7).shape == (7, 2)
    assert mixture.map(KEY, x, num_starts=2, num_steps=3).shape == (2,)


def test_is_a_pytree(boxed, scans):
    leaves, tree = jax.tree.flatten(boxed)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    again = jax.tree.unflatten(tree, leaves)
    assert isinstance(again, Posterior)
    x = scans[0]
    np.testing.assert_array_equal(again.sample(KEY, x, 3), boxed.sample(KEY, x, 3))


def test_goes_through_jit_and_vmap(boxed, scans):
    x = jnp.asarray(scans[0])
    theta = boxed.sample(KEY, x, 8)

    @jax.jit
    def both(posterior, key, theta, x):
        return posterior.sample(key, x, 8), posterior.log_prob(theta, x)

    draws, density = both(boxed, KEY, theta, x)
    np.testing.assert_allclose(draws, theta, atol=2e-5)
    np.testing.assert_allclose(density, boxed.log_prob(theta, x), atol=1e-4)
    rows = jax.vmap(boxed.log_prob)(theta, x)
    np.testing.assert_allclose(rows, density, atol=1e-4)
    slope = jax.grad(lambda t: boxed.log_prob(t, x).sum())(theta)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.sample(KEY, np.zeros(4), 3),
            r"x with shape \(..., 3,\); got \(4,",
        ),
        (lambda p: p.sample(KEY, np.zeros((0, 3)), 3), "at least one observation"),
        (
            lambda p: p.sample(KEY, [[0.0, np.nan, 0.0], [0.0, 0.0, 0.0]], 3),
            "x to be finite; got NaN or infinity in 1 observations",
        ),
        (lambda p: p.log_prob(np.zeros(2), np.full(3, np.inf)), "x to be finite"),
        (lambda p: p.map(KEY, jax.numpy.full(3, np.nan)), "x to be finite"),
        (lambda p: p.sample(KEY, np.zeros(3), 0), "num_samples of at least 1; got 0"),
        (lambda p: p.sample(KEY, np.zeros(3), 3, 0), "chunk of at least 1; got 0"),
        (lambda p: p.log_prob(np.zeros(2), np.zeros(3), 0), "chunk of at least 1"),
        (
            lambda p: p.log_prob(np.zeros(3), np.zeros(3)),
            r"theta with shape \(..., 2\)",
        ),
        (lambda p: p.log_prob(np.zeros((5, 2)), np.zeros((4, 3))), r"\(4, 'n', 'D'\)"),
        (lambda p: p.map(KEY, np.zeros(3), num_steps=0), "num_steps of at least 1"),
        (lambda p: p.map(KEY, np.zeros(3), num_starts=0), "num_starts of at least 1"),
        (lambda p: p.map(KEY, np.zeros(3), num_starts=513), "num_starts from 1 to 512"),
    ],
)
def test_bad_arguments_answer_in_one_line(boxed, call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(boxed)
    assert "\n" not in str(error.value)


def test_other_numbers_of_draws_and_scans_compile_nothing(boxed, scans, monkeypatch):
    """Few draws are the first of many; a scan more is a call more."""
    traced = []

    def counted(which):
        original = getattr(posterior_module, which)

        def call(*arguments):
            traced.append(which)
            return original(*arguments)

        monkeypatch.setattr(posterior_module, which, call)

    counted("latent_sample")
    counted("latent_log_prob")
    # An estimator that nothing was compiled for.
    estimator = dataclasses.replace(boxed.estimator, input_scaling="asinh")
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), boxed.variables.params)
    for members, own in ((1, boxed.variables.params), (2, params)):
        variables = dataclasses.replace(
            boxed.variables, params=own, num_members=members
        )
        posterior, x = Posterior(estimator, variables), scans.reshape(-1, 3)[:4]
        many = posterior.sample(KEY, x, 256)
        density = posterior.log_prob(many, x)
        assert traced == ["latent_sample", "latent_log_prob"]
        five = np.concatenate([x, x[:1]])
        few, one = posterior.sample(KEY, x, 2), posterior.sample(KEY, x[0], 7)
        more = posterior.sample(KEY, five, 256)
        posterior.sample(KEY, x[:3], 250)
        again = posterior.log_prob(np.concatenate([many, many[:1]]), five)
        assert len(traced) == 2
        traced.clear()
        np.testing.assert_allclose(few, many[:, :2], atol=2e-5)
        np.testing.assert_allclose(one, many[0, :7], atol=2e-5)
        np.testing.assert_allclose(more[:4], many, atol=2e-5)
        np.testing.assert_allclose(again[:4], density, atol=1e-4)


def test_mean_and_median_are_those_of_the_draws(boxed, scans):
    """In calls of bounded memory: draws of all scans are never there at once."""
    x = scans.reshape(-1, 3)
    draws = np.asarray(boxed.sample(KEY, x, 3_000))
    np.testing.assert_allclose(boxed.mean(KEY, x, 3_000), draws.mean(1), atol=1e-5)
    found = boxed.median(KEY, x, 3_000)
    np.testing.assert_allclose(found, np.median(draws, 1), atol=1e-5)
