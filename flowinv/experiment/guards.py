"""Guards at the door of an answer: is this scan one that the network may speak of?

Each asks one question of one scan and says in a line what is off and what to do. Each
is wrong about 0 to 2 of 100 right scans (counted of 1,000: docs/guards.md).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.data.entrance import is_host
from flowinv.data.simulate import simulate
from flowinv.diagnostics.features import Features
from flowinv.diagnostics.fits import MOST_ERRORS, fit_distance
from flowinv.diagnostics.likeness import COARSE, MOST_ROWS, Crowd, crowd
from flowinv.diagnostics.mmd import mmd_test
from flowinv.diagnostics.predictive import predictive_check
from flowinv.experiment.measure import predictive, repeated
from flowinv.models.sampled import AnyPosterior
from flowinv.tasks.task import ClassicalFit, Task

__all__ = ["GUARDS", "LEAST_SCANS", "Misfit", "guard", "guard_together"]

# Of the prediction less: an answer that is a little off is no misfit of the scan.
P_LIMIT, P_PREDICTION = 0.01, 0.006
# More than half of the draws in so little of the prior: true of one right scan in a
# hundred, all parameters and both edges together.
PRESSED, LEAST_TAIL = 0.5, 0.01
GUARDS = ("inputs", "summaries", "prediction", "edges", "fit")
_SIMULATE, _PREDICT, _REPEAT = range(3)
# Scans that are looked at together, and random divisions of them.
LEAST_SCANS, NUM_PERMUTATIONS = 20, 500


class Misfit(NamedTuple):
    """What one guard says against one scan.

    Attributes:
        guard: its name.
        words: what is off, and what to do.
    """

    guard: str
    words: str


def guard(
    key: Array,
    task: Task,
    posterior: AnyPosterior,
    scans: np.ndarray,
    draws: np.ndarray,
    fits: Sequence[ClassicalFit | None],
) -> list[list[Misfit]]:
    """Ask every guard about every scan.

    Args:
        key: typed key of the simulations.
        task: whose simulator the network has learned.
        posterior: the network.
        scans: raw x, `[S, *x_shape]`.
        draws: of their posteriors, `[S, n, D]`.
        fits: their classical fits, None where the task knows none.

    Returns:
        For each scan what is off: an empty list for a right one.
    """
    summary = posterior.summary
    seeds = [jax.random.fold_in(key, stream) for stream in (_SIMULATE, _PREDICT)]
    # Without summaries: what the network makes of x itself.
    told = posterior.context if summary is None else _compiled(summary)
    same = _known(seeds[0], task, told) if task.at is None else None
    found = []
    rows = zip(scans, draws, fits, strict=True)
    for index, (x, theta, fit) in enumerate(rows):
        known = same or _known_at(seeds[0], task, x, told)
        misfits = _unlike("inputs", x, known.inputs)
        misfits += _unlike("summaries", np.asarray(told(x[None]))[0], known.summaries)
        own, x = task.of_scan(x)
        misfits += _unexplained(x, predictive(seeds[1], own, index, theta))
        misfits += _pressed(task, theta)
        if fit is not None:
            misfits += _other_fit(task, theta, fit)
        found.append(misfits)
    return found


def guard_together(
    key: Array, task: Task, scans: np.ndarray, draws: np.ndarray
) -> Misfit | None:
    """Ask whether many scans together look like what their answers predict.

    A fault too small to see in one scan shows in many. For each scan one x is simulated
    from one posterior draw; the maximum mean discrepancy of the two sets, by their
    summaries, is ranked among random divisions of both (Schmitt et al. 2021,
    arXiv:2112.08866, by the prior; the answers' own predictions need no scans that are
    drawn from it). Answers follow their scans, so that a right set is called off less
    often than once in a hundred times.

    Args:
        key: typed key of the simulations.
        task: whose simulator the network has learned.
        scans: raw x, `[S, *x_shape]`.
        draws: of their posteriors, `[S, n, D]`.

    Returns:
        None for right ones, for fewer than 20, and for scans at any positions.
    """
    if len(scans) < LEAST_SCANS or task.at is not None or is_host(task.simulator):
        return None
    key = jax.random.fold_in(key, _REPEAT)
    keys = jax.random.split(key, len(scans))
    theta = jnp.asarray(draws[:, 0], jnp.float32)
    repeated = np.asarray(jax.jit(jax.vmap(task.simulator.simulate))(keys, theta))
    summary = task.summaries.get(task.summary)
    if summary is not None:
        both = np.concatenate([scans, repeated]).astype(np.float32)
        seen = np.asarray(jax.jit(summary)(jnp.asarray(both)))
    else:
        features = Features.of(repeated)
        seen = features(np.concatenate([scans, repeated]))
    found = mmd_test(seen[len(scans) :], seen[: len(scans)], NUM_PERMUTATIONS)
    if found.p >= P_LIMIT:
        return None
    words = (
        f"together they are not what their answers predict (MMD p {found.p:.3f}): "
        "compare background, exposure and shape with the model's"
    )
    return Misfit("together", words)


class _Known(NamedTuple):
    """What right scans look like.

    Attributes:
        inputs: simulated scans.
        summaries: what the network is told of them.
    """

    inputs: Crowd | None
    summaries: Crowd | None


def _compiled(summary: Callable[[Array], Array]) -> Callable[[Any], Any]:
    return jax.jit(lambda x: summary(jnp.asarray(x, jnp.float32)))


def _known(key: Array, task: Task, told: Callable[[Any], Any]) -> _Known:
    seen = simulate(key, task.prior, task.simulator, MOST_ROWS)
    simulated = np.asarray(seen.x)[np.asarray(seen.valid)]
    return _Known(crowd(simulated), crowd(np.asarray(told(simulated)), COARSE))


def _known_at(
    key: Array, task: Task, x: np.ndarray, told: Callable[[Any], Any]
) -> _Known:
    """Right scans where the knife stood in x: positions are alike in all of them."""
    simulated = repeated(key, task, x)
    return _Known(crowd(simulated), crowd(np.asarray(told(simulated)), COARSE))


def _unlike(name: str, x: np.ndarray, known: Crowd | None) -> list[Misfit]:
    """Further from every simulation than these are from each other."""
    if known is None:
        return []
    found = known.likeness(x)
    if found.p >= P_LIMIT:
        return []
    what = "its summaries are" if name == "summaries" else "it is"
    words = (
        f"{what} {found.ratio:.2g} times as far from any simulation as the loneliest "
        f"of these is (p {found.p:.3f}): compare units, direction, background and "
        "exposure with the model's"
    )
    return [Misfit(name, words)]


def _unexplained(x: np.ndarray, simulated: np.ndarray) -> list[Misfit]:
    """Further from the answer's predictions than these are from each other."""
    found = predictive_check(x, simulated)
    if found is None or found.p >= P_PREDICTION:
        return []
    words = (
        f"the answer does not explain it (p {found.p:.3f}, furthest out number "
        f"{found.worst + 1} of x, by {found.worst_sds:.1f} sd): look at that point, "
        "and do not use the answer"
    )
    return [Misfit("prediction", words)]


