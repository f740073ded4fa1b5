"""The sequential part of an experiment: rounds for every observation, every model."""

import itertools
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.diagnostics.check import LastRound
from flowinv.diagnostics.likeness import MOST_ROWS
from flowinv.experiment import measure
from flowinv.experiment.build import build_estimator
from flowinv.experiment.config import EvaluateConfig
from flowinv.experiment.experiment import Experiment
from flowinv.experiment.score import kept, observe, read_as, score
from flowinv.methods.registry import Method
from flowinv.models.files import save
from flowinv.report.content import ModelResult, Observation, RoundsTrace
from flowinv.sequential import Rounds, run_rounds
from flowinv.sequential.state import RoundInfo, RoundsState

__all__ = ["facts_of", "infer_in_rounds", "lane_key", "model_folder"]

# Draws that score a round.
ROUND_DRAWS = 500


def infer_in_rounds(
    run: Experiment, scans: tuple[Observation, ...]
) -> tuple[dict[str, ModelResult], tuple[Observation, ...]]:
    """Run the rounds of every model: one posterior for each observation, all saved.

    Returns:
        Results by the model's name, and what was answered: the user's scans, or the
        task's observations where there are none.
    """
    observed, results = scans or observe(run), {}
    for _, models in itertools.groupby(run.config.models(), lambda model: model[1]):
        results |= _models(run, tuple(models), observed)
    return results, observed


def _models(
    run: Experiment,
    models: tuple[tuple[str, str, int], ...],
    observed: tuple[Observation, ...],
) -> dict[str, ModelResult]:
    """Results of one flow's models: seeds and observations are lanes of one call."""
    results: dict[str, ModelResult] = {}
    root, began = run.key("train"), time.monotonic()
    done = _lanes(run, models, observed)
    seconds = time.monotonic() - began
    for number, (name, _, seed) in enumerate(models):
        own = slice(number * len(observed), (number + 1) * len(observed))
        part = Rounds(*(lanes[own] for lanes in done))
        for observation, posterior in zip(observed, part.posteriors, strict=True):
            save(run.folder / name / model_folder(observation.label), posterior)
        key = jax.random.fold_in(root, seed)

        def find(key: Array = key, part: Rounds = part) -> ModelResult:
            return _result(run, key, observed, part, seconds / len(models))

        path, depends = run.folder / name / "result.npz", [o.x for o in observed]
        results[name] = kept(path, ModelResult, depends, find)
    return results


