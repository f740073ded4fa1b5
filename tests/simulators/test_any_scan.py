"""Scans at any positions: rows, and the fit of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.networks.edge_fit import EdgeFit
from flowinv.simulators.any_scan import AnyScan
from flowinv.simulators.knife_edge import EdgeAxis, StepScan

ENDS = (-2.0, -1.0, 0.0, 1.0, 2.0)
AXES = (EdgeAxis("x", ENDS, falling=True), EdgeAxis("y", tuple(5 * np.array(ENDS))))
MODEL = StepScan(AXES, 4_000.0, 30.0, fit_amplitude=True, fit_background=True)
ANY = AnyScan(MODEL, 60)
LOW = (-1.5, -7.0, 0.05, 0.2, 0.5, 0.0)
HIGH = (1.5, 7.0, 0.6, 3.0, 1.5, 80.0)


@pytest.fixture(scope="module")
def simulated():
    """2,000 thetas of the prior, their scans, and whose windows hold both edges."""
    rng = np.random.default_rng(0)
    theta = np.float32(rng.uniform(LOW, HIGH, (2_000, 6)))
    keys = jax.random.split(jax.random.key(1), len(theta))
    x = np.asarray(jax.jit(jax.vmap(ANY.simulate))(keys, theta))
    middle, half = ANY.window
    place = np.where(x[..., 2] > 0, x[..., 0], np.nan)
    units, reach = (theta[:, :2] - middle) / half, 2 * theta[:, 2:4] / half
    seen = np.nanmin(place, -1) < units - reach
    return theta, x, (seen & (np.nanmax(place, -1) > units + reach)).all(1)


def test_designs_are_of_all_kinds_and_know_nothing_of_theta(simulated):
    """Correlations of 2,000 pairs are 0.022: five of these for 36 pairs."""
    theta, x, seen = simulated
    assert seen.sum() > 500
    there = x[..., 2] > 0
    size = there.sum(-1)
    assert size.min() < 13
    assert size.max() > 57
    # Rows of a scan come first, and all others are 0.
    assert (np.diff(there.astype(int), axis=-1) <= 0).all()
    assert np.all(x[~there] == 0)
    place = np.where(there, x[..., 0], np.nan)
    assert np.nanmax(np.abs(place)) < 1.0001
    steps = np.diff(place)
    assert np.nanmin(steps) > 0
    width = np.nanmax(place, -1) - np.nanmin(place, -1)
    assert width.min() < 0.5
    assert width.max() > 1.9
    ratio = np.nanmax(steps, -1) / np.nanmin(steps, -1)
    assert np.median(ratio) > 1.5
    assert (ratio < 1.01).mean() > 0.1
    light = x[..., 2].sum(-1) / size
    for design in (size, width, light):
        for own in theta.T:
            assert abs(np.corrcoef(design[:, 0], own)[0, 1]) < 0.11


def test_a_scan_at_its_places_is_the_step_scan(simulated):
    """Rates of the rows equal those of the step scan that `at` gives."""
    theta, x, _ = simulated
    for row in (3, 17):
        own, signal = ANY.at(x[row])
        assert own.x_shape == signal.shape == ((x[row][..., 2] > 0).sum(),)
        exposures, counts = ANY.read(jnp.asarray(x[row]))
        there = exposures.factor > 0
        rate = MODEL.curve(jnp.asarray(theta[row]), exposures=exposures).rate
        exact = own.curve(jnp.asarray(theta[row])).rate
        np.testing.assert_allclose(rate[there], exact, rtol=1e-4)
        np.testing.assert_array_equal(counts[there], signal)
        # Poisson: chi2 of some 50 exposures, six standard errors.
        chi2 = ((signal - exact) ** 2 / exact).mean()
        assert abs(chi2 - 1) < 6 * np.sqrt(2 / len(signal))


def test_again_stands_where_the_knife_stood(simulated):
    """Places and light of x; means of 2,000 scans are those of the step scan there.

    Within 5 standard errors of 60 Poisson means and more: a false alarm of 1 in 10^4.
    """
    theta, x, _ = simulated
    keys = jax.random.split(jax.random.key(7), 2_000)
    again = jax.jit(jax.vmap(ANY.again, (0, None, None)))
    rows = np.asarray(again(keys, theta[3], x[3]))
    assert (rows[..., [0, 2]] == x[3][..., [0, 2]]).all()
    assert not rows[:, x[3][..., 2] == 0].any()
    own, _ = ANY.at(x[3])
    drawn = np.asarray(jax.jit(jax.vmap(own.simulate, (0, None)))(keys, theta[3]))
    seen = np.stack([ANY.at(row)[1] for row in rows])
    error = np.sqrt((seen.var(0) + drawn.var(0)) / len(keys))
    assert (np.abs(seen.mean(0) - drawn.mean(0)) < 5 * np.maximum(error, 1e-6)).all()


def test_the_fit_is_that_of_the_places_and_minds_no_order(simulated):
    x, fit = simulated[1][simulated[2]][:4], jax.jit(EdgeFit(ANY, LOW, HIGH))
    features = np.asarray(fit(x))
    assert features.shape == (4, 2 * 6 + 1 + 4 * 2)
    order = np.random.default_rng(0).permutation(60)
    moved = np.asarray(fit(x[:, :, order]))
    np.testing.assert_allclose(moved, features, atol=2e-3)
    for row in range(2):
        own, signal = ANY.at(x[row])
        alone = np.asarray(jax.jit(EdgeFit(own, LOW, HIGH))(signal))
        np.testing.assert_allclose(features[row, :13], alone, atol=2e-3)


@pytest.mark.slow
def test_errors_are_those_of_the_estimates(simulated):
    """As in test_edge_fit: medians within .2, 68 % intervals within .12 of 1.

    Of scans whose window holds both edges.
    """
    theta, x, seen = simulated
    fit = EdgeFit(ANY, LOW, HIGH)
    estimate, log_error = fit.estimate(jax.jit(fit)(x))
    pulls = np.asarray((estimate - theta) / jnp.exp(log_error))[seen]
    lower, median, upper = np.quantile(pulls, [0.1587, 0.5, 0.8413], axis=0)
    assert np.abs(median).max() < 0.2
    np.testing.assert_allclose((upper - lower) / 2, 1.0, atol=0.15)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="most positions of an axis from 5 to 2000"):
        AnyScan(MODEL, 4)
    with pytest.raises(ValueError, match="drift with any positions to be 0"):
        AnyScan(dataclasses.replace(MODEL, drift=0.1), 60)
