"""Checkpoints: bitwise, complete, of one config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.training.checkpoint import Checkpoints


def tree(scale=1.0):
    return {
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4), 3),
        "p": scale * jnp.arange(6.0).reshape(2, 3),
        "step": jnp.int32(7),
        "stopped": jnp.asarray(False),
        "nan": jnp.array([jnp.nan, jnp.inf]),
        "many": [jnp.full(2, float(i)) for i in range(12)],
        "nothing": (),
        "empty": jnp.zeros((0, 2)),
    }


def test_restores_every_leaf_bitwise(tmp_path, assert_same):
    store = Checkpoints(tmp_path / "new" / "folder", {"a": "1"})
    assert store.latest() is None
    store.save(7, tree())
    store.close()
    again = Checkpoints(tmp_path / "new" / "folder", {"a": "1"})
    assert again.latest() == 7
    restored = again.restore(jax.tree.map(jnp.zeros_like, tree()))
    assert jax.tree.structure(restored) == jax.tree.structure(tree())
    assert_same(restored, tree())
    for one, two in zip(
        jax.tree.leaves(restored), jax.tree.leaves(tree()), strict=True
    ):
        assert one.dtype == two.dtype


def test_keeps_the_last_two(tmp_path):
    store = Checkpoints(tmp_path, {})
    for step in (1, 2, 5):
        store.save(step, tree(step))
    assert store.latest() == 5
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "5"]
    np.testing.assert_array_equal(store.restore(tree())["p"], tree(5)["p"])


def test_another_run_gets_a_folder_of_its_own(tmp_path):
    """Whatever differs is named; nothing is lost, nothing is taken for another's."""
    folder, numbers = tmp_path / "run", np.linspace(0.0, 1.0, 8)
    marks = {"data": "a", "simulator": numbers}
    Checkpoints(folder, marks).save(1, tree())
    for what, other in (
        ("data", {**marks, "data": "b"}),
        ("simulator", {**marks, "simulator": numbers + 1e-3}),
        ("simulator", {**marks, "simulator": numbers[:4]}),
        ("loss", {**marks, "loss": "c"}),
    ):
        with pytest.warns(UserWarning, match=f"run with another {what}: they are left"):
            store = Checkpoints(folder, other)
        assert store.latest() is None
        store.save(2, tree(2.0))
        assert Checkpoints(folder, marks).latest() == 1
    # Another machine rounds otherwise; an earlier run of the same is found again.
    rounded = {**marks, "simulator": np.float32(numbers) * (1 + 1e-6)}
    assert Checkpoints(folder, rounded).latest() == 1
    with pytest.warns(UserWarning, match="run with another data"):
        assert Checkpoints(folder, {**marks, "data": "b"}).latest() == 2


def test_refuses_another_structure(tmp_path):
    Checkpoints(tmp_path, {}).save(1, tree())
    with pytest.raises(ValueError, match="to hold 2 arrays; got") as error:
        Checkpoints(tmp_path, {}).restore([jnp.zeros(1)] * 2)
    assert "\n" not in str(error.value)


def test_a_half_written_checkpoint_is_not_there(tmp_path):
    store = Checkpoints(tmp_path, {})
    store.save(1, tree())
    store.close()
    # What a kill in the middle of a write leaves: orbax writes there, then renames.
    (tmp_path / "2.orbax-checkpoint-tmp-3").mkdir()
    again = Checkpoints(tmp_path, {})
    assert again.latest() == 1
    again.restore(tree())


def test_a_full_disk_is_an_error_of_the_disk(tmp_path, monkeypatch):
    """Whatever the library underneath calls it; the last checkpoint stays."""
    store = Checkpoints(tmp_path, {})
    store.save(1, tree())

    def full(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: writing: No space left on device")

    monkeypatch.setattr(store._manager, "save", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        store.save(2, tree(2.0))
    assert str(tmp_path) in str(error.value)
    assert store.latest() == 1
    np.testing.assert_array_equal(store.restore(tree())["p"], tree()["p"])
