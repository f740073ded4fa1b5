"""Contents tell objects apart, whatever they are, and the same in every process."""

import dataclasses
import functools
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.flows import CINN
from flowinv.identity import by_content, identity
from flowinv.priors import normal, uniform

FACTOR = 2.0


def scaled(x):
    """Docstrings do not count."""
    return FACTOR * x


class Sim:
    """A mutable class, without equality or hash."""

    x_shape = (2,)

    def __init__(self, noise):
        self.noise = noise

    def simulate(self, key, theta):
        return theta + self.noise * jax.random.normal(key, (2,))


@dataclasses.dataclass
class Unhashable:
    values: list
    x_shape: tuple = (2,)


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def closed_over(value):
    def inner(x):
        return x + value

    return inner


def defaulted(value):
    def inner(x, y=value):
        return x + y

    return inner


PAIRS = {
    "attribute": lambda v: Sim(v),
    "list in a field": lambda v: Unhashable([v]),
    "slot": lambda v: Slotted(v),
    "array": lambda v: np.full(3, v),
    "jax array": lambda v: jnp.full(3, v),
    "dtype": lambda v: np.zeros(3, np.float32 if v < 2 else np.float64),
    "shape": lambda v: np.zeros((2, 3) if v < 2 else (3, 2)),
    "key": lambda v: jax.random.key(int(v)),
    "closure": closed_over,
    "default": defaulted,
    "partial": lambda v: functools.partial(scaled, v),
    "method": lambda v: Sim(v).simulate,
    "jitted": lambda v: jax.jit(closed_over(v)),
    "dict": lambda v: {"a": v, "b": 1},
    "nested": lambda v: [{"a": (Sim(v),)}],
    "flow": lambda v: CINN(num_layers=int(v)),
    "prior": lambda v: uniform([0.0], [v]),
    "kind of prior": lambda v: normal([0.0], [1.0]) if v < 2 else uniform([0.0], [1.0]),
    "complex object array": lambda v: np.array([v, "a"], object),
}


@pytest.mark.parametrize("what", PAIRS)
def test_equal_contents_are_equal_and_others_are_not(what):
    make = PAIRS[what]
    assert identity(make(1.0)) == identity(make(1.0))
    assert identity(make(1.0))[0] != identity(make(3.0))[0]
    assert identity(make(1.0))[1]


def test_code_and_the_globals_that_it_names_count(monkeypatch):
    before, without = identity(scaled)[0], identity(scaled, code=False)[0]
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 5.0)
    assert identity(scaled)[0] != before
    assert identity(scaled, code=False)[0] == without
    monkeypatch.undo()
    assert identity(scaled)[0] == before
    monkeypatch.setattr(Sim, "simulate", lambda self, key, theta: theta)
    changed = identity(Sim(1.0))
    monkeypatch.undo()
    assert identity(Sim(1.0)) != changed


def test_what_cannot_be_read_is_opaque():
    sim = Sim(1.0)
    for hidden in (threading.Lock(), np.random.default_rng(0)):
        sim.hidden = hidden
        assert not identity(sim)[1]
    sim.hidden = sim  # a cycle is no trouble
    assert identity(sim)[1]


def test_caches_by_content_and_not_by_object():
    made = []

    @by_content(maxsize=2)
    def build(simulator, size):
        made.append((simulator.noise, size))
        return len(made)

    sim = Sim(0.1)
    assert build(sim, 1) == build(Sim(0.1), 1) == build(sim, 1) == 1
    sim.noise = 5.0
    assert build(sim, 1) == 2
    # The first result was built from the object that has changed since.
    assert build(Sim(0.1), 1) == 3
    assert build(Sim(0.1), 1) == 3
    sim.lock = threading.Lock()
    assert build(sim, 1) == 4
    assert build(sim, 1) == 5
    for size in range(10, 14):
        build(Sim(0.1), size)
    assert build(Sim(0.1), 13) == 9
    assert build(Sim(0.1), 1) == 10


def test_an_array_that_changes_in_place_is_converted_anew(monkeypatch):
    """jax keeps the float32 of a float64 array that it has met in a program."""
    table = np.zeros(3)

    @by_content(maxsize=2)
    def build(function, size):
        return jax.jit(lambda x: function(x) * size)

    def shifted(x):
        return x + table

    assert build(shifted, 1)(jnp.ones(3)).tolist() == [1, 1, 1]
    table[:] = 9.0
    assert build(shifted, 2)(jnp.ones(3)).tolist() == [20, 20, 20]
    # Once is enough: what was built from the old contents is no longer held.
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    build(shifted, 3)
    assert not cleared


def test_the_same_in_every_process():
    code = (
        "import flowinv as fi, jax.numpy as jnp\n"
        "from flowinv.identity import identity\n"
        "class A:\n"
        "    names = frozenset(['a', 'b', 'c'])\n"
        "    def f(self, x): return x in {'u', 'v', 'w'}\n"
        "print(identity(A(), fi.task('beam_profile').prior, fi.flows.CINN(), len))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert "True" in runs[0]
