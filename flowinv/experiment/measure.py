"""What is measured about a posterior: held-out simulations and known answers."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from flowinv.checks import check_shape, fail
from flowinv.data.scans import read_scans
from flowinv.data.simulate import simulate
from flowinv.experiment.config import EvaluateConfig
from flowinv.experiment.experiment import Experiment
from flowinv.models.posterior import Posterior
from flowinv.report.content import (
    Answer,
    Calibration,
    Estimates,
    ModelResult,
    Observation,
)
from flowinv.tasks.task import ClassicalFit, Task

__all__ = [
    "answer",
    "check_observations",
    "flat_metrics",
    "held_out",
    "observations",
    "parse_indices",
    "predictive",
    "user_scans",
]

PREDICTIVE_DRAWS = 200
# Streams of the evaluation key.
_HELD, _DRAWS, _TIES, _MAP, _EXACT, _ANSWER, _PREDICT = range(7)


def parse_indices(text: str, most: int) -> tuple[int, ...]:
    """Return the numbers that "1-3,7" means, each from 1 to `most`.

    Raises:
        ValueError: for anything else.
    """
    numbers: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            fail("observations", 'like "1-3,7"', repr(text))
        numbers += range(int(first), int(last) + 1)
    bad = [number for number in numbers if not 1 <= number <= most]
    if bad:
        fail("observations", f"from 1 to {most}", bad[0])
    return tuple(dict.fromkeys(numbers))


def check_observations(task: Task, config: EvaluateConfig) -> None:
    """Raise one line for an index out of range or a reference file that does not fit.

    Raises:
        ValueError: what, expected, got.
    """
    for index in parse_indices(config.observations, task.num_observations):
        if config.references:
            _from_file(task, Path(config.references), index)


def held_out(
    key: Array, posterior: Posterior, task: Task, config: EvaluateConfig
) -> tuple[Estimates, Calibration]:
    """Estimates and SBC ranks on new simulations of the task."""
    from flowinv.diagnostics.sbc import sbc_ranks

    keys = [jax.random.fold_in(key, stream) for stream in range(4)]
    data = simulate(keys[_HELD], task.prior, task.simulator, config.num_heldout)
    valid = np.asarray(data.valid)
    theta, x = np.asarray(data.theta)[valid], np.asarray(data.x)[valid]
    draws = posterior.sample(keys[_DRAWS], x, config.num_samples)
    ranks = np.asarray(sbc_ranks(keys[_TIES], theta, draws))
    draws = np.asarray(draws)
    highest = None
    if config.point_estimates:
        highest = np.asarray(posterior.map(keys[_MAP], x))
    estimates = Estimates(theta, draws.mean(1), np.median(draws, 1), highest)
    return estimates, Calibration(ranks, config.num_samples)


def observations(run: Experiment) -> tuple[Observation, ...]:
    """Fixed observations with truth, exact draws where known and classical fit.

    Raises:
        ValueError: for an index out of range, or a reference file that does not fit.
    """
    run.watch.note("exact posteriors of the observations")
    key, task, config = run.key("observe"), run.task, run.config.evaluate
    found = []
    for index in parse_indices(config.observations, task.num_observations):
        if config.references:
            x, theta, exact = _from_file(task, Path(config.references), index)
            if exact is not None:
                exact = _some(exact, config.num_exact)
        else:
            x, theta = task.observation(index)
            own = jax.random.fold_in(jax.random.fold_in(key, _EXACT), index)
            exact = task.reference(index, config.num_exact, own)
        exact = None if exact is None else np.asarray(exact)
        label = f"observation {index}"
        found.append(Observation(label, x, theta, exact, _fit(task, x)))
    return tuple(found)


def _from_file(
    task: Task, folder: Path, index: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    path = folder / f"obs_{index}.npz"
    x = read_scans(path, task.simulator.x_shape)[0]
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    theta, exact = arrays.get("true_parameters"), arrays.get("reference_samples")
    if theta is not None:
        theta = theta.reshape(-1).astype(np.float32)
        check_shape(f"true_parameters of {path}", theta.shape, (task.prior.dim,))
    if exact is not None:
        expected = (*exact.shape[:1], task.prior.dim)
        check_shape(f"reference_samples of {path}", exact.shape, expected)
    return x, theta, exact


def _some(draws: np.ndarray, count: int) -> np.ndarray:
    """Evenly spaced rows: reference draws are not always in random order."""
    if len(draws) <= count:
        return draws
    return draws[np.linspace(0, len(draws) - 1, count).astype(int)]


def user_scans(task: Task, path: str | Path) -> tuple[Observation, ...]:
    """Scans of a file as observations without truth."""
    counts = task.input_scaling == "root"
    scans = read_scans(path, task.simulator.x_shape, counts=counts)
    name = Path(path).name
    return tuple(
        Observation(
            name if len(scans) == 1 else f"{name} #{number + 1}",
            scan,
            fit=_fit(task, scan),
        )
        for number, scan in enumerate(scans)
    )


def _fit(task: Task, x: np.ndarray) -> ClassicalFit | None:
    return None if task.classical is None else task.classical(x)


def predictive(key: Array, task: Task, draws: np.ndarray) -> np.ndarray:
    """Simulate once from each of (at most 200) posterior draws."""
    theta = _some(draws, PREDICTIVE_DRAWS)
    keys = jax.random.split(key, len(theta))
    return np.asarray(jax.jit(jax.vmap(task.simulator.simulate))(keys, theta))


def answer(
    run: Experiment,
    key: Array,
    posterior: Posterior,
    observed: Sequence[Observation],
) -> dict[str, Answer]:
    """What a posterior says about each observation, scored where the exact is known."""
    if not observed:
        return {}
    settings = run.config.evaluate
    x = np.stack([observation.x for observation in observed])
    key_draws = jax.random.fold_in(key, _ANSWER)
    drawn = np.asarray(posterior.sample(key_draws, x, settings.num_exact))
    answers = {}
    with run.watch.bar("score", len(observed)) as bar:
        for index, (observation, draws) in enumerate(zip(observed, drawn, strict=True)):
            bar.step(observation.label)
            own = jax.random.fold_in(jax.random.fold_in(key, _PREDICT), index)
            scores: dict[str, Any] = {}
            if observation.exact is not None:
                scores = _scores(observation.exact, draws, settings.classifiers)
            simulated = predictive(own, run.task, draws)
            answers[observation.label] = Answer(draws, simulated, scores)
    return answers


def _scores(
    exact: np.ndarray, draws: np.ndarray, classifiers: Sequence[str]
) -> dict[str, Any]:
    from flowinv.diagnostics.c2st import c2st
    from flowinv.diagnostics.prdc import prdc
    from flowinv.diagnostics.widths import compare_widths

    count = min(len(exact), len(draws))
    exact, draws = exact[:count], draws[:count]
    scores: dict[str, Any] = {
        f"c2st_{name}": c2st(exact, draws, name).score for name in classifiers
    }
    scores.update(prdc(exact, draws)._asdict())
    scores.update(compare_widths(exact, draws)._asdict())
    return scores


def flat_metrics(name: str, names: Sequence[str], model: ModelResult) -> dict[str, Any]:
    """Every number of a model as one flat entry, for `metrics.json`."""
    from flowinv.diagnostics.coverage import interval_coverage
    from flowinv.diagnostics.estimates import estimate_errors
    from flowinv.diagnostics.sbc import rank_test

    flat: dict[str, Any] = {}

    def per_parameter(prefix: str, values: np.ndarray) -> None:
        for parameter, value in zip(names, values, strict=True):
            flat[f"{name}/{prefix}/{parameter}"] = float(value)

    if model.estimates is not None:
        for kind, values in model.estimates.named().items():
            errors = estimate_errors(model.estimates.truth, values)
            for what, numbers in errors._asdict().items():
                per_parameter(f"{what}/{kind}", numbers)
    if model.calibration is not None:
        ranks, count = model.calibration.ranks, model.calibration.num_samples
        test = rank_test(ranks, count)
        per_parameter("sbc_chi2_p", test.chi2_p)
        per_parameter("sbc_chi2_p_holm", test.chi2_p_holm)
        per_parameter("sbc_ks_p", test.ks_p)
        covered = interval_coverage(ranks, count)
        for level, share, z in zip(
            covered.levels, covered.observed, covered.z_score, strict=True
        ):
            per_parameter(f"coverage_{round(100 * level)}", share)
            per_parameter(f"coverage_{round(100 * level)}_z", z)
    for label, given in model.answers.items():
        where = label.replace(" ", "_")
        for what, value in given.metrics.items():
            if np.ndim(value):
                per_parameter(f"{where}/{what}", value)
            else:
                flat[f"{name}/{where}/{what}"] = float(value)
    for label, trace in model.rounds.items():
        where = label.replace(" ", "_")
        for field in dataclasses.fields(trace):
            values = np.asarray(getattr(trace, field.name))
            if values.ndim == 1 and np.isfinite(values).all():
                for index, value in enumerate(values):
                    flat[f"{name}/{where}/round_{index + 1}/{field.name}"] = float(
                        value
                    )
    _add_means(name, model, flat)
    return json.loads(json.dumps(flat))


def _add_means(name: str, model: ModelResult, flat: dict[str, Any]) -> None:
    """Means over the scored observations, and the worst moments among them."""
    scored = [given.metrics for given in model.answers.values() if given.metrics]
    if not scored:
        return
    for what, value in scored[0].items():
        values = np.array([metrics[what] for metrics in scored])
        if np.ndim(value) == 0:
            flat[f"{name}/mean/{what}"] = float(values.mean())
    shifts = np.abs([metrics["mean_shift"] for metrics in scored])
    ratios = np.array([metrics["sd_ratio"] for metrics in scored])
    flat[f"{name}/largest_mean_shift"] = float(shifts.max())
    flat[f"{name}/smallest_sd_ratio"] = float(ratios.min())
    flat[f"{name}/largest_sd_ratio"] = float(ratios.max())
