"""The beam profile's fast paths against Poisson theory and the Binomial image.

Means and covariances are compared in standard errors; a bound of 6 on up to 20,000
entries fails by chance once in 25,000 runs, and seeds are fixed.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.simulators.beam_profile import BeamProfile
from flowinv.types import Simulator

SLOW = pytest.mark.slow
UPRIGHT = [(45.0, 60.0, 6.0, 9.0), (22.0, 70.0, 12.0, 5.0), (45.0, 60.0, 1.2, 5.0)]
TURNED = [(45.0, 60.0, 12.0, 5.0, 30.0), (25.0, 60.0, 15.0, 3.0, -40.0)]


def image_of(theta, num_points=100, num_samples=1024):
    """Expected counts of every pixel, float64, written down independently."""
    grid = np.linspace(0, 100, 100) if num_points == 100 else np.arange(200) * 0.5
    angle = np.deg2rad(theta[4]) if len(theta) > 4 else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = turn @ np.diag(np.square(theta[2:4])) @ turn.T
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    return num_samples * stats.multivariate_normal(theta[:2], covariance).pdf(points)


def draws_of(simulator, theta, num_draws, seed=1):
    keys = jax.random.split(jax.random.key(seed), num_draws)
    draw = jax.jit(jax.vmap(simulator.simulate, (0, None)))
    return np.asarray(draw(keys, jnp.asarray(theta)), np.float64)


def compare_moments(x, image):
    """Largest errors of mean and covariance in standard errors, Poisson pixels."""
    row, column = image.sum(axis=1), image.sum(axis=0)
    mean = np.concatenate([row, column])
    exact = np.block([[np.diag(row), image], [image.T, np.diag(column)]])
    seen = mean > 0.05
    deviation = (x.mean(axis=0) - mean)[seen]
    error_mean = deviation / np.sqrt(mean[seen] / len(x))
    noise = np.outer(mean, mean) + exact**2 + exact
    # Each distinct pair of pixels once: the matrix is symmetric.
    pair = np.ix_(seen, seen)
    error = (np.cov(x.T) - exact)[pair] / np.sqrt(noise[pair] / len(x))
    return np.abs(error_mean).max(), np.abs(error).max(), error.std()


@pytest.mark.parametrize("theta", UPRIGHT + TURNED)
@pytest.mark.later("theta3", "theta4")
def test_moments_are_poisson(theta):
    simulator = BeamProfile(num_points=100, rotation=len(theta) > 4)
    x = draws_of(simulator, theta, 6_000)
    image = image_of(theta)
    mean, covariance, spread = compare_moments(x, image)
    assert mean < 5
    assert covariance < 6
    assert spread < 1.1
    total = x[:, :100].sum(axis=1)
    assert np.array_equal(total, x[:, 100:].sum(axis=1))
    assert abs(total.mean() - image.sum()) < 5 * np.sqrt(image.sum() / len(x))
    assert abs(total.var() / image.sum() - 1) < 5 * np.sqrt(2 / len(x))


@pytest.mark.parametrize("theta", [UPRIGHT[0], TURNED[0]])
def test_profiles_covary_through_the_image(theta):
    """The cross block is the expected image, and beats a model without it."""
    simulator = BeamProfile(num_points=100, rotation=len(theta) > 4)
    x = draws_of(simulator, theta, 6_000)
    image = image_of(theta)
    cross = np.cov(x.T)[:100, 100:]
    slope = np.sum(cross * image) / np.sum(image**2)
    variance = np.sum(image**2 * np.outer(image.sum(1), image.sum(0))) / len(x)
    assert abs(slope - 1) < 5 * np.sqrt(variance) / np.sum(image**2)


@pytest.mark.slow
@pytest.mark.parametrize("theta", [UPRIGHT[0], TURNED[0]])
def test_binomial_image_agrees_for_wide_beams(theta):
    """For std >= 5 the image's variance is 0.6 % below Poisson's at most."""
    simulator = BeamProfile(num_points=100, rotation=len(theta) > 4, image=True)
    x = draws_of(simulator, theta, 400)
    mean, covariance, spread = compare_moments(x, image_of(theta))
    assert mean < 5
    # 400 draws: sample covariances of sparse pixels are skewed.
    assert covariance < 9
    assert spread < 1.1


@pytest.mark.slow
def test_image_of_a_narrow_beam_varies_less():
    """At std 1 the Binomial variance is lower by the mean p of each projection."""
    theta = (50.5, 50.0, 1.0, 1.0)
    binomial = image_of(theta) / 1024
    x = draws_of(BeamProfile(num_points=100, image=True), theta, 800)
    expected = 1024 * (binomial * (1 - binomial)).sum(axis=1)
    peak = expected.argmax()
    poisson = 1024 * binomial.sum(axis=1)[peak]
    measured = x[:, :100].var(axis=0)[peak]
    error = expected[peak] * np.sqrt(2 / len(x))
    assert abs(measured - expected[peak]) < 4 * error
    assert expected[peak] < 0.92 * poisson


@pytest.mark.parametrize(
    "pixel", ["tail", *(pytest.param(n, marks=SLOW) for n in ("shoulder", "peak"))]
)
@pytest.mark.later("tail")
def test_single_pixels_are_poisson(pixel):
    """p < 1e-4 fails: 3e-4 false alarms together."""
    theta = (50.0, 40.0, 2.0, 8.0)
    x = draws_of(BeamProfile(), theta, 20_000, seed=5)
    mean = image_of(theta, 200).sum(axis=1)
    wanted = {"tail": 1.0, "shoulder": 30.0, "peak": 400.0}[pixel]
    column = np.abs(np.log(np.maximum(mean, 1e-30) / wanted)).argmin()
    law = stats.poisson(mean[column])
    edges = np.unique(law.ppf(np.linspace(0, 1, 22)[1:-1]))
    measured = np.bincount(
        np.searchsorted(edges, x[:, column]), minlength=edges.size + 1
    )
    expected = np.diff(law.cdf(edges), prepend=0.0, append=1.0) * len(x)
    keep = expected > 10
    scale = measured[keep].sum() / expected[keep].sum()
    assert stats.chisquare(measured[keep], expected[keep] * scale).pvalue > 1e-4


@pytest.mark.parametrize("num_points", [100, 200])
@pytest.mark.later("100")
def test_knife_edge_is_the_cumulative_sum(num_points):
    theta, key = jnp.asarray(UPRIGHT[0]), jax.random.key(2)
    flat = BeamProfile(num_points=num_points)
    knife = dataclasses.replace(flat, observable="knife_edge")
    x, curve = (jax.jit(each.simulate)(key, theta) for each in (flat, knife))
    profiles = np.asarray(x).reshape(2, -1)
    assert np.array_equal(np.asarray(curve), np.cumsum(profiles, axis=1).ravel())
    assert np.array_equal(np.asarray(knife.counts(curve)), profiles)
    assert float(knife.log_prob(theta, curve)) == float(flat.log_prob(theta, x))
    assert x.shape == flat.x_shape == (2 * num_points,)
    assert x.dtype == jnp.float32


def test_nuisance_changes_nothing():
    plain, padded = BeamProfile(), BeamProfile(num_nuisance=2)
    theta, key = jnp.asarray(UPRIGHT[0]), jax.random.key(3)
    more = jnp.concatenate([theta, jnp.asarray([0.3, 0.9])])
    x = jax.jit(plain.simulate)(key, theta)
    assert np.array_equal(x, jax.jit(padded.simulate)(key, more))
    assert float(plain.log_prob(theta, x)) == float(padded.log_prob(more, x))
    assert padded.names[4:] == ("nuisance_1", "nuisance_2")
    assert np.all(jax.jit(jax.grad(padded.log_prob))(more, x)[4:] == 0)


@pytest.mark.parametrize("theta", [*UPRIGHT, TURNED[0]])
def test_noise_free_is_the_mean(theta):
    simulator = BeamProfile(rotation=len(theta) > 4, noise_free=True)
    x = np.asarray(simulator.simulate(jax.random.key(0), jnp.asarray(theta)))
    image = image_of(theta, 200)
    expected = np.concatenate([image.sum(axis=1), image.sum(axis=0)])
    np.testing.assert_allclose(x, expected, rtol=2e-4, atol=1e-3)


def test_zero_angle_is_the_upright_beam():
    theta = jnp.asarray(UPRIGHT[0])
    turned = jnp.concatenate([theta, jnp.zeros(1)])
    flat, rotating = BeamProfile(), BeamProfile(rotation=True)
    x = jax.jit(flat.simulate)(jax.random.key(1), theta)
    other = theta + jnp.asarray([0.1, -0.2, 0.1, 0.3])
    moved = jnp.concatenate([other, jnp.zeros(1)])
    difference = flat.log_prob(theta, x) - flat.log_prob(other, x)
    with_angle = rotating.log_prob(turned, x) - rotating.log_prob(moved, x)
    assert abs(float(difference - with_angle)) < 0.02


def test_log_prob_is_the_formula():
    """Against the README's formula in float64, as differences in theta."""
    simulator, theta = BeamProfile(), np.asarray(UPRIGHT[1])
    x = np.asarray(jax.jit(simulator.simulate)(jax.random.key(7), theta), float)
    row, column, grid = x[:200], x[200:], simulator.grid

    def formula(t):
        a = stats.norm(t[0], t[2]).pdf(grid)
        b = stats.norm(t[1], t[3]).pdf(grid)
        shape = np.sum(row * np.log(a / a.sum())) + np.sum(column * np.log(b / b.sum()))
        return stats.poisson(1024 * a.sum() * b.sum()).logpmf(row.sum()) + shape

    for shift in ([0.2, -0.1, 0.1, 0.05], [-3.0, 2.0, 2.0, 1.0]):
        moved = theta + np.asarray(shift)
        exact = formula(moved) - formula(theta)
        single = simulator.log_prob(moved, x) - simulator.log_prob(theta, x)
        assert abs(float(single) - exact) < 1e-3 + 2e-6 * abs(exact)
        with jax.enable_x64(True):
            double = simulator.log_prob(jnp.asarray(moved), jnp.asarray(x))
            double = double - simulator.log_prob(jnp.asarray(theta), jnp.asarray(x))
            assert double.dtype == jnp.float64
            assert abs(float(double) - exact) < 1e-8 * abs(exact) + 1e-8


