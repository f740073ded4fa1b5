"""Check: could the answer have produced the observation?

From each of some posterior draws one x is simulated. The observation's squared distance
from their mean, in their own sds and summed over x, is ranked among the distances of
the simulated ones, each from the mean of the others. For the true model the rank is
uniform or nearer to the middle (a posterior predictive p-value: Gelman, Meng and Stern
1996, Statistica Sinica 6, 733), so that at most one right observation in 200 is called
off. The distance says how far off it is: in sds of the simulated ones.

Statistics that a reader knows (mean, width, noise of each panel) have p-values of their
own, which say what is off; all together they call off one right observation in 200
more (`flowinv.diagnostics.statistics`).
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
    labelled,
    least_spread,
    of_answers,
    said_of_all,
)
from flowinv.diagnostics.device import at_once, in_float64, of_each
from flowinv.diagnostics.statistics import StatisticP, panel_statistics, statistic_p

__all__ = ["PREDICTIVE", "Predictive", "predictive_check", "statistics_of"]

LEAST_ROWS = 20
ALONE = 1e-9  # relative; below it there is nothing but rounding
P_LIMIT, FAR = 0.005, 10.0
"""Share of simulations further out below which x is off, and sds beyond which far."""
STATISTICS_P, P_OF, SDS_OF = "statistics_p", "p_of_", "sds_of_"
"""Names of numbers: of all statistics together, and of each."""


class Predictive(NamedTuple):
    """Whether x looks like its predictions: numbers, or arrays `[S]`.

    Attributes:
        p: share of simulations at least as far out, x itself among them.
        distance: sds of the simulated distances between x's and their mean.
        worst: number in the flattened x that is furthest out.
        worst_sds: by how many predictive sds, with its sign.
    """

    p: float | np.ndarray
    distance: float | np.ndarray
    worst: int | np.ndarray
    worst_sds: float | np.ndarray


def predictive_check(
    x: ArrayLike, simulated: ArrayLike, many: bool = False
) -> Predictive | None:
    """Compare x with simulations from its posterior, on the device.

    Args:
        x: the observation, `[*x_shape]`, or `[S, *x_shape]` of many.
        simulated: one x for each posterior draw, `[m, *x_shape]`, or
            `[S, m, *x_shape]`; simulations with NaN or infinity are left out.
        many: S observations in one call.

    Returns:
        None for one observation with fewer than 20 simulations; of many those with
        fewer have NaN.

    Raises:
        ValueError: shapes that do not fit.
    """
    shape, got = np.shape(x), np.shape(simulated)
    axis = int(many)
    if len(got) != len(shape) + 1 or got[:axis] + got[axis + 1 :] != shape:
        fail("simulated", f"with an axis of simulations more than x, {shape}", got)
    if got[axis] < LEAST_ROWS and not many:
        return None
    values = np.asarray(x).reshape(*shape[:axis], -1)
    rows = np.asarray(simulated).reshape(*got[: axis + 1], -1)
    found = at_once(_compared, not many, values, rows)
    return None if not many and np.isnan(found.p) else found


@in_float64()
def _compared(values: Array, rows: Array) -> Predictive:
    """Compare x `[S, L]` with simulations `[S, m, L]`."""

    def one(values: Array, rows: Array) -> Predictive:
        right = jnp.isfinite(rows).all(-1, keepdims=True)
        rows = jnp.where(right, rows.astype(float), 0.0)
        m = right.sum()
        mean = rows.mean(0, where=right)
        variance = rows.var(0, ddof=1, where=right)
        # Of x as well: a count where all others have none is as rare in x as in them.
        floor = least_spread(jnp.concatenate([rows, values[None]])) ** 2
        off = (values - mean) / jnp.sqrt(jnp.maximum(variance, floor))
        # Mean and variance of all rows but one, in closed form.
        squares = (rows - mean) ** 2
        others = ((m - 1) * variance - squares * m / (m - 1)) / (m - 2)
        # A row that is alone with its count leaves the others none, but for rounding.
        others = jnp.where(others > ALONE * variance, others, 0.0)
        own = (squares * (m / (m - 1)) ** 2 / jnp.maximum(others, floor)).sum(-1)
        total, right = (off**2).sum(), right[:, 0]
        spread = jnp.maximum(own.std(where=right), 1e-12 * jnp.maximum(total, 1.0))
        further = (own >= (1.0 - ALONE) * total).sum(where=right)
        worst = jnp.abs(off).argmax()
        return Predictive(
            p=jnp.where(m < LEAST_ROWS, jnp.nan, (1 + further) / (m + 1)),
            distance=(total - own.mean(where=right)) / spread,
            worst=worst,
            worst_sds=off[worst],
        )

    return of_each(one, values, rows)


def _has_both(answered: Answered) -> bool:
    return answered.x is not None and answered.predictive is not None


def _measure(inputs: Inputs) -> Numbers:
    def found(answered: Answered) -> Predictive | None:
        if not _has_both(answered):
            return None
        return predictive_check(answered.x, answered.predictive)

    numbers = dict(of_answers(inputs, found, "predictive"))
    for answered in filter(_has_both, inputs.answered):
        own = statistics_of(answered)
        if own is not None:
            figures = {STATISTICS_P: own.p_all}
            names = (name.replace(" ", "_") for name in own.names)
            for name, p, sds in zip(names, own.p, own.sds, strict=True):
                figures |= {f"{P_OF}{name}": float(p), f"{SDS_OF}{name}": float(sds)}
            numbers |= labelled(answered.label, figures)
    return numbers


def statistics_of(answered: Answered) -> StatisticP | None:
    """How unusual each statistic of an answer's x is; None without predictions."""

    def taken(x: np.ndarray) -> dict[str, np.ndarray]:
        rows = np.asarray(x, np.float64).reshape(len(x), -1)
        own = {name: take(rows) for name, take in answered.statistics.items()}
        return own | panel_statistics(rows, answered.panels)

    seen = {name: value[0] for name, value in taken(answered.x[None]).items()}
    return statistic_p(seen, taken(answered.predictive))


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    off = below(numbers, inputs, "predictive_p", P_LIMIT)
    bad = [
        f"{label} (p {own['predictive_p']:.3f}, furthest out number "
        f"{int(own['predictive_worst']) + 1} of x, by "
        f"{own['predictive_worst_sds']:.1f} sd)"
        for label, own in off
    ]
    bad += [
        f"{label} ({_furthest(own)})"
        for label, own in below(numbers, inputs, STATISTICS_P, P_LIMIT)
    ]
    words = f"The answer does not explain {', '.join(bad)}: no such x was simulated."
    far = any(own["predictive_distance"] > FAR for _, own in off)
    status = "not trusted" if far else "caution"
    return said_of_all(inputs, Finding(status, words) if bad else None)


def _furthest(own: Numbers) -> str:
    """The statistic that is furthest out, in words."""
    sds = {n.removeprefix(SDS_OF): v for n, v in own.items() if n.startswith(SDS_OF)}
    worst = max(sds, key=lambda name: abs(sds[name]))
    what = worst.replace("_", " ")
    return f"p {own[STATISTICS_P]:.3f}, its {what} is {sds[worst]:+.1f} sd off"


PREDICTIVE = Check(
    name="predictive",
    asks="Could the answer have produced this x?",
    limit="no simulation of 200 further out than x, in all or in a statistic",
    meaning="Where it could not, the model does not describe x, or the answer is off.",
    needs=lambda inputs: any(map(_has_both, inputs.answered)),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
