"""Do the networks of an ensemble agree? Where they do not, none has learned enough.

Networks trained alike from other starting points differ by what the simulations leave
open. Their spread is compared with the width of their posteriors.

Reference: Hermans et al. 2022, arXiv:2110.06581 (ensembles are more conservative).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import fail
from flowinv.diagnostics.check import (
    Answered,
    Check,
    Finding,
    Inputs,
    Numbers,
    beyond,
    of_answers,
)

__all__ = ["MEMBERS", "Disagreement", "disagreement"]

MOST_SHIFT = 0.5
"""Sds between members beyond which none of them has learned enough."""


class Disagreement(NamedTuple):
    """How far members are from each other.

    Attributes:
        shift: sd of the members' means, in sds of their posteriors, `[D]`.
        ratio: largest of the members' sds over the smallest, `[D]`.
        share: of the mixture's variance that is between members, `[D]`.
    """

    shift: np.ndarray
    ratio: np.ndarray
    share: np.ndarray


def disagreement(samples: ArrayLike) -> Disagreement:
    """Compare members' draws for one observation.

    Args:
        samples: draws of each member, `[M, n, D]`, M and n at least 2.

    Raises:
        ValueError: another shape, or fewer.
    """
    samples = np.asarray(samples, np.float64)
    if samples.ndim != 3 or min(samples.shape[:2]) < 2:
        fail("samples", "with shape (M, n, D), M and n at least 2", samples.shape)
    mean, variance = samples.mean(1), samples.var(1, ddof=1)
    within = np.maximum(variance.mean(0), 1e-300)
    # The means' own sampling noise is no disagreement.
    between = np.maximum(mean.var(0, ddof=1) - within / samples.shape[1], 0.0)
    sd = np.sqrt(np.maximum(variance, 1e-300))
    return Disagreement(
        np.sqrt(between / within), sd.max(0) / sd.min(0), between / (between + within)
    )


def _measure(inputs: Inputs) -> Numbers:
    def found(answered: Answered) -> Disagreement | None:
        return None if answered.members is None else disagreement(answered.members)

    return of_answers(inputs, found, "members")


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    words = "The networks of the ensemble differ, in sds, in"
    far = beyond(numbers, inputs, "members_shift", MOST_SHIFT)
    return [Finding("caution", f"{words} {own}.") if own else None for own in far]


MEMBERS = Check(
    name="members",
    asks="Do the networks of the ensemble agree?",
    limit="0.5 sd between their means",
    meaning="Where they do not, more simulations change the answer.",
    needs=lambda inputs: any(a.members is not None for a in inputs.answered),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
