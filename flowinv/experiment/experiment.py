"""What an experiment owns: config, task, folder, key, and the one way to stop."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
from jax import Array

from flowinv.checks import fail
from flowinv.experiment.config import RunConfig, same_run
from flowinv.experiment.watch import Watch
from flowinv.files import write_json
from flowinv.tasks.task import Task

__all__ = ["Experiment", "open_folder", "versions"]

# Streams of the run's key.
_STREAMS = ("simulate", "train", "evaluate", "observe")
_PACKAGES = ("flowinv", "jax", "flax", "optax", "numpy")


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


def open_folder(config: RunConfig, resume: bool) -> Path:
    """Create the run folder, or accept an earlier run's for resuming.

    Raises:
        ValueError: if the folder holds another run or nothing to resume, or cannot be
            written.
    """
    folder = config.folder()
    saved = folder / "config.json"
    if resume:
        if not saved.is_file():
            fail(f"a run to resume in {folder}", "(config.json)", "none")
        if not same_run(RunConfig.read(saved), config):
            remedy = "Give the settings of the first start, or only --out and --resume."
            fail(f"the config in {folder}", "to be this one", "another", remedy)
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        remedy = "Continue it with --resume, or choose another --out."
        fail("output folder", "to be new or empty", f"{folder}", remedy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(saved, {"config": config.to_json(), "versions": versions()})
    except OSError as error:
        reason = f"{folder} ({error.strerror})"
        fail("output folder", "to be writable", reason, "Choose another --out.")
    return folder


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that change numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
