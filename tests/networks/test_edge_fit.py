"""The fitted edge: estimates and errors against the truth of simulated scans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.networks.edge_fit import EdgeFit
from flowinv.simulators.knife_edge import EdgeAxis, StepScan, lattice_axes

LOW, HIGH = (20.0, 20.0, 1.0, 1.0), (80.0, 80.0, 15.0, 15.0)
ALL = {"fit_amplitude": True, "fit_background": True}
MONITOR = tuple((1 + 0.2 * np.sin(np.arange(60))).tolist())
ONE = EdgeAxis("", tuple(np.cumsum(np.linspace(0.5, 2.5, 60)).tolist()), MONITOR, True)
CASES = {
    "plain": (StepScan(lattice_axes(100)), LOW, HIGH),
    "all": (
        StepScan(lattice_axes(100), jitter=0.3, read_noise=20.0, drift=0.1, **ALL),
        (*LOW, 0.5, 0.0),
        (*HIGH, 1.5, 200.0),
    ),
    "one falling axis": (StepScan((ONE,), background=50.0), LOW[1:3], HIGH[1:3]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.later("plain", "one falling axis")
def test_errors_are_those_of_the_estimates(case):
    """2,000 scans: medians of pulls are 0 to 0.03 each, their 68 % interval 1 to 3 %.

    Biases of an efficient fit are of the order of a tenth of its error; limits of five
    standard errors and that.
    """
    scan, low, high = CASES[case]
    rng = np.random.default_rng(0)
    theta = np.float32(rng.uniform(low, high, (2_000, scan.dim)))
    keys = jax.random.split(jax.random.key(1), len(theta))
    x = jax.jit(jax.vmap(scan.simulate))(keys, jnp.asarray(theta))
    fit = EdgeFit(scan, low, high)
    values = jax.jit(fit)(x)
    assert values.shape == (2_000, 2 * scan.dim + 1)
    estimate, log_error = fit.estimate(values)
    pulls = np.asarray((estimate - theta) / jnp.exp(log_error))
    lower, middle, upper = np.quantile(pulls, [0.1587, 0.5, 0.8413], axis=0)
    assert np.abs(middle).max() < 0.2
    np.testing.assert_allclose((upper - lower) / 2, 1.0, atol=0.12)
    # Scans that find no beam in the middle of the prior would be fits gone astray.
    inner = np.all((theta > np.array(low) * 1.05) & (theta < np.array(high) * 0.95), 1)
    assert (np.abs(pulls[inner]) < 6).mean() > 0.999


def test_what_is_no_scan_gives_finite_numbers():
    scan, low, high = CASES["all"]
    length = scan.x_shape[0]
    odd = [np.zeros(length), np.full(length, -50.0), np.full(length, 1e7)]
    odd.append(np.random.default_rng(0).normal(0, 1e4, length))
    values = jax.jit(EdgeFit(scan, low, high))(np.float32(odd))
    assert np.isfinite(values).all()


def test_any_batch_gives_the_same_numbers():
    scan, low, high = CASES["one falling axis"]
    fit = jax.jit(EdgeFit(scan, low, high))
    theta = jnp.asarray([50.0, 5.0])
    keys = jax.random.split(jax.random.key(0), 6)
    x = jax.jit(jax.vmap(scan.simulate, (0, None)))(keys, theta)
    many = fit(x.reshape(2, 3, -1))
    assert many.shape == (2, 3, 5)
    np.testing.assert_allclose(many.reshape(6, 5)[4], fit(x[4]), rtol=1e-4, atol=1e-4)
