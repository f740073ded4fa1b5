"""Check: what does it answer? Medians, intervals and sds. Numbers without a judgement.

The exact posterior's own stand beside them where it is known.
"""

import numpy as np

from flowinv.diagnostics.check import Check, Inputs, Numbers, labelled

__all__ = ["ANSWERS", "QUANTILES", "summary"]

QUANTILES = {
    "median": 0.5,
    "low_68": 0.16,
    "high_68": 0.84,
    "low_95": 0.025,
    "high_95": 0.975,
}
"""Quantiles that are reported: the median, and ends of central intervals."""


def _measure(inputs: Inputs) -> Numbers:
    numbers: dict[str, float | np.ndarray] = {}
    for answered in inputs.answered:
        numbers |= labelled(answered.label, summary(answered.draws))
        if answered.exact is not None:
            exact = summary(answered.exact)
            exact = {f"exact_{what}": values for what, values in exact.items()}
            numbers |= labelled(answered.label, exact)
    return numbers


def summary(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Quantiles by name and `sd` of draws `[n, D]`, `[D]` each.

    In float64: float32 sums of draws that are narrow beside their mean are rounding.
    """
    ends = np.quantile(draws, list(QUANTILES.values()), axis=0)
    return {
        **dict(zip(QUANTILES, ends, strict=True)),
        "sd": draws.std(0, dtype=np.float64),
    }


ANSWERS = Check(
    name="answers",
    asks="What does it answer?",
    limit="none: these are the answers",
    meaning="Median, ends of the central 68 and 95 % intervals, standard deviation.",
    needs=lambda inputs: bool(inputs.answered),
    measure=_measure,
)
