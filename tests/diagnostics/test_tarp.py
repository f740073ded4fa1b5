"""Accuracy with random points: reference numbers, level, power, and its blind spot."""

import jax
import numpy as np
import pytest

from flowinv.diagnostics.tarp import (
    references_near,
    references_uniform,
    tarp,
    tarp_shares,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize("case", ["calibrated", "overconfident"])
def test_agrees_with_reference_implementation(vectors, case):
    """Shares to rounding, and the Kolmogorov-Smirnov test of them."""
    v = vectors("tarp")
    samples = np.swapaxes(v[f"{case}_samples"], 0, 1)
    low, high = v["theta"].min(0), v["theta"].max(0)
    unit = [(a - low) / (high - low) for a in (v["theta"], samples)]
    found = [
        np.asarray(tarp_shares(v["theta"], samples, v["references"])),
        np.asarray(tarp_shares(*unit, v["references"])),
    ]
    off = min(np.abs(own - v[f"{case}_f"]).max() for own in found)
    assert off < 1e-5
    # Ours breaks ties of shares at random: p differs in the second digit.
    d, p = v[f"{case}_ks_uniform_f"]
    own = tarp(KEY, v["theta"], samples, low + v["references"] * (high - low))
    if case == "calibrated":
        assert own.p > 0.01
    else:
        assert own.p < 1e-6
        assert p < 1e-6


def test_the_level_is_kept(normal_posterior):
    """200 right posteriors: p is uniform; a false alarm once in 10,000 such tests."""
    from scipy import stats

    p = []
    for seed in range(200):
        own = normal_posterior(num_simulations=200, num_samples=50, dim=2, seed=seed)
        p.append(tarp(jax.random.key(seed), *own).p)
    assert stats.kstest(p, "uniform").pvalue > 1e-4


@pytest.mark.parametrize(("factor", "side"), [(0.7, 1), (1.5, -1)])
def test_wrong_widths_are_found(normal_posterior, factor, side):
    found = tarp(KEY, *normal_posterior(factor, num_simulations=1_000))
    assert found.p < 1e-3
    assert (found.spread - 1) * side > 0.1
    assert found.lean * side > 0


def test_the_prior_is_found_by_points_that_know_x():
    """1,000 of theta ~ N(0, I), x ~ N(theta, .3), answered by the prior."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(1_000, 2))
    x = theta + 0.3 * rng.normal(size=theta.shape)
    draws = rng.normal(size=(1_000, 199, 2))
    assert tarp(KEY, theta, draws, references_uniform(KEY, theta)).p > 1e-3
    assert tarp(KEY, theta, draws, references_near(KEY, theta, x)).p < 1e-6
    right = x[:, None] / 1.09 + np.sqrt(0.09 / 1.09) * rng.normal(size=draws.shape)
    assert tarp(KEY, theta, right, references_near(KEY, theta, x)).p > 1e-3


@pytest.mark.parametrize(
    ("theta", "samples", "options", "message"),
    [
        (np.zeros((10, 2)), np.zeros((10, 5, 2)), {}, "number of simulations"),
        (np.zeros((20, 2)), np.zeros((20, 5, 3)), {}, "samples with shape"),
        (np.full((20, 2), np.nan), np.zeros((20, 5, 2)), {}, "finite"),
        (
            np.zeros((20, 2)),
            np.zeros((20, 5, 2)),
            {"references": np.zeros((20, 1))},
            "references with shape",
        ),
    ],
)
def test_bad_input(theta, samples, options, message):
    with pytest.raises(ValueError, match=message):
        tarp(KEY, theta, samples, **options)
