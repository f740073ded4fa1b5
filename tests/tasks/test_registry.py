"""Tasks by name, with options, fixed observations and references."""

import jax
import numpy as np
import pytest

from flowinv.simulators.beam_profile import BeamProfile
from flowinv.simulators.knife_edge import StepScan
from flowinv.tasks.registry import task, task_names, task_options

BEAM = "beam_profile:prior=slides,points=100,nuisance=2,rotation=true"


def test_names():
    assert set(task_names()) >= {"beam_profile", "step_scan"}
    assert "rotation" in task_options("beam_profile")
    assert "jitter" in task_options("step_scan")


def test_default_is_todays_problem():
    problem = task("beam_profile")
    assert problem.simulator == BeamProfile()
    assert problem.prior.names == ("mean_x", "mean_y", "std_x", "std_y")
    assert problem.prior.units == ("grid",) * 4
    np.testing.assert_array_equal(problem.prior.low, [20, 20, 1, 1])
    np.testing.assert_array_equal(problem.prior.high, [80, 80, 15, 15])
    assert problem.input_scaling == "root"
    assert problem.num_observations == 10


def test_options_reach_the_simulator():
    problem = task(BEAM + ",observable=knife_edge,samples=512")
    assert problem.simulator == BeamProfile(
        num_points=100,
        num_samples=512,
        rotation=True,
        num_nuisance=2,
        observable="knife_edge",
    )
    np.testing.assert_array_equal(problem.prior.low[:5], [20, 20, 5, 5, -45])
    assert problem.prior.names == problem.simulator.names
    scan = task("step_scan: jitter=0.1, read_noise=2, drift=-0.05, photons=1e4")
    assert scan.simulator == StepScan(
        jitter=0.1, read_noise=2.0, drift=-0.05, num_photons=1e4
    )


def test_spec_gives_the_task_again():
    problem, again = task(BEAM), task(BEAM)
    assert again.simulator == problem.simulator
    assert again.prior == problem.prior


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("beam_profil", "Did you mean 'beam_profile'"),
        ("", "task to be one of"),
        ("beam_profile:point=100", "Did you mean 'points'"),
        ("beam_profile:points=many", "option points to be a whole number; got 'many'"),
        ("beam_profile:points=150", "num_points to be 100 or 200; got 150"),
        ("beam_profile:rotation=maybe", "option rotation to be true or false"),
        ("beam_profile:prior=slide", "Did you mean 'slides'"),
        ("beam_profile:observable=knife", "Did you mean 'knife_edge'"),
        ("beam_profile:rotation", "task option as option=value; got 'rotation'"),
        ("beam_profile:points=", "task option as option=value"),
        ("beam_profile:points=100,points=200", "option points once; got twice"),
        ("step_scan:jitter=-1", "jitter of at least 0"),
        ("step_scan:jitter=inf", "option jitter to be a finite number"),
        ("step_scan:nuisance=2", "option of task step_scan to be one of"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        task(spec)


def test_observations_are_fixed_and_distinct():
    problem = task("beam_profile")
    x, theta = problem.observation(1)
    again, same = task("beam_profile").observation(1)
    assert np.array_equal(x, again)
    assert np.array_equal(theta, same)
    other, elsewhere = problem.observation(10)
    assert not np.array_equal(theta, elsewhere)
    assert x.shape == other.shape == problem.simulator.x_shape
    assert x.dtype == theta.dtype == np.float32
    assert np.all(np.asarray(problem.prior.contains(theta)))


@pytest.mark.parametrize("index", [0, 11, -1])
def test_no_such_observation(index):
    problem = task("beam_profile")
    with pytest.raises(ValueError, match="observation from 1 to 10"):
        problem.observation(index)
    with pytest.raises(ValueError, match="observation from 1 to 10"):
        problem.reference(index, 5, jax.random.key(0))


@pytest.mark.parametrize(
    "spec", ["beam_profile", "beam_profile:nuisance=1,points=100", "step_scan"]
)
def test_reference_surrounds_the_truth(spec):
    problem = task(spec)
    _, theta = problem.observation(2)
    draws = problem.reference(2, 300, jax.random.key(0)).draws
    assert draws.shape == (300, problem.prior.dim)
    assert np.all(np.abs(draws.mean(axis=0) - theta) < 6 * draws.std(axis=0))


@pytest.mark.slow
def test_reference_of_a_turned_beam():
    problem = task("beam_profile:rotation=true,points=100")
    draws = problem.reference(1, 400, jax.random.key(0)).draws
    assert draws.shape == (400, 5)
    assert np.all(np.asarray(problem.prior.contains(draws)))


def test_a_pitch_gives_lengths_in_um_and_widths_at_half_maximum():
    """Half the height of a normal density lies sqrt(2 ln 2) sds from its middle."""
    plain = {q.name: q for q in task("beam_profile").derived}
    assert set(plain) == {"fwhm_x", "fwhm_y"}
    half = 0.5 * plain["fwhm_x"].factor
    assert np.exp(-0.5 * half**2) == pytest.approx(0.5)
    assert (plain["fwhm_y"].unit, plain["fwhm_y"].parameter) == ("grid", "std_y")
    for name in ("beam_profile", "step_scan"):
        scaled = {q.name: q for q in task(f"{name}:pitch=5").derived}
        assert {q.unit for q in scaled.values()} == {"um"}
        assert scaled["mean_x"].factor == 5
        assert scaled["fwhm_x"].factor == pytest.approx(5 * plain["fwhm_x"].factor)
    # It says how answers are shown; the problem is the same.
    assert task("beam_profile:pitch=5").simulator == task("beam_profile").simulator
    with pytest.raises(ValueError, match="option pitch"):
        task("beam_profile:pitch=-1")
