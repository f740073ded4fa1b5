"""Check: does the fit that people do today agree with the answer?

A least-squares fit assumes less than a simulator does. Where it lies many joint errors
away from a posterior, one of the two does not describe the scan: a knife that moved in,
another background, a dead pixel.
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
    beyond,
    of_answers,
)

__all__ = ["FITS", "MOST_ERRORS", "FitDistance", "fit_distance"]

MOST_ERRORS = 5.0
"""Joint errors between fit and posterior mean beyond which they disagree."""


class FitDistance(NamedTuple):
    """Distance of the classical fit from the posterior mean.

    Attributes:
        errors: in joint errors (posterior sd and error of the fit), `[D]`; 0 for a
            parameter that the fit does not know.
    """

    errors: np.ndarray


def fit_distance(
    draws: np.ndarray, values: np.ndarray, errors: np.ndarray
) -> FitDistance:
    """Compare a fit with posterior draws.

    Args:
        draws: of the posterior, `[n, D]`.
        values: fitted parameters, `[D]`; NaN where the fit knows none.
        errors: their standard errors, `[D]`; NaN counts as 0.
    """
    known = np.isfinite(values)
    spread = np.hypot(draws.std(0, dtype=np.float64), np.nan_to_num(errors))
    off = draws.mean(0, dtype=np.float64) - np.where(known, values, 0.0)
    distance = np.where(known, np.abs(off) / np.maximum(spread, 1e-30), 0.0)
    return FitDistance(distance)


def _measure(inputs: Inputs) -> Numbers:
    def found(answered: Answered) -> FitDistance | None:
        if answered.fit is None:
            return None
        return fit_distance(answered.draws, *answered.fit)

    return of_answers(inputs, found, "fit")


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    words = (
        "The classical fit disagrees in {}, in joint errors: one of them does not "
        "describe the scan."
    )
    far = beyond(numbers, inputs, "fit_errors", MOST_ERRORS, digits=0)
    return [Finding("caution", words.format(own)) if own else None for own in far]


FITS = Check(
    name="fits",
    asks="Does the classical fit agree with the answer?",
    limit="five joint errors",
    meaning="Where it does not, fit or simulator does not describe the scan.",
    needs=lambda inputs: any(a.fit is not None for a in inputs.answered),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
