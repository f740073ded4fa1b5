"""Simulate prior draws in chunks; every row has its own key.

Row i uses fold_in(key, i), so that neither the chunk size nor the number of rows
changes a row, and a later call with `first_row` continues the same stream.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import fail, one_key, whole
from flowinv.data.entrance import (
    admit_prior,
    admit_simulator,
    is_host,
    rows_at_once,
)
from flowinv.identity import by_content
from flowinv.priors.latent import Prior
from flowinv.types import Dataset, Simulator

__all__ = ["by_parts", "simulate", "simulate_rows"]

# Numbers of x in one compiled chunk: 32 MB of float32, small beside any device and
# large enough to hide the cost of a dispatch (below 1 ms).
_CHUNK_NUMBERS = 2**23


def simulate_rows(
    key: Array,
    rows: Array,
    prior: Prior,
    simulator: Simulator,
    at_once: int | None = None,
) -> tuple[Array, Array, Array]:
    """Draw theta from the prior and x from the simulator for the given row numbers.

    Pure and traceable: fresh-simulation training calls it inside its scan.

    Args:
        key: typed key of the whole stream.
        rows: row numbers, int32 `[B]`; row i uses fold_in(key, i).
        prior: prior of theta.
        simulator: jit- and vmap-able simulator.
        at_once: rows that are simulated side by side; None for all.

    Returns:
        theta `[B, D]`, x `[B, *x_shape]` with 0 in place of every non-finite number,
        and valid `[B]`, False where x had one; both arrays float32.
    """

    def one(row: Array) -> tuple[Array, Array]:
        key_theta, key_x = jax.random.split(jax.random.fold_in(key, row))
        theta = prior.sample(key_theta, 1)[0]
        return theta, simulator.simulate(key_x, theta)

    theta, x = by_parts(one, rows, at_once)
    finite = jnp.isfinite(x)
    valid = jnp.all(finite.reshape(len(rows), -1), axis=-1)
    x = jnp.where(finite, x, 0).astype(jnp.float32)
    return theta.astype(jnp.float32), x, valid


def by_parts(
    function: Callable[[Any], Any], rows: Any, at_once: int | None = None
) -> Any:
    """`jax.vmap(function)(rows)`, at most `at_once` rows side by side."""
    count = len(jax.tree.leaves(rows)[0])
    if at_once is None or at_once >= count:
        return jax.vmap(function)(rows)
    return jax.lax.map(function, rows, batch_size=at_once)


def simulate(
    key: Array,
    prior: Prior,
    simulator: Simulator,
    num_simulations: int,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    first_row: int = 0,
) -> Dataset:
    """Draw `num_simulations` pairs (theta, x) in chunks of one compiled size.

    Args:
        key: typed key; the same key gives the same rows, whatever the chunk.
        prior: prior of theta.
        simulator: jit- and vmap-able simulator.
        num_simulations: N, at least 1.
        chunk: rows per compiled call; by default as many as fill 32 MB of x, and as
            the memory limit has room for.
        progress: called as progress(rows_done, N) after every chunk.
        first_row: number of the first row; N of an earlier call continues it.

    Returns:
        Dataset of N rows; `valid` is False where x was not finite.

    Raises:
        ValueError: `num_simulations` or `chunk` below 1, `first_row` below 0, or what
            `flowinv.data.entrance.admit_simulator` refuses.
    """
    key, prior = one_key(key), admit_prior(prior)
    num_simulations = whole("num_simulations", num_simulations)
    first_row = whole("first_row", first_row, 0)
    if first_row + num_simulations >= 2**31:
        fail("number of rows", "below 2**31", first_row + num_simulations)
    x_shape = admit_simulator(simulator, prior)
    if is_host(simulator):
        remedy = "Draw theta, simulate, and build a Dataset; or use run_rounds."
        fail("simulator", "with simulate(key, theta)", "simulate_batch alone", remedy)
    if chunk is None:
        chunk = max(1, _CHUNK_NUMBERS // max(1, int(np.prod(x_shape))))
        chunk = min(chunk, rows_at_once(simulator, prior))
    chunk = min(whole("chunk", chunk), num_simulations)
    theta = np.empty((num_simulations, prior.dim), np.float32)
    x = np.empty((num_simulations, *x_shape), np.float32)
    valid = np.empty(num_simulations, bool)
    run = _compiled(prior, simulator, chunk)
    for start in range(0, num_simulations, chunk):
        count = min(chunk, num_simulations - start)
        # The last chunk runs in full, so that one compilation serves all.
        drawn = run(key, jnp.int32(first_row + start))
        for into, part in zip((theta, x, valid), drawn, strict=True):
            into[start : start + count] = np.asarray(part)[:count]
        if progress is not None:
            progress(start + count, num_simulations)
    rounds = jnp.zeros(num_simulations, jnp.int32)
    return Dataset(jnp.asarray(theta), jnp.asarray(x), jnp.asarray(valid), rounds)


@by_content(maxsize=16)
def _compiled(
    prior: Prior, simulator: Simulator, chunk: int
) -> Callable[[Array, Array], tuple[Array, Array, Array]]:
    """One jitted chunk per (prior, simulator, chunk): repeated calls do not retrace."""

    @jax.jit
    def run(key: Array, start: Array) -> tuple[Array, Array, Array]:
        rows = start + jnp.arange(chunk, dtype=jnp.int32)
        return simulate_rows(key, rows, prior, simulator)

    return run
