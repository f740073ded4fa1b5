"""Answers of an experiment's models, scored: what amortised and rounds share."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jax import Array

import flowinv
from flowinv.checks import InputError
from flowinv.diagnostics.check import HeldOut, Results
from flowinv.experiment import measure
from flowinv.experiment import observed as problems
from flowinv.experiment.experiment import Experiment
from flowinv.files import read_arrays, write_arrays
from flowinv.identity import identity
from flowinv.models.sampled import AnyPosterior, SampledPosterior
from flowinv.report.content import Answer, Observation

__all__ = ["kept", "observe", "read_as", "score"]

_READ = {
    "none": "its own numbers",
    "root": "square roots",
    "asinh": "asinh of its numbers",
    "log": "logarithms",
}

Kind = TypeVar("Kind")


def observe(run: Experiment) -> tuple[Observation, ...]:
    """The task's fixed observations that the config names; kept, once found."""
    run.watch.note("exact posteriors of the observations")

    def found() -> _Observed:
        key, task = run.key("observe"), run.task
        return _Observed(problems.observations(key, task, run.config.evaluate))

    if run.config.evaluate.references:
        return found().observations  # files, which may be others the next time
    return kept(run.folder / "observed.npz", _Observed, (), found).observations


@dataclass(frozen=True)
class _Observed:
    observations: tuple[Observation, ...]


def kept(
    path: Path, kind: type[Kind], depends: tuple[Any, ...], find: Callable[[], Kind]
) -> Kind:
    """Return what `find` finds, from a file of an earlier start if there is one.

    Args:
        path: the file, in the folder of a run: config and task are the same.
        kind: dataclass of what is found.
        depends: what else it depends on.
        find: the long work.
    """
    mark = identity(flowinv.__version__, depends)[0]
    if path.is_file():
        with contextlib.suppress(InputError):  # of another version, or damaged
            return read_arrays(kind, path, "what was measured", mark)
    found = find()
    write_arrays(path, found, mark)
    return found


def read_as(posterior: AnyPosterior) -> str:
    """How a network reads x, which is chosen from the simulations if nobody says it."""
    own = posterior.learned if isinstance(posterior, SampledPosterior) else posterior
    words = [] if own.summary is None else ["a summary"]
    if not words or own.estimator.embedding is not None:
        words.append(f"{_READ[own.input_scaling]}, standardised")
    return " and ".join(words)


def score(
    run: Experiment,
    keys: Sequence[Array],
    observed: Sequence[Observation],
    given: Sequence[measure.Given],
    found: HeldOut | None = None,
) -> tuple[Results, dict[str, Answer]]:
    """Check one model, and put its answers together.

    Args:
        run: the experiment.
        keys: one for the predictive simulations of each observation.
        observed: the observations.
        given: the model's answer to each.
        found: held-out simulations, if there are any.
    """
    task, answered = run.task, []
    with run.watch.bar("score", len(observed)) as bar:
        rows = zip(keys, observed, given, strict=True)
        for index, (key, observation, own) in enumerate(rows):
            bar.step(observation.label)
            answered.append(measure.summed_up(key, task, index, observation, own))
    results = measure.checked(task, run.config.evaluate, found, answered)
    answers = {one.label: Answer(one.draws, one.predictive) for one in answered}
    return results, answers
