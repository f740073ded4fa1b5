"""What is measured about a posterior: held-out simulations and known answers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import check_shape, fail, one_key
from flowinv.compiling import compiled
from flowinv.data.entrance import host_rows, is_host, rows_at_once
from flowinv.data.simulate import by_parts, simulate
from flowinv.diagnostics.check import (
    Answered,
    HeldOut,
    Inputs,
    LastRound,
    Results,
)
from flowinv.diagnostics.likeness import MOST_ROWS
from flowinv.experiment.config import EvaluateConfig
from flowinv.experiment.observed import (
    Stream,
    check_observations,
    observations,
    some,
)
from flowinv.files import settled
from flowinv.identity import by_content
from flowinv.models.posterior import Posterior
from flowinv.models.sampled import AnyPosterior, SampledPosterior
from flowinv.priors.latent import Prior
from flowinv.report.content import ModelResult, Observation
from flowinv.tasks.task import Task
from flowinv.types import Dataset, Simulator

__all__ = [
    "Given",
    "answered_rows",
    "checked",
    "diagnose",
    "flat_metrics",
    "held_out",
    "predictive",
    "repeated",
    "sample",
    "summed_up",
]

PREDICTIVE_DRAWS, MEMBER_DRAWS, LIKELIHOOD_DRAWS = 200, 1_000, 39
# Of a normal: 1 % lie below -2.326.
ONE_PERCENT = 2.326


class Ended(NamedTuple):
    """How the rounds of an observation ended.

    Attributes:
        last_round: what the last of them says of itself.
        seen: some simulations that it learned from, `[m, *x_shape]`.
    """

    last_round: LastRound | None
    seen: np.ndarray


def diagnose(
    key: Array,
    posterior: AnyPosterior,
    task: Task,
    config: EvaluateConfig | None = None,
) -> Results:
    """Measure a posterior on its task: numbers of all checks, and verdicts.

    Args:
        key: typed key.
        posterior: an amortised posterior of the task's x.
        task: simulates, and knows its fixed observations and their exact posteriors.
        config: how much is measured; `EvaluateConfig()` by default.

    Raises:
        ValueError: for an observation that the task does not have.
    """
    if not isinstance(posterior, (Posterior, SampledPosterior)):
        remedy = "Give fit.posterior."
        fail("posterior", "to be a Posterior", type(posterior).__name__, remedy)
    if not isinstance(task, Task):
        fail("task", "to be a flowinv.Task", type(task).__name__)
    key = one_key(key)
    config = settled(EvaluateConfig, config or EvaluateConfig(), "config")
    config.check()
    check_shape("x of the task", tuple(task.simulator.x_shape), posterior.x_shape)
    check_observations(task, config)
    observed = observations(key, task, config)
    found = held_out(key, posterior, task, config)
    draws = sample(key, posterior, observed, config)
    asked = posterior if config.thorough else None
    answered = [
        summed_up(key, task, index, observation, Given(own, asked))
        for index, (observation, own) in enumerate(zip(observed, draws, strict=True))
    ]
    return checked(task, config, found, answered)


def checked(
    task: Task,
    config: EvaluateConfig,
    found: HeldOut | None,
    answered: Sequence[Answered],
) -> Results:
    """Run all checks on what was simulated and answered."""
    from flowinv.diagnostics.table import run_checks

    prior = task.prior
    edges = tuple(
        tuple(f"{edge:.4g} {unit}".strip() for edge in pair)
        for *pair, unit in zip(prior.low, prior.high, prior.units, strict=True)
    )
    inputs = Inputs(
        *(prior.names, edges, found, tuple(answered)),
        classifiers=config.classifiers,
        thorough=config.thorough,
    )
    return run_checks(inputs)


def held_out(
    key: Array, posterior: AnyPosterior, task: Task, config: EvaluateConfig
) -> HeldOut:
    """New simulations of the task with draws, densities, ranks and modes."""
    own = jax.random.fold_in(key, Stream.HELD_OUT)
    data = simulate(own, task.prior, task.simulator, config.num_heldout)
    return answered_rows(key, posterior, task, data, config)


def answered_rows(
    key: Array,
    posterior: AnyPosterior,
    task: Task,
    data: Dataset,
    config: EvaluateConfig,
) -> HeldOut:
    """Known pairs of parameters and x, with draws, densities, ranks and modes."""
    from flowinv.diagnostics.sbc import sbc_ranks

    valid = np.asarray(data.valid)
    theta, x = np.asarray(data.theta)[valid], np.asarray(data.x)[valid]
    draws = posterior.sample(_own(key, Stream.DRAWS), x, config.num_samples)
    ranks = np.asarray(sbc_ranks(_own(key, Stream.TIES), theta, draws))
    # The truth beside the draws: one program for both densities.
    both = jnp.concatenate([theta[:, None], draws], 1)
    log_q = np.asarray(posterior.log_prob(both, x))
    mode = None
    if config.point_estimates:
        mode = np.asarray(posterior.map(_own(key, Stream.MAP), x))
    draws = np.asarray(draws)
    seen = x[:MOST_ROWS]
    found = HeldOut(theta, draws, log_q[:, 1:], log_q[:, 0], ranks, mode, seen)
    if not config.thorough:
        return found
    found = dataclasses.replace(found, context=np.asarray(posterior.context(seen)))
    likelihood = _likelihood(task)
    if likelihood is None:
        return found
    run = jax.jit(
        lambda rows, x: jax.lax.map(
            lambda one: jax.vmap(likelihood, (0, None))(*one), (rows, x)
        )
    )
    # Some likelihoods cost a millisecond: ranks among few draws say nearly as much.
    log_p = np.asarray(run(both[:, : 1 + LIKELIHOOD_DRAWS], jnp.asarray(x)))
    return dataclasses.replace(found, log_p=log_p[:, 1:], log_p_true=log_p[:, 0])


def _own(key: Array, stream: int) -> Array:
    return jax.random.fold_in(key, stream)


def _likelihood(task: Task) -> Any:
    """The log-likelihood of a task whose simulator knows it, else None."""
    if task.at is not None or getattr(task.simulator, "noise_free", False):
        return None
    return getattr(task.simulator, "log_prob", None)


def sample(
    key: Array,
    posterior: AnyPosterior,
    observed: Sequence[Observation],
    config: EvaluateConfig,
) -> np.ndarray:
    """Draws for each observation, `[K, n, D]`; no observation gives no draws."""
    if not observed:
        return np.zeros((0, config.num_exact, posterior.prior.dim))
    x = np.stack([observation.x for observation in observed])
    key = jax.random.fold_in(key, Stream.ANSWER)
    return np.asarray(posterior.sample(key, x, config.num_exact))


class Given(NamedTuple):
    """An answer, and where it comes from.

    Attributes:
        draws: `[n, D]`.
        posterior: that gave it, whose densities and networks are asked too; or None.
        ended: how its rounds ended, or None.
    """

    draws: np.ndarray
    posterior: AnyPosterior | None = None
    ended: Ended | None = None


def summed_up(
    key: Array, task: Task, index: int, observation: Observation, given: Given
) -> Answered:
    """What checks ask of an answer, and of the rounds that it came from.

    Args:
        key: of simulations.
        task: the problem.
        index: number of the observation, a stream of the key.
        observation: what was answered.
        given: the answer.
    """
    draws, posterior, ended = given
    fit, (own, x) = observation.fit, task.of_scan(observation.x)
    simulated = predictive(key, own, index, draws)
    if own is not task:
        # Held-out simulations are others, at other places.
        ended = Ended(None, repeated(key, task, observation.x))
    z = np.asarray(task.prior.to_latent(draws))
    tails = np.stack([(z < -ONE_PERCENT).mean(0), (z > ONE_PERCENT).mean(0)])
    return Answered(
        observation.label,
        draws,
        tails,
        observation.exact,
        x,
        simulated,
        *(ended or (None, None)),
        None if fit is None else (fit.values, fit.errors),
        *(
            _weighing(own, x, observation.x, given),
            _members(key, observation.x, posterior),
        ),
        context=_context(posterior, observation.x, ended),
        panels=_panels(own, x),
        statistics=own.statistics,
        asked=None if own is task else observation.x,
    )


def _context(
    posterior: AnyPosterior | None, x: np.ndarray, ended: Ended | None
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """What the network is told of x, and of simulations of its own."""
    if posterior is None:
        return None
    seen = None if ended is None else np.asarray(posterior.context(ended.seen))
    return np.asarray(posterior.context(x)), seen


def _panels(task: Task, x: np.ndarray) -> tuple[tuple[str, int], ...]:
    """Names and lengths of the parts of x, as they are drawn."""
    if task.layout is None:
        return ()
    rows = zip(task.layout.names, task.layout.positions, strict=True)
    panels = tuple((name, len(positions)) for name, positions in rows)
    return panels if sum(length for _, length in panels) == x.size else ()


def _weighing(
    own: Task, x: np.ndarray, asked: np.ndarray, given: Given
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Log-likelihood, log prior and log q of the draws, where the first is known."""
    likelihood = _likelihood(own)
    if given.posterior is None or likelihood is None:
        return None
    theta = jnp.asarray(given.draws, jnp.float32)
    log_p = _weigher(own.simulator)(theta, jnp.asarray(x))
    log_q = given.posterior.log_prob(theta[None], asked[None])[0]
    return np.asarray(log_p), np.asarray(own.prior.log_prob(theta)), np.asarray(log_q)


