"""Importance check: how far a posterior is from the exact one, by its own likelihood.

Where the likelihood is known up to a constant, every draw has a weight

    w = p(x | theta) p(theta) / q(theta | x),

equal for all draws of the exact posterior. The weights say how efficient the draws are,
whether they may be corrected at all (the tail index k of Pareto-smoothed weights), what
the evidence is, and they turn draws into exact ones.

References: Vehtari et al. 2015, arXiv:1507.02646 (PSIS, k-hat); Zhang & Stephens 2009,
doi:10.1198/tech.2009.08017 (fit of the generalised Pareto distribution); Dax et al.
2022, arXiv:2210.05686 (neural importance sampling).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_shape, fail
from flowinv.diagnostics.check import (
    Answered,
    Check,
    Finding,
    Inputs,
    Numbers,
    labelled,
    of_label,
    said_of_all,
)

__all__ = ["WEIGHTS", "Importance", "corrected", "importance", "pareto_tail"]

LEAST_DRAWS = 50
GOOD_K = 0.7
"""Above it weights have no mean that any number of draws finds."""
LEAST_EFFICIENCY = 0.5
"""Of an answer that passes: half as wide or twice as wide ones have less."""


class Importance(NamedTuple):
    """What weights say of draws.

    Attributes:
        log_weights: smoothed, with a mean weight of 1, `[n]`.
        efficiency: effective share of the draws, (sum w)^2 / (n sum w^2).
        k: tail index; below 0.5 good, above 0.7 weights cannot correct the draws.
        log_evidence: log of the mean raw weight.
        log_evidence_error: its standard error.
    """

    log_weights: np.ndarray
    efficiency: float
    k: float
    log_evidence: float
    log_evidence_error: float


def importance(
    log_likelihood: ArrayLike, log_prior: ArrayLike, log_q: ArrayLike
) -> Importance:
    """Weigh posterior draws.

    Args:
        log_likelihood: log p(x | theta) of each draw, up to a constant (which the
            evidence then has too), `[n]`.
        log_prior: log density of the prior, `[n]`.
        log_q: log density of the posterior that was drawn from, `[n]`.

    Raises:
        ValueError: shapes that do not fit, NaN, or fewer than 50 draws. Draws that the
            likelihood or the prior excludes (-inf) are right: they weigh nothing.
    """
    given = [np.asarray(a, np.float64) for a in (log_likelihood, log_prior, log_q)]
    if given[0].ndim != 1:
        fail("log_likelihood", "with shape (n,)", given[0].shape)
    for name, array in zip(("log_prior", "log_q"), given[1:], strict=True):
        check_shape(name, array.shape, given[0].shape)
    check_at_least("number of draws", len(given[0]), LEAST_DRAWS)
    raw = given[0] + given[1] - given[2]
    if np.isnan(raw).any() or not np.isfinite(raw).any() or (raw == np.inf).any():
        fail("weights", "to be numbers, not all zero", "NaN, infinity or zeros")
    top = raw.max()
    weights = np.exp(raw - top)
    mean = weights.mean()
    evidence = float(np.log(mean) + top)
    error = float(weights.std(ddof=1) / (mean * np.sqrt(len(raw))))
    smooth, k = _smoothed(weights)
    share = smooth / smooth.mean()
    with np.errstate(divide="ignore"):
        log_weights = np.log(share)
    efficiency = float(share.sum() ** 2 / (len(share) * (share**2).sum()))
    return Importance(log_weights, efficiency, k, evidence, error)


def corrected(samples: ArrayLike, found: Importance, seed: int = 0) -> np.ndarray:
    """Draws of the exact posterior: `samples` `[n, D]`, taken again by their weights.

    As many as the weights are worth (n times the efficiency), drawn without
    replacement, so that none is there twice.

    Raises:
        ValueError: weights that cannot correct the draws (k above 0.7).
    """
    samples = np.asarray(samples)
    check_shape("samples", samples.shape[:1], found.log_weights.shape)
    if found.k > GOOD_K:
        remedy = "Train with more simulations, or run rounds for this x."
        fail("tail index k", f"of at most {GOOD_K}", f"{found.k:.2f}", remedy)
    rng = np.random.default_rng(seed)
    count = max(1, int(found.efficiency * len(samples) / 2))
    # The largest of log w plus Gumbel noise: a draw without replacement.
    score = found.log_weights + rng.gumbel(size=len(samples))
    return samples[np.argsort(-score)[:count]]


def pareto_tail(excess: ArrayLike) -> tuple[float, float]:
    """Fit a generalised Pareto distribution: its shape k and scale.

    Args:
        excess: numbers above a threshold, minus it, `[m]`, m at least 5.

    The posterior mean of Zhang and Stephens, with the weak prior of PSIS that pulls k
    to 1/2 by as much as ten numbers would.
    """
    x = np.sort(np.asarray(excess, np.float64))
    m = len(x)
    check_at_least("numbers above the threshold", m, 5)
    points = 30 + int(np.sqrt(m))
    index = np.arange(1, points + 1)
    quarter = x[max(int(m / 4 + 0.5) - 1, 0)]
    theta = 1 / x[-1] + (1 - np.sqrt(points / (index - 0.5))) / (3 * quarter)
    shape = np.log1p(-theta[:, None] * x).mean(1)
    log_like = m * (np.log(-theta / shape) - shape - 1)
    weights = np.exp(log_like - log_like.max())
    best = (theta * weights).sum() / weights.sum()
    k = np.log1p(-best * x).mean()
    scale = -k / best
    return float((m * k + 10 * 0.5) / (m + 10)), float(scale)


def _smoothed(weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights whose largest are replaced by quantiles of their fitted tail, and k."""
    n = len(weights)
    size = int(min(0.2 * n, 3 * np.sqrt(n)))
    order = np.argsort(weights)
    tail = order[n - size :]
    threshold = weights[order[n - size - 1]]
    excess = weights[tail] - threshold
    if not (excess[-1] > 1e-10 * max(threshold, 1e-300) and excess[0] >= 0):
        return weights, 0.0  # all alike: nothing to smooth
    k, scale = pareto_tail(np.maximum(excess, 1e-300))
    p = (np.arange(size) + 0.5) / size
    if abs(k) < 1e-12:
        quantiles = -scale * np.log1p(-p)
    else:
        quantiles = scale / k * np.expm1(-k * np.log1p(-p))
    smooth = weights.copy()
    smooth[tail] = np.minimum(threshold + quantiles, weights.max())
    return smooth, k