def model_folder(label: str) -> str:
    """Folder of an observation's model, below its flow's: a label fit for files."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in label)


def _lanes(
    run: Experiment,
    models: tuple[tuple[str, str, int], ...],
    observed: tuple[Observation, ...],
) -> Rounds:
    """Rounds of all seeds and observations, with a bar over them and a line for each.

    A lane's key depends on its seed and its observation's name: others beside it change
    nothing.
    """
    method, task, root = run.config.method, run.task, run.key("train")
    (first, flow, _), *_ = models
    lanes = [
        (name, observation, jax.random.fold_in(root, seed))
        for name, _, seed in models
        for observation in observed
    ]
    with run.watch.bar(f"rounds {flow}", method.num_rounds * len(lanes)) as bar:

        def progress(lane: int, info: RoundInfo) -> None:
            name, observation, _ = lanes[lane]
            bar.say(f"{name}, {observation.label}: {_line(info, method.num_rounds)}")
            bar.step("")

        return run_rounds(
            jnp.stack([lane_key(key, own.label) for _, own, key in lanes]),
            build_estimator(task, flow, run.config.network),
            task.simulator,
            np.stack([observation.x for _, observation, _ in lanes]),
            method,
            folder=run.folder / first / "checkpoints",
            progress=progress,
            should_stop=run.watch.should_stop,
        )


def _line(info: RoundInfo, num_rounds: int) -> str:
    """What a round says of itself, in one line."""
    failed = f"{int(info.num_failed):,} failed, " * (int(info.num_failed) > 0)
    return (
        f"round {int(info.round) + 1} of {num_rounds}: {failed}"
        f"{round(float(info.num_effective)):,} effective rows, "
        f"validation loss {float(info.validation_loss):.3f}, "
        f"moved {float(info.distance):.2g} sd, "
        f"{100 * float(info.mass_outside):.2g} % outside, "
        f"waste {float(info.waste):.1f} nats"
    )


def lane_key(key: Array, label: str) -> Array:
    """The key of an observation: by its name, so that others change nothing."""
    return jax.random.fold_in(key, zlib.crc32(label.encode()) >> 1)


def _result(
    run: Experiment,
    key: Array,
    observed: tuple[Observation, ...],
    done: Rounds,
    seconds: float,
) -> ModelResult:
    """Answers, scores and rounds of one model."""
    settings = run.config.evaluate
    draws = [
        measure.sample(key, posterior, (observation,), settings)[0]
        for posterior, observation in zip(done.posteriors, observed, strict=True)
    ]
    ends = [_ended(*one) for one in zip(done.history, done.states, strict=True)]
    keys = [key] * len(observed)
    given = [
        measure.Given(own, posterior if settings.thorough else None, end)
        for own, posterior, end in zip(draws, done.posteriors, ends, strict=True)
    ]
    results, answers = score(run, keys, observed, given)
    rounds = {
        observation.label: _trace(run, observation, history)
        for observation, history in zip(observed, done.history, strict=True)
    }
    loss = float(np.mean([history.validation_loss[-1] for history in done.history]))
    counts = [len(trace.distance) for trace in rounds.values()]
    read = {"x is read as": read_as(done.posteriors[0])}
    return ModelResult(
        answers=answers,
        facts=read | facts_of(run.config.method, counts, loss, seconds),
        rounds=rounds,
        validation_loss=loss,
        seconds=seconds,
        results=results,
    )


def facts_of(
    method: Method, counts: list[int], loss: float, seconds: float
) -> dict[str, str]:
    """What the page says of rounds: how many there were of each observation, and so on.

    Args:
        method: of rounds.
        counts: rounds of each observation.
        loss: mean validation loss of the last ones.
        seconds: that all took.
    """
    many = "s" * (len(counts) != 1)
    return {
        "rounds": ", ".join(map(str, counts)),
        "simulations": f"{method.num_simulations:,} a round",
        "time": f"{seconds:.0f} s for {len(counts)} observation{many}",
        "validation loss": f"{loss:.4f}".replace("-", "−"),
    }


def _ended(history: RoundInfo, state: RoundsState) -> measure.Ended:
    """What the last round says of itself, and simulations of it."""
    figures = (float(getattr(history, name)[-1]) for name in LastRound._fields)
    number, valid = np.asarray(state.round), np.asarray(state.valid)
    rows = np.flatnonzero((number == int(state.index) - 1) & valid)[:MOST_ROWS]
    return measure.Ended(LastRound(*figures), np.asarray(state.x)[rows])


def _trace(
    run: Experiment, observation: Observation, history: RoundInfo
) -> RoundsTrace:
    """What the report shows of the rounds of one observation."""
    count = len(history.round)
    scores = _scores(run.config.evaluate, observation.exact, history.draws)
    per_round = run.config.method.num_simulations
    return RoundsTrace(
        num_simulations=per_round * np.arange(1, count + 1),
        num_failed=np.asarray(history.num_failed),
        num_used=np.asarray(history.num_used),
        num_effective=np.asarray(history.num_effective),
        mass_outside=np.asarray(history.mass_outside),
        unsimulated=np.asarray(history.unsimulated),
        sample_efficiency=np.asarray(history.sample_efficiency),
        waste=np.asarray(history.waste),
        distance=np.asarray(history.distance),
        validation_loss=np.asarray(history.validation_loss),
        mean=np.asarray(history.mean),
        sd=np.asarray(history.sd),
        c2st_forest=scores,
    )


def _scores(
    settings: EvaluateConfig, exact: np.ndarray | None, draws: np.ndarray
) -> np.ndarray:
    """C2ST by round, `[R]`, NaN for rounds without one."""
    scores = np.full(len(draws), np.nan)
    every = settings.score_rounds
    if exact is None or not every or "forest" not in settings.classifiers:
        return scores
    from flowinv.diagnostics.c2st import c2st

    size = min(ROUND_DRAWS, len(exact), draws.shape[1])
    for index in range(len(draws) - 1, -1, -every):
        scores[index] = c2st(exact[:size], draws[index, :size], "forest").score
    return scores