@by_content(maxsize=16)
def _weigher(simulator: Simulator) -> Any:
    """Log-likelihood of draws, `[n]`: one program for all observations."""

    def weigh(theta: Array, x: Array) -> Array:
        return jax.lax.map(lambda one: simulator.log_prob(one, x), theta)

    return jax.jit(weigh)


def _members(key: Array, x: np.ndarray, posterior: AnyPosterior | None) -> Any:
    """Draws of each network of an ensemble, `[M, n, D]`; None without one."""
    members = [] if posterior is None else posterior.members()
    if len(members) < 2:
        return None
    key = jax.random.fold_in(key, Stream.MEMBERS)
    draws = (own.sample(key, x[None], MEMBER_DRAWS)[0] for own in members)
    return np.stack([np.asarray(own) for own in draws])


def predictive(key: Array, task: Task, index: int, draws: np.ndarray) -> np.ndarray:
    """Simulate once from each of (at most 200) posterior draws of an observation."""
    theta = some(draws, PREDICTIVE_DRAWS)
    key = _own(_own(key, Stream.PREDICT), index)
    if is_host(task.simulator):
        return host_rows(task.simulator, key, theta)[0]
    keys = jax.random.split(key, len(theta))
    run = _predictor(task.simulator, rows_at_once(task.simulator, task.prior))
    return np.asarray(run(keys, theta))


