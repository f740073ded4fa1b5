"""The step scan: independent exposures against their exact moments.

Bounds of 5 to 6 standard errors on 400 to 40,000 entries, fixed seeds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.simulators.knife_edge import StepScan

THETA = (45.0, 60.0, 6.0, 9.0)


def draws_of(simulator, theta, num_draws):
    keys = jax.random.split(jax.random.key(3), num_draws)
    draw = jax.jit(jax.vmap(simulator.simulate, (0, None)))
    return np.asarray(draw(keys, jnp.asarray(theta)), np.float64)


def rate_of(simulator, theta=THETA):
    grid, time = simulator.grid, np.linspace(0, 1, simulator.num_points)
    curves = [stats.norm(theta[a], theta[2 + a]).cdf(grid) for a in (0, 1)]
    scale = simulator.num_photons * (1 + simulator.drift * time)
    return np.concatenate([scale * curve + simulator.background for curve in curves])


def test_exposures_are_independent_poisson():
    simulator = StepScan(num_points=100, background=20.0, drift=-0.2)
    x = draws_of(simulator, THETA, 8_000)
    rate = rate_of(simulator)
    assert np.abs((x.mean(axis=0) - rate) / np.sqrt(rate / len(x))).max() < 5
    covariance = np.cov(x.T)
    noise = np.sqrt((np.outer(rate, rate) + np.diag(rate**2 + rate)) / len(x))
    assert np.abs((covariance - np.diag(rate)) / noise).max() < 6


def test_jitter_and_read_noise_add_their_variance():
    plain = StepScan(num_points=100, background=20.0)
    noisy = StepScan(num_points=100, background=20.0, jitter=0.3, read_noise=8.0)
    x = draws_of(noisy, THETA, 8_000)
    slope = np.concatenate(
        [4096 * stats.norm(THETA[a], THETA[2 + a]).pdf(plain.grid) for a in (0, 1)]
    )
    expected = rate_of(plain) + 64.0 + (0.3 * slope) ** 2
    assert np.abs(x.var(axis=0) / expected - 1).max() < 6 * np.sqrt(2 / len(x)) + 0.01
    assert np.any(x != np.round(x))


def test_log_prob_is_poisson():
    simulator = StepScan(background=3.0, drift=0.1)
    x = draws_of(simulator, THETA, 1)[0]
    other = (45.1, 59.8, 6.1, 8.8)
    exact = stats.poisson(rate_of(simulator, other)).logpmf(x).sum()
    exact -= stats.poisson(rate_of(simulator)).logpmf(x).sum()
    with jax.enable_x64(True):
        theta, moved, x = (jnp.asarray(a, jnp.float64) for a in (THETA, other, x))
        value = simulator.log_prob(moved, x) - simulator.log_prob(theta, x)
        assert abs(float(value) - exact) < 1e-7 * abs(exact) + 1e-6


def test_fitted_amplitude_and_background():
    simulator = StepScan(fit_amplitude=True, fit_background=True)
    assert simulator.names[4:] == ("amplitude", "background")
    assert simulator.units[4:] == ("1", "counts")
    theta = jnp.asarray([*THETA, 0.7, 50.0])
    x = draws_of(simulator, theta, 2_000)
    assert abs(x[:, 0].mean() - 50.0) < 1.0
    assert abs(x[:, 199].mean() - (0.7 * 4096 + 50)) < 8.0
    gradient = jax.grad(simulator.log_prob)(theta, jnp.asarray(x[0], jnp.float32))
    assert np.all(np.isfinite(gradient))
    assert np.all(np.asarray(gradient) != 0)


def test_log_prob_is_finite_far_from_the_data():
    simulator = StepScan()
    x = jnp.asarray(draws_of(simulator, THETA, 1)[0], jnp.float32)
    far = jnp.asarray([80.0, 20.0, 1.0, 1.0])
    value, gradient = jax.value_and_grad(simulator.log_prob)(far, x)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_points": 7}, "num_points to be 100 or 200"),
        ({"num_photons": 0.0}, "num_photons above 0"),
        ({"background": -1.0}, "background of at least 0"),
        ({"jitter": float("nan")}, "jitter of at least 0"),
        ({"drift": -1.0}, "drift above -1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        StepScan(**options)


def test_no_likelihood_with_jitter():
    with pytest.raises(ValueError, match="without jitter and read noise"):
        StepScan(jitter=0.1).log_prob(jnp.ones(4), jnp.ones(400))
    with pytest.raises(ValueError, match=r"x with shape \(400,\)"):
        StepScan().log_prob(jnp.ones(4), jnp.ones(3))
