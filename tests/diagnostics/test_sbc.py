import jax
import numpy as np
import pytest

from flowinv.diagnostics.sbc import holm, rank_test, sbc, sbc_ranks

CASES = ("calibrated", "overconfident", "underconfident", "biased")


@pytest.mark.parametrize("case", CASES)
def test_p_values_agree_with_reference_implementation(vectors, case):
    """p-values down to 1e-59 agree in their logarithm; sbi stores them in float32."""
    v = vectors("sbc")
    result = rank_test(v[f"{case}_ranks"], int(v["L"]), num_bins=20)
    chi2, ks = v[f"{case}_chi2_p_20bins"], v[f"{case}_ks_p"]
    np.testing.assert_allclose(result.chi2_p, chi2, rtol=1e-8)
    np.testing.assert_allclose(result.ks_p, ks, atol=1e-5)
    np.testing.assert_allclose(np.log(result.ks_p), np.log(ks), rtol=1e-5)


def test_ranks_agree_with_reference_implementation(vectors):
    v = vectors("sbc")
    samples = np.swapaxes(v["calibrated_posterior_samples"], 0, 1)
    ranks = sbc_ranks(jax.random.key(0), v["theta"], samples)
    np.testing.assert_array_equal(ranks, v["calibrated_ranks"])


def test_calibrated_passes_and_narrow_fails(normal_posterior):
    """False-alarm rate 0.01 over the four parameters together (Holm); fixed seed."""
    key = jax.random.key(1)
    good = sbc(key, *normal_posterior())
    narrow = sbc(key, *normal_posterior(sd_factor=0.7))
    assert good.counts.shape == (20, 4)
    np.testing.assert_array_equal(good.counts.sum(0), 2_000)
    assert (good.chi2_p_holm > 0.01).all()
    assert (good.ks_p > 0.001).all()
    assert (narrow.chi2_p_holm < 1e-6).all()
    assert (narrow.ks_p < 1e-3).all()


def test_p_values_are_uniform_under_calibration():
    """200 tests at 5 %: 10 rejections expected, more than 22 with chance 2e-4."""
    rng = np.random.default_rng(0)
    ranks = rng.integers(0, 101, size=(500, 200))
    assert (rank_test(ranks, 100).chi2_p < 0.05).sum() <= 22


def test_ties_are_broken_at_random():
    """All draws equal to the truth: ranks uniform on 0..9, not all 0."""
    ranks = sbc_ranks(jax.random.key(2), np.ones((4_000, 1)), np.ones((4_000, 9, 1)))
    result = rank_test(np.asarray(ranks), 9)
    assert result.counts.shape == (10, 1)
    assert result.chi2_p[0] > 0.001


def test_uneven_bins_get_uneven_expectations():
    ranks = np.repeat(np.arange(7), 6)[:, None]
    result = rank_test(ranks, 6, num_bins=3)
    np.testing.assert_allclose(result.expected, [18, 12, 12])
    np.testing.assert_array_equal(result.counts[:, 0], result.expected)
    assert result.chi2_p[0] == pytest.approx(1)


def test_holm():
    """Holm's step-down by hand: 0.01 * 3, then 0.02 * 2, then 0.5."""
    np.testing.assert_allclose(holm([0.5, 0.01, 0.02]), [0.5, 0.03, 0.04])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: sbc_ranks(k, np.ones(3), np.ones((3, 5, 1))), r"theta with shape"),
        (
            lambda k: sbc_ranks(k, np.ones((3, 2)), np.ones((3, 2))),
            "samples with shape",
        ),
        (lambda k: sbc_ranks(k, np.ones((3, 2)), np.ones((4, 5, 2))), "samples with"),
        (lambda k: sbc_ranks(k, np.ones((1, 1)), np.full((1, 2, 1), np.nan)), "finite"),
        (lambda _: rank_test(np.array([[11]]), 10), "ranks in 0..10"),
        (lambda _: rank_test(np.array([[0.5]]), 10), "ranks as integers"),
        (
            lambda _: rank_test(np.array([[1]]), 10, num_bins=1),
            "num_bins of at least 2",
        ),
        (lambda _: rank_test(np.array([[1]]), 10, num_bins=12), "num_bins at most 11"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0))


def test_p_values_are_those_of_scipy():
    """Chi-square of twenty bins, and Kolmogorov-Smirnov against the uniform."""
    from scipy import stats

    ranks = (200 * np.random.default_rng(3).beta(1.2, 1.0, (400, 2))).astype(int)
    found = rank_test(ranks, 199, num_bins=20)
    for d in range(2):
        counts = np.bincount(ranks[:, d] // 10, minlength=20)
        assert found.counts[:, d].tolist() == counts.tolist()
        chi2 = stats.chisquare(counts).pvalue
        np.testing.assert_allclose(np.log(found.chi2_p[d]), np.log(chi2), rtol=1e-4)


def test_ranks_count_the_draws_below():
    rng = np.random.default_rng(5)
    theta, draws = rng.normal(size=(50, 2)), rng.normal(size=(50, 9, 2))
    expected = (draws < theta[:, None]).sum(1)
    np.testing.assert_array_equal(sbc_ranks(jax.random.key(0), theta, draws), expected)
