"""The whole experiment: simulate, train, measure, report. Resumable at every stage.

A run folder holds `config.json`, `simulations/` (fixed sets), one folder per flow with
`checkpoints/`, `history.jsonl` and `model/`, then `model/` (the flow with the best
validation loss), `metrics.json`, `report.npz` and `report.html`.
"""

import dataclasses
import json
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowinv import evaluate
from flowinv.build import build_estimator
from flowinv.checks import fail
from flowinv.config import RunConfig
from flowinv.data.simulate import simulate
from flowinv.data.store import num_rows, read_dataset, write_dataset
from flowinv.flows.estimator import Estimator
from flowinv.infer_rounds import (
    check_rounds,
    infer_in_rounds,
    rounds_config,
    rounds_network,
)
from flowinv.posteriors.direct import Posterior
from flowinv.posteriors.model_files import load, save
from flowinv.report.content import (
    ModelResult,
    Observation,
    ReportContent,
    save_content,
)
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.task import Task
from flowinv.training.fit import Fit, Interrupted, train
from flowinv.types import Dataset, Simulator
from flowinv.watch import Watch

__all__ = ["prepare_folder", "run"]

# Streams of the run's key.
_SIMULATE, _TRAIN, _EVALUATE, _OBSERVE = range(4)
_HISTORY = ("train_loss", "validation_loss", "gradient_norm", "out_of_range", "step")


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Run the experiment of `config` and return its flat metrics.

    Args:
        config: what to do; with `resume` the folder's own config counts.
        resume: go on with an earlier run in the same folder.
        quiet: no progress bars.
        should_stop: asked between the chunks of every stage; True leaves a resumable
            run.

    Raises:
        ValueError: bad input, before any long work.
        Interrupted: if `should_stop` said so.
    """
    began = time.monotonic()
    task, estimators, scans = _checked(config)
    folder = prepare_folder(config, resume)
    watch = Watch(quiet, _stopper(should_stop))
    root = jax.random.key(config.seed)
    key_simulate, key_train, key_evaluate, key_observe = (
        jax.random.fold_in(root, stream) for stream in range(4)
    )
    if config.sequential:
        observed = _to_infer(config, task, key_observe, scans, watch)
        results, posteriors = infer_in_rounds(
            config, task, observed, key_train, folder, watch, should_stop
        )
        return _finished(
            config, task, results, posteriors, observed, began, folder, watch
        )
    data = _data(config, task, key_simulate, folder, watch)
    watch.note("exact posteriors of the observations")
    observed = evaluate.observations(key_observe, task, config.evaluate) + scans
    results, posteriors = {}, {}
    for name, estimator in estimators.items():
        own = folder / name
        posterior, history, facts = _trained(
            config, name, estimator, data, key_train, own, watch, should_stop
        )
        posteriors[name] = posterior
        results[name] = _measure(
            config, task, posterior, history, facts, observed, key_evaluate, watch
        )
    return _finished(config, task, results, posteriors, observed, began, folder, watch)


def _to_infer(
    config: RunConfig,
    task: Task,
    key: jax.Array,
    scans: tuple[Observation, ...],
    watch: Watch,
) -> tuple[Observation, ...]:
    """What rounds are run for: the user's scans, or the task's observations."""
    if scans:
        return scans
    watch.note("exact posteriors of the observations")
    return evaluate.observations(key, task, config.evaluate)


def _finished(
    config: RunConfig,
    task: Task,
    results: dict[str, ModelResult],
    posteriors: dict[str, Posterior],
    observed: tuple[Observation, ...],
    began: float,
    folder: Path,
    watch: Watch,
) -> dict[str, Any]:
    """Save the best model, write metrics and page, and return the metrics."""
    best = min(results, key=lambda n: float(results[n].facts["validation loss"]))
    shutil.rmtree(folder / "model", ignore_errors=True)
    save(folder / "model", posteriors[best])
    watch.note("report")
    seconds = round(time.monotonic() - began, 1)
    metrics = _written(config, task, results, observed, best, seconds, folder)
    watch.close()
    return metrics


def _written(
    config: RunConfig,
    task: Task,
    results: dict[str, ModelResult],
    observed: tuple[Observation, ...],
    best: str,
    seconds: float,
    folder: Path,
) -> dict[str, Any]:
    """Write metrics and page, and return the metrics."""
    metrics: dict[str, Any] = {"best_flow": best}
    for name, result in results.items():
        metrics.update(evaluate.flat_metrics(name, task.prior.names, result))
    metrics["seconds"] = seconds
    _write_json(folder / "metrics.json", metrics)
    content = ReportContent(
        title=task.description,
        names=task.prior.names,
        units=task.prior.units,
        facts=_facts(config, seconds),
        models=results,
        observations=observed,
        layout=evaluate.scan_layout(task),
    )
    save_content(content, folder / "report.npz")
    from flowinv.report.page import write_report

    write_report(content, folder / "report.html")
    return metrics


def _checked(
    config: RunConfig,
) -> tuple[Task, dict[str, Estimator], tuple[Observation, ...]]:
    """Everything a bad setting, file or index could break, before the long work."""
    config.check()
    task = get_task(config.task)
    network = config.network
    if config.sequential:
        check_rounds(config)
        network = rounds_network(config)
    estimators = {name: build_estimator(task, name, network) for name in config.flow}
    for estimator in estimators.values():
        # Traced only: a network that cannot read this x answers now.
        shape = task.simulator.x_shape
        jax.eval_shape(lambda e=estimator, s=shape: e.skeleton(s))
    evaluate.check_observations(task, config.evaluate)
    scans = evaluate.user_scans(task, config.x) if config.x else ()
    return task, estimators, scans


def _stopper(should_stop: Callable[[], bool] | None) -> Callable[[], None]:
    def stop() -> None:
        if should_stop is not None and should_stop():
            raise Interrupted

    return stop


def prepare_folder(config: RunConfig, resume: bool) -> Path:
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
        # A run may be moved, or named by another path.
        if dataclasses.replace(RunConfig.read(saved), out=config.out) != config:
            remedy = "Give the settings of the first start, or only --out and --resume."
            fail(f"the config in {folder}", "to be this one", "another", remedy)
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        remedy = "Continue it with --resume, or choose another --out."
        fail("output folder", "to be new or empty", f"{folder}", remedy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(saved, {"config": config.to_json(), "versions": _versions()})
    except OSError as error:
        reason = f"{folder} ({error.strerror})"
        fail("output folder", "to be writable", reason, "Choose another --out.")
    return folder


def _data(
    config: RunConfig, task: Task, key: jax.Array, folder: Path, watch: Watch
) -> Dataset | Simulator:
    """Return the simulator in fresh mode, else the stored or newly drawn fixed set."""
    if config.fresh:
        return task.simulator
    store, count = folder / "simulations", int(config.num_simulations)
    if store.exists():
        if num_rows(store) == count:
            return read_dataset(store)
        shutil.rmtree(store)
    # Renamed when complete: a killed run leaves no half store to stumble over.
    part = folder / "simulations.part"
    shutil.rmtree(part, ignore_errors=True)
    with watch.bar("simulate", count) as bar:
        data = simulate(
            key, task.prior, task.simulator, count, progress=lambda n, _: bar.to(n)
        )
    write_dataset(part, data)
    part.rename(store)
    return data


def _trained(
    config: RunConfig,
    name: str,
    estimator: Any,
    data: Dataset | Simulator,
    key: jax.Array,
    folder: Path,
    watch: Watch,
    should_stop: Callable[[], bool] | None,
) -> tuple[Posterior, dict[str, np.ndarray], dict[str, str]]:
    """Train one flow, or read what an earlier start of this run trained."""
    done = folder / "training.json"
    if done.is_file():
        history = _read_history(folder / "history.jsonl")
        return load(folder / "model"), history, json.loads(done.read_text())
    began = time.monotonic()
    watch.note(f"{name}: compile")
    with watch.bar(f"train {name}") as bar:
        fit = train(
            key,
            estimator,
            data,
            config.train,
            folder=folder / "checkpoints",
            progress=bar.training,
            should_stop=should_stop,
        )
    posterior = Posterior(fit.estimator, fit.variables)
    save(folder / "model", posterior)
    history = _mean_history(fit)
    _write_history(folder / "history.jsonl", history)
    facts = _training_facts(fit, time.monotonic() - began)
    _write_json(done, facts)
    return posterior, history, facts


def _measure(
    config: RunConfig,
    task: Task,
    posterior: Posterior,
    history: dict[str, np.ndarray],
    facts: dict[str, str],
    observed: tuple,
    key: jax.Array,
    watch: Watch,
) -> ModelResult:
    watch.note("held-out simulations")
    estimates, calibration = evaluate.held_out(key, posterior, task, config.evaluate)
    with watch.bar("score", len(observed)) as bar:
        answers = evaluate.answer(
            key, posterior, task, observed, config.evaluate, bar.step
        )
    return ModelResult(history, estimates, calibration, answers, facts)


def _mean_history(fit: Fit) -> dict[str, np.ndarray]:
    """Arrays over epochs; an ensemble's are averaged over its active members."""
    return {
        name: np.nanmean(fit.history[name].reshape(len(fit.history[name]), -1), 1)
        for name in _HISTORY
    }


