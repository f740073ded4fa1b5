"""Tests of accuracy with random points: coverage of balls around any reference.

The share of posterior draws that are nearer to a reference point than the truth is
uniform for a right posterior, whatever the reference. The test is of these shares
themselves (Kolmogorov-Smirnov), one for each simulation: a test of the coverage curve
at 50 levels passes posteriors that are 40 % too narrow.

A posterior that is the prior passes with references that know nothing of x. With
references that depend on x (`references_near`) it is caught.

Reference: Lemos et al. 2023, arXiv:2302.03026.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_shape
from flowinv.diagnostics.arrays import draws_per_row, matrix
from flowinv.diagnostics.check import Check, Finding, Inputs, Numbers, said_of_all
from flowinv.diagnostics.features import Features

__all__ = [
    "BALLS",
    "TARP",
    "references_near",
    "references_uniform",
    "tarp",
    "tarp_shares",
]

LEAST_ROWS = 20
P_LIMIT = 0.001


class TARP(NamedTuple):
    """Result of the test.

    Attributes:
        shares: of draws nearer to the reference than the truth, `[S]`.
        p: of a Kolmogorov-Smirnov test that they are uniform.
        levels: promised coverage, `[K]`.
        coverage: share of simulations whose share is below, `[K]`.
        lean: mean of shares - 1/2, in its sds: below 0 where truths are nearer to the
            references than draws are, as with posteriors that are too wide.
        spread: variance of the shares over that of uniform ones: above 1 for a
            posterior that is too narrow or biased, below 1 for one too wide.
    """

    shares: np.ndarray
    p: float
    levels: np.ndarray
    coverage: np.ndarray
    lean: float
    spread: float


def tarp_shares(theta: ArrayLike, samples: ArrayLike, references: ArrayLike) -> Array:
    """Return the share of draws nearer to the reference than the truth, `[S]`.

    Args:
        theta: true parameters, `[S, D]`.
        samples: posterior draws of each simulation, `[S, n, D]`.
        references: a point for each, `[S, D]`.
    """
    draws_per_row(theta, samples)
    given = (jnp.asarray(a, jnp.float32) for a in (theta, samples, references))
    return _shares(*given)


@jax.jit
def _shares(theta: Array, samples: Array, references: Array) -> Array:
    own = ((theta - references) ** 2).sum(-1)
    theirs = ((samples - references[:, None]) ** 2).sum(-1)
    return (theirs < own[:, None]).mean(-1)


def tarp(
    key: Array,
    theta: ArrayLike,
    samples: ArrayLike,
    references: ArrayLike | None = None,
    num_levels: int = 50,
) -> TARP:
    """Test posterior draws of many simulations.

    Parameters are scaled to the range of the true ones first, so that none of them
    decides alone what is near.

    Args:
        key: typed key, of references and of ties.
        theta: true parameters, `[S, D]`.
        samples: posterior draws of each simulation, `[S, n, D]`.
        references: a point for each, `[S, D]`, that knows nothing of its theta but
            through x; None takes uniform ones.
        num_levels: levels of the curve.

    Raises:
        ValueError: shapes that do not fit, non-finite numbers, or fewer than 20 rows.
    """
    from scipy import stats

    truth = matrix("theta", theta)
    check_at_least("number of simulations", len(truth), LEAST_ROWS)
    check_at_least("num_levels", num_levels, 2)
    draws_per_row(theta, samples)
    keys = jax.random.split(key)
    if references is None:
        references = references_uniform(keys[0], truth)
    check_shape("references", np.shape(references), truth.shape)
    low = truth.min(0)
    span = np.where(np.ptp(truth, axis=0) > 0, np.ptp(truth, axis=0), 1.0)
    scaled = [(np.asarray(a) - low) / span for a in (truth, samples, references)]
    shares = np.asarray(tarp_shares(*scaled), np.float64)
    # Of n draws the share is one of n + 1 values: between them by a uniform number.
    count = np.shape(samples)[1]
    ties = np.asarray(jax.random.uniform(keys[1], shares.shape), np.float64)
    values = (shares * count + ties) / (count + 1)
    levels = np.linspace(0.0, 1.0, num_levels + 1)
    return TARP(
        shares,
        float(stats.kstest(values, "uniform").pvalue),
        levels,
        (values[:, None] <= levels).mean(0),
        float((values.mean() - 0.5) * np.sqrt(12 * len(values))),
        float(12 * ((values - 0.5) ** 2).mean()),
    )


def references_uniform(key: Array, theta: ArrayLike) -> np.ndarray:
    """Points drawn uniformly from the range of the true parameters, `[S, D]`."""
    theta = matrix("theta", theta)
    u = np.asarray(jax.random.uniform(key, theta.shape), np.float64)
    return theta.min(0) + u * np.ptp(theta, axis=0)


def references_near(key: Array, theta: ArrayLike, x: ArrayLike) -> np.ndarray:
    """Points that depend on x: where a linear regression of the others puts theta.

    Each half of the simulations is predicted by a regression of the other half, so that
    a point knows its own theta through x alone; noise of half the regression's error
    keeps it off the middle of a narrow posterior.

    Args:
        key: typed key of the noise.
        theta: true parameters, `[S, D]`.
        x: what was simulated, or summaries of it, `[S, F]`.
    """
    theta, x = matrix("theta", theta), matrix("x", x)
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0)
    half = len(x) // 2
    found = np.empty_like(theta)
    for own, other in (
        (slice(half), slice(half, None)),
        (slice(half, None), slice(half)),
    ):
        design = np.c_[np.ones(len(x[other])), x[other]]
        ridge = 1e-3 * len(design) * np.eye(design.shape[1])
        weights = np.linalg.solve(design.T @ design + ridge, design.T @ theta[other])
        error = (theta[other] - design @ weights).std(0)
        found[own] = np.c_[np.ones(len(x[own])), x[own]] @ weights
        noise = jax.random.normal(jax.random.fold_in(key, own.start or 0), theta.shape)
        found[own] += 0.5 * error * np.asarray(noise, np.float64)[own]
    return found


def _measure(inputs: Inputs) -> Numbers:
    found, key = inputs.held_out, jax.random.key(0)
    rows = len(found.x)
    theta, samples = found.theta[:rows], found.draws[:rows]
    near = references_near(key, theta, Features.of(found.x)(found.x))
    numbers: dict[str, float | np.ndarray] = {}
    for name, references in (("tarp", None), ("tarp_near", near)):
        own = tarp(key, theta, samples, references)
        numbers |= {f"{name}_p": own.p, f"{name}_lean": own.lean}
        numbers[f"{name}_spread"] = own.spread
    return numbers


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    # Two tests: Bonferroni.
    name = min(("tarp", "tarp_near"), key=lambda own: numbers[f"{own}_p"])
    p = min(1.0, 2 * numbers[f"{name}_p"])
    if p >= P_LIMIT:
        return said_of_all(inputs, None)
    where = " near where x points" if name == "tarp_near" else ""
    words = f"Balls around random points{where} hold too many or few (p = {p:.1g})."
    wide = numbers[f"{name}_spread"] < 1
    status = "caution" if wide else "not trusted"
    return said_of_all(inputs, Finding(status, words))


def _has_x(inputs: Inputs) -> bool:
    found = inputs.held_out
    return (
        found is not None
        and found.x is not None
        and len(found.x) >= LEAST_ROWS
        and bool(np.ptp(found.draws) > 0)
    )


BALLS = Check(
    name="tarp",
    asks="Are balls around random points as full as the truth says?",
    limit="KS p above 0.0005 for each of two kinds of points",
    meaning="All parameters together; points near where x points see a useless answer.",
    needs=_has_x,
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
