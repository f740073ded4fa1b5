"""What is answered: a task's fixed observations, those of files, and measured scans."""

import enum
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from flowinv.checks import check_shape, fail
from flowinv.data.scan import ReadOptions
from flowinv.data.scans import read_scans
from flowinv.experiment.config import EvaluateConfig
from flowinv.report.content import Observation
from flowinv.tasks.task import Scans, Task

__all__ = [
    "Stream",
    "check_observations",
    "observations",
    "parse_indices",
    "scans_of",
    "some",
    "user_scans",
]


class Stream(enum.IntEnum):
    """Streams of the key of an evaluation: none is used for two things."""

    HELD_OUT = 0
    DRAWS = 1
    TIES = 2
    MAP = 3
    EXACT = 4
    ANSWER = 5
    PREDICT = 6
    MEMBERS = 7


def parse_indices(text: str, most: int) -> tuple[int, ...]:
    """Return the numbers that "1-3,7" means, each from 1 to `most`.

    Raises:
        ValueError: for anything else.
    """
    numbers: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            fail("observations", 'like "1-3,7"', repr(text))
        numbers += range(int(first), int(last) + 1)
    bad = [number for number in numbers if not 1 <= number <= most]
    if bad:
        fail("observations", f"from 1 to {most}", bad[0])
    return tuple(dict.fromkeys(numbers))


def check_observations(task: Task, config: EvaluateConfig) -> None:
    """Raise one line for an index out of range or a reference file that does not fit.

    Raises:
        ValueError: what, expected, got.
    """
    for index in parse_indices(config.observations, task.num_observations):
        if config.references:
            _from_file(task, Path(config.references).expanduser(), index)


def observations(
    key: Array, task: Task, config: EvaluateConfig
) -> tuple[Observation, ...]:
    """Fixed observations with truth, exact draws where known and classical fit.

    Raises:
        ValueError: for an index out of range, or a reference file that does not fit.
    """
    found = []
    for index in parse_indices(config.observations, task.num_observations):
        note = ""
        if config.references:
            x, theta, exact = _from_file(
                task, Path(config.references).expanduser(), index
            )
            if exact is not None:
                exact = some(exact, config.num_exact)
        else:
            x, theta = task.observation(index)
            own = jax.random.fold_in(jax.random.fold_in(key, Stream.EXACT), index)
            drawn = task.reference(index, config.num_exact, own)
            exact = None
            if drawn is not None:
                exact = np.asarray(drawn.draws) if drawn.good else None
                note = drawn.words
        known = {"theta_true": theta, "exact": exact, "exact_note": note}
        found.append(_observation(task, f"observation {index}", x, **known))
    return tuple(found)


def _observation(task: Task, label: str, x: np.ndarray, **known: Any) -> Observation:
    """An observation with its classical fit, and how it is drawn."""
    own, seen = task.of_scan(x)
    fit = None if own.classical is None else own.classical(seen)
    seen = None if own is task else seen
    return Observation(label, x, fit=fit, layout=own.layout, seen=seen, **known)


def _from_file(
    task: Task, folder: Path, index: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    path = folder / f"obs_{index}.npz"
    x = read_scans(path, task.simulator.x_shape)[0]
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    theta, exact = arrays.get("true_parameters"), arrays.get("reference_samples")
    if theta is not None:
        theta = theta.reshape(-1).astype(np.float32)
        check_shape(f"true_parameters of {path}", theta.shape, (task.prior.dim,))
    if exact is not None:
        expected = (*exact.shape[:1], task.prior.dim)
        check_shape(f"reference_samples of {path}", exact.shape, expected)
    return x, theta, exact


def some(draws: np.ndarray, count: int) -> np.ndarray:
    """Evenly spaced rows: reference draws are not always in random order."""
    if len(draws) <= count:
        return draws
    return draws[np.linspace(0, len(draws) - 1, count).astype(int)]


def scans_of(task: Task, path: str | Path, options: ReadOptions | None = None) -> Scans:
    """Scans of a file as x of the task."""
    if task.read is not None:
        return task.read(Path(path).expanduser(), options or ReadOptions())
    if options not in (None, ReadOptions()):
        remedy = "Files of the task's own grid name parts so: FILE#NAME."
        fail("--columns and the like", "with a model of --like", "this one", remedy)
    counts = task.input_scaling == "root"
    return Scans(read_scans(path, task.simulator.x_shape, counts=counts))


def user_scans(
    task: Task, path: str | Path, options: ReadOptions | None = None
) -> tuple[Observation, ...]:
    """Scans of a file as observations without truth."""
    scans, notes = scans_of(task, path, options)
    name, note = Path(path).name, "; ".join(notes)
    many = len(scans) > 1
    return tuple(
        _observation(task, f"{name} #{i + 1}" if many else name, scan, scan_note=note)
        for i, scan in enumerate(scans)
    )
