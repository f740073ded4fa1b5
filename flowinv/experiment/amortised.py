"""One network for all observations: simulate, train, measure, for every model."""

import json
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from flowinv.data.store import num_rows, read_dataset
from flowinv.data.stream import stored_rows
from flowinv.diagnostics.calibration import calibration_curves
from flowinv.diagnostics.check import HeldOut
from flowinv.experiment import measure
from flowinv.experiment.build import build_estimator
from flowinv.experiment.experiment import Experiment
from flowinv.experiment.problem import read_model
from flowinv.experiment.score import kept, observe, read_as, score
from flowinv.files import (
    read_arrays,
    read_json,
    write_arrays,
    write_bytes,
    write_json,
)
from flowinv.models.files import save
from flowinv.models.sampled import AnyPosterior
from flowinv.report.content import Errors, ModelResult, Observation
from flowinv.training.fit import Fit
from flowinv.types import Dataset, Simulator

__all__ = ["infer_amortised"]

_HELD_OUT, _RESULT = "held_out.npz", "result.npz"
_HISTORY = ("train_loss", "validation_loss", "gradient_norm", "out_of_range", "step")


class _Trained(NamedTuple):
    """A trained model and what the report says of its training."""

    posterior: AnyPosterior
    history: dict[str, np.ndarray]
    facts: dict[str, str]
    validation_loss: float
    seconds: float = 0.0


def infer_amortised(
    run: Experiment, scans: tuple[Observation, ...]
) -> tuple[dict[str, ModelResult], tuple[Observation, ...]]:
    """Train and measure every model; each is saved in its own folder.

    Returns:
        Results by the model's name, and what was answered: the task's observations
        and the user's scans.
    """
    data, results = _data(run), {}
    observed = observe(run) + scans
    for name, flow, seed in run.config.models():
        trained = _trained(run, name, flow, seed, data)

        def find(name: str = name, trained: _Trained = trained) -> ModelResult:
            return _measured(run, name, trained, observed)

        depends = [(o.label, o.x) for o in observed]
        path = run.folder / name / _RESULT
        results[name] = kept(path, ModelResult, depends, find)
    return results, observed


def _measured(
    run: Experiment, name: str, trained: _Trained, observed: tuple[Observation, ...]
) -> ModelResult:
    """Held-out simulations and answers of a trained model, and what checks say."""
    run.watch.note("held-out simulations")
    key, task, settings = run.key("evaluate"), run.task, run.config.evaluate
    kept = run.folder / name / _HELD_OUT
    if kept.is_file():
        found = read_arrays(HeldOut, kept, "held-out results")
    else:
        found = measure.held_out(key, trained.posterior, task, settings)
        write_arrays(kept, found)
    draws = measure.sample(key, trained.posterior, observed, settings)
    keys, asked = [key] * len(observed), trained.posterior
    given = [measure.Given(own, asked if settings.thorough else None) for own in draws]
    results, answers = score(run, keys, observed, given, found)
    return ModelResult(
        history=trained.history,
        errors=Errors(found.theta, found.errors_in_sds()),
        calibration=calibration_curves(
            found.ranks, found.num_samples, found.density_ranks()
        ),
        answers=answers,
        facts=trained.facts,
        validation_loss=trained.validation_loss,
        seconds=trained.seconds,
        results=results,
    )


def _data(run: Experiment) -> Dataset | Simulator:
    """Return the simulator in fresh mode, else the stored or newly drawn fixed set."""
    method, task = run.config.method, run.task
    if method.fresh:
        return task.simulator
    store, count = run.folder / "simulations", int(method.num_simulations)
    if store.exists() and num_rows(store) >= count:
        return read_dataset(store, slice(0, count))
    problem = run.key("simulate"), task.prior, task.simulator
    with run.watch.bar("simulate", count) as bar:
        return stored_rows(store, *problem, count, lambda n, _: bar.to(n))


def _trained(
    run: Experiment, name: str, flow: str, seed: int, data: Dataset | Simulator
) -> _Trained:
    """Train one model, or read what an earlier start of this run trained."""
    folder = run.folder / name
    done = folder / "training.json"
    if done.is_file():
        history = _read_history(folder)
        posterior = read_model(folder / "model", run.task)
        return _Trained(posterior, history, **read_json(done, "training"))
    method, began = run.config.method, time.monotonic()
    # What an earlier network said is not what this one will say.
    for name_of_old in (_HELD_OUT, _RESULT):
        (folder / name_of_old).unlink(missing_ok=True)
    run.watch.note(f"{name}: compile")
    key = run.key("train")
    with run.watch.bar(f"train {name}") as bar:
        fit, posterior = method.fit(
            jax.random.fold_in(key, seed) if seed else key,
            build_estimator(run.task, flow, run.config.network),
            data,
            folder=folder / "checkpoints",
            progress=bar.training,
            should_stop=run.watch.should_stop,
        )
    save(folder / "model", posterior)
    history = _mean_history(fit)
    rows = zip(*history.values(), strict=True)
    lines = [
        json.dumps({"epoch": i + 1, **dict(zip(history, map(float, row), strict=True))})
        for i, row in enumerate(rows)
    ]
    write_bytes(folder / "history.jsonl", ("\n".join(lines) + "\n").encode())
    loss = fit.validation_loss
    seconds = time.monotonic() - began
    facts = {"x is read as": read_as(posterior), **_failures(data)}
    facts |= _facts(fit, loss, seconds)
    said = {"facts": facts, "validation_loss": loss}
    said["seconds"] = seconds
    write_json(done, said)
    return _Trained(posterior, history, **said)


def _mean_history(fit: Fit) -> dict[str, np.ndarray]:
    """Arrays over epochs; an ensemble's are averaged over its active members."""
    return {
        name: np.nanmean(fit.history[name].reshape(len(fit.history[name]), -1), 1)
        for name in _HISTORY
    }


def _failures(data: Dataset | Simulator) -> dict[str, str]:
    """Simulations that were left out, where there are any."""
    failed = int((~np.asarray(data.valid)).sum()) if isinstance(data, Dataset) else 0
    return {"failed simulations": f"{failed:,}, left out"} if failed else {}


def _facts(fit: Fit, loss: float, seconds: float) -> dict[str, str]:
    weights = sum(leaf.size for leaf in jax.tree.leaves(fit.variables.params))
    return {
        "trained numbers": f"{weights:,}",
        "training time": f"{seconds:.0f} s",
        "steps": f"{int(np.max(fit.history['step'])):,}",
        "validation loss": f"{loss:.4f}".replace("-", "−"),
        "end": fit.message,
    }


def _read_history(folder: Any) -> dict[str, np.ndarray]:
    text = (folder / "history.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return {name: np.array([line[name] for line in lines]) for name in _HISTORY}
