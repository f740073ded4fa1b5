"""The sequential part of an experiment: rounds for every observation and seed."""

import time
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv import evaluate
from flowinv.build import build_estimator
from flowinv.config import NetworkConfig, RunConfig
from flowinv.posteriors.direct import Posterior
from flowinv.posteriors.model_files import save
from flowinv.report.content import ModelResult, Observation, RoundsTrace
from flowinv.sequential import APT, Rounds, Truncated, run_rounds
from flowinv.sequential.config import ROUND_TRAINING, RoundsConfig
from flowinv.sequential.state import RoundInfo
from flowinv.tasks.task import Task
from flowinv.training.config import TrainConfig
from flowinv.watch import Watch

__all__ = ["check_rounds", "infer_in_rounds", "rounds_config", "rounds_network"]

PER_ROUND = 1_000
# A round has a thousand rows and a problem of unit scale: small layers suffice.
SMALL = NetworkConfig(num_layers=5, hidden=(50, 50), head_hidden=(64, 64))


def rounds_network(config: RunConfig) -> NetworkConfig:
    """The network of a config for rounds: small, unless it says otherwise."""
    return SMALL if config.network == NetworkConfig() else config.network


def rounds_config(config: RunConfig) -> RoundsConfig:
    """The `APT` or `Truncated` that a config asks for."""
    given = config.rounds
    shared = {
        "num_rounds": given.num_rounds,
        "num_simulations": PER_ROUND if config.fresh else int(config.num_simulations),
        "train": ROUND_TRAINING if config.train == TrainConfig() else config.train,
        "warm_start": given.warm_start,
        "stop_when_converged": given.stop_when_converged,
    }
    if config.method == "tsnpe":
        return Truncated(region=given.region, margin=given.margin, **shared)
    return APT(
        num_atoms=given.num_atoms,
        combined=given.combined,
        truncated_rounds=given.truncated_rounds,
        **shared,
    )


def check_rounds(config: RunConfig) -> None:
    """Raise one line for settings that rounds cannot run with.

    Raises:
        ValueError: what, expected, got.
    """
    rounds_config(config).check()


def infer_in_rounds(
    config: RunConfig,
    task: Task,
    observed: tuple[Observation, ...],
    key: Array,
    folder: Path,
    watch: Watch,
    should_stop: Callable[[], bool] | None,
) -> tuple[dict[str, ModelResult], dict[str, Posterior]]:
    """Run the rounds of every flow; results and posteriors by the model's name.

    A model is a flow with a seed. Posteriors are saved below the model's folder, one
    for each observation.
    """
    results, posteriors = {}, {}
    for flow in config.flow:
        estimator = build_estimator(task, flow, rounds_network(config))
        for seed in range(config.rounds.seeds):
            name = flow if config.rounds.seeds == 1 else f"{flow}-seed-{seed + 1}"
            own = jax.random.fold_in(key, seed)
            began = time.monotonic()
            done = _lanes(
                config,
                estimator,
                task,
                observed,
                own,
                folder / name,
                watch,
                should_stop,
            )
            seconds = time.monotonic() - began
            results[name] = _result(config, task, observed, own, done, seconds, watch)
            for observation, posterior in zip(observed, done.posteriors, strict=True):
                save(folder / name / _file_name(observation.label), posterior)
            posteriors[name] = done.posteriors[0]
    return results, posteriors


def _file_name(label: str) -> str:
    kept = "".join(c if c.isalnum() or c in ".-" else "_" for c in label)
    return f"model-{kept}"


def _lanes(
    config: RunConfig,
    estimator: object,
    task: Task,
    observed: tuple[Observation, ...],
    key: Array,
    folder: Path,
    watch: Watch,
    should_stop: Callable[[], bool] | None,
) -> Rounds:
    """Rounds of all observations, with a bar over their rounds."""
    given, method = config.rounds, rounds_config(config)
    # One key for each observation's name: others beside it change nothing.
    keys = jnp.stack([jax.random.fold_in(key, _number(o.label)) for o in observed])
    total = method.num_rounds * len(observed)
    with watch.bar(f"rounds {folder.name}", total) as bar:

        def progress(lane: int, info: RoundInfo) -> None:
            bar.step(
                f"{observed[lane].label}: round {int(info.round) + 1}, "
                f"moved {float(info.distance):.2g} sd, "
                f"outside {100 * float(info.mass_outside):.2g} %"
            )

        return run_rounds(
            keys,
            estimator,
            task.simulator,
            np.stack([o.x for o in observed]),
            method,
            lanes_per_call=given.lanes_per_call or None,
            folder=folder / "checkpoints",
            progress=progress,
            should_stop=should_stop,
        )


def _number(label: str) -> int:
    """A 31-bit number of a label, the same in every process."""
    return zlib.crc32(label.encode()) >> 1


def _result(
    config: RunConfig,
    task: Task,
    observed: tuple[Observation, ...],
    key: Array,
    done: Rounds,
    seconds: float,
    watch: Watch,
) -> ModelResult:
    """Answers, scores and rounds of one model."""
    answers, rounds = {}, {}
    with watch.bar("score", len(observed)) as bar:
        for lane, observation in enumerate(observed):
            posterior = done.posteriors[lane]
            answers |= evaluate.answer(
                key, posterior, task, (observation,), config.evaluate, bar.step
            )
            rounds[observation.label] = _trace(config, observation, done.history[lane])
    per_round = rounds_config(config).num_simulations
    loss = np.mean([history.validation_loss[-1] for history in done.history])
    facts = {
        "rounds": ", ".join(str(len(t.distance)) for t in rounds.values()),
        "simulations": f"{per_round:,} a round",
        "time": f"{seconds:.0f} s for {len(observed)} observations",
        "validation loss": f"{loss:.4f}",
    }
    return ModelResult(answers=answers, facts=facts, rounds=rounds)


def _trace(
    config: RunConfig, observation: Observation, history: RoundInfo
) -> RoundsTrace:
    """What the report shows of the rounds of one observation."""
    count = len(history.round)
    scores = np.full(count, np.nan)
    if observation.exact is not None and "forest" in config.evaluate.classifiers:
        from flowinv.diagnostics.c2st import c2st

        exact = observation.exact
        for index, draws in enumerate(history.draws):
            size = min(len(exact), len(draws))
            scores[index] = c2st(exact[:size], draws[:size], "forest").score
    per_round = rounds_config(config).num_simulations
    return RoundsTrace(
        num_simulations=per_round * np.arange(1, count + 1),
        num_used=np.asarray(history.num_used),
        mass_outside=np.asarray(history.mass_outside),
        sample_efficiency=np.asarray(history.sample_efficiency),
        distance=np.asarray(history.distance),
        validation_loss=np.asarray(history.validation_loss),
        mean=np.asarray(history.mean),
        sd=np.asarray(history.sd),
        c2st_forest=scores,
    )
