"""The classical fit: right on good scans, silent nan on odd ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.samplers.classical import classical_fit
from flowinv.simulators.beam_profile import BeamProfile
from flowinv.simulators.knife_edge import StepScan

THETA = [45.0, 60.0, 6.0, 9.0]


@pytest.mark.parametrize(
    "simulator",
    [BeamProfile(), BeamProfile(observable="knife_edge"), StepScan(background=30.0)],
)
@pytest.mark.parametrize("theta", [THETA, [21.0, 79.0, 1.2, 2.0]])
def test_finds_the_beam(simulator, theta):
    x = jax.jit(simulator.simulate)(jax.random.key(0), jnp.asarray(theta))
    fit = classical_fit(x, simulator.positions, simulator.observable)
    assert fit.converged
    assert np.all(np.abs(fit.value - theta) < [0.4, 0.6, 0.4, 0.6])
    assert np.all(fit.error > 0)
    scans = np.asarray(x).reshape(2, -1)
    residual = np.abs(fit.curve.reshape(2, -1) - scans).mean(axis=1)
    assert np.all(residual < 0.05 * scans.max(axis=1))


def test_falling_knife_edge():
    simulator = StepScan()
    x = jax.jit(simulator.simulate)(jax.random.key(0), jnp.asarray(THETA))
    falling = 4200.0 - np.asarray(x)
    fit = classical_fit(falling, simulator.positions, "knife_edge")
    assert fit.converged
    assert np.all(np.abs(fit.value - THETA) < 0.3)


GRID = (np.arange(200) * 0.5,) * 2


@pytest.mark.parametrize("observable", ["projections", "knife_edge"])
@pytest.mark.parametrize(
    "scan",
    [
        np.zeros(400),
        np.full(400, 7.0),
        np.full(400, np.nan),
        np.full(400, np.inf),
        np.linspace(0, 1, 400),
        np.random.default_rng(0).poisson(3.0, 400),
        np.eye(1, 400, 50).ravel(),
        -np.ones(400) * np.arange(400) ** 8,
        np.where(np.arange(400) % 2, 1e300, -1e300),
    ],
)
def test_odd_scans_never_raise(scan, observable):
    fit = classical_fit(scan, GRID, observable)
    assert fit.value.shape == fit.error.shape == (4,)
    assert fit.curve.shape == (400,)
    assert fit.converged == bool(np.all(np.isfinite(fit.value)))


def test_one_bad_axis_leaves_the_other():
    simulator = BeamProfile()
    x = jax.jit(simulator.simulate)(jax.random.key(0), jnp.asarray(THETA))
    x = np.asarray(x).copy()
    x[200:] = 0.0
    fit = classical_fit(x, simulator.positions, "projections")
    assert not fit.converged
    assert np.isfinite(fit.value[[0, 2]]).all()
    assert np.isnan(fit.value[[1, 3]]).all()


def test_mistakes_of_the_program():
    with pytest.raises(ValueError, match=r"x with shape \(400,\)"):
        classical_fit(np.ones(10), GRID, "projections")
    with pytest.raises(ValueError, match="observable"):
        classical_fit(np.ones(400), GRID, "projection")
    with pytest.raises(ValueError, match="positions with shape"):
        classical_fit(np.ones(4), [np.ones(2)] * 2, "projections")
