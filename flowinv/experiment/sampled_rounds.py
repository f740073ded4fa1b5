"""Rounds of likelihoods and ratios: a network for every observation, and its draws."""

import shutil
import time
from dataclasses import dataclass

import jax
import numpy as np

from flowinv.diagnostics.likeness import MOST_ROWS
from flowinv.experiment import measure
from flowinv.experiment.build import build_estimator
from flowinv.experiment.experiment import Experiment
from flowinv.experiment.problem import read_model
from flowinv.experiment.rounds import facts_of, lane_key, model_folder
from flowinv.experiment.score import kept, observe, read_as, score
from flowinv.experiment.watch import Bar
from flowinv.models.files import save
from flowinv.models.sampled import AnyPosterior
from flowinv.report.content import ModelResult, Observation

__all__ = ["infer_in_sampled_rounds"]


@dataclass(frozen=True)
class _Ended:
    """How the rounds of an observation ended.

    Attributes:
        validation_loss: of every round, `[R]`.
        seen: simulations of the last one, `[m, *x_shape]`.
        seconds: that they took.
        num_failed: simulations that failed and were left out.
    """

    validation_loss: np.ndarray
    seen: np.ndarray
    seconds: float
    num_failed: int


def infer_in_sampled_rounds(
    run: Experiment, scans: tuple[Observation, ...]
) -> tuple[dict[str, ModelResult], tuple[Observation, ...]]:
    """Run the rounds of every model: one posterior for each observation, all saved.

    What an earlier start has finished is read; an observation goes on
    with the round that it was in.

    Returns:
        Results by the model's name, and what was answered: the user's scans, or the
        task's observations where there are none.
    """
    observed, results = scans or observe(run), {}
    for model in run.config.models():
        name, flow, _ = model
        total = run.config.method.num_rounds * len(observed)
        with run.watch.bar(f"rounds {flow}", total) as bar:
            done = [_rounds(run, model, own, bar) for own in observed]

        def find(
            name: str = name, done: list[tuple[AnyPosterior, _Ended]] = done
        ) -> ModelResult:
            return _result(run, name, observed, done)

        path, depends = run.folder / name / "result.npz", [o.x for o in observed]
        results[name] = kept(path, ModelResult, depends, find)
    return results, observed


def _rounds(
    run: Experiment, model: tuple[str, str, int], observation: Observation, bar: Bar
) -> tuple[AnyPosterior, _Ended]:
    """The posterior of an observation, and how its rounds ended; kept, once found."""
    name, flow, seed = model
    folder = run.folder / name / model_folder(observation.label)
    method, label = run.config.method, f"{name}, {observation.label}"

    def progress(lane: int, index: int, loss: float) -> None:
        del lane
        number = f"round {index + 1} of {method.num_rounds}"
        bar.say(f"{label}: {number}: validation loss {loss:.3f}")
        bar.step("")

    def find() -> _Ended:
        began = time.monotonic()
        key = jax.random.fold_in(run.key("train"), seed)
        found = method.run(
            lane_key(key, observation.label)[None],
            build_estimator(run.task, flow, run.config.network),
            run.task.simulator,
            observation.x[None],
            folder=folder / "rounds",
            progress=progress,
            should_stop=run.watch.should_stop,
        )
        save(folder, found.posteriors[0])
        shutil.rmtree(folder / "rounds", ignore_errors=True)
        rows = found.rows[0]
        valid = np.asarray(rows.valid)
        last = np.asarray(rows.round) == method.num_rounds - 1
        last = np.flatnonzero(last & valid)
        seen = np.asarray(rows.x)[last[:MOST_ROWS]]
        losses = np.asarray(found.validation_loss[0])
        failed = int((~valid).sum())
        return _Ended(losses, seen, time.monotonic() - began, failed)

    folder.mkdir(parents=True, exist_ok=True)
    ended = kept(folder / "rounds.npz", _Ended, (observation.x,), find)
    return read_model(folder, run.task), ended


def _result(
    run: Experiment,
    name: str,
    observed: tuple[Observation, ...],
    done: list[tuple[AnyPosterior, _Ended]],
) -> ModelResult:
    """Answers and scores of one model."""
    settings, given = run.config.evaluate, []
    run.watch.note(f"draws of {name}")
    seeds = {own: seed for own, _, seed in run.config.models()}
    key = jax.random.fold_in(run.key("train"), seeds[name])
    for (posterior, ended), observation in zip(done, observed, strict=True):
        draws = measure.sample(key, posterior, (observation,), settings)[0]
        seen = measure.Ended(None, ended.seen)
        asked = posterior if settings.thorough else None
        given.append(measure.Given(draws, asked, seen))
    results, answers = score(run, [key] * len(observed), observed, given)
    losses = [ended.validation_loss for _, ended in done]
    seconds = sum(ended.seconds for _, ended in done)
    loss = float(np.mean([own[-1] for own in losses]))
    counts = [len(own) for own in losses]
    read = {"x is read as": read_as(done[0][0])}
    failed = sum(ended.num_failed for _, ended in done)
    if failed:
        read["failed simulations"] = f"{failed:,}, left out"
    return ModelResult(
        answers=answers,
        facts=read | facts_of(run.config.method, counts, loss, seconds),
        validation_loss=loss,
        seconds=seconds,
        results=results,
    )
