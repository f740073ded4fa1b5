"""Exact posteriors of the benchmark tasks against importance sampling."""

import jax
import numpy as np
import pytest

from flowinv.tasks.registry import task

SPECS = ["two_moons", "gaussian_linear:dim=2", "gaussian_linear_uniform:dim=2"]


@pytest.mark.parametrize("spec", [*SPECS, "slcp"])
def test_what_a_task_promises(spec):
    problem = task(spec)
    x, theta = problem.observation(1)
    assert x.shape == problem.simulator.x_shape
    assert problem.prior.contains(theta)
    assert np.isfinite(problem.simulator.log_prob(theta, x))
    again, _ = task(spec).observation(1)
    np.testing.assert_array_equal(x, again)
    other, _ = problem.observation(2)
    assert (x != other).all()


@pytest.mark.parametrize("spec", SPECS)
def test_exact_draws_have_the_moments_of_weighted_prior_draws(spec):
    problem = task(spec)
    x, _ = problem.observation(1)
    draws = problem.reference(1, 10_000, jax.random.key(0)).draws
    assert np.asarray(problem.prior.contains(np.float32(draws))).all()
    theta = np.asarray(problem.prior.sample(jax.random.key(1), 2_000_000))
    log_weight = np.asarray(problem.simulator.log_prob(theta, x), float)
    weight = np.exp(log_weight - log_weight.max())
    size = weight.sum() ** 2 / (weight**2).sum()
    mean = weight @ theta / weight.sum()
    sd = np.sqrt(weight @ (theta - mean) ** 2 / weight.sum())
    # Five standard errors of both sides; sds have at most as much for these shapes.
    error = 5 * np.sqrt(1 / size + 1 / 10_000)
    assert error < 0.2
    assert (np.abs(draws.mean(0) - mean) / sd).max() < error
    assert np.abs(draws.std(0) / sd - 1).max() < error


def test_slcp_has_no_exact_sampler():
    assert task("slcp").reference(1, 10, jax.random.key(0)) is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("two_moons:dim=3", "option of task two_moons"),
        ("gaussian_linear:dim=0", "dim of at least 1; got 0"),
        ("gaussian_linear_uniform:dim=x", "option dim to be a whole number"),
    ],
)
def test_bad_options(spec, message):
    with pytest.raises(ValueError, match=message):
        task(spec)
