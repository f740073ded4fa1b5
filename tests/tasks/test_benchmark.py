"""Exact posteriors of the benchmark tasks against importance sampling."""

import jax
import numpy as np
import pytest

from flowinv.diagnostics.c2st import c2st
from flowinv.tasks.registry import task

# One whose posterior draws of the prior find often enough.
OBSERVATION = {"slcp": 2}
SPECS = ["two_moons", "gaussian_linear:dim=2", "gaussian_linear_uniform:dim=2"]


OTHERS = ["slcp", "slcp_distractors", "gaussian_mixture", "bernoulli_glm"]
ODES = ["sir", "lotka_volterra"]


@pytest.mark.parametrize("spec", [*SPECS, *OTHERS, *ODES, "bernoulli_glm_raw"])
def test_what_a_task_promises(spec):
    problem = task(spec)
    x, theta = problem.observation(1)
    assert x.shape == problem.simulator.x_shape
    assert problem.prior.contains(theta)
    assert np.isfinite(problem.simulator.log_prob(theta, x))
    again, _ = task(spec).observation(1)
    np.testing.assert_array_equal(x, again)
    other, _ = problem.observation(2)
    assert (x != other).any()


SLOW = [pytest.param(spec, marks=pytest.mark.slow) for spec in ("sir", "slcp")]


@pytest.mark.parametrize("spec", [*SPECS, *SLOW])
def test_exact_draws_have_the_moments_of_weighted_prior_draws(spec):
    problem = task(spec)
    x, _ = problem.observation(OBSERVATION.get(spec, 1))
    found = problem.reference(OBSERVATION.get(spec, 1), 10_000, jax.random.key(0))
    assert found.good
    draws = found.draws
    assert np.asarray(problem.prior.contains(np.float32(draws))).all()
    keys = jax.random.split(jax.random.key(1), 20)
    theta = np.concatenate([problem.prior.sample(key, 100_000) for key in keys])
    log_prob = jax.jit(problem.simulator.log_prob)
    parts = np.split(np.float32(theta), 20)
    log_weight = np.concatenate([np.float64(log_prob(own, x)) for own in parts])
    weight = np.exp(log_weight - log_weight.max())
    size = weight.sum() ** 2 / (weight**2).sum()
    mean = weight @ theta / weight.sum()
    sd = np.sqrt(weight @ (theta - mean) ** 2 / weight.sum())
    # Five standard errors of both sides; sds have at most as much for these shapes.
    error = 5 * np.sqrt(1 / size + 1 / min(found.ess, 10_000))
    assert error < 0.2
    assert (np.abs(draws.mean(0) - mean) / sd).max() < error
    assert np.abs(draws.std(0) / sd - 1).max() < error


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["slcp", "slcp_distractors", "lotka_volterra"])
def test_exact_draws_of_two_keys_agree(spec):
    """Particles led by other keys: C2ST .5 to .53 on 4,000 draws, four sds of .008."""
    problem = task(spec)
    both = [problem.reference(2, 4_000, jax.random.key(seed)) for seed in (0, 1)]
    assert all(own.good for own in both)
    assert c2st(both[0].draws, both[1].draws, "forest").score < 0.53


@pytest.mark.parametrize("x", [(0.3, -4.0), (9.4, -9.9)])
def test_exact_draws_of_the_mixture_near_an_edge(x):
    """Shares within .3 and 1 of x, and beyond an edge none, by a sum over a grid.

    Binomial error of 40,000 draws .0025; five of it.
    """
    x = np.array(x)
    draws = task("gaussian_mixture").exact(x, 40_000, jax.random.key(0))
    assert np.abs(draws).max() <= 10.0
    axes = [np.linspace(-6, 6, 2_401) + own for own in x]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    away = np.linalg.norm(grid - x, axis=-1)
    density = np.exp(-0.5 * away**2) + 100 * np.exp(-0.5 * (away / 0.1) ** 2)
    density = density * (np.abs(grid) <= 10).all(-1)
    for radius in (0.3, 1.0):
        share = density[away < radius].sum() / density.sum()
        found = (np.linalg.norm(draws - x, axis=-1) < radius).mean()
        assert found == pytest.approx(share, abs=0.0125)


@pytest.mark.slow
def test_exact_draws_of_the_spikes_are_those_of_importance_sampling():
    """Both tasks share a posterior; Student proposals around its mode in numpy.

    Means to .1 sd and sds to 10 %: five errors of 2,500 effective draws of NUTS.
    """
    from scipy import optimize, stats

    from flowinv.simulators.bernoulli_glm import glm_design, glm_precision

    problem, raw = task("bernoulli_glm"), task("bernoulli_glm_raw")
    spikes, _ = raw.observation(1)
    design, precision = np.float64(glm_design()), glm_precision()

    def minus(theta):
        drive = theta @ design.T
        own = spikes @ drive.T - np.logaddexp(0, drive).sum(-1)
        return 0.5 * np.einsum("...i,ij,...j", theta, precision, theta) - own

    mode = optimize.minimize(minus, np.zeros(10), method="BFGS")
    proposal = stats.multivariate_t(mode.x, 1.5 * mode.hess_inv, 5, seed=0)
    theta = proposal.rvs(200_000)
    log_w = -minus(theta) - proposal.logpdf(theta)
    weight = np.exp(log_w - log_w.max())
    mean = weight @ theta / weight.sum()
    sd = np.sqrt(weight @ (theta - mean) ** 2 / weight.sum())
    for own, x in ((raw, spikes), (problem, spikes @ glm_design())):
        found = own.exact(x, 4_000, jax.random.key(1))
        assert found.good
        assert (np.abs(found.draws.mean(0) - mean) / sd).max() < 0.1
        assert np.abs(found.draws.std(0) / sd - 1).max() < 0.1


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
