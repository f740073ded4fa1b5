"""Checkpoints of a training run: orbax, atomic, two kept.

What is saved is one pytree: the whole `TrainState`, the frozen numbers and the history
so far. A run that was killed at any moment restores the last complete checkpoint and,
since every key is derived from step and epoch numbers, goes on to the same numbers as
an unbroken one. Marks beside them say which run they belong to; another run, of other
data or another simulator, gets a folder of its own beside it.
"""

import contextlib
import errno
import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowinv.checks import InputError, fail
from flowinv.files import LOCK, Lock, read_arrays, write_arrays

__all__ = ["Checkpoints", "Marks", "kept_in", "same_numbers"]

Marks = dict[str, str | np.ndarray]
"""All that a run depends on, by name: hashes, or numbers equal to rounding."""

_FILE = "marks.npz"
# Another machine rounds a simulation otherwise.
_ROUNDING = 1e-4


class Checkpoints:
    """Checkpoints below one folder; loads orbax when made."""

    def __init__(self, folder: Path, marks: Marks) -> None:
        """Open `folder`, or the one beside it that belongs to the run of `marks`.

        A run that finds checkpoints of others says what differs, in a warning, and
        starts in a folder of the same name with a number.
        """
        import orbax.checkpoint as ocp

        folder = _own_folder(folder, marks)
        self._ocp, self._folder = ocp, folder
        self._lock = Lock(folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, create=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, tree: Any) -> None:
        """Write `tree` as checkpoint `step`; complete or not there at all.

        Raises:
            OSError: the disk is full; the last checkpoint is still there.
        """
        leaves = [_to_array(leaf) for leaf in jax.tree.leaves(tree)]
        # orbax refuses empty arrays; their shapes say all there is to know.
        named = {f"{i:04d}": leaf for i, leaf in enumerate(leaves) if leaf.size}
        arguments = self._ocp.args.StandardSave(named)
        try:
            self._manager.save(step, args=arguments, force=True)
        except Exception as error:
            # Whatever tensorstore calls it.
            if re.search(r"RESOURCE_EXHAUSTED|[Nn]o space|[Qq]uota", str(error)):
                code = errno.ENOSPC
                raise OSError(code, os.strerror(code), str(self._folder)) from error
            raise

    def latest(self) -> int | None:
        """Step of the last complete checkpoint, or None."""
        return self._manager.latest_step()

    def restore(self, like: Any) -> Any:
        """Return the last checkpoint in the structure of `like`.

        Raises:
            ValueError: if it holds something else.
        """
        restore = self._ocp.args.StandardRestore()
        named = dict(self._manager.restore(self.latest(), args=restore))
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
        """Release the manager's threads, and the folder."""
        self._manager.close()
        self._lock.release()


@contextlib.contextmanager
def kept_in(
    folder: str | Path | None, marks: Callable[[], Marks]
) -> Iterator[Checkpoints | None]:
    """Checkpoints in a folder, closed at the end; None without one."""
    if folder is None:
        yield None
        return
    with contextlib.closing(Checkpoints(Path(folder).expanduser(), marks())) as store:
        yield store


@dataclass(frozen=True)
class _Marks:
    """What is kept of a run's marks."""

    hashes: dict[str, str]
    numbers: dict[str, np.ndarray]


def _own_folder(folder: Path, marks: Marks) -> Path:
    """The folder of the run of `marks`; a new one is marked."""
    arrays = {n: np.asarray(m) for n, m in marks.items() if not isinstance(m, str)}
    own = _Marks({n: m for n, m in marks.items() if isinstance(m, str)}, arrays)
    for number in itertools.count(1):
        place = folder if number == 1 else Path(f"{folder}-{number}")
        if not place.is_dir() or all(path.name == LOCK for path in place.iterdir()):
            place.mkdir(parents=True, exist_ok=True)
            write_arrays(place / _FILE, own)
            return place
        others = _differences(place, own)
        if not others:
            return place
        words = f"The checkpoints in {place} are of a run with another"
        words += f" {', '.join(others)}: they are left alone, this run starts anew."
        warnings.warn(words, stacklevel=4)
    raise AssertionError


def _differences(folder: Path, own: _Marks) -> list[str]:
    """Names of what differs between a folder's run and this one."""
    try:
        kept = read_arrays(_Marks, folder / _FILE, "marks of the checkpoints")
    except InputError:
        return ["version"]
    one, other = ({**m.hashes, **m.numbers} for m in (kept, own))
    names = sorted({*one, *other})
    return [name for name in names if not _agree(one.get(name), other.get(name))]


def _agree(one: Any, other: Any) -> bool:
    """Whether hashes are equal, or numbers to rounding."""
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return one is not None and one == other
    return same_numbers(one, other)


def same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether numbers are equal but for the rounding of another machine."""
    if one.shape != other.shape:
        return False
    size = np.abs(other[np.isfinite(other)]).max(initial=0.0)
    return np.allclose(one, other, _ROUNDING, _ROUNDING * size, equal_nan=True)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_array(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _to_leaf(saved: np.ndarray, like: Any) -> Any:
    if _is_key(like):
        data = jax.numpy.asarray(saved)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
    return jax.numpy.asarray(saved)
