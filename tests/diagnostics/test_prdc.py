import numpy as np
import pytest

from flowinv.diagnostics.prdc import prdc


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_agrees_with_reference_implementation(vectors, k):
    v = vectors("prdc")
    result = prdc(v["real"], v["fake"], k=k, standardise=False)
    np.testing.assert_allclose(result, v[f"k{k}"], atol=1e-5)


@pytest.mark.parametrize("standardise", [False, True])
def test_a_set_against_itself(vectors, standardise):
    """Ties at the ball's edge are not inside: density is exactly one."""
    v = vectors("prdc")
    result = prdc(v["real"], v["real"], k=5, standardise=standardise)
    np.testing.assert_allclose(result, v["identical_k5"], atol=1e-5)


def test_many_observations_in_one_call():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(3, 301, 3)), rng.normal(size=(3, 257, 3))
    alone = [prdc(*both) for both in zip(real, fake, strict=True)]
    np.testing.assert_allclose(np.transpose(alone), prdc(real, fake), rtol=1e-12)


def test_equal_distributions():
    """Expected coverage 1 - 2^-5 = 0.969, density 1; sds over seeds 0.007 and 0.02."""
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(2, 1_000, 4))
    result = prdc(real, fake)
    assert result.precision > 0.95
    assert result.recall > 0.95
    assert abs(result.density - 1) < 0.12
    assert abs(result.coverage - 0.969) < 0.03


def test_power():
    """Half as wide: recall, coverage fall. Twice as wide: precision, density fall."""
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(2, 1_000, 4))
    equal, narrow, wide = (prdc(real, fake * f) for f in (1.0, 0.5, 2.0))
    assert narrow.recall < equal.recall - 0.2
    assert narrow.coverage < equal.coverage - 0.2
    assert wide.precision < equal.precision - 0.2
    assert wide.density < equal.density - 0.4


def test_units_do_not_matter_when_standardised():
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(2, 300, 2))
    scale, shift = np.array([1e-4, 1e3]), np.array([80.0, -1e6])
    moved = prdc(real * scale + shift, fake * scale + shift)
    np.testing.assert_allclose(moved, prdc(real, fake), atol=1e-12)


@pytest.mark.parametrize(
    ("samples", "k", "message"),
    [
        (np.zeros((5, 3)), 2, r"samples with shape \(..., 2\)"),
        (np.full((5, 2), np.inf), 2, "finite numbers only"),
        (np.zeros((5, 2)), 5, "k below the number of draws, 5; got 5"),
        (np.zeros((5, 2)), 0, "k of at least 1"),
    ],
)
def test_bad_input(samples, k, message):
    with pytest.raises(ValueError, match=message):
        prdc(np.ones((10, 2)), samples, k=k)


@pytest.mark.parametrize("k", [1, 4])
def test_is_what_its_definition_says(k):
    """Balls to the k-th neighbour, counted one by one (arXiv:2002.09797)."""
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(60, 2)), 0.3 + rng.normal(size=(50, 2))

    def radii(points):
        distances = np.linalg.norm(points[:, None] - points, axis=-1)
        return np.sort(distances, 1)[:, k]  # the 0-th is the point itself

    across = np.linalg.norm(real[:, None] - fake, axis=-1)
    in_real = across < radii(real)[:, None]
    in_fake = across < radii(fake)
    expected = (
        in_real.any(0).mean(),
        in_fake.any(1).mean(),
        in_real.sum(0).mean() / k,
        in_real.any(1).mean(),
    )
    found = prdc(real, fake, k=k, standardise=False)
    order = (found.precision, found.recall, found.density, found.coverage)
    np.testing.assert_allclose(order, expected, atol=1e-6)
