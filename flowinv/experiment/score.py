"""Answers of an experiment's models, scored: what amortised and rounds share."""

from collections.abc import Sequence

import numpy as np
from jax import Array

from flowinv.diagnostics.check import HeldOut, Results
from flowinv.experiment import measure
from flowinv.experiment.experiment import Experiment
from flowinv.report.content import Answer, Observation

__all__ = ["observe", "score"]


def observe(run: Experiment) -> tuple[Observation, ...]:
    """The task's fixed observations that the config names."""
    run.watch.note("exact posteriors of the observations")
    return measure.observations(run.key("observe"), run.task, run.config.evaluate)


def score(
    run: Experiment,
    keys: Sequence[Array],
    observed: Sequence[Observation],
    draws: Sequence[np.ndarray],
    found: HeldOut | None = None,
) -> tuple[Results, dict[str, Answer]]:
    """Check one model, and put its answers together.

    Args:
        run: the experiment.
        keys: one for the predictive simulations of each observation.
        observed: the observations.
        draws: the model's draws for each, `[n, D]`.
        found: held-out simulations, if there are any.
    """
    task, answered, simulated = run.task, [], {}
    with run.watch.bar("score", len(observed)) as bar:
        rows = zip(keys, observed, draws, strict=True)
        for index, (key, observation, own) in enumerate(rows):
            bar.step(observation.label)
            answered.append(measure.summed_up(task, observation, own))
            simulated[observation.label] = measure.predictive(key, task, index, own)
    results = measure.checked(task, run.config.evaluate, found, answered)
    answers = {one.label: Answer(one.draws, simulated[one.label]) for one in answered}
    return results, answers
