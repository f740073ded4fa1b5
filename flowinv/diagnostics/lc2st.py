"""Local classifier two-sample test: is the posterior of *this* observation right?

A classifier is trained to tell pairs (theta, x) of the simulator from pairs (draw, x)
of the posterior. Where it finds nothing, the posterior is right at every x; asked about
draws at one x alone, its probabilities say how right it is there, without any exact
posterior. The same classifier trained with labels at random says what it would find by
chance.

Reference: Linhart et al. 2023, arXiv:2306.03580.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_last_axis, check_shape, fail
from flowinv.diagnostics.arrays import matrix
from flowinv.diagnostics.check import (
    Answered,
    Check,
    Finding,
    Inputs,
    Numbers,
    below,
    labelled,
    said_of_all,
)
from flowinv.diagnostics.classifier import Split, log_odds, train_classifiers
from flowinv.diagnostics.features import Features

__all__ = ["LC2ST", "LOCAL", "Places", "lc2st", "lc2st_statistic"]

LEAST_ROWS = 100
P_LIMIT = 0.01


class LC2ST(NamedTuple):
    """Result of a local classifier two-sample test.

    Attributes:
        statistic: mean squared distance of the probabilities from 1/2 at each
            observation, `[K]`: 0 for a posterior that nothing is found against, 1/4 at
            most.
        p: share of classifiers with random labels that find as much, `[K]`.
        null: their statistics, `[num_null, K]`.
    """

    statistic: np.ndarray
    p: np.ndarray
    null: np.ndarray


class Places(NamedTuple):
    """Where a posterior is tested.

    Attributes:
        x: the observations, or summaries of them, `[K, F]`.
        samples: posterior draws of each, `[K, n, D]`.
    """

    x: ArrayLike
    samples: ArrayLike


def lc2st_statistic(probabilities: ArrayLike) -> np.ndarray:
    """Mean of (p - 1/2)^2 over the last axis."""
    return ((np.asarray(probabilities, np.float64) - 0.5) ** 2).mean(-1)


def lc2st(
    key: Array,
    theta: ArrayLike,
    x: ArrayLike,
    samples: ArrayLike,
    places: Places,
    num_null: int = 100,
) -> LC2ST:
    """Test a posterior at single observations.

    Args:
        key: typed key.
        theta: true parameters of simulations, `[S, D]`.
        x: what was simulated, or summaries of it, `[S, F]`.
        samples: one posterior draw for each of them, `[S, D]`.
        places: the observations, and draws of their posteriors.
        num_null: classifiers with random labels.

    Raises:
        ValueError: shapes that do not fit, non-finite numbers, or fewer than 100
            simulations.
    """
    theta, x = matrix("theta", theta), matrix("x", x)
    samples, x_obs = matrix("samples", samples), matrix("x of places", places.x)
    check_shape("samples", samples.shape, theta.shape)
    check_at_least("number of simulations", len(theta), LEAST_ROWS)
    check_at_least("num_null", num_null, 1)
    if len(x) != len(theta):
        fail("x", f"with {len(theta)} rows", len(x))
    check_last_axis("x of places", x_obs.shape, x.shape[1])
    draws = np.asarray(places.samples, np.float64)
    if draws.ndim != 3 or len(draws) != len(x_obs) or draws.shape[2] != theta.shape[1]:
        expected = f"with shape ({len(x_obs)}, n, {theta.shape[1]})"
        fail("samples of places", expected, draws.shape)
    pairs = np.concatenate([np.c_[samples, x], np.c_[theta, x]])
    shift, scale = pairs.mean(0), pairs.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    labels = np.repeat([0.0, 1.0], len(theta))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    null = np.stack([rng.permutation(labels) for _ in range(num_null)])
    rows = np.stack([rng.permutation(len(labels)) for _ in range(1 + num_null)])
    classifiers = train_classifiers(
        key,
        (pairs - shift) / scale,
        np.concatenate([labels[None], null]),
        Split.of(rows),
    )
    found = []
    for own, at in zip(draws, x_obs, strict=True):
        asked = np.concatenate([own, np.broadcast_to(at, (len(own), len(at)))], 1)
        odds = log_odds(classifiers, jnp.asarray((asked - shift) / scale, jnp.float32))
        found.append(lc2st_statistic(jax.nn.sigmoid(odds)))
    both = np.stack(found, -1)
    p = (1 + (both[1:] >= both[0]).sum(0)) / (num_null + 1)
    return LC2ST(both[0], p, both[1:])


def _asked(inputs: Inputs) -> list[Answered]:
    """Answers whose x is comparable with the held-out ones."""
    found = inputs.held_out
    if not inputs.thorough or found is None or found.x is None:
        return []
    if len(found.x) < LEAST_ROWS:
        return []
    shape = found.x.shape[1:]
    return [a for a in inputs.answered if np.shape(a.x) == shape]


def _measure(inputs: Inputs) -> Numbers:
    answered, found = _asked(inputs), inputs.held_out
    rows = len(found.x)
    features = Features.of(found.x)
    least = min(len(a.draws) for a in answered)
    tested = lc2st(
        jax.random.key(0),
        found.theta[:rows],
        features(found.x),
        found.draws[:rows, 0],
        Places(
            features(np.stack([a.x for a in answered])),
            np.stack([a.draws[:least] for a in answered]),
        ),
    )
    numbers: dict[str, float | np.ndarray] = {}
    for index, own in enumerate(answered):
        figures = {"lc2st_p": tested.p[index], "lc2st": tested.statistic[index]}
        numbers |= labelled(own.label, {k: float(v) for k, v in figures.items()})
    return numbers


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    # The least p of 100 classifiers, for each observation: one right answer in 101.
    bad = [own.label for own in below(numbers, inputs, "lc2st_p", P_LIMIT)]
    words = f"A classifier tells the answer to {', '.join(bad)} from right ones."
    return said_of_all(inputs, Finding("caution", words) if bad else None)


LOCAL = Check(
    name="local",
    asks="Is the answer to this very x right?",
    limit="fewer than one of 100 classifiers with random labels finds as much",
    meaning="Calibration is an average over x; this looks at one.",
    needs=lambda inputs: bool(_asked(inputs)),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
