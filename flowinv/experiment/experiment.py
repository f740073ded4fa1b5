"""What an experiment owns: config, task, folder, key, and the one way to stop."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import numpy as np
from jax import Array

import flowinv
from flowinv.checks import fail
from flowinv.data.entrance import probe
from flowinv.experiment.config import RunConfig, same_run
from flowinv.experiment.watch import Watch
from flowinv.files import LOCK, Lock, read_arrays, write_arrays, write_json
from flowinv.identity import identity
from flowinv.tasks.task import Task
from flowinv.training.checkpoint import same_numbers

__all__ = ["Experiment", "check_task", "open_folder", "versions", "write_problem"]

# Streams of the run's key.
_STREAMS = ("simulate", "train", "evaluate", "observe")
_TASK = "task.npz"
_PACKAGES = ("jax", "flax", "optax", "numpy")


@dataclass(frozen=True)
class Experiment:
    """One run: its settings, its problem, its folder, and who watches it.

    Attributes:
        config: what to do.
        task: the problem.
        folder: where everything goes.
        watch: progress, and the one way to stop.
    """

    config: RunConfig
    task: Task
    folder: Path
    watch: Watch

    def key(self, stream: str) -> Array:
        """Key of a stage: simulate, train, evaluate or observe."""
        root = jax.random.key(self.config.seed)
        return jax.random.fold_in(root, _STREAMS.index(stream))


def open_folder(config: RunConfig, task: Task, resume: bool) -> Lock:
    """Create the run folder, or accept an earlier run's for resuming; it is locked.

    Raises:
        ValueError: if the folder holds another run or nothing to resume, is in use, or
            cannot be written.
    """
    folder = config.folder()
    if resume and not (folder / "config.json").is_file():
        fail(f"a run to resume in {folder}", "(config.json)", "none")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder)
    except OSError as error:
        reason = f"{folder} ({error.strerror})"
        fail("output folder", "to be writable", reason, "Choose another --out.")
    try:
        _claim(config, task, resume)
    except BaseException:
        lock.release()
        raise
    return lock


def _claim(config: RunConfig, task: Task, resume: bool) -> None:
    """Check that a folder is this run's, or make it so."""
    folder = config.folder()
    saved = folder / "config.json"
    if resume:
        if not same_run(RunConfig.read(saved), config):
            remedy = "Give the settings of the first start, or only --out and --resume."
            fail(f"the config in {folder}", "to be this one", "another", remedy)
        check_task(folder / _TASK, task)
        return
    if any(path.name != LOCK for path in folder.iterdir()):
        remedy = "Continue it with --resume, or choose another --out."
        fail("output folder", "to be new or empty", f"{folder}", remedy)
    write_problem(folder / _TASK, task)
    write_json(saved, {"config": config.to_json(), "versions": versions()})


@dataclass(frozen=True)
class _Problem:
    """What tells a task from another one that has the same name.

    Attributes:
        prior: its description, hashed.
        probe: what the simulator gives at fixed keys and parameters.
    """

    prior: str
    probe: np.ndarray


def _problem(task: Task) -> _Problem:
    return _Problem(
        identity(task.prior.to_config())[0], probe(task.simulator, task.prior)
    )


def write_problem(path: Path, task: Task) -> None:
    """Write down what tells a task from others, for `check_task`."""
    write_arrays(path, _problem(task))


def check_task(path: Path, task: Task, flag: str = "") -> None:
    """Raise where a task's prior or simulator has changed since the run began.

    Args:
        path: where the run has written down its problem.
        task: the problem now.
        flag: that names the task, where nobody has named one yet.
    """
    kept, own = read_arrays(_Problem, path, "task of the run"), _problem(task)
    others = ["prior"] * (kept.prior != own.prior)
    others += ["simulator"] * (not same_numbers(kept.probe, own.probe))
    if others:
        remedy = "Put it back as it was, or choose another --out."
        remedy = f"Name the run's own: {flag}." if flag else remedy
        got = f"another {' and '.join(others)}"
        fail(f"the task of {path.parent}", "to be what it was", got, remedy)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that change numbers."""
    # A source tree on the path has no metadata of its own.
    found = {"python": platform.python_version(), "flowinv": flowinv.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
