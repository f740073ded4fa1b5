import jax
import numpy as np
import pytest

from flowinv.diagnostics.coverage import interval_coverage
from flowinv.diagnostics.sbc import sbc_ranks


def coverage_of(posterior):
    ranks = np.asarray(sbc_ranks(jax.random.key(0), *posterior))
    return interval_coverage(ranks, posterior.samples.shape[1])


def test_calibrated_passes_and_narrow_fails(normal_posterior):
    """12 intervals within 3 sd: false-alarm rate 3 %; seed fixed."""
    good = coverage_of(normal_posterior())
    narrow = coverage_of(normal_posterior(sd_factor=0.7))
    assert good.observed.shape == (3, 4)
    assert (np.abs(good.z_score) < 3).all()
    assert (narrow.z_score < -3).all()


def test_wide_posterior_covers_too_often(normal_posterior):
    wide = coverage_of(normal_posterior(sd_factor=1.5))
    assert (wide.z_score > 3).all()


def test_exact_counts():
    """Each rank once: observed equals nominal for even and odd cuts."""
    for num_samples in (39, 99, 100, 999):
        ranks = np.arange(num_samples + 1)[:, None]
        result = interval_coverage(ranks, num_samples)
        np.testing.assert_allclose(result.observed[:, 0], result.nominal, atol=1e-12)
        np.testing.assert_allclose(result.nominal, result.levels, atol=0.02)
        np.testing.assert_allclose(result.z_score, 0, atol=1e-9)


def test_agrees_with_quantiles(normal_posterior):
    """With many draws the rank interval is the quantile interval."""
    theta, samples = normal_posterior(num_simulations=300, num_samples=1_999, dim=2)
    low, high = np.quantile(samples, [0.05, 0.95], axis=1)
    by_quantiles = ((theta > low) & (theta < high)).mean(0)
    ranks = np.asarray(sbc_ranks(jax.random.key(0), theta, samples))
    by_ranks = interval_coverage(ranks, 1_999, (0.9,)).observed[0]
    np.testing.assert_allclose(by_ranks, by_quantiles, atol=0.005)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((1.0,), r"levels in \(0, 1\)"),
        ((0.0,), r"levels in \(0, 1\)"),
        ((0.5, 0.99), "levels resolved by 20 draws"),
    ],
)
def test_bad_levels(levels, message):
    with pytest.raises(ValueError, match=message):
        interval_coverage(np.zeros((5, 1), int), 20, levels)