def repeated(key: Array, task: Task, x: np.ndarray) -> np.ndarray:
    """Simulations of the prior where the knife stood in x, `[m, *x_shape]`, finite."""
    run = _repeater(task.again, task.prior)
    simulated = np.asarray(run(key, jnp.asarray(x)))
    return simulated[np.isfinite(simulated.reshape(len(simulated), -1)).all(-1)]


@by_content(maxsize=16)
def _repeater(again: Callable[[Array, Array, Array], Array], prior: Prior) -> Any:
    """One program for the places of every scan."""

    def run(key: Array, x: Array) -> Array:
        keys = jax.random.split(key, 1 + MOST_ROWS)
        theta = prior.sample(keys[0], MOST_ROWS)
        return jax.vmap(again, (0, 0, None))(keys[1:], theta, x)

    return jax.jit(run)


@by_content(maxsize=16)
def _predictor(simulator: Simulator, at_once: int) -> Any:
    """One program for all observations."""
    return compiled(
        lambda *rows: by_parts(lambda row: simulator.simulate(*row), rows, at_once),
        once=True,
    )


def flat_metrics(name: str, model: ModelResult) -> dict[str, Any]:
    """Every number and verdict of a model as one flat entry, for `metrics.json`."""
    flat = {f"{name}/{what}": value for what, value in model.results.flat().items()}
    if model.seconds:
        flat[f"{name}/training_seconds"] = round(model.seconds, 1)
    for label, trace in model.rounds.items():
        where = label.replace(" ", "_")
        for field in dataclasses.fields(trace):
            values = np.asarray(getattr(trace, field.name))
            if values.ndim == 1:
                for index in np.flatnonzero(np.isfinite(values)):
                    what = f"{name}/{where}/round_{index + 1}/{field.name}"
                    flat[what] = float(values[index])
    return flat
