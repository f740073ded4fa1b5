"""Regions, bands, averages, information, weights, disagreement, MMD test: numbers."""

import jax
import numpy as np
import pytest
from scipy import stats

from flowinv.diagnostics.averaged import data_averaged
from flowinv.diagnostics.bands import ecdf_band, ecdf_difference
from flowinv.diagnostics.disagreement import disagreement
from flowinv.diagnostics.importance import corrected, importance, pareto_tail
from flowinv.diagnostics.information import information
from flowinv.diagnostics.mmd import mmd_squared, mmd_test
from flowinv.diagnostics.regions import quantity_ranks, region_coverage

KEY = jax.random.key(0)


def densities(factor, dim=2, count=1_000, seed=0):
    """log q of truths and draws of N(0, I) posteriors whose sds are off by a factor."""
    rng = np.random.default_rng(seed)
    draws = factor * rng.normal(size=(count, 99, dim))
    theta = rng.normal(size=(count, dim))
    q = stats.norm(scale=factor)
    return q.logpdf(theta).sum(-1), q.logpdf(draws).sum(-1)


def test_regions_hold_what_chi2_says():
    """In 2-D the region of mass m of a posterior of sds f holds 1 - (1 - m)^(f^2)."""
    for factor in (1.0, 0.7, 1.5):
        found = region_coverage(*densities(factor, count=4_000))
        exact = 1 - (1 - found.levels) ** (factor**2)
        assert (np.abs(found.observed - exact) < 5 * found.sd).all()
        assert (found.p > 1e-3) == (factor == 1.0)
        assert np.sign(round(found.error, 1)) == np.sign(factor - 1.0)


