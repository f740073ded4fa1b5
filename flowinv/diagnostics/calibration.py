"""Check: are intervals true as often as they promise, and ranks uniform?

References: Talts et al. 2018, arXiv:1804.06788; Holm 1979.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from flowinv.diagnostics.bands import ecdf_difference
from flowinv.diagnostics.check import Check, Finding, Inputs, Numbers
from flowinv.diagnostics.coverage import interval_coverage
from flowinv.diagnostics.sbc import rank_test

__all__ = ["CALIBRATION", "Curves", "calibration_curves", "interval_levels"]

ALPHA = 0.01
"""Holm-corrected chi2 p below which SBC calls a parameter miscalibrated."""
Z_LIMIT = 3.0
"""Binomial sds beyond which a deviation of coverage is no accident (p = 0.0027)."""
LEVELS = (0.5, 0.9, 0.95)


@dataclass(frozen=True)
class Curves:
    """Histograms of ranks and coverage of intervals, with what right ones may be.

    Attributes:
        counts: simulations in each bar, `[B, D]`.
        expected: what they should be, `[B]`.
        band: 99 % of right bars end between these, `[2, B]`.
        promised: coverage of central intervals, `[K]`.
        covered: share of truths inside, `[K, D]`.
        sd: binomial standard deviation of `covered`, `[K]`.
        levels: of the ranks' distribution, `[E]`.
        difference: share of ranks below minus level, `[E, D + 1]`: of each parameter,
            and last of the density of all parameters together.
        whole: 95 % of right curves stay between these everywhere, `[2, E]`.
    """

    counts: np.ndarray
    expected: np.ndarray
    band: np.ndarray
    promised: np.ndarray
    covered: np.ndarray
    sd: np.ndarray
    levels: np.ndarray
    difference: np.ndarray
    whole: np.ndarray


def calibration_curves(
    ranks: ArrayLike, num_samples: int, density: ArrayLike | None = None
) -> Curves:
    """Count what the figures of calibration show.

    Args:
        ranks: ranks of the truth from `sbc_ranks`, integers `[S, D]`.
        num_samples: number of posterior draws L behind every rank, at least 3.
        density: ranks of the truth's log density among its draws', `[S]`.
    """
    from scipy import stats

    test = rank_test(ranks, num_samples)
    right = stats.binom(len(test.ranks), test.expected / len(test.ranks))
    band = np.stack([right.ppf(0.005), right.ppf(0.995)])
    steps = min(99, (num_samples - 1) // 2)
    levels = np.arange(1, steps + 1) / (steps + 1)
    found = interval_coverage(ranks, num_samples, levels)
    every = test.ranks
    if density is not None:
        every = np.concatenate([every, np.asarray(density)[:, None]], 1)
    ecdf = ecdf_difference(every, num_samples)
    return Curves(
        *(test.counts, test.expected, band),
        *(found.nominal, found.observed, found.sd),
        *(ecdf.levels, ecdf.difference, np.stack([ecdf.low, ecdf.high])),
    )


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


def _measure(inputs: Inputs) -> Numbers:
    ranks, count = inputs.held_out.ranks, inputs.held_out.num_samples
    test = rank_test(ranks, count)
    lean = (ranks / count).mean(0) - 0.5
    numbers: dict[str, float | np.ndarray] = {
        "sbc_chi2_p": test.chi2_p,
        "sbc_chi2_p_holm": test.chi2_p_holm,
        "sbc_ks_p": test.ks_p,
        # In sds of a mean of uniform ranks: above 0 the posterior lies too low.
        "sbc_lean_z": lean * np.sqrt(12 * len(ranks)),
        "num_heldout": float(len(ranks)),
        "num_draws": float(count),
    }
    if levels := interval_levels(count):
        covered = interval_coverage(ranks, count, levels)
        rows = zip(
            *(covered.levels, covered.nominal, covered.sd),
            *(covered.observed, covered.z_score),
            strict=True,
        )
        for level, nominal, sd, observed, z in rows:
            name = f"coverage_{round(100 * level)}"
            numbers |= {f"{name}_nominal": float(nominal), f"{name}_sd": float(sd)}
            numbers[name], numbers[f"{name}_z"] = observed, z
    return numbers


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding]:
    return [_words(numbers, d) for d in range(len(inputs.names))]


def _words(numbers: Numbers, d: int) -> Finding:
    """Say how ranks and intervals of parameter `d` deviate, if they do."""
    value = float(numbers["sbc_chi2_p_holm"][d])
    p = "SBC p < 0.0001" if value < 1e-4 else f"SBC p = {value:.2g}"
    levels = [round(100 * level) for level in LEVELS if _name(level) in numbers]
    z = np.array([numbers[f"coverage_{level}_z"][d] for level in levels] or [0.0])
    seen = "ranks are uniform"
    if levels:
        worst = levels[int(np.abs(z).argmax())]
        share = 100 * float(numbers[f"coverage_{worst}"][d])
        nominal = 100 * float(numbers[f"coverage_{worst}_nominal"])
        seen = f"the {nominal:.0f} % interval holds the truth {share:.1f} % of the time"
    lean, passes = float(numbers["sbc_lean_z"][d]), value > ALPHA
    if z.min() < -Z_LIMIT:
        return Finding("not trusted", f"Too narrow: {seen} ({p}).")
    if abs(lean) > Z_LIMIT and not passes:
        side = "low" if lean > 0 else "high"
        return Finding("not trusted", f"Biased: the posterior lies too {side} ({p}).")
    if z.max() > Z_LIMIT:
        return Finding("caution", f"Too wide, on the safe side: {seen} ({p}).")
    if not passes:
        return Finding("not trusted", f"Misshapen: ranks are not uniform ({p}).")
    return Finding("trusted", f"Calibrated: {seen} ({p}).")


def _name(level: float) -> str:
    return f"coverage_{round(100 * level)}"


CALIBRATION = Check(
    name="calibration",
    asks="Do intervals hold the truth as often as they promise?",
    limit="Holm-corrected SBC p above 0.01, intervals within 3 binomial sd",
    meaning="On new simulations the posterior is neither too narrow nor biased.",
    needs=lambda inputs: inputs.held_out is not None,
    measure=_measure,
    judge=_judge,
)
