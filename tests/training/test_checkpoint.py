"""Checkpoints: bitwise, complete, of one config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.training.checkpoint import Checkpoints, fingerprint


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
    store = Checkpoints(tmp_path / "new" / "folder", fingerprint({"a": 1}))
    assert store.latest() is None
    store.save(7, tree())
    store.close()
    again = Checkpoints(tmp_path / "new" / "folder", fingerprint({"a": 1}))
    assert again.latest() == 7
    restored = again.restore(jax.tree.map(jnp.zeros_like, tree()))
    assert jax.tree.structure(restored) == jax.tree.structure(tree())
    assert_same(restored, tree())
    for one, two in zip(
        jax.tree.leaves(restored), jax.tree.leaves(tree()), strict=True
    ):
        assert one.dtype == two.dtype


def test_keeps_the_last_two(tmp_path):
    store = Checkpoints(tmp_path, fingerprint({}))
    for step in (1, 2, 5):
        store.save(step, tree(step))
    assert store.latest() == 5
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "5"]
    np.testing.assert_array_equal(store.restore(tree())["p"], tree(5)["p"])


def test_refuses_another_config_or_structure(tmp_path):
    Checkpoints(tmp_path, fingerprint({"rate": 1})).save(1, tree())
    other = Checkpoints(tmp_path, fingerprint({"rate": 2}))
    with pytest.raises(ValueError, match="to come from this config") as error:
        other.restore(tree())
    assert "\n" not in str(error.value)
    same = Checkpoints(tmp_path, fingerprint({"rate": 1}))
    with pytest.raises(ValueError, match="to hold 2 arrays; got"):
        same.restore([jnp.zeros(1)] * 2)


def test_a_half_written_checkpoint_is_not_there(tmp_path):
    store = Checkpoints(tmp_path, fingerprint({}))
    store.save(1, tree())
    store.close()
    # What a kill in the middle of a write leaves: orbax writes there, then renames.
    (tmp_path / "2.orbax-checkpoint-tmp-3").mkdir()
    again = Checkpoints(tmp_path, fingerprint({}))
    assert again.latest() == 1
    again.restore(tree())


def test_fingerprint_depends_on_values_not_on_order():
    one = fingerprint({"a": 1, "b": (1, 2)})
    assert one.shape == (32,)
    np.testing.assert_array_equal(one, fingerprint({"b": (1, 2), "a": 1}))
    assert not np.array_equal(one, fingerprint({"a": 1, "b": (1, 3)}))
