import numpy as np
import pytest

from flowinv.diagnostics.widths import compare_widths


def test_known_shift_and_ratio():
    """Draws are an affine image of the reference: exact but for rounding."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(500, 3)) * [1, 10, 1e-3] + 80
    mean, sd = reference.mean(0), reference.std(0, ddof=1)
    shift, ratio = np.array([0.5, 0.0, -2.0]), np.array([1.0, 0.7, 3.0])
    samples = mean + shift * sd + ratio * (reference - mean)
    result = compare_widths(reference, samples)
    np.testing.assert_allclose(result.mean_shift, shift, atol=1e-8)
    np.testing.assert_allclose(result.sd_ratio, ratio, rtol=1e-8)


def test_equal_distributions():
    """Noise sd sqrt(2 / n) = 0.022 and 0.016; 6 numbers within 4.5 sd (1e-5 each)."""
    reference, samples = np.random.default_rng(1).normal(size=(2, 4_000, 3))
    result = compare_widths(reference, samples)
    assert (np.abs(result.mean_shift) < 0.1).all()
    assert (np.abs(result.sd_ratio - 1) < 0.07).all()


def test_one_draw_is_refused():
    with pytest.raises(ValueError, match="samples with at least 2 rows; got 1"):
        compare_widths(np.ones((3, 2)), np.ones((1, 2)))
