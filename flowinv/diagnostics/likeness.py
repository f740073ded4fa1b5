"""Check: does x look like anything that was simulated?

The observation's distance to its nearest simulation, with every number of x in sds of
the simulations, is ranked among the distances from each simulation to its own nearest
one. An x that the simulator draws is one of them: the rank is uniform then, and one
right observation in 200 is called off. The same is asked of what the network is told of
x (summaries, embedding; Schmitt et al. 2021, arXiv:2112.08866), where that is there:
another one in 200. Of rounds the simulations of the last one are
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
    below,
    finite_rows,
    least_spread,
    of_answers,
    said_of_all,
)

__all__ = ["COARSE", "LIKENESS", "MOST_ROWS", "Crowd", "Likeness", "crowd", "likeness"]

LEAST_ROWS, MOST_ROWS = 200, 1_000
COARSE = 1e-4
"""Rounding of a network, of the largest spread of what it makes of x."""
P_LIMIT, FAR = 0.005, 1.5
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


class Crowd(NamedTuple):
    """Simulations, and how far each is from its nearest.

    Attributes:
        rows: in units of `scale`, `[m, L]`.
        scale: sds of the numbers of an x, `[L]`.
        nearest: distances, `[m]`.
    """

    rows: np.ndarray
    scale: np.ndarray
    nearest: np.ndarray

    def likeness(self, x: np.ndarray) -> Likeness:
        """Compare x, `[*x_shape]`, with them."""
        from scipy.spatial.distance import cdist

        own = np.asarray(x, np.float64).reshape(1, -1) / self.scale
        distance = cdist(own, self.rows).min()
        share = (1 + (self.nearest >= distance).sum()) / (len(self.rows) + 1)
        loneliest = max(self.nearest.max(), 1e-30)
        return Likeness(float(share), float(distance / loneliest))


def crowd(simulated: np.ndarray, coarse: float = 0.0) -> Crowd | None:
    """Return simulations that any number of observations are compared with.

    Args:
        simulated: `[m, *x_shape]`; rows with NaN or infinity are left out, and so are
            all beyond the first 1,000.
        coarse: numbers whose sd is less than this share of the largest count as if it
            were that: what a network makes of one x and of many differs by rounding.

    Returns:
        None for fewer than 200 rows.
    """
    from scipy.spatial.distance import cdist

    rows = finite_rows(simulated, LEAST_ROWS)
    if rows is None:
        return None
    rows = rows[:MOST_ROWS]
    scale = np.maximum(rows.std(0), least_spread(rows))
    scale = np.maximum(scale, coarse * scale.max())
    rows = rows / scale
    between = cdist(rows, rows)
    np.fill_diagonal(between, np.inf)
    return Crowd(rows, scale, between.min(0))


def likeness(
    x: np.ndarray, simulated: np.ndarray, coarse: float = 0.0
) -> Likeness | None:
    """Compare x, `[*x_shape]`, with simulations; see `crowd`."""
    known = crowd(simulated, coarse)
    return None if known is None else known.likeness(x)


def _seen(inputs: Inputs, answered: Answered) -> np.ndarray | None:
    """Simulations to compare with an answer's x; None where one is not there."""
    held_out = None if inputs.held_out is None else inputs.held_out.x
    seen = held_out if answered.seen is None else answered.seen
    return None if answered.x is None else seen


def _told(inputs: Inputs, answered: Answered) -> Likeness | None:
    """By what the network is told of x, which may be far where x itself is not."""
    if answered.context is None:
        return None
    own, seen = answered.context
    if seen is None and inputs.held_out is not None:
        seen = inputs.held_out.context
    return None if seen is None else likeness(own, seen, COARSE)


def _measure(inputs: Inputs) -> Numbers:
    def found(answered: Answered) -> Likeness | None:
        seen = _seen(inputs, answered)
        return None if seen is None else likeness(answered.x, seen)

    told = of_answers(inputs, lambda answered: _told(inputs, answered), "context")
    return {**of_answers(inputs, found, "likeness"), **told}


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    off = [
        (label, own[f"{kind}_ratio"])
        for kind in ("likeness", "context")
        for label, own in below(numbers, inputs, f"{kind}_p", P_LIMIT)
    ]
    bad = ", ".join(f"{label} ({ratio:.2g} times as far)" for label, ratio in off)
    words = (
        f"Further from every simulation than these are from each other: {bad}. "
        "The answer is a guess beyond what was learned."
    )
    far = any(ratio > FAR for _, ratio in off)
    status = "not trusted" if far else "caution"
    return said_of_all(inputs, Finding(status, words) if off else None)


LIKENESS = Check(
    name="likeness",
    asks="Does x look like anything that was simulated?",
    limit="five simulations of 1,000 as far from their nearest neighbour",
    meaning="Where it does not, no simulation says what parameters such an x has.",
    needs=lambda inputs: any(_seen(inputs, a) is not None for a in inputs.answered),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