def _pressed(task: Task, draws: np.ndarray) -> list[Misfit]:
    """Most of a posterior at an edge of the prior."""
    from scipy.special import ndtri

    prior = task.prior
    tail = ndtri(LEAST_TAIL / (2 * prior.dim))
    z = np.asarray(prior.to_latent(draws.astype(np.float32)))
    words = []
    for d, name in enumerate(prior.names):
        for side, edge, word in ((z, prior.low, "lower"), (-z, prior.high, "upper")):
            if (side[:, d] < tail).mean() > PRESSED and np.isfinite(edge[d]):
                unit = prior.units[d]
                words.append(f"{name} on the {word} edge, {edge[d]:.4g} {unit}".strip())
    if not words:
        return []
    text = f"the prior cuts the answer ({'; '.join(words)}): widen it, or check x"
    return [Misfit("edges", text)]


def _other_fit(task: Task, draws: np.ndarray, fit: ClassicalFit) -> list[Misfit]:
    """The fit that people do today, far from the posterior."""
    errors = fit_distance(draws, fit.values, fit.errors).errors
    if errors.max() <= MOST_ERRORS:
        return []
    worst = int(errors.argmax())
    name, unit = task.prior.names[worst], task.prior.units[worst]
    words = (
        f"the {fit.method} gives {name} {fit.values[worst]:.5g} +- "
        f"{fit.errors[worst]:.2g} {unit}, {errors[worst]:.0f} joint errors from the "
        "answer: one of them does not describe this scan"
    )
    return [Misfit("fit", words)]
