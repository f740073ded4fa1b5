"""Judge each parameter in words, from calibration and from the exact posteriors."""

from typing import NamedTuple

import numpy as np

from flowinv.diagnostics.coverage import IntervalCoverage, interval_coverage
from flowinv.diagnostics.sbc import SBC, rank_test
from flowinv.report.content import Calibration, ModelResult, ReportContent
from flowinv.report.tables import p_value

__all__ = ["Verdict", "interval_levels", "verdicts"]

ALPHA = 0.01
"""Holm-corrected chi2 p below which SBC calls a parameter miscalibrated."""
Z_LIMIT = 3.0
"""Binomial sds beyond which a deviation of coverage is no accident (p = 0.0027)."""
SHIFT_LIMIT, RATIO_LIMIT = 0.3, 1.25
"""Exact sds of mean shift, and factor in sd, beyond which an answer is called off."""
LEVELS = (0.5, 0.9, 0.95)


class Verdict(NamedTuple):
    """What can be said about one parameter of one model.

    Attributes:
        parameter: its name.
        status: "trusted", "caution" or "not trusted"; "unchecked" without any test.
        words: the reasons, one or two sentences.
    """

    parameter: str
    status: str
    words: str


def verdicts(content: ReportContent, model: ModelResult) -> list[Verdict]:
    """Return one verdict per parameter, in the order of the parameters.

    Trusted: SBC passes and every interval holds as often as promised (and, where an
    exact posterior exists, shifts and widths agree with it on average). Caution: too
    wide, or off the exact posterior though calibrated. Not trusted: SBC or an interval
    fails in any other way.
    """
    shifts, ratios = _against_exact(model, len(content.names))
    result, coverage = _tests(model.calibration)
    judged = []
    for d, name in enumerate(content.names):
        status, words = "unchecked", []
        if result is not None:
            status, sentence = _calibration_words(result, coverage, d)
            words.append(sentence)
        if len(shifts):
            agrees, sentence = _exact_words(shifts[:, d], ratios[:, d])
            words.append(sentence)
            if status != "not trusted":
                status = "caution" if not agrees or status == "caution" else "trusted"
        words = words or ["Nothing was measured that could judge it."]
        judged.append(Verdict(name, status, " ".join(words)))
    return judged


def interval_levels(num_samples: int) -> tuple[float, ...]:
    """Return those of 50, 90 and 95 % that `num_samples` ranked draws come near.

    Near means that the interval they allow misses at most half as many truths more or
    less than promised.
    """
    num_values = num_samples + 1
    cuts = {level: round((1 - level) / 2 * num_values) for level in LEVELS}
    return tuple(
        level
        for level, cut in cuts.items()
        if cut and abs(1 - 2 * cut / num_values - level) <= (1 - level) / 2
    )


def _tests(calibration: Calibration | None) -> tuple[SBC, IntervalCoverage] | tuple:
    """Run SBC and coverage on the ranks, or return (None, None)."""
    if calibration is None:
        return None, None
    ranks, num_samples = calibration.ranks, calibration.num_samples
    levels = interval_levels(num_samples)
    coverage = interval_coverage(ranks, num_samples, levels) if levels else None
    return rank_test(ranks, num_samples), coverage


def _calibration_words(
    result: SBC, coverage: IntervalCoverage | None, d: int
) -> tuple[str, str]:
    """Say how ranks and intervals of parameter `d` deviate, if they do."""
    p = p_value(result.chi2_p_holm[d])
    p = f"SBC p {p}" if p.startswith("<") else f"SBC p = {p}"
    if coverage is None:
        z, seen = np.zeros(1), ""
    else:
        z = coverage.z_score[:, d]
        worst = int(np.abs(z).argmax())
        seen = (
            f"the {100 * coverage.nominal[worst]:.0f} % interval holds the truth "
            f"{100 * coverage.observed[worst, d]:.1f} % of the time"
        )
    relative = result.ranks[:, d] / result.num_samples
    lean = (relative.mean() - 0.5) * np.sqrt(12 * len(relative))
    passes = result.chi2_p_holm[d] > ALPHA
    if z.min() < -Z_LIMIT:
        return "not trusted", f"Too narrow: {seen} ({p})."
    if abs(lean) > Z_LIMIT and not passes:
        side = "low" if lean > 0 else "high"
        return "not trusted", f"Biased: the posterior lies too {side} ({p})."
    if z.max() > Z_LIMIT:
        return "caution", f"Too wide, on the safe side: {seen} ({p})."
    if not passes:
        return "not trusted", f"Misshapen: ranks are not uniform ({p})."
    return "trusted", f"Calibrated: {seen or 'ranks are uniform'} ({p})."


def _against_exact(model: ModelResult, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Collect mean shifts and sd ratios over observations, each `[K, D]`."""
    both = [
        (answer.metrics["mean_shift"], answer.metrics["sd_ratio"])
        for answer in model.answers.values()
        if {"mean_shift", "sd_ratio"} <= set(answer.metrics)
    ]
    pairs = np.asarray(both, float).reshape(len(both), 2, dim)
    return pairs[:, 0], pairs[:, 1]


def _exact_words(shift: np.ndarray, ratio: np.ndarray) -> tuple[bool, str]:
    """Compare one parameter with the exact posteriors of all observations."""
    typical_shift = float(np.median(np.abs(shift)))
    typical_ratio = float(np.exp(np.median(np.log(np.maximum(ratio, 1e-9)))))
    agrees = (
        typical_shift <= SHIFT_LIMIT and 1 / RATIO_LIMIT <= typical_ratio <= RATIO_LIMIT
    )
    return agrees, (
        f"Against the exact posterior of {len(shift)} observation"
        f"{'s' * (len(shift) != 1)}: typically {typical_ratio:.2f} times as wide, "
        f"shifted by {typical_shift:.2f} sd (at most {np.abs(shift).max():.2f})."
    )