@pytest.mark.parametrize(
    "theta", [UPRIGHT[1], *(pytest.param(t, marks=pytest.mark.slow) for t in TURNED)]
)
def test_score_has_mean_zero_and_the_information_as_covariance(theta):
    """Bartlett's identities hold for a likelihood that fits its simulator.

    Each whitened entry (whitening is by the information itself) has a noise of 3 %.
    For turned beams the likelihood is approximate: 20 % is allowed at a correlation
    of 0.9 with the window's edge in the beam's way.
    """
    simulator = BeamProfile(num_points=100, rotation=len(theta) > 4)
    x = jnp.asarray(draws_of(simulator, theta, 4_000, seed=9), jnp.float32)
    theta = jnp.asarray(theta)
    # The angle of one scan is unknown beyond what the two widths say; look at the rest.
    free = 4
    gradient = jax.jit(jax.vmap(jax.grad(simulator.log_prob), (None, 0)))
    hessian = jax.jit(jax.vmap(jax.hessian(simulator.log_prob), (None, 0)))
    score = np.asarray(gradient(theta, x), np.float64)[:, :free]
    information = -np.asarray(hessian(theta, x[:300]), np.float64).mean(axis=0)
    inverse = np.linalg.inv(np.linalg.cholesky(information[:free, :free]))
    white = score @ inverse.T
    assert np.abs(white.mean(axis=0)).max() < 0.08
    deviation = np.abs(np.cov(white.T) - np.eye(free)).max()
    assert deviation < (0.2 if simulator.rotation else 0.12)


