"""Guards: right scans pass, and what is wrong with a scan is caught."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.data.simulate import simulate
from flowinv.experiment import guards
from flowinv.experiment.build import build_estimator
from flowinv.experiment.guards import GUARDS, guard, guard_together
from flowinv.models.posterior import Posterior
from flowinv.models.registry import NetworkConfig
from flowinv.priors.latent import uniform
from flowinv.simulators.knife_edge import EdgeAxis
from flowinv.tasks.instrument import Instrument
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.step_scan import instrument_task
from flowinv.tasks.task import Task
from flowinv.training.config import TrainConfig
from flowinv.training.fit import train
from flowinv.training.prepare import initial

KEY = jax.random.key(0)
SMALL = NetworkConfig(num_layers=1, hidden=(4,), head_hidden=(4,))
SPECS = {"scan": "step_scan:points=100", "profile": "beam_profile:points=100"}


# Cached: a fixture of pairs of parameters would be made anew for each.
@functools.cache
def made(spec, trained=False):
    """A task by name, and how its scans are answered and guarded."""
    task = get_task(spec)
    if trained:
        estimator = build_estimator(task, "spline", NetworkConfig())
        data = simulate(KEY, task.prior, task.simulator, 10_000)
        posterior = train(KEY, estimator, data, TrainConfig()).posterior
    else:
        estimator = build_estimator(task, "cinn", SMALL)
        data = simulate(KEY, task.prior, task.simulator, 3_000)
        posterior = Posterior(estimator, initial(KEY, estimator, data, 300))

    def ask(scans):
        scans = np.float32(scans)
        draws = np.asarray(posterior.sample(jax.random.key(1), scans, 300))
        fits = [task.classical(scan) for scan in scans]
        return guard(jax.random.key(2), task, posterior, scans, draws, fits)

    return task, ask


def right(task, count, seed=5):
    keys = jax.random.split(jax.random.key(seed))
    theta = task.prior.sample(keys[0], count)
    draw = jax.jit(jax.vmap(task.simulator.simulate))
    return np.asarray(draw(jax.random.split(keys[1], count), jnp.asarray(theta)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
def test_right_scans_pass_each_guard_but_one_in_a_hundred(kind):
    """1,000 right ones: 10 expected of each guard, more than 20 once in 500."""
    task, ask = made(SPECS[kind], trained=True)
    found = ask(right(task, 1_000))
    for name in GUARDS:
        count = sum(any(m.guard == name for m in own) for own in found)
        assert count <= 20, (name, count)


@pytest.mark.slow
def test_right_scans_at_any_positions_are_like_their_own():
    """300 right ones, each at its places: 3 expected of a guard, more than 10 once in
    3,000."""
    axis = EdgeAxis("knife", tuple(np.linspace(0.0, 80.0, 41)))
    ranges = {"mean": ((20.0, 60.0),), "std": ((2.0, 12.0),), "any_positions": 40}
    task = instrument_task(Instrument((axis,), 2_000.0, **ranges))
    told = guards._compiled(task.summaries[task.summary])
    seen = simulate(jax.random.key(3), task.prior, task.simulator, 300)
    called = [0, 0]
    for index, x in enumerate(np.asarray(seen.x)):
        key = jax.random.fold_in(jax.random.key(4), index)
        known = guards._known_at(key, task, x, told)
        own = np.asarray(told(x[None]))[0]
        called[0] += known.inputs.likeness(x).p < 0.01
        called[1] += known.summaries.likeness(own).p < 0.01
    assert max(called) <= 10


@functools.cache
def compiled(simulator):
    """One program for all scans of a simulator."""
    return jax.jit(simulator.simulate)


def beam(task, theta, seed=9):
    draw = compiled(task.simulator)
    return np.asarray(draw(jax.random.key(seed), jnp.asarray(theta, jnp.float32)))


def curve(task, theta=(45.0, 55.0, 5.0, 7.0)):
    return beam(task, theta)


FAULTS = {
    "falling edge": lambda x, task: x.reshape(2, -1)[:, ::-1].ravel(),
    "background of 50": lambda x, task: x + 50,
    "peak normalised": lambda x, task: x / x.max(),
    "ampere": lambda x, task: x * 1e-9,
    "all zero": lambda x, task: x * 0,
    "ten times brighter": lambda x, task: x * 10,
    "beam outside the prior": lambda x, task: curve(task, (5.0, 96.0, 5.0, 7.0)),
    "dead pixel": lambda x, task: np.where(
        np.arange(200) == (70, 46)["prof" in task.name], 0, x
    ),
    "wire": lambda x, task: x - curve(task, (60.0, 70.0, 5.0, 7.0)) * (0.999),
    "knife curve or profile": lambda x, task: (
        np.cumsum(x.reshape(2, -1), 1).ravel()
        if "prof" in task.name
        else np.diff(x.reshape(2, -1), axis=1, prepend=0).ravel()
    ),
}


TURNED = ("falling edge", "wire")  # a profile turned round is a profile


@functools.cache
def said(kind):
    """What the guards say of a right scan, "", and of each fault: asked in one call."""
    task, ask = made(SPECS[kind])
    scans = {"": curve(task)}
    for fault, spoil in FAULTS.items():
        scans[fault] = np.maximum(spoil(curve(task), task), 0)
    return dict(zip(scans, ask(np.stack(list(scans.values()))), strict=True))


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(k, f) for k in SPECS for f in FAULTS if k == "scan" or f not in TURNED],
)
@pytest.mark.later("profile-*")
def test_what_is_wrong_is_caught(kind, fault):
    found = said(kind)[fault]
    assert found
    assert not any("\n" in misfit.words for misfit in found)


@pytest.mark.parametrize("kind", SPECS)
def test_a_right_scan_of_each_task_passes(kind):
    assert said(kind)[""] == []


@pytest.mark.parametrize("kind", SPECS)
def test_what_one_scan_does_not_show_many_do(kind):
    """30 right scans pass; 10 % of light too much in each is found in all together."""
    task, _ = made(SPECS[kind])
    keys = jax.random.split(jax.random.key(3), 30)
    theta = np.tile(np.float32([45.0, 55.0, 5.0, 7.0]), (30, 1))
    draw = jax.jit(jax.vmap(task.simulator.simulate))
    scans = np.asarray(draw(keys, theta))
    # The answers: exact places, with the scatter of a posterior.
    noise = np.random.default_rng(0).normal(size=(30, 5, 4)) * 0.03
    draws = theta[:, None] + np.float32(noise)
    assert guard_together(jax.random.key(0), task, scans, draws) is None
    found = guard_together(jax.random.key(0), task, 1.1 * scans, draws)
    assert found.guard == "together"
    assert "30" not in found.words
    assert guard_together(jax.random.key(0), task, 1.1 * scans[:19], draws[:19]) is None


def main():
    """Print docs/guards.md: fault by guard, and false alarms of 1,000 right scans."""
    print("# What the guards of `flowinv infer` see\n")
    print("Made by tests/experiment/test_guards.py: 100 points an axis, 10,000")
    print("simulations. A cross: the guard says that the scan is off.")
    for kind, spec in SPECS.items():
        task, ask = made(spec, trained=True)
        print(f"\n## {spec}\n")
        print(f"| fault | {' | '.join(GUARDS)} |\n| --- |{' --- |' * len(GUARDS)}")
        rows = {f: f for f in FAULTS if kind == "scan" or f not in TURNED}
        for fault in rows:
            x = np.maximum(FAULTS[fault](curve(task), task), 0)
            said = {misfit.guard for misfit in ask(x[None])[0]}
            cells = ["x" if name in said else "" for name in GUARDS]
            print(f"| {fault} | {' | '.join(cells)} |")
        found = ask(right(task, 1_000))
        counts = [sum(any(m.guard == n for m in own) for own in found) for n in GUARDS]
        print(f"| 1,000 right scans | {' | '.join(map(str, counts))} |")


if __name__ == "__main__":
    main()


def test_what_a_network_makes_of_x_is_guarded_where_it_has_no_summaries():
    """400 numbers, each off by 0.25 sd: little to see, but five sds of their mean."""

    class Noise:
        x_shape = (400,)

        def simulate(self, key, theta):
            return theta[0] + jax.random.normal(key, (400,))

    task = Task(uniform([-0.01], [0.01], ["a"]), Noise())

    class Mean(NamedTuple):
        """A network of which only what it is told of x matters."""

        summary: Any = None

        def context(self, x):
            return np.asarray(x).mean(-1, keepdims=True)

    def names(x):
        draws = np.random.default_rng(0).uniform(-0.01, 0.01, (len(x), 100, 1))
        found = guard(KEY, task, Mean(), x, draws, [None] * len(x))
        return [{own.guard for own in misfits} for misfits in found]

    x = right(task, 20)
    assert sum("summaries" in own for own in names(x)) <= 2
    found = names(x + 0.25)
    assert sum("summaries" in own for own in found) >= 18
    assert sum("inputs" in own for own in found) <= 6
