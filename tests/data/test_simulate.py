"""Chunked simulation: rows depend on the key and their number alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.data.simulate import simulate, simulate_rows
from flowinv.priors import uniform

PRIOR = uniform([0.0, 1.0], [1.0, 2.0])


@dataclasses.dataclass(frozen=True)
class Toy:
    """Normal noise about theta; fails (NaN, inf) for theta_0 above 0.9."""

    x_shape: tuple[int, ...] = (3, 2)

    def simulate(self, key: jax.Array, theta: jax.Array) -> jax.Array:
        x = theta + 0.1 * jax.random.normal(key, (3, 2))
        bad = jnp.where(theta[0] > 0.95, jnp.nan, jnp.inf)
        return x.at[1, 1].set(jnp.where(theta[0] > 0.9, bad, x[1, 1]))


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000, None])
def test_chunk_size_never_changes_a_row(chunk: int | None) -> None:
    key = jax.random.key(0)
    whole = simulate(key, PRIOR, Toy(), 100, chunk=100)
    other = simulate(key, PRIOR, Toy(), 60, chunk=chunk)
    for a, b in zip(whole, other, strict=True):
        np.testing.assert_array_equal(a[:60], b)


def test_later_rows_continue_the_stream() -> None:
    key = jax.random.key(0)
    whole = simulate(key, PRIOR, Toy(), 50, chunk=16)
    tail = simulate(key, PRIOR, Toy(), 20, chunk=16, first_row=30)
    np.testing.assert_array_equal(whole.x[30:], tail.x)
    theta, x, valid = simulate_rows(key, jnp.asarray([33, 4]), PRIOR, Toy())
    # Outside jit the compiler fuses otherwise: rounding may differ.
    np.testing.assert_allclose(theta, whole.theta[jnp.asarray([33, 4])], rtol=1e-6)
    np.testing.assert_allclose(x, whole.x[jnp.asarray([33, 4])], atol=1e-6)
    np.testing.assert_array_equal(valid, whole.valid[jnp.asarray([33, 4])])


def test_failed_rows_are_masked_and_finite() -> None:
    data = simulate(jax.random.key(1), PRIOR, Toy(), 2_000)
    np.testing.assert_array_equal(data.valid, data.theta[:, 0] <= 0.9)
    assert bool(jnp.all(jnp.isfinite(data.x)))
    assert bool(jnp.all(data.x[~data.valid][:, 1, 1] == 0))
    assert data.x.dtype == data.theta.dtype == jnp.float32
    assert data.round.dtype == jnp.int32


def test_rows_differ_and_progress_is_told() -> None:
    told = []
    key = jax.random.key(2)
    data = simulate(key, PRIOR, Toy(), 25, chunk=10, progress=lambda *p: told.append(p))
    assert told == [(10, 25), (20, 25), (25, 25)]
    assert len(np.unique(np.asarray(data.theta[:, 0]))) == 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_simulations": 0}, "num_simulations of at least 1; got 0"),
        ({"chunk": 0}, "chunk of at least 1"),
        ({"first_row": -1}, "first_row of at least 0"),
        ({"first_row": 2**31}, "below 2"),
        ({"simulator": Toy((5,))}, r"with shape \(5,\) \(x_shape\); got \(3, 2\)"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    arguments = {"prior": PRIOR, "simulator": Toy(), "num_simulations": 4} | options
    with pytest.raises(ValueError, match=message):
        simulate(jax.random.key(0), **arguments)