def _weighed(answered: Answered) -> bool:
    return answered.weighing is not None and len(answered.draws) >= LEAST_DRAWS


def _measure(inputs: Inputs) -> Numbers:
    numbers: dict[str, float | np.ndarray] = {}
    for own in filter(_weighed, inputs.answered):
        found = importance(*own.weighing)
        figures = {
            "efficiency": found.efficiency,
            "pareto_k": found.k,
            "log_evidence": found.log_evidence,
            "log_evidence_error": found.log_evidence_error,
        }
        numbers |= labelled(own.label, figures)
    return numbers


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    off = []
    for own in filter(_weighed, inputs.answered):
        figures = of_label(numbers, own.label)
        if figures["pareto_k"] > GOOD_K or figures["efficiency"] < LEAST_EFFICIENCY:
            share = 100 * figures["efficiency"]
            off.append(f"{own.label} ({share:.0f} %, k {figures['pareto_k']:.2f})")
    words = f"By the likelihood few draws are worth their place: {', '.join(off)}."
    return said_of_all(inputs, Finding("caution", words) if off else None)


WEIGHTS = Check(
    name="importance",
    asks="Does the likelihood agree with the density of the draws?",
    limit="half of the draws effective, tail index k below 0.7",
    meaning="Where the likelihood is known, weights judge and correct the draws.",
    needs=lambda inputs: any(map(_weighed, inputs.answered)),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
