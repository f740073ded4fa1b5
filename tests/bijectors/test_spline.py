"""The spline against distrax's in float64, and its invalid arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.bijectors import RationalQuadraticSpline, num_spline_parameters

MIN_BIN, MIN_SLOPE = 1e-4, 1e-4


def distrax_parameters(spline: RationalQuadraticSpline) -> jax.Array:
    """Unconstrained parameters for which distrax's spline has the knots of ours."""
    knots_x, knots_y, slopes = spline.knots()
    # distrax: size = softmax(u) (2 B - K m) + m, slope = softplus(u + offset) + s.
    sizes = [jnp.log(jnp.diff(knots) - MIN_BIN) for knots in (knots_x, knots_y)]
    offset = jnp.log(jnp.exp(1.0 - MIN_SLOPE) - 1.0)
    return jnp.concatenate(
        [*sizes, jnp.log(jnp.expm1(slopes - MIN_SLOPE)) - offset], -1
    )


@pytest.mark.later("*-5")
@pytest.mark.parametrize("num_bins", [2, 5, 8])
@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("bound", [1.0, 5.0])
def test_equals_the_spline_of_distrax_in_float64(num_bins, scale, bound):
    import distrax

    rng = np.random.default_rng(num_bins)
    with jax.enable_x64(True):
        raw = scale * rng.normal(size=(200, 2, num_spline_parameters(num_bins)))
        x = rng.uniform(-1.2 * bound, 1.2 * bound, (200, 2))
        ours = RationalQuadraticSpline(jnp.asarray(raw), bound)
        theirs = distrax.RationalQuadraticSpline(
            distrax_parameters(ours),
            -bound,
            bound,
            boundary_slopes="identity",
            min_bin_size=MIN_BIN,
            min_knot_slope=MIN_SLOPE,
        )
        for method in ("forward_and_log_det", "inverse_and_log_det"):
            value, log_det = getattr(ours, method)(x)
            expected, expected_log_det = getattr(theirs, method)(x)
            assert value.dtype == jnp.float64
            np.testing.assert_allclose(value, expected, atol=1e-9)
            np.testing.assert_allclose(log_det, expected_log_det.sum(-1), atol=1e-6)


def test_knots_stay_within_the_stated_bounds_when_saturated():
    raw = 1e6 * np.random.default_rng(0).normal(size=(1000, 1, 23)).astype(np.float32)
    knots_x, knots_y, slopes = RationalQuadraticSpline(raw).knots()
    for knots in (knots_x, knots_y):
        sizes = np.diff(knots)
        assert (sizes.max(-1) / sizes.min(-1)).max() <= 10.001
        assert (knots[..., 0] == -5).all()
        assert (knots[..., -1] == 5).all()
    assert slopes.min() >= 0.01 * (1 - 1e-5)
    assert slopes.max() <= 100 * (1 + 1e-5)


def test_is_monotone_and_smooth_across_the_bound():
    raw = 3.0 * np.random.default_rng(1).normal(size=(50, 1, 23)).astype(np.float32)
    x = np.linspace(-6, 6, 2001, dtype=np.float32)[:, None, None]
    spline = RationalQuadraticSpline(raw)
    y, _ = spline.forward_and_log_det(x)
    assert (np.diff(y, axis=0) >= 0).all()
    _, inside = spline.forward_and_log_det(
        np.float32([[-5 + 1e-5], [5 - 1e-5]])[:, None]
    )
    assert np.abs(inside).max() < 0.05


def test_nan_stays_nan_and_infinity_passes():
    raw = np.ones((1, 23), np.float32)
    x = np.float32([[np.nan], [np.inf], [-np.inf]])
    y, _ = RationalQuadraticSpline(raw).forward_and_log_det(x)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(
    ("size", "bound", "min_slope", "message"),
    [
        (
            24,
            5.0,
            1e-2,
            r"Expected raw with 3 K - 1 entries on the last axis; got \(2, 24",
        ),
        (23, 0.0, 1e-2, "Expected bound above 0; got 0.0"),
        (23, float("inf"), 1e-2, "Expected bound above 0; got inf"),
        (23, 5.0, 0.0, "Expected min_slope between 0 and 1; got 0.0"),
        (23, 5.0, 1.0, "Expected min_slope between 0 and 1; got 1.0"),
    ],
)
def test_invalid_arguments(size, bound, min_slope, message):
    spline = RationalQuadraticSpline(jnp.zeros((2, size)), bound, min_slope)
    with pytest.raises(ValueError, match=message):
        spline.forward_and_log_det(jnp.zeros(2))
