import numpy as np
import pytest
from scipy.spatial.distance import pdist

from flowinv.diagnostics.mmd import mmd_squared

ONES = np.ones((10, 2))


@pytest.mark.parametrize("case", ["shift", "same"])
@pytest.mark.parametrize(
    ("bandwidth", "standardise", "name"),
    [
        ("reference", False, "sbibm_{}_z0_bwX"),
        ("both", False, "sbibm_{}_z0_bwXY"),
        ("reference", True, "sbibm_{}_z1_bwX"),
        ("both", True, "sbibm_{}_z1_bwXY"),
        ("both", False, "sbi_unbiased_{}"),
        (1.0, False, "sbi_unbiased_{}_scale1"),
    ],
)
def test_agrees_with_reference_implementation(
    vectors, case, bandwidth, standardise, name
):
    v = vectors("mmd")
    result = mmd_squared(v["X"], v[f"Y_{case}"], bandwidth, standardise)
    assert result == pytest.approx(float(v[name.format(case)]), abs=1e-5)


def test_many_observations_in_one_call():
    rng = np.random.default_rng(0)
    exact, draws = rng.normal(size=(3, 60, 2)), rng.normal(size=(3, 41, 2))
    for bandwidth in ("reference", "both", 0.7):
        alone = [mmd_squared(*own, bandwidth) for own in zip(exact, draws, strict=True)]
        found = mmd_squared(exact, draws, bandwidth)
        np.testing.assert_allclose(found, alone, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 6, 9])
@pytest.mark.parametrize("ties", [False, True])
def test_median_distances(n, ties):
    """Odd and even numbers of pairs, and pairs equally far apart, against SciPy."""
    rng = np.random.default_rng(n)
    points = rng.integers(0, 3, (n, 1)) if ties else rng.normal(size=(n, 2))
    points = np.float64(points)
    points[0] += 5.0
    h = np.median(pdist(points))
    other = rng.normal(size=(4, points.shape[1]))
    found = mmd_squared(points, other, "reference")
    assert found == pytest.approx(mmd_squared(points, other, h), abs=1e-12)


def test_power():
    """Under the null the sd over seeds is 0.0007; half the width gives 0.046."""
    exact, same = np.random.default_rng(0).normal(size=(2, 500, 2))
    assert abs(mmd_squared(exact, same)) < 0.004
    assert mmd_squared(exact, 0.5 * same) > 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": "x"}, "bandwidth to be one of both, reference"),
        ({"bandwidth": 0.0}, "bandwidth above 0"),
        ({}, "bandwidth above 0"),
        ({"samples": np.ones((2, 10, 2))}, "of as many observations as reference"),
        ({"samples": np.ones((1, 2))}, "samples with at least 2 rows"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        mmd_squared(**{"reference": ONES, "samples": ONES} | options)


def test_is_what_its_definition_says():
    """Unbiased mean of exp(-d^2 / (2 h^2)) over pairs, one by one (Gretton 2012)."""
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(40, 2)), 0.5 + rng.normal(size=(40, 2))

    def mean(a, b, leave_out):
        values = [
            np.exp(-0.5 * ((a[i] - b[j]) ** 2).sum())
            for i in range(len(a))
            for j in range(len(b))
            if not (leave_out and i == j)
        ]
        return np.mean(values)

    expected = mean(one, one, True) + mean(two, two, True) - 2 * mean(one, two, False)
    found = mmd_squared(one, two, 1.0, standardise=False)
    assert found == pytest.approx(expected, abs=1e-5)
