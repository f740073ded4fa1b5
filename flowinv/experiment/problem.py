"""The problem of a run: a task by name, or the instrument that its folder keeps."""

import dataclasses
from pathlib import Path

from flowinv.experiment.config import RunConfig
from flowinv.models.files import load
from flowinv.models.registry import kinds_of
from flowinv.models.sampled import AnyPosterior
from flowinv.tasks.instrument import Instrument, read_instrument
from flowinv.tasks.registry import task
from flowinv.tasks.step_scan import instrument_task, with_options
from flowinv.tasks.task import Task

__all__ = ["INSTRUMENT", "instrument_for", "read_model", "task_of"]

INSTRUMENT = "instrument.json"


def instrument_for(config: RunConfig, resume: bool = False) -> Instrument:
    """Return the instrument of `config.like`; resumed, the one that the folder keeps.

    Raises:
        ValueError: for a file that is none, or options that do not suit.
    """
    kept = config.folder() / INSTRUMENT
    if resume and kept.is_file():
        return read_instrument(kept)[0]
    instrument, _ = read_instrument(config.like, config.reading)
    if config.any_positions:
        most = config.any_positions
        instrument = dataclasses.replace(instrument, any_positions=most)
    return with_options(instrument, config.task, config.prior)


def task_of(folder: Path) -> Task | None:
    """Return the task that a run was made for, None for a bare model folder."""
    if (folder / INSTRUMENT).is_file():
        return instrument_task(read_instrument(folder / INSTRUMENT)[0])
    saved = folder / "config.json"
    return task(RunConfig.read(saved).task) if saved.is_file() else None


def read_model(folder: Path, task: Task | None) -> AnyPosterior:
    """Read a saved model; the task knows the summaries that it was made with.

    Raises:
        ValueError: as `flowinv.load` does.
    """
    return load(folder, () if task is None else kinds_of(task.summaries))
