"""The doors for simulators and simulations: every mistake is one line."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.checks import InputError
from flowinv.data.entrance import (
    admit_dataset,
    admit_simulator,
    host_rows,
    probe,
)
from flowinv.data.simulate import simulate
from flowinv.priors import uniform
from flowinv.types import Dataset

KEY, PRIOR = jax.random.key(0), uniform([-1, -1], [1, 1])
RNG = np.random.default_rng(0)


def made(simulate, x_shape=(2,), **more):
    """An object with these methods and attributes."""
    return type("Own", (), {"x_shape": x_shape, "simulate": simulate, **more})()


def noise(key, shape=(2,)):
    return jax.random.normal(key, shape)


SIMULATORS = {
    "a function": (lambda key, theta: theta, "with simulate(key, theta)"),
    "a class": (type("Own", (), {"x_shape": (2,)}), "to be an object"),
    "no shape": (type("Own", (), {"simulate": lambda s, k, t: t})(), "with x_shape"),
    "shape ()": (made(lambda s, k, t: t[0], ()), "tuple of sizes of at least 1"),
    "a size as shape": (made(lambda s, k, t: t, 2), "tuple of sizes"),
    "a fraction": (made(lambda s, k, t: t, (2.5,)), "tuple of sizes"),
    "another shape": (made(lambda s, k, t: t[:1]), "with shape (2,) (x_shape)"),
    "a pair": (made(lambda s, k, t: (t, True)), "to return x alone"),
    "nothing": (made(lambda s, k, t: None), "to return x alone"),
    "complex": (made(lambda s, k, t: t + 1j), "to return real numbers"),
    "no key": (made(lambda s, theta: theta), "to run on theta"),
    "numpy on a tracer": (made(lambda s, k, t: np.sin(t).tolist()), "to run on theta"),
    "too many parameters": (made(lambda s, k, t: t[3] + noise(k)), "out of bounds"),
    "frozen noise": (made(lambda s, k, t: t + RNG.normal(size=2)), "same x for two"),
    "no noise": (made(lambda s, k, t: t), "same x for two keys"),
    "own error": (made(lambda s, k, t: 1 / 0), "ZeroDivisionError"),
}


@pytest.mark.parametrize("what", SIMULATORS)
def test_a_mistaken_simulator_answers_in_one_line(what):
    simulator, words = SIMULATORS[what]
    with pytest.raises(InputError) as error:
        simulate(KEY, PRIOR, simulator, 10)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_may_be():
    silent = made(lambda s, k, t: t, deterministic=True)
    assert admit_simulator(silent, PRIOR) == (2,)
    rare = made(lambda s, k, t: jnp.where(noise(k) > 1, 1.0, 0.0) + 0 * t)
    assert admit_simulator(rare, PRIOR) == (2,)
    counts = made(lambda s, k, t: jax.random.poisson(k, 5.0, (3,)), [3])
    assert simulate(KEY, PRIOR, counts, 4).x.dtype == jnp.float32
    nowhere = made(lambda s, k, t: jnp.nan * t)
    assert admit_simulator(nowhere, PRIOR) == (2,)


@dataclasses.dataclass
class Mutable:
    scale: float = 1.0
    x_shape: tuple = (2,)

    def simulate(self, key, theta):
        return theta + self.scale * noise(key)


def test_a_changed_simulator_is_another_one():
    """Nothing compiled for the old value is used again; without a hash, too."""
    simulator = Mutable()
    first = simulate(KEY, PRIOR, simulator, 500)
    simulator.scale = 5.0
    second = simulate(KEY, PRIOR, simulator, 500)
    np.testing.assert_array_equal(first.theta, second.theta)
    ratio = np.std(second.x - second.theta) / np.std(first.x - first.theta)
    assert ratio == pytest.approx(5.0, rel=1e-3)
    one, two = probe(Mutable(1.0), PRIOR), probe(Mutable(1.001), PRIOR)
    assert np.abs(one - two).max() > 1e-3
    np.testing.assert_array_equal(probe(Mutable(1.0), PRIOR), one)


def test_seeds_and_counts_at_the_door():
    simulator = Mutable()
    a = simulate(KEY, PRIOR, simulator, 1e2)
    b = simulate(jax.random.PRNGKey(0), PRIOR, simulator, 100)
    np.testing.assert_array_equal(a.x, b.x)
    for key in (0, None, np.uint32([0, 1, 2]), jax.random.split(KEY, 3), jnp.ones(2)):
        with pytest.raises(InputError, match="Expected key to be"):
            simulate(key, PRIOR, simulator, 10)
    for count in (64.5, True, "10", None, np.nan, 0, -1e3):
        with pytest.raises(InputError, match="Expected num_simulations"):
            simulate(KEY, PRIOR, simulator, count)
    with pytest.raises(InputError, match="Expected prior to be a flowinv prior"):
        simulate(KEY, [(-1, 1)], simulator, 10)


class Host:
    """A simulator outside jax that answers with what it is told to."""

    x_shape = (3,)

    def __init__(self, answer):
        self.answer = answer

    def simulate_batch(self, key, theta):
        return self.answer(np.asarray(theta))


def three(theta):
    return np.concatenate([theta, theta[:, :1]], 1)


GOOD_HOSTS = {
    "arrays": lambda t: (three(t), np.ones(len(t), bool)),
    "lists": lambda t: (three(t).tolist(), [True] * len(t)),
    "flags 0 and 1": lambda t: (three(t), np.ones(len(t), int)),
    "a list of both": lambda t: [three(t), np.ones(len(t))],
    "float64": lambda t: (three(t).astype(np.float64), np.ones(len(t), bool)),
}
BAD_HOSTS = {
    "x alone": (lambda t: three(t), r"to return \(x, valid\)"),
    "nothing": (lambda t: None, r"to return \(x, valid\)"),
    "too few rows": (lambda t: (three(t)[:-1], np.ones(len(t) - 1)), "with shape"),
    "transposed": (lambda t: (three(t).T, np.ones(len(t))), "with shape"),
    "flags [N, 1]": (lambda t: (three(t), np.ones((len(t), 1))), "valid .* shape"),
    "shares as flags": (lambda t: (three(t), np.full(len(t), 0.5)), "True and False"),
    "words": (lambda t: ([["a"] * 3] * len(t), np.ones(len(t))), "real numbers"),
    "ragged": (lambda t: ([[1.0], [1.0, 2.0]], [True] * 2), "array of numbers"),
    "too large": (lambda t: (1e300 * three(t).astype(float), np.ones(5)), "float32"),
    "own error": (lambda t: {}["missing"], "to run; got KeyError: 'missing'"),
}


@pytest.mark.parametrize("what", GOOD_HOSTS)
def test_rows_of_a_host_simulator(what):
    theta = np.float32(RNG.normal(size=(5, 2)))
    x, valid = host_rows(Host(GOOD_HOSTS[what]), KEY, theta)
    np.testing.assert_allclose(x, three(theta), rtol=1e-6)
    assert x.dtype == np.float32
    assert valid.dtype == bool
    assert valid.all()


@pytest.mark.parametrize("what", BAD_HOSTS)
def test_a_mistaken_host_simulator_answers_in_one_line(what):
    answer, words = BAD_HOSTS[what]
    with pytest.raises(InputError, match=words) as error:
        host_rows(Host(answer), KEY, np.ones((5, 2), np.float32))
    assert "\n" not in str(error.value)


def test_no_flag_makes_a_failed_row_valid():
    def answer(theta):
        x = np.ma.masked_invalid(three(theta).astype(float))
        x[1, 0], x[2, 1] = np.nan, np.inf
        x[3, 2] = np.ma.masked
        return x, np.ones(len(theta), bool)

    x, valid = host_rows(Host(answer), KEY, np.ones((5, 2)))
    assert valid.tolist() == [True, False, False, False, True]
    assert np.isfinite(x).all()


def rows(**changes):
    theta = RNG.uniform(-1, 1, (8, 2))
    columns = {
        "theta": theta,
        "x": theta + 0.1,
        "valid": np.ones(8, bool),
        "round": np.zeros(8, int),
    }
    return Dataset(**{**columns, **changes})


GOOD_ROWS = {
    "arrays": rows(),
    "float flags": rows(valid=np.ones(8)),
    "jax arrays": rows(x=jnp.arange(16.0).reshape(8, 2)),
    "counts": rows(x=np.arange(24, dtype=np.uint16).reshape(8, 3)),
    "lists": Dataset(*(column.tolist() for column in rows())),
}
BAD_ROWS = {
    "a pair": ((np.ones((8, 2)), np.ones((8, 2))), "to be a Dataset"),
    "no flags": (rows(valid=None), "valid with shape"),
    "flags [N, 1]": (rows(valid=np.ones((8, 1))), "valid with shape"),
    "fewer x": (rows(x=np.ones((5, 2))), "a row for each theta"),
    "x of shape [N]": (rows(x=np.ones(8)), "a row for each theta"),
    "another prior": (rows(theta=np.zeros((8, 3))), r"with shape \(N, 2\)"),
    "outside": (rows(theta=np.full((8, 2), 2.0)), "inside the prior; got 8 outside"),
    "NaN": (rows(x=np.full((8, 2), np.nan)), "8 rows with NaN"),
    "one x": (rows(x=np.ones((8, 2))), "x to differ between rows; got the same"),
    "1e39": (rows(x=np.full((8, 2), 1e39)), "x within float32's range"),
    "all failed": (rows(valid=np.zeros(8)), "with a valid row; got none of 8"),
    "no rounds": (rows(round=None), "round to hold 8 whole numbers"),
    "words": (rows(x=np.full((8, 2), "a")), "x to be real numbers"),
}


@pytest.mark.parametrize("what", GOOD_ROWS)
def test_a_data_set_put_together_by_hand(what):
    data = admit_dataset(GOOD_ROWS[what], PRIOR)
    kinds = [column.dtype for column in data]
    assert kinds == [jnp.float32, jnp.float32, jnp.bool_, jnp.int32]


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_mistaken_data_set_answers_in_one_line(what):
    data, words = BAD_ROWS[what]
    with pytest.raises(InputError, match=words) as error:
        admit_dataset(data, PRIOR)
    assert "\n" not in str(error.value)


def test_masked_rows_are_not_valid():
    x = np.ma.masked_array(RNG.normal(size=(8, 2)), np.zeros((8, 2), bool))
    x[2, 1] = np.ma.masked
    data = admit_dataset(rows(x=x), PRIOR)
    assert np.flatnonzero(~np.asarray(data.valid)).tolist() == [2]
