"""Check: does x look like anything that was simulated?

The observation's distance to its nearest simulation, with every number of x in sds of
the simulations, is ranked among the distances from each simulation to its own nearest
one. An x that the simulator draws is one of them: the rank is uniform then, and one
right observation in 100 is called off. Of rounds the simulations of the last one are
taken, among which a right x lies rather in the middle.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowinv.diagnostics.check import (
    Answered,
    Check,
    Finding,
    Inputs,
    Numbers,
    of_answers,
    of_label,
    said_of_all,
)

__all__ = ["LIKENESS", "MOST_ROWS", "Likeness", "likeness"]

LEAST_ROWS, MOST_ROWS = 200, 1_000
P_LIMIT, FAR = 0.01, 1.5
"""Share of simulations as lonely as x below which it is called off, and times the
distance of the loneliest simulation beyond which the answer must not be trusted."""


class Likeness(NamedTuple):
    """How far x is from all simulations.

    Attributes:
        p: share of simulations at least as far from their nearest, x itself among them.
        ratio: x's distance over that of the loneliest simulation.
    """

    p: float
    ratio: float


def likeness(x: np.ndarray, simulated: np.ndarray) -> Likeness | None:
    """Compare x with simulations.

    Args:
        x: the observation, `[*x_shape]`.
        simulated: simulations, `[m, *x_shape]`; rows with NaN or infinity are left out,
            and so are all beyond the first 1,000.

    Returns:
        None for fewer than 200 rows.
    """
    from scipy.spatial.distance import cdist

    rows = np.asarray(simulated, np.float64).reshape(len(simulated), -1)
    rows = rows[np.isfinite(rows).all(-1)][:MOST_ROWS]
    if len(rows) < LEAST_ROWS:
        return None
    # A number that hardly varies is known to its rounding.
    scale = np.maximum(rows.std(0), 1e-6 * np.abs(rows).max(0) + 1e-30)
    rows, own = rows / scale, np.asarray(x, np.float64).reshape(1, -1) / scale
    between = cdist(rows, rows)
    np.fill_diagonal(between, np.inf)
    nearest, distance = between.min(0), cdist(own, rows).min()
    share = (1 + (nearest >= distance).sum()) / (len(rows) + 1)
    return Likeness(float(share), float(distance / max(nearest.max(), 1e-30)))


def _found(inputs: Inputs, answered: Answered) -> Likeness | None:
    held_out = None if inputs.held_out is None else inputs.held_out.x
    seen = held_out if answered.seen is None else answered.seen
    if answered.x is None or seen is None:
        return None
    return likeness(answered.x, seen)


def _measure(inputs: Inputs) -> Numbers:
    return of_answers(inputs, lambda answered: _found(inputs, answered), "likeness")


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    bad, far = [], False
    for answered in inputs.answered:
        own = of_label(numbers, answered.label)
        if own and own["likeness_p"] < P_LIMIT:
            far |= own["likeness_ratio"] > FAR
            bad.append(f"{answered.label} ({own['likeness_ratio']:.2g} times as far)")
    words = (
        f"Further from every simulation than these are from each other: "
        f"{', '.join(bad)}. The answer is a guess beyond what was learned."
    )
    status = "not trusted" if far else "caution"
    return said_of_all(inputs, Finding(status, words) if bad else None)


LIKENESS = Check(
    name="likeness",
    asks="Does x look like anything that was simulated?",
    limit="one simulation of 100 as far from its nearest neighbour",
    meaning="Where it does not, no simulation says what parameters such an x has.",
    needs=lambda inputs: any(_found(inputs, a) is not None for a in inputs.answered),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
