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

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import fail
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
from flowinv.diagnostics.device import in_float64, of_each

__all__ = ["COARSE", "LIKENESS", "MOST_ROWS", "Crowd", "Likeness", "crowd", "likeness"]

LEAST_ROWS, MOST_ROWS = 200, 1_000
COARSE = 1e-4
"""Rounding of a network, of the largest spread of what it makes of x."""
P_LIMIT, FAR = 0.005, 1.5
"""Share of simulations as lonely as x below which it is called off, and times the
distance of the loneliest simulation beyond which the answer must not be trusted."""


class Likeness(NamedTuple):
    """How far x is from all simulations: numbers, or arrays `[S]`.

    Attributes:
        p: share of simulations at least as far from their nearest, x itself among them.
        ratio: x's distance over that of the loneliest simulation.
    """

    p: float | np.ndarray
    ratio: float | np.ndarray


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

    def likeness(self, x: ArrayLike, many: bool = False) -> Likeness:
        """Compare x, `[*x_shape]`, or `[S, *x_shape]` of many, with them."""
        own = np.asarray(x, np.float64).reshape(-1, len(self.scale)) / self.scale
        if len(own) != (len(x) if many else 1):
            fail("x", f"with {len(self.scale)} numbers", np.shape(x))
        # Where all simulations have the same number, another is as far as that of one
        # among them would be: a count in the dark is as rare in x as in each of them.
        first, reach = self.rows[0], np.sqrt(len(self.rows))
        same = (self.rows == first).all(0)
        own = np.where(same, np.clip(own, first - reach, first + reach), own)
        distance = _nearest(own, self.rows)
        further = (self.nearest >= distance[:, None]).sum(-1)
        share = (1 + further) / (len(self.rows) + 1)
        found = Likeness(share, distance / max(self.nearest.max(), 1e-30))
        return found if many else Likeness(*(value.item() for value in found))


@in_float64("same")
def _nearest(points: Array, rows: Array, same: bool = False) -> Array:
    """Distance of each point `[m, L]` to its nearest row, `[m]`; but for its own."""

    def one(point: Array, index: Array) -> Array:
        squared = ((point - rows) ** 2).sum(-1)
        squared = squared.at[index].set(jnp.inf) if same else squared
        return jnp.sqrt(squared.min())

    return of_each(one, points, jnp.arange(len(points)))


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
    rows = finite_rows(simulated, LEAST_ROWS)
    if rows is None:
        return None
    rows = rows[:MOST_ROWS]
    scale = np.maximum(rows.std(0), least_spread(rows))
    scale = np.maximum(scale, coarse * scale.max())
    rows = rows / scale
    return Crowd(rows, scale, _nearest(rows, rows, same=True))


def likeness(
    x: ArrayLike, simulated: np.ndarray, coarse: float = 0.0, many: bool = False
) -> Likeness | None:
    """Compare x, `[*x_shape]`, or `[S, *x_shape]` of many, with simulations.

    See `crowd`, which takes them; all on the device.
    """
    known = crowd(simulated, coarse)
    return None if known is None else known.likeness(x, many)


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
        x = answered.x if answered.asked is None else answered.asked
        return None if seen is None else likeness(x, seen)

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
