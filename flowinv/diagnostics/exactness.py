"""Check: is the posterior the exact one, where that is known? The worst scan decides.

C2ST, density and coverage of samples (PRDC), MMD and the first two moments of every
observation with exact draws.
"""

from collections.abc import Sequence

import numpy as np

from flowinv.diagnostics.c2st import c2st
from flowinv.diagnostics.check import (
    Answered,
    Check,
    Finding,
    Inputs,
    Numbers,
    labelled,
    of_label,
)
from flowinv.diagnostics.mmd import LARGEST, mmd_squared
from flowinv.diagnostics.prdc import prdc
from flowinv.diagnostics.widths import compare_widths

__all__ = ["EXACTNESS"]

SHIFT_LIMIT, RATIO_LIMIT = 0.3, 1.25
"""Exact sds of mean shift, and factor in sd, beyond which an answer is called off."""
FAR_SHIFT, FAR_RATIO = 1.0, 2.0
"""The same for an answer that must not be trusted."""
WORST = {"largest_mean_shift": max, "smallest_sd_ratio": min, "largest_sd_ratio": max}
"""How each of these is summed up over observations."""


def _measure(inputs: Inputs) -> Numbers:
    known = [answered for answered in inputs.answered if answered.exact is not None]
    every = {a.label: _scores(a, inputs.classifiers) for a in known}
    numbers: dict[str, float | np.ndarray] = {}
    for label, scores in every.items():
        numbers |= labelled(label, scores)
    for what, value in next(iter(every.values())).items():
        if not np.ndim(value):
            mean = np.mean([scores[what] for scores in every.values()])
            numbers[f"mean/{what}"] = float(mean)
    for what, worst in WORST.items():
        numbers[what] = worst([scores[what] for scores in every.values()])
    return numbers


def _scores(answered: Answered, classifiers: Sequence[str]) -> dict:
    count = min(len(answered.exact), len(answered.draws))
    exact, draws = answered.exact[:count], answered.draws[:count]
    scores: dict[str, float | np.ndarray] = {
        f"c2st_{name}": c2st(exact, draws, name).score for name in classifiers
    }
    neighbours = prdc(exact, draws)._asdict()
    scores |= {f"prdc_{name}": value for name, value in neighbours.items()}
    scores["mmd_squared"] = mmd_squared(exact[:LARGEST], draws[:LARGEST])
    widths = compare_widths(exact, draws)
    scores["largest_mean_shift"] = float(np.abs(widths.mean_shift).max())
    scores["smallest_sd_ratio"] = float(widths.sd_ratio.min())
    scores["largest_sd_ratio"] = float(widths.sd_ratio.max())
    return scores | widths._asdict()


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding]:
    labels = [a.label for a in inputs.answered if a.exact is not None]
    both = [of_label(numbers, label) for label in labels]
    shifts = np.array([scores["mean_shift"] for scores in both])
    ratios = np.array([scores["sd_ratio"] for scores in both])
    return [
        _words(labels, shifts[:, d], ratios[:, d]) for d in range(len(inputs.names))
    ]


def _words(labels: Sequence[str], shift: np.ndarray, ratio: np.ndarray) -> Finding:
    """Compare one parameter with the exact posteriors of all observations."""
    factor = np.exp(np.abs(np.log(np.maximum(ratio, 1e-9))))
    # How far each scan is, in units of its limit.
    off = np.maximum(np.abs(shift) / SHIFT_LIMIT, np.log(factor) / np.log(RATIO_LIMIT))
    worst = int(off.argmax())
    far = (np.abs(shift) > FAR_SHIFT) | (factor > FAR_RATIO)
    status = "trusted" if off[worst] <= 1 else "caution"
    status = "not trusted" if far.any() else status
    middle = float(np.exp(np.median(np.log(np.maximum(ratio, 1e-9)))))
    words = (
        f"Against the exact posterior of {len(labels)} observation"
        f"{'s' * (len(labels) != 1)}: typically {middle:.2f} times as wide, "
        f"shifted by {np.median(np.abs(shift)):.2f} sd"
    )
    if len(labels) > 1:
        words += (
            f"; worst in {labels[worst]}: {ratio[worst]:.2f} times, "
            f"{np.abs(shift[worst]):.2f} sd"
        )
    return Finding(status, f"{words}.")


EXACTNESS = Check(
    name="exactness",
    asks="Is it the exact posterior, where that is known?",
    limit="on every scan: mean within 0.3 exact sd, width within 25 %",
    meaning="Two-sample scores and moments; the worst scan decides, not the median.",
    needs=lambda inputs: any(a.exact is not None for a in inputs.answered),
    measure=_measure,
    judge=_judge,
)
