"""The whole experiment: simulate, train, measure, report. Resumable at every stage.

A run folder holds `config.json`, `simulations/` (fixed sets), one folder per model with
`checkpoints/`, `history.jsonl` and `model/` (in rounds a model for each observation),
then `model/` (the best by validation loss), `metrics.json`, `report.npz` and
`report.html`.
"""

import shutil
import time
from collections.abc import Callable
from typing import Any

import jax

from flowinv.checks import fail
from flowinv.compiling import set_memory_limit
from flowinv.data.entrance import admit_simulator, is_host
from flowinv.experiment import measure
from flowinv.experiment import observed as problems
from flowinv.experiment.advice import next_steps
from flowinv.experiment.amortised import infer_amortised
from flowinv.experiment.build import build_estimator
from flowinv.experiment.config import RunConfig
from flowinv.experiment.experiment import Experiment, open_folder, versions
from flowinv.experiment.problem import INSTRUMENT, instrument_for
from flowinv.experiment.rounds import infer_in_rounds, model_folder
from flowinv.experiment.sampled_rounds import infer_in_sampled_rounds
from flowinv.experiment.watch import Watch
from flowinv.files import settled, to_plain, write_json
from flowinv.methods.registry import Method
from flowinv.methods.sequential import Sequential
from flowinv.models.entrance import admit_estimator
from flowinv.report.content import (
    ModelResult,
    Observation,
    ReportContent,
    save_content,
)
from flowinv.tasks.registry import task as get_task
from flowinv.tasks.step_scan import instrument_task
from flowinv.tasks.task import Task

__all__ = ["run"]


def run(
    config: RunConfig,
    *,
    task: Task | None = None,
    resume: bool = False,
    quiet: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Run the experiment of `config` and return its flat metrics.

    Args:
        config: what to do; with `resume` the folder's own config counts.
        task: a task of your own; None takes the one that the config names.
        resume: go on with an earlier run in the same folder.
        quiet: no progress bars.
        should_stop: asked between the chunks of every stage; True leaves a resumable
            run.

    Raises:
        ValueError: bad input, before any long work.
        Interrupted: if `should_stop` said so.
    """
    began = time.monotonic()
    config = settled(RunConfig, config, "config")
    config.check()
    if config.memory:
        set_memory_limit(config.memory)
    instrument = None
    if task is None and config.like:
        instrument = instrument_for(config, resume)
        task = instrument_task(instrument)
    elif task is None:
        task = get_task(config.task)
    elif not isinstance(task, Task):
        fail("task", "to be a flowinv.Task", type(task).__name__)
    scans = _checked(config, task)
    with open_folder(config, task, resume):
        if instrument is not None:
            write_json(config.folder() / INSTRUMENT, to_plain(instrument))
        watch = Watch(quiet, should_stop)
        for note in dict.fromkeys(own.scan_note for own in scans if own.scan_note):
            watch.note(f"{config.scan}: {note}")
        experiment = Experiment(config, task, config.folder(), watch)
        results, observed = _engine(config.method)(experiment, scans)
        return _finished(experiment, results, observed, began)


def _engine(method: Method) -> Callable[..., Any]:
    """The stage that learns and answers, by the method's kind."""
    if method.amortised:
        return infer_amortised
    if isinstance(method, Sequential):
        return infer_in_sampled_rounds
    return infer_in_rounds


def _checked(config: RunConfig, task: Task) -> tuple[Observation, ...]:
    """Everything a bad setting, file or index could break, before the long work."""
    shape = admit_simulator(task.simulator, task.prior)
    if is_host(task.simulator) and config.method.amortised:
        remedy = "Use a method of rounds: --method tsnpe."
        got = "simulate_batch alone"
        fail("simulator", "with simulate(key, theta) for one network", got, remedy)
    for name in config.flow:
        for one in build_estimator(task, name, config.network).candidates():
            admit_estimator(one, shape)
    if not config.method.amortised:
        config.method.check_prior(task.prior)
    problems.check_observations(task, config.evaluate)
    if not config.scan:
        return ()
    return problems.user_scans(task, config.scan, config.reading)


def _finished(
    run: Experiment,
    results: dict[str, ModelResult],
    observed: tuple[Observation, ...],
    began: float,
) -> dict[str, Any]:
    """Keep the best model, write metrics and page, and return the metrics."""
    best = min(results, key=lambda name: results[name].validation_loss)
    own = "model" if run.config.method.amortised else model_folder(observed[0].label)
    shutil.rmtree(run.folder / "model", ignore_errors=True)
    shutil.copytree(run.folder / best / own, run.folder / "model")
    run.watch.note("report")
    metrics: dict[str, Any] = {"best_flow": best}
    for name, result in results.items():
        metrics.update(measure.flat_metrics(name, result))
    metrics["seconds"] = round(time.monotonic() - began, 1)
    write_json(run.folder / "metrics.json", metrics)
    content = ReportContent(
        title=run.task.description,
        names=run.task.prior.names,
        units=run.task.prior.units,
        facts=_facts(run, metrics["seconds"]),
        models=results,
        observations=observed,
        best=best,
        next_steps=next_steps(run, results[best]),
        derived=run.task.derived,
    )
    save_content(content, run.folder / "report.npz")
    from flowinv.report.page import write_report

    write_report(content, run.folder / "report.html")
    run.watch.close()
    return metrics


def _facts(run: Experiment, seconds: float) -> dict[str, str]:
    device, method = jax.devices()[0], run.config.method
    if not method.amortised:
        each = method.num_simulations
        simulations = f"{each:,} in each of {method.num_rounds} rounds"
    elif method.fresh:
        drawn = method.train.num_steps * method.train.rows(fresh=True)
        simulations = f"fresh at every step ({drawn:,} per model)"
    else:
        simulations = method.num_simulations
    return {
        "task": run.config.task,
        "method": run.config.to_json()["method"]["name"],
        "simulations": simulations,
        "seed": str(run.config.seed),
        "device": f"{device.platform} ({device.device_kind})",
        "time": f"{seconds:.0f} s for everything, compilation included",
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
    }
