"""Do the networks of an ensemble agree? Where they do not, none has learned enough.

Networks trained alike from other starting points differ by what the simulations leave
open. Their spread is compared with the width of their posteriors.

Reference: Hermans et al. 2022, arXiv:2110.06581 (ensembles are more conservative).
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
    beyond,
    of_answers,
)
from flowinv.diagnostics.device import in_float64

__all__ = ["MEMBERS", "Disagreement", "disagreement"]

MOST_SHIFT = 0.5
"""Sds between members beyond which none of them has learned enough."""


class Disagreement(NamedTuple):
    """How far members are from each other, `[D]`, or `[S, D]` for S observations.

    Attributes:
        shift: sd of the members' means, in sds of their posteriors, `[D]`.
        ratio: largest of the members' sds over the smallest, `[D]`.
        share: of the mixture's variance that is between members, `[D]`.
    """

    shift: np.ndarray
    ratio: np.ndarray
    share: np.ndarray


def disagreement(samples: ArrayLike) -> Disagreement:
    """Compare members' draws, on the device.

    Args:
        samples: draws of each member, `[M, n, D]`, M and n at least 2, or
            `[S, M, n, D]` for S observations in one call.

    Raises:
        ValueError: another shape, or fewer.
    """
    shape = np.shape(samples)
    if len(shape) not in (3, 4) or min(shape[-3:-1]) < 2:
        fail("samples", "with shape (M, n, D), M and n at least 2", shape)
    return _compared(np.asarray(samples))


@in_float64()
def _compared(samples: Array) -> Disagreement:
    samples = samples.astype(float)
    mean, variance = samples.mean(-2), samples.var(-2, ddof=1)
    within = jnp.maximum(variance.mean(-2), 1e-300)
    # The means' own sampling noise is no disagreement.
    between = mean.var(-2, ddof=1) - within / samples.shape[-2]
    between = jnp.maximum(between, 0.0)
    sd = jnp.sqrt(jnp.maximum(variance, 1e-300))
    return Disagreement(
        shift=jnp.sqrt(between / within),
        ratio=sd.max(-2) / sd.min(-2),
        share=between / (between + within),
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
