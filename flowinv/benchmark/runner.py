"""Fill cells: train once for all observations, answer, score; resumable anywhere."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.benchmark.cells import BenchmarkConfig, Cell, Metric, Training
from flowinv.benchmark.references import Known, known_of
from flowinv.benchmark.results import Result, append, read
from flowinv.checks import fail
from flowinv.data.entrance import host_rows, is_host
from flowinv.data.stream import stored_rows
from flowinv.diagnostics.c2st import c2st
from flowinv.diagnostics.mmd import LARGEST, mmd_squared
from flowinv.diagnostics.prdc import prdc
from flowinv.experiment.build import build_estimator
from flowinv.experiment.experiment import check_task, versions, write_problem
from flowinv.experiment.watch import Watch
from flowinv.files import Lock, read_arrays, read_json, write_arrays, write_json
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.task import Task
from flowinv.types import Dataset

__all__ = ["run_benchmark"]

RESULTS, SETTINGS = "results.csv", "settings.json"
PREDICTIVE_DRAWS = 1_000
SIMULATE, TRAIN, DRAW, PREDICT = range(4)


@dataclass(frozen=True)
class _Answers:
    """Draws of a training's posteriors.

    Attributes:
        numbers: of the observations, `[K]`.
        draws: `[K, n, D]`.
        seconds: of the training.
    """

    numbers: np.ndarray
    draws: np.ndarray
    seconds: float


def run_benchmark(
    config: BenchmarkConfig,
    *,
    quiet: bool = True,
    should_stop: Callable[[], bool] | None = None,
) -> dict[Cell, Result]:
    """Fill every missing cell, and return all of the folder.

    Each training's draws are kept before they are scored, and each observation's rows
    are appended in one write: what was done is never done again, wherever this is
    broken off.

    Args:
        config: which cells.
        quiet: no bar.
        should_stop: asked between pieces of work.

    Raises:
        ValueError: a setting out of its range, a folder of other settings, a task
            without exact posterior.
        Interrupted: if `should_stop` said so.
    """
    config.check()
    folder = Path(config.out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    watch = Watch(quiet, should_stop)
    with Lock(folder):
        _claim(folder / SETTINGS, config)
        filled = read(folder / RESULTS)
        trainings = config.trainings()
        cells = [cell for own in trainings for cell in config.cells(own)]
        with watch.bar("cells", len(cells)) as bar:
            bar.to(sum(cell in filled for cell in cells))
            for training in trainings:
                wanted = [c for c in config.cells(training) if c not in filled]
                if not wanted:
                    continue
                bar.say(training.name)
                answers = _answered(config, training, folder, watch)
                for results in _scored(config, training, wanted, (answers, folder)):
                    append(folder / RESULTS, results)
                    filled |= {result.cell: result for result in results}
                    bar.to(sum(cell in filled for cell in cells))
    return filled


def _claim(path: Path, config: BenchmarkConfig) -> None:
    """Write down what all results depend on, or check that it is the same."""
    if not path.exists():
        write_json(path, config.relevant())
        return
    kept = read_json(path, "settings of the benchmark")
    others = [name for name, own in config.relevant().items() if kept.get(name) != own]
    if others:
        remedy = "Give the same ones, or another --out."
        got = ", ".join(f"{name} {kept.get(name)!r}" for name in others)
        fail(f"settings of {path.parent}", "to be these", got, remedy)


def _known(
    config: BenchmarkConfig, training: Training, folder: Path
) -> dict[int, Known]:
    given = Path(config.references).expanduser() if config.references else None
    task, sources = get_task(training.task), (given, folder / "references")
    name, count = training.task.replace(":", "-"), config.num_draws
    return {
        index: known_of(task, name, index, count, sources)
        for index in config.observed(training.task)
    }


def _key(training: Training, stream: int) -> Any:
    """Key of a stream; all methods of a seed learn from the same simulations."""
    return jax.random.fold_in(jax.random.key(training.seed), stream)


def _answered(
    config: BenchmarkConfig, training: Training, folder: Path, watch: Watch
) -> _Answers:
    """Draws for all observations: kept ones, or those of a training now."""
    path = folder / "draws" / f"{training.name}.npz"
    numbers = config.observed(training.task)
    kept = read_arrays(_Answers, path, "draws") if path.is_file() else None
    if kept is not None and set(numbers) <= set(kept.numbers.tolist()):
        return kept
    task, known = get_task(training.task), _known(config, training, folder)
    x = np.stack([known[index].x for index in numbers])
    method, began = training.settings(), time.monotonic()
    estimator = build_estimator(task, training.flow, method.network)
    part = folder / "parts" / training.name
    options = {"folder": part, "should_stop": watch.should_stop}
    if method.amortised:
        data = _simulated(training, task, folder)
        trained = method.fit(_key(training, TRAIN), estimator, data, **options)
        posteriors = [trained.posterior] * len(x)
    else:
        # An observation's rounds do not depend on which others are answered.
        key = _key(training, TRAIN)
        keys = jnp.stack([jax.random.fold_in(key, number) for number in numbers])
        done = method.run(keys, estimator, task.simulator, x, **options)
        posteriors = done.posteriors
    draws = [
        np.asarray(own.sample(_key(training, DRAW), x_obs, config.num_draws))
        for own, x_obs in zip(posteriors, x, strict=True)
    ]
    seconds = time.monotonic() - began
    answers = _Answers(np.array(numbers), np.stack(draws), seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, answers)
    shutil.rmtree(part, ignore_errors=True)
    return answers


def _simulated(training: Training, task: Task, folder: Path) -> Dataset:
    """Simulations that all methods and budgets of a task and a seed learn from."""
    name = training.task.replace(":", "-").replace("/", "-")
    kept = folder / "simulations"
    kept.mkdir(exist_ok=True)
    problem = kept / f"{name}.npz"
    if problem.exists():
        check_task(problem, task)
    else:
        write_problem(problem, task)
    path, key = kept / f"{name}-{training.seed}", _key(training, SIMULATE)
    return stored_rows(path, key, task.prior, task.simulator, training.budget)


def _scored(
    config: BenchmarkConfig,
    training: Training,
    wanted: Sequence[Cell],
    where: tuple[_Answers, Path],
) -> Any:
    """Yield the rows of each observation that has missing ones."""
    answers, folder = where
    task, known = get_task(training.task), _known(config, training, folder)
    simulations = _simulations(training)
    for index in dict.fromkeys(cell.observation for cell in wanted):
        position = int(np.flatnonzero(answers.numbers == index)[0])
        draws, results = answers.draws[position], []
        for cell in wanted:
            if cell.observation == index:
                metric = Metric(cell.metric, cell.protocol)
                value = _value(metric, task, known[index], draws)
                rest = answers.seconds, simulations, _version()
                results.append(Result(cell, value, *rest))
        yield results


def _simulations(training: Training) -> int:
    method = training.settings()
    if method.amortised:
        return training.budget
    return method.num_rounds * method.num_simulations


def _value(metric: Metric, task: Task, known: Known, draws: np.ndarray) -> float:
    """One number of the draws of one observation."""
    count = min(len(known.exact), len(draws))
    exact, draws = known.exact[:count], draws[:count]
    if metric.name == "c2st":
        return float(c2st(exact, draws, metric.protocol).score)
    if metric.name == "mmd":
        return float(mmd_squared(exact[:LARGEST], draws[:LARGEST], standardise=True))
    if metric.name in ("density", "coverage"):
        return float(getattr(prdc(exact, draws), metric.name))
    return _median_distance(task, known.x, draws[:PREDICTIVE_DRAWS])


def _median_distance(task: Task, x: np.ndarray, draws: np.ndarray) -> float:
    """Median Euclidean distance of x to what posterior draws predict."""
    key = jax.random.key(PREDICT)
    if is_host(task.simulator):
        simulated = host_rows(task.simulator, key, draws)[0]
    else:
        keys = jax.random.split(key, len(draws))
        run = jax.jit(jax.vmap(task.simulator.simulate))
        simulated = np.asarray(run(keys, jnp.asarray(draws)))
    off = (simulated - x).reshape(len(draws), -1)
    return float(np.nanmedian(np.linalg.norm(off, axis=-1)))


def _version() -> str:
    found = versions()
    names = ("flowinv", "jax")
    words = [f"{name} {found[name]}" for name in names]
    return " ".join([*words, jax.devices()[0].device_kind])