def test_the_level_of_regions_is_kept():
    """200 right posteriors: a false alarm once in 10,000 such tests."""
    p = [region_coverage(*densities(1.0, count=200, seed=s)).p for s in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def test_the_likelihoods_ranks_catch_the_prior():
    """theta ~ N(0, 1), x ~ N(theta, .3), answered by the prior: only they see it."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=1_000)
    x = theta + 0.3 * rng.normal(size=1_000)
    draws = rng.normal(size=(1_000, 99))
    true = stats.norm.logpdf(x, theta, 0.3)
    drawn = stats.norm.logpdf(x[:, None], draws, 0.3)
    ranks = quantity_ranks(KEY, true, drawn)
    assert stats.kstest(ranks / 99, "uniform").pvalue < 1e-9
    blind = (draws < theta[:, None]).sum(1)
    assert stats.kstest(blind / 99, "uniform").pvalue > 1e-3


def test_bands_hold_whole_curves():
    """95 % of 1,000 right curves: 95 +- 0.7 %, and 0.5 % of the band itself."""
    rng = np.random.default_rng(1)
    ranks = rng.integers(0, 100, (300, 1_000))
    inside = ecdf_difference(ranks, 99).inside
    assert inside.mean() == pytest.approx(0.95, abs=0.03)
    levels, low, high = ecdf_band(300, 99)
    assert (low <= 300 * levels).all()
    assert (high >= 300 * levels).all()
    narrow = np.clip((rng.beta(0.7, 0.7, (300, 1)) * 100).astype(int), 0, 99)
    assert not ecdf_difference(narrow, 99).inside.any()


def test_the_averaged_posterior_is_the_prior(normal_posterior):
    """1,000 simulations: right ones pass, a lost mode does not."""
    right = normal_posterior(num_simulations=1_000, dim=2)
    found = data_averaged(*right)
    assert found.p_holm.min() > 1e-3
    np.testing.assert_allclose(found.sd_ratio, 1.0, atol=0.1)
    theta, samples = right
    lost = np.abs(samples)  # a posterior that never has negative parameters
    assert data_averaged(theta, lost).p_holm.max() < 1e-6


def test_nothing_learned_is_no_shrinkage():
    """x says a of theta_1 + theta_2 alone: each shrinks by half, one direction by 0."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(2_000, 3))
    x = theta[:, 0] + theta[:, 1]  # without noise: posterior N(x/2, 1/2) on the line
    along = np.sqrt(0.5) * rng.normal(size=(2_000, 199))
    draws = np.stack([x[:, None] / 2 + along, x[:, None] / 2 - along], -1)
    draws = np.concatenate([draws, rng.normal(size=(2_000, 199, 1))], -1)
    found = information(theta, draws)
    np.testing.assert_allclose(found.shrinkage, [0.5, 0.5, 0.0], atol=0.08)
    np.testing.assert_allclose(found.z, 1.0, atol=0.06)
    assert abs(found.least) < 0.08


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_tails_of_pareto_numbers(k):
    """Shape of 5,000 numbers: error (1 + k) / sqrt(5,000), 5 of them."""
    x = stats.genpareto(k, scale=2.0).rvs(5_000, random_state=0)
    found, scale = pareto_tail(x)
    assert found == pytest.approx(k, abs=5 * (1 + k) / np.sqrt(5_000))
    assert scale == pytest.approx(2.0, rel=0.15)


def weighed(sd, shift, count=20_000):
    """Draws of N(shift, sd) for a prior N(0, 1) and x = 1 with noise 1."""
    draws = shift + sd * np.random.default_rng(0).normal(size=count)
    found = importance(
        stats.norm.logpdf(1.0, draws, 1.0),
        stats.norm.logpdf(draws),
        stats.norm.logpdf(draws, shift, sd),
    )
    return draws, found


def test_exact_draws_have_equal_weights():
    """Posterior N(1/2, 1/2), evidence N(1; 0, 2)."""
    _, found = weighed(np.sqrt(0.5), 0.5)
    assert found.efficiency == pytest.approx(1.0, abs=1e-6)
    assert found.k < 0.1
    assert found.log_evidence == pytest.approx(stats.norm.logpdf(1, 0, np.sqrt(2)))


def test_weights_correct_a_posterior_that_is_off():
    """A mean off by 0.4 sd, 1.3 times too wide: efficiency in closed form by sums."""
    draws, found = weighed(1.3 * np.sqrt(0.5), 0.8)
    grid = np.linspace(-6, 8, 20_001)
    p, q = stats.norm(0.5, np.sqrt(0.5)), stats.norm(0.8, 1.3 * np.sqrt(0.5))
    exact = 1 / np.trapezoid(p.pdf(grid) ** 2 / q.pdf(grid), grid)
    assert found.efficiency == pytest.approx(exact, rel=0.03)
    evidence = stats.norm.logpdf(1, 0, np.sqrt(2))
    assert abs(found.log_evidence - evidence) < 5 * found.log_evidence_error
    own = corrected(draws, found)
    assert len(np.unique(own)) == len(own) > 5_000
    # Without replacement, of half of what they are worth: 2 % of an sd beside.
    assert own.mean() == pytest.approx(0.5, abs=0.06)
    assert own.std() == pytest.approx(np.sqrt(0.5), rel=0.06)


def test_many_weights_are_as_each_alone():
    """Against the formulas in NumPy: raw weights, and the smoothed ones' k alone."""
    raw = np.random.default_rng(0).normal(size=(4, 400))
    raw *= np.array([[0.0], [0.3], [1.0], [3.0]])
    raw[1, :100] = -np.inf
    zeros = np.zeros_like(raw)
    found = importance(raw, zeros, zeros)
    weights = np.exp(raw)
    np.testing.assert_allclose(found.log_evidence, np.log(weights.mean(-1)), atol=1e-12)
    error = weights.std(-1, ddof=1) / weights.mean(-1) / np.sqrt(400)
    np.testing.assert_allclose(found.log_evidence_error, error, atol=1e-12)
    alone = [importance(*own) for own in zip(raw, zeros, zeros, strict=True)]
    for name in ("efficiency", "k", "log_weights"):
        own = [getattr(one, name) for one in alone]
        np.testing.assert_allclose(getattr(found, name), own, rtol=1e-9)
    size = int(3 * np.sqrt(400))
    for s in (1, 2, 3):
        order = np.sort(weights[s])
        k, _ = pareto_tail(order[-size:] - order[-size - 1])
        assert found.k[s] == pytest.approx(k)
    assert found.efficiency[0] == pytest.approx(1.0)


def test_a_narrow_posterior_cannot_be_corrected():
    draws, found = weighed(0.35 * np.sqrt(0.5), 0.5)
    assert found.k > 0.7
    with pytest.raises(ValueError, match="tail index k of at most 0.7"):
        corrected(draws, found)


def test_members_that_differ_by_their_noise_agree():
    rng = np.random.default_rng(0)
    same = rng.normal(size=(4, 2_000, 2))
    found = disagreement(same)
    assert found.shift.max() < 0.1
    assert found.ratio.max() < 1.1
    moved = same + 0.5 * np.arange(4)[:, None, None]
    exact = np.std([0, 0.5, 1, 1.5], ddof=1)
    np.testing.assert_allclose(disagreement(moved).shift, exact, rtol=0.1)
    both = disagreement(np.stack([same, moved]))
    np.testing.assert_allclose(both.shift[1], disagreement(moved).shift, rtol=1e-9)
    assert both.share.shape == (2, 2)
    with pytest.raises(ValueError, match="M and n at least 2"):
        disagreement(same[:1])


def test_the_permutation_test_keeps_its_level_and_finds_shifts():
    """100 tests of equal sets: p below .05 in 5 +- 2.2; more than 16 once in 1e5."""
    sets = np.random.default_rng(0).normal(size=(2, 100, 100, 2))
    assert (mmd_test(*sets, 99).p < 0.05).sum() <= 16
    a, b = sets[:, 0]
    assert mmd_test(a, b, 99).p == mmd_test(*sets, 99).p[0]
    found = mmd_test(a, b + 0.6, 200)
    assert found.p == pytest.approx(1 / 201)
    scaled = [(own - a.mean(0)) / a.std(0, ddof=1) for own in (a, b + 0.6)]
    assert found.squared == pytest.approx(mmd_squared(*scaled, "both"), abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: importance(np.zeros(10), np.zeros(10), np.zeros(10)), "at least 50"),
        (lambda: importance(np.zeros(60), np.zeros(59), np.zeros(60)), "log_prior"),
        (
            lambda: importance(np.full(60, -np.inf), np.zeros(60), np.zeros(60)),
            "not all zero",
        ),
        (lambda: quantity_ranks(KEY, np.zeros(3), np.zeros((4, 2))), "drawn with"),
        (lambda: ecdf_band(10, 9, 1.0), "level in"),
        (lambda: mmd_test(np.zeros((3_000, 1)), np.zeros((9, 1))), "at most 2500"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
