"""Observations and exact draws: given files, an installed sbibm's, or our own."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import numpy as np

from flowinv.checks import check_shape, fail
from flowinv.files import read_arrays, write_arrays
from flowinv.tasks.task import Task

__all__ = ["Known", "known_of", "sbibm_files"]

REFERENCE_KEY = 2101
SHARED = {
    "slcp_distractors": ("slcp", "observation_distractors.csv"),
    "bernoulli_glm_raw": ("bernoulli_glm", "observation_raw.csv"),
}
"""Tasks whose exact posterior, and whose folder, is another one's."""


@dataclasses.dataclass(frozen=True)
class Known:
    """An observation and its exact posterior.

    Attributes:
        x: the observation, `[*x_shape]`.
        exact: draws, `[n, D]`.
    """

    x: np.ndarray
    exact: np.ndarray


def known_of(
    task: Task, name: str, index: int, num_draws: int, sources: tuple[Path | None, Path]
) -> Known:
    """Find the observation `index` of a task, and exact draws.

    Args:
        task: the problem.
        name: its name in folders.
        index: number of the observation.
        num_draws: draws n at most.
        sources: folder of given references or None, and the one where what is made
            here is kept.

    Raises:
        ValueError: a file that does not fit, or a task without exact posterior.
    """
    given, kept = sources
    if given is not None:
        known = _from_archive(given / name / f"obs_{index}.npz")
    elif (files := sbibm_files(name, index)) is not None:
        known = _from_sbibm(files)
    else:
        known = _made(task, index, num_draws, kept / f"{name}-{index}.npz")
    check_shape(f"observation of {name}", known.x.shape, task.simulator.x_shape)
    count = len(known.exact)
    check_shape(f"exact draws of {name}", known.exact.shape, (count, task.prior.dim))
    rows = np.linspace(0, count - 1, min(count, num_draws)).astype(int)
    return dataclasses.replace(known, exact=known.exact[rows])


def sbibm_files(name: str, index: int) -> tuple[Path, Path] | None:
    """Where an installed sbibm keeps an observation and its draws; None without one.

    Its data are read; it is not imported.
    """
    spec = importlib.util.find_spec("sbibm")
    if spec is None or spec.origin is None:
        return None
    task, seen = SHARED.get(name, (name, "observation.csv"))
    folder = Path(spec.origin).parent / "tasks" / task / "files"
    folder = folder / f"num_observation_{index}"
    files = folder / seen, folder / "reference_posterior_samples.csv.bz2"
    return files if all(path.is_file() for path in files) else None


def _from_archive(path: Path) -> Known:
    if not path.is_file():
        fail("references", f"with {path.parent.name}/{path.name}", f"none at {path}")
    with np.load(path, allow_pickle=False) as archive:
        missing = {"observation", "reference_samples"} - set(archive.files)
        if missing:
            fail(f"{path}", f"with {' and '.join(sorted(missing))}", archive.files)
        x, exact = archive["observation"], archive["reference_samples"]
    return Known(np.float32(x), np.float32(exact))


def _from_sbibm(files: tuple[Path, Path]) -> Known:
    x, exact = (np.loadtxt(p, delimiter=",", skiprows=1, ndmin=2) for p in files)
    return Known(np.float32(x).reshape(-1), np.float32(exact))


def _made(task: Task, index: int, num_draws: int, kept: Path) -> Known:
    """Our own observation; its exact draws are made once and kept."""
    if kept.is_file():
        known = read_arrays(Known, kept, "reference")
        if len(known.exact) >= num_draws:
            return known
    x, _ = task.observation(index)
    key = jax.random.fold_in(jax.random.key(REFERENCE_KEY), index)
    drawn = task.reference(index, num_draws, key)
    if drawn is None or not drawn.good:
        got = "none" if drawn is None else drawn.words
        remedy = "Give --references."
        fail(f"exact draws of {task.name} {index}", "that can be trusted", got, remedy)
    known = Known(np.asarray(x), np.asarray(drawn.draws, np.float32))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(kept, known)
    return known
