"""How far a trained run may be trusted: fresh simulations, every check, one page.

In the folder of the run: `diagnosis/` (held-out simulations, part by part: what is
there is not done again), `diagnosis.json` (every number and verdict) and
`diagnosis.html`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from flowinv.checks import InputError, check_at_least, check_shape, fail
from flowinv.data.scan import ReadOptions
from flowinv.data.scans import open_npz
from flowinv.data.simulate import simulate
from flowinv.diagnostics.calibration import calibration_curves
from flowinv.diagnostics.check import HeldOut
from flowinv.diagnostics.conformal import width_factor
from flowinv.diagnostics.likeness import MOST_ROWS
from flowinv.experiment import measure
from flowinv.experiment.config import DiagnoseConfig, RunConfig
from flowinv.experiment.experiment import check_task
from flowinv.experiment.observed import observations, user_scans
from flowinv.experiment.problem import task_of
from flowinv.experiment.score import kept
from flowinv.experiment.watch import Watch
from flowinv.files import write_json
from flowinv.identity import identity
from flowinv.models.files import save
from flowinv.models.sampled import AnyPosterior
from flowinv.models.widened import widened
from flowinv.report.content import (
    Answer,
    Errors,
    ModelResult,
    Observation,
    ReportContent,
    load_content,
)
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.task import Task
from flowinv.types import Dataset

__all__ = ["asked_task", "diagnose_run"]

# Simulations that a stop may lose.
PART = 250
_TASK = "task.npz"


def diagnose_run(
    folder: Path,
    name: str,
    posterior: AnyPosterior,
    config: DiagnoseConfig,
    watch: Watch,
    reading: ReadOptions | None = None,
) -> ReportContent:
    """Ask every check about a model of a run, and write what they say.

    Args:
        folder: of the run, or of a model alone.
        name: of the model.
        posterior: the model.
        config: what is asked.
        watch: shows progress, and stops.
        reading: what scan files do not say themselves.

    Raises:
        ValueError: no simulator and no pairs, a task that is not the run's, or a file
            that does not fit.
        Interrupted: if `watch` said so; called again it goes on.
    """
    began = time.monotonic()
    pairs = _pairs(config.data, posterior) if config.data else None
    task = asked_task(folder, config)
    if task is None and pairs is None:
        remedy = "Name the task, --task file.py:name, or pairs, --data pairs.npz."
        fail(f"simulator of {folder}", "in its config", "none", remedy)
    if task is None:
        task = Task(posterior.prior, _Unknown(posterior.x_shape))
    observed, found = _observed(folder, name, task, config, reading), None
    if _is_amortised(folder):
        found = _held_out(folder, posterior, task, config, pairs, watch)
    elif not observed:
        fail("observation of a model of rounds", "in report.npz", "none", "Give --x.")
    if config.widened:
        _save_widened(Path(config.widened).expanduser(), posterior, found)
    model = _checked(posterior, task, config, (observed, found), watch)
    seconds = round(time.monotonic() - began, 1)
    content = ReportContent(
        title=f"Diagnosis of {folder.name}",
        names=task.prior.names,
        units=task.prior.units,
        facts={"time": f"{seconds:.0f} s", "seed": str(config.seed)},
        models={name: model},
        observations=observed,
        best=name,
        derived=task.derived,
    )
    from flowinv.report.page import write_report

    write_report(content, folder / "diagnosis.html")
    flat = {"model": name, "seconds": seconds, **model.results.flat()}
    flat |= {f"why/{v.parameter}": v.words for v in model.results.verdicts}
    write_json(folder / "diagnosis.json", flat)
    return content


def _checked(
    posterior: AnyPosterior,
    task: Task,
    config: DiagnoseConfig,
    seen: tuple[tuple[Observation, ...], HeldOut | None],
    watch: Watch,
) -> ModelResult:
    """Answer the observations, and ask every check about them and what was held out."""
    (observed, found), settings = seen, config.evaluate
    key, answered = jax.random.key(config.seed), []
    watch.note("answers")
    draws = measure.sample(key, posterior, observed, settings)
    with watch.bar("observations", len(observed)) as bar:
        for index, (own, theta) in enumerate(zip(observed, draws, strict=True)):
            bar.step(own.label)
            given = measure.Given(theta, posterior)
            answered.append(measure.summed_up(key, task, index, own, given))
    watch.note("checks")
    model = ModelResult(
        answers={one.label: Answer(one.draws, one.predictive) for one in answered},
        results=measure.checked(task, settings, found, answered),
        facts={"simulations": f"{0 if found is None else len(found.theta):,}"},
    )
    if found is None:
        return model
    curves = calibration_curves(found.ranks, found.num_samples, found.density_ranks())
    errors = Errors(found.theta, found.errors_in_sds())
    return dataclasses.replace(model, errors=errors, calibration=curves)


class _Unknown:
    """The simulator of pairs whose simulator is elsewhere: it cannot simulate."""

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        self.x_shape = x_shape

    def simulate(self, key: Array, theta: Array) -> Array:
        """Refuse."""
        del key, theta
        return fail("simulator", "to predict x", "pairs alone", "Name it by --task.")


def asked_task(folder: Path, config: DiagnoseConfig) -> Task | None:
    """Return the task that is named, or the run's: what the run was made for.

    Raises:
        ValueError: it is another.
    """
    named = bool(config.task)
    task = get_task(config.task) if named else task_of(folder)
    if task is not None and (folder / _TASK).is_file():
        check_task(folder / _TASK, task, "" if named else "--task file.py:name")
    return task


def _is_amortised(folder: Path) -> bool:
    saved = folder / "config.json"
    return not saved.is_file() or RunConfig.read(saved).method.amortised


def _pairs(path: str, posterior: AnyPosterior) -> Dataset:
    """Known pairs from an npz."""
    arrays = open_npz(Path(path).expanduser())
    for wanted in ("theta", "x"):
        if wanted not in arrays:
            fail(f"{path}", "with arrays theta and x", ", ".join(arrays) or "none")
    theta, x = (np.asarray(arrays[n], np.float32) for n in ("theta", "x"))
    count = len(theta)
    check_shape(f"theta of {path}", theta.shape, (count, posterior.prior.dim))
    check_shape(f"x of {path}", x.shape, (count, *posterior.x_shape))
    check_at_least(f"pairs of {path}", count, 100)
    valid = np.isfinite(x.reshape(count, -1)).all(1) & np.isfinite(theta).all(1)
    return Dataset(theta, x, valid, np.zeros(count, np.int32))


def _observed(
    folder: Path,
    name: str,
    task: Task,
    config: DiagnoseConfig,
    reading: ReadOptions | None,
) -> tuple[Observation, ...]:
    """Scans of the files that are named, or what the run has answered."""
    if config.x:
        every = (user_scans(task, path, reading) for path in config.x)
        return tuple(own for scans in every for own in scans)
    if isinstance(task.simulator, _Unknown) or not (folder / "report.npz").is_file():
        return ()
    if _is_amortised(folder):
        with contextlib.suppress(InputError):  # of another version
            return load_content(folder / "report.npz").observations
        asked = RunConfig.read(folder / "config.json").evaluate
        return observations(jax.random.key(config.seed), task, asked)
    observed = load_content(folder / "report.npz").observations
    from flowinv.experiment.rounds import model_folder

    own = name.rpartition("/")[2]
    return tuple(o for o in observed if model_folder(o.label) == own)


def _held_out(
    folder: Path,
    posterior: AnyPosterior,
    task: Task,
    config: DiagnoseConfig,
    pairs: Dataset | None,
    watch: Watch,
) -> HeldOut:
    """Answers to simulations that the network has not seen, part by part."""
    total = config.num_simulations if pairs is None else len(pairs.theta)
    numbers = tuple(jax.tree.leaves(posterior))
    mark = identity(numbers, config.num_samples, pairs, config.seed)[0]
    settings, parts = config.evaluate, []
    with watch.bar("held-out", total) as bar:
        for number, start in enumerate(range(0, total, PART)):
            size = min(PART, total - start)
            key = jax.random.fold_in(jax.random.key(config.seed), number)

            def find(start: int = start, size: int = size, key: Array = key) -> HeldOut:
                data = (
                    simulate(key, task.prior, task.simulator, size)
                    if (pairs is None)
                    else Dataset(*(part[start : start + size] for part in pairs))
                )
                return measure.answered_rows(key, posterior, task, data, settings)

            path = folder / "diagnosis" / f"part_{number}.npz"
            path.parent.mkdir(exist_ok=True)
            parts.append(kept(path, HeldOut, (mark, size), find))
            bar.to(start + size)
    return _joined(parts)


def _save_widened(target: Path, posterior: AnyPosterior, found: HeldOut | None) -> None:
    """Save the model with widths calibrated on its held-out simulations."""
    if found is None:
        fail("--widened", "with a network for all x", "one of rounds")
    to_latent = posterior.prior.to_latent
    theta, draws = (np.asarray(to_latent(a)) for a in (found.theta, found.draws))
    save(target, widened(posterior, width_factor(theta, draws).factor))


def _joined(parts: Sequence[HeldOut]) -> HeldOut:
    def all_of(field: str) -> Any:
        arrays = [getattr(part, field) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    fields = {field.name: all_of(field.name) for field in dataclasses.fields(HeldOut)}
    few = {n: fields[n] for n in ("x", "context") if fields[n] is not None}
    return HeldOut(**fields | {name: rows[:MOST_ROWS] for name, rows in few.items()})