@pytest.mark.slow
def test_turned_posterior_of_the_means_is_correlated():
    """The leading-order correction gives the means the spot's correlation.

    Information averaged over 30 scans: one scan's correlation scatters by 0.025, so the
    mean by 0.005; the approximation itself is 0.02 low. The bound is the sum of that
    and three standard errors.
    """
    theta = jnp.asarray(TURNED[0])
    simulator = BeamProfile(rotation=True)
    draw = jax.jit(simulator.simulate)
    hessian = jax.jit(jax.hessian(simulator.log_prob))
    information = np.mean(
        [-hessian(theta, draw(jax.random.key(i), theta))[:2, :2] for i in range(30)], 0
    )
    covariance = np.linalg.inv(information.astype(np.float64))
    measured = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    image = image_of(TURNED[0], 200)
    grid = simulator.grid
    offset = np.outer(grid - 45.0, grid - 60.0)
    exact = (image * offset).sum()
    exact /= np.sqrt(
        (image.sum(axis=1) * (grid - 45.0) ** 2).sum()
        * (image.sum(axis=0) * (grid - 60.0) ** 2).sum()
    )
    assert abs(measured - exact) < 0.035


def test_is_a_simulator_and_vmap_is_a_loop():
    simulator = BeamProfile()
    assert isinstance(simulator, Simulator)
    assert hash(simulator) == hash(BeamProfile())
    keys = jax.random.split(jax.random.key(0), 3)
    theta = jnp.asarray(UPRIGHT)
    together = jax.jit(jax.vmap(simulator.simulate))(keys, theta)
    draw = jax.jit(simulator.simulate)
    pairs = zip(keys, theta, strict=True)
    alone = jnp.stack([draw(key, row) for key, row in pairs])
    # XLA may fuse exponentials differently, which moves a rare count by one.
    assert np.mean(np.asarray(together) != np.asarray(alone)) < 5e-3
    assert np.abs(np.asarray(together) - np.asarray(alone)).max() <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_points": 150}, "num_points to be 100 or 200; got 150"),
        ({"num_samples": 0}, "num_samples of at least 1"),
        ({"num_nuisance": -1}, "num_nuisance of at least 0"),
        ({"observable": "knife"}, "Did you mean 'knife_edge'"),
        ({"image": True, "noise_free": True}, "not to be set together"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        BeamProfile(**options)


def test_bad_calls():
    simulator, key = BeamProfile(), jax.random.key(0)
    with pytest.raises(ValueError, match=r"theta with shape \(4,\)"):
        simulator.simulate(key, jnp.ones(5))
    with pytest.raises(ValueError, match=r"x with shape \(400,\)"):
        simulator.log_prob(jnp.ones(4), jnp.ones(200))
    with pytest.raises(ValueError, match="has no likelihood"):
        BeamProfile(noise_free=True).log_prob(jnp.ones(4), jnp.ones(400))


@pytest.mark.slow
def test_speed():
    """1e5 simulations of 400 numbers in 10 s on one core: 2 s are usual."""
    simulator = BeamProfile()
    edges = jnp.asarray([[20.0, 20, 1, 1], [80, 80, 15, 15]])
    draw = jax.jit(jax.vmap(simulator.simulate))

    def batch(index):
        key_theta, key_x = jax.random.split(jax.random.key(index))
        theta = jax.random.uniform(
            key_theta, (1000, 4), minval=edges[0], maxval=edges[1]
        )
        return draw(jax.random.split(key_x, 1000), theta)

    batch(0).block_until_ready()
    start = time.perf_counter()
    for index in range(100):
        batch(index).block_until_ready()
    assert time.perf_counter() - start < 10
