"""Drivers of an epoch: the same numbers, whichever way they are computed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.training.epoch import make_chunk, make_stepper


def run(chunk, toy, state, times):
    """State after some chunks, and the joined history of active epochs."""
    parts = []
    for _ in range(times):
        state, info = chunk(state, toy.data, toy.blocks, False)
        parts.append(info)
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return state, jax.tree.map(lambda leaf: leaf[joined.active], joined)


def test_scan_and_step_drivers_give_the_same_numbers(toy, assert_same):
    toy = toy()
    scanned = run(make_chunk(toy.parts, 6, False), toy, toy.start(), 1)
    stepped = run(make_stepper(toy.parts), toy, toy.start(), 6)
    assert_same(scanned, stepped)


@pytest.mark.parametrize("num_epochs", [1, 3, 4])
def test_size_of_the_chunk_changes_nothing(toy, assert_same, num_epochs):
    toy = toy()
    whole = run(make_chunk(toy.parts, 12, False), toy, toy.start(), 1)
    assert int(whole[0].epoch) == 12
    times = 12 // num_epochs
    parts = run(make_chunk(toy.parts, num_epochs, False), toy, toy.start(), times)
    assert_same(whole, parts)


@pytest.mark.parametrize("driver", ["scan", "step"])
def test_state_is_donated(toy, driver):
    toy = toy()
    chunk = make_stepper(toy.parts)
    if driver == "scan":
        chunk = make_chunk(toy.parts, 2, False)
    state = toy.start()
    chunk(state, toy.data, toy.blocks, False)
    assert state.params["p"].is_deleted()
    assert state.opt_state[0].mu["p"].is_deleted()
    # The rows are read again in every chunk.
    assert not toy.data.z.is_deleted()
    assert not toy.blocks.z.is_deleted()


@pytest.mark.parametrize("driver", ["scan", "step"])
def test_chunks_are_traced_once(toy, driver):
    toy = toy()
    chex.clear_trace_counter()
    # jax traces the loss once for the step and once for validation.
    loss = chex.assert_max_traces(_square, n=2)
    toy = _with_loss(toy, loss)
    chunk = make_stepper(toy.parts)
    if driver == "scan":
        chunk = make_chunk(toy.parts, 2, False)
    state, _ = run(chunk, toy, toy.start(), 4)
    assert int(state.epoch) == (8 if driver == "scan" else 4)


def _square(params, batch, key):
    del key
    return ((params["p"] - batch.z) ** 2).sum(-1)


def _with_loss(toy, loss):
    import optax

    from flowinv.training.update import make_update, make_validate

    update = make_update(loss, optax.adam(0.05), 0.0)
    validate = make_validate(loss, lambda params, batch: jnp.zeros(len(batch.z)))
    toy.parts = toy.parts._replace(update=update, validate=validate)
    return toy


def test_every_row_once_an_epoch_in_a_new_order(toy):
    toy = toy()
    source, seen = toy.parts.source, []
    for epoch in range(2):
        shared = source.epoch(toy.data, jax.random.key(epoch))
        key = jax.random.key(9)
        rows = [
            source.batch(toy.data, shared, key, jnp.int32(i)).z
            for i in range(source.steps)
        ]
        seen.append(np.concatenate(rows))
    assert not np.array_equal(*seen)
    for rows in seen:
        np.testing.assert_array_equal(
            np.sort(rows, axis=None), np.sort(toy.data.z, axis=None)
        )


def test_members_of_an_ensemble_equal_single_networks(toy):
    toy = toy(patience=3, max_epochs=60)
    starts = [toy.start(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    together, info = make_chunk(toy.parts, 60, True)(
        stacked, toy.data, toy.blocks, False
    )
    assert info.train_loss.shape == (3, 60)
    single = make_chunk(toy.parts, 60, False)
    for member in range(3):
        alone, own = single(toy.start(member), toy.data, toy.blocks, False)
        mine = jax.tree.map(lambda leaf, m=member: leaf[m], together)
        assert int(alone.step) == int(mine.step)
        assert int(alone.best_epoch) == int(mine.best_epoch)
        for name in ("params", "best_params"):
            np.testing.assert_allclose(
                getattr(alone, name)["p"], getattr(mine, name)["p"], rtol=1e-5
            )
        np.testing.assert_array_equal(own.active, info.active[member])
        done = np.asarray(own.active)
        np.testing.assert_allclose(
            own.validation_loss[done], info.validation_loss[member][done], rtol=1e-4
        )


def test_patience_stops_and_the_best_is_kept(toy):
    # Validation rows sit at 1, on the way of p from 0 to 2: the loss falls, then rises.
    toy = toy(patience=4, held=jnp.ones((16, 3)))
    state, history = run(make_chunk(toy.parts, 5, False), toy, toy.start(), 8)
    losses = history.validation_loss
    best = int(losses.argmin())
    assert 0 < best < len(losses) - 1
    assert len(losses) == best + 1 + 4
    assert bool(state.stopped)
    assert int(state.best_epoch) == best + 1
    assert float(state.best_loss) == losses[best]
    np.testing.assert_allclose(state.best_params["p"], 1.0, atol=0.3)
    np.testing.assert_allclose(state.params["p"], 2.0, atol=0.8)
    assert float(state.params["p"].min()) > float(state.best_params["p"].max())
    # Skipped epochs take no steps.
    assert int(state.step) == len(losses) * toy.parts.source.steps


@pytest.mark.parametrize("driver", ["scan", "step"])
def test_a_start_that_no_epoch_improves_on_is_returned(toy, driver):
    start = jnp.broadcast_to(toy().start().params["p"], (16, 3))
    toy = toy(patience=2, held=start)  # every step leads away from the start
    chunk = make_stepper(toy.parts)
    if driver == "scan":
        chunk = make_chunk(toy.parts, 1, False)
    state = toy.start()._replace(epoch=jnp.full((), -1, jnp.int32))
    first = jax.tree.map(np.asarray, state.params)
    state, info = chunk(state, toy.data, toy.blocks, True)
    assert not info.active.any()
    assert (int(state.epoch), int(state.step), int(state.waited)) == (0, 0, 0)
    np.testing.assert_allclose(state.best_loss, 0.0, atol=1e-9)
    while not state.stopped:
        state, info = chunk(state, toy.data, toy.blocks, False)
        assert info.active.all()
    assert (int(state.epoch), int(state.best_epoch)) == (2, 0)
    np.testing.assert_array_equal(state.best_params["p"], first["p"])
    assert float(abs(state.params["p"] - first["p"]).min()) > 0.01


def test_without_patience_all_epochs_run(toy):
    toy = toy(patience=0, max_epochs=7, held=jnp.ones((16, 3)))
    state, history = run(make_chunk(toy.parts, 5, False), toy, toy.start(), 2)
    assert len(history.train_loss) == int(state.epoch) == 7
    assert bool(state.stopped)
