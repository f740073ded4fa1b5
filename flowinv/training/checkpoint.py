"""Checkpoints of a training run: orbax, atomic, two kept.

What is saved is one pytree: the whole `TrainState`, the frozen numbers, the history so
far and a fingerprint of the config. A run that was killed at any moment restores the
last complete checkpoint and, since every key is derived from step and epoch numbers,
goes on to the same numbers as an unbroken one.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowinv.checks import fail

__all__ = ["Checkpoints", "fingerprint"]


def fingerprint(config: dict[str, Any]) -> np.ndarray:
    """SHA-256 of a JSON-able config, uint8 `[32]`."""
    text = json.dumps(config, sort_keys=True, default=str)
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)


class Checkpoints:
    """Checkpoints below one folder; loads orbax when made."""

    def __init__(self, folder: Path, mark: np.ndarray) -> None:
        """Open or create `folder`; `mark` is the fingerprint of the run's config."""
        import orbax.checkpoint as ocp

        self._ocp, self._mark, self._folder = ocp, mark, folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, create=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, tree: Any) -> None:
        """Write `tree` as checkpoint `step`; complete or not there at all."""
        leaves = [_to_array(leaf) for leaf in jax.tree.leaves(tree)]
        # orbax refuses empty arrays; their shapes say all there is to know.
        named = {f"{i:04d}": leaf for i, leaf in enumerate(leaves) if leaf.size}
        named["fingerprint"] = self._mark
        self._manager.save(step, args=self._ocp.args.StandardSave(named), force=True)

    def latest(self) -> int | None:
        """Step of the last complete checkpoint, or None."""
        return self._manager.latest_step()

    def restore(self, like: Any) -> Any:
        """Return the last checkpoint in the structure of `like`.

        Raises:
            ValueError: if it was written with another config.
        """
        restore = self._ocp.args.StandardRestore()
        named = dict(self._manager.restore(self.latest(), args=restore))
        if not np.array_equal(named.pop("fingerprint"), self._mark):
            fail(
                f"the checkpoints in {self._folder}",
                "to come from this config",
                "another config",
                "Use the settings of the first start, or another --out.",
            )
        leaves, tree = jax.tree.flatten(like)
        full = {f"{i:04d}" for i, leaf in enumerate(leaves) if leaf.size}
        known = {f"{i:04d}" for i in range(len(leaves))}
        if not full <= set(named) <= known:
            expected = f"to hold {len(leaves)} arrays"
            fail(f"the checkpoint in {self._folder}", expected, len(named))
        return jax.tree.unflatten(
            tree,
            [
                _to_leaf(named.get(f"{i:04d}", leaf), leaf)
                for i, leaf in enumerate(leaves)
            ],
        )

    def close(self) -> None:
        """Release the manager's threads."""
        self._manager.close()


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_array(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _to_leaf(saved: np.ndarray, like: Any) -> Any:
    if _is_key(like):
        data = jax.numpy.asarray(saved)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
    return jax.numpy.asarray(saved)
