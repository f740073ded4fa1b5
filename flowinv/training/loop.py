"""The host loop: chunks of epochs, history, checkpoints, early end."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from flowinv.losses.npe import Batch
from flowinv.training.checkpoint import Checkpoints
from flowinv.training.config import TrainConfig
from flowinv.training.epoch import Run
from flowinv.training.state import EpochInfo, TrainState

__all__ = ["Interrupted", "Loop", "Progress"]


class Interrupted(Exception):
    """Training was asked to stop; what is done is in the checkpoints."""


class Progress(NamedTuple):
    """What a progress bar shows before the first chunk and after every one.

    Attributes:
        step: steps done.
        total_steps: steps at most.
        train_loss: last epoch's, nats; NaN before the first.
        validation_loss: last epoch's.
        best_loss: best validation loss so far.
    """

    step: int
    total_steps: int
    train_loss: float
    validation_loss: float
    best_loss: float


class Loop:
    """Chunks until all networks have stopped."""

    def __init__(
        self,
        run: Run,
        data: Any,
        blocks: Batch,
        config: TrainConfig,
        total_steps: int,
        store: Checkpoints | None,
    ) -> None:
        self.run, self.data, self.blocks = run, data, blocks
        self.config, self.total_steps = config, total_steps
        self.store = store

    def __call__(
        self,
        state: TrainState,
        frozen: Any,
        progress: Callable[[Progress], None] | None,
        should_stop: Callable[[], bool] | None,
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Run to the end, or to `Interrupted`; the caller closes the checkpoints."""
        history = {name: np.zeros((0,)) for name in EpochInfo._fields}
        if self.store is not None and self.store.latest() is not None:
            state, _, history = self.store.restore((state, frozen, history))
            history = {name: np.asarray(values) for name, values in history.items()}
        if progress is not None:
            progress(self._progress(history, state))
        saved_at = time.monotonic()
        while not bool(state.stopped.all()):
            begin = np.asarray(int(state.epoch.max()) < 0)
            state, info = self.run(state, self.data, self.blocks, begin)
            history = _append(history, info)
            if progress is not None:
                progress(self._progress(history, state))
            stop = should_stop is not None and should_stop()
            if stop or time.monotonic() - saved_at > self.config.checkpoint_seconds:
                self._save(state, frozen, history)
                saved_at = time.monotonic()
            if stop:
                raise Interrupted
        self._save(state, frozen, history)
        return state, history

    def _save(self, state: TrainState, frozen: Any, history: dict) -> None:
        if self.store is not None:
            step = int(state.step.max())
            if step != self.store.latest():
                self.store.save(step, (state, frozen, history))

    def _progress(self, history: dict, state: TrainState) -> Progress:
        # Members that have stopped report NaN.
        train_loss, validation_loss = (
            float(np.nanmean(history[name][-1])) if history[name].size else math.nan
            for name in ("train_loss", "validation_loss")
        )
        return Progress(
            round(float(np.mean(state.step))),
            self.total_steps,
            train_loss,
            validation_loss,
            float(state.best_loss.mean()),
        )


def _append(history: dict[str, np.ndarray], info: EpochInfo) -> dict[str, np.ndarray]:
    """Add the epochs that any network was active in; the epoch axis leads."""
    grown = {}
    active = np.asarray(info.active)
    rows = active if active.ndim == 1 else active.any(0)
    for name, values in info._asdict().items():
        values = np.asarray(values)
        values = np.moveaxis(values, -1, 0)[rows]
        old = history[name]
        grown[name] = np.concatenate([old, values]) if old.size else values
    return grown