def _training_facts(fit: Fit, seconds: float) -> dict[str, str]:
    weights = sum(leaf.size for leaf in jax.tree.leaves(fit.variables.params))
    return {
        "trained numbers": f"{weights:,}",
        "training time": f"{seconds:.0f} s",
        "steps": f"{int(np.max(fit.history['step'])):,}",
        "validation loss": f"{float(np.mean(fit.state.best_loss)):.4f}",
        "end": fit.message,
    }


def _write_history(path: Path, history: dict[str, np.ndarray]) -> None:
    rows = zip(*history.values(), strict=True)
    lines = [
        json.dumps({"epoch": i + 1, **dict(zip(history, map(float, row), strict=True))})
        for i, row in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n")


def _read_history(path: Path) -> dict[str, np.ndarray]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {name: np.array([line[name] for line in lines]) for name in _HISTORY}


def _versions() -> dict[str, str]:
    packages = ("flowinv", "jax", "flax", "optax", "numpy")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            found[package] = "not installed"
    return found


def _facts(config: RunConfig, seconds: float) -> dict[str, str]:
    device = jax.devices()[0]
    simulations = config.num_simulations
    if config.sequential:
        each = rounds_config(config).num_simulations
        simulations = f"{each:,} in each of {config.rounds.num_rounds} rounds"
    elif config.fresh:
        drawn = config.train.num_steps * config.train.batch_size
        simulations = f"fresh at every step ({drawn:,} per flow)"
    return {
        "task": config.task,
        "method": config.method,
        "simulations": simulations,
        "seed": str(config.seed),
        "device": f"{device.platform} ({device.device_kind})",
        "time": f"{seconds:.0f} s for everything, compilation included",
        "versions": ", ".join(f"{k} {v}" for k, v in _versions().items()),
    }


def _write_json(path: Path, data: Any) -> None:
    """Write next to the target, then rename: never half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1))
    part.replace(path)
