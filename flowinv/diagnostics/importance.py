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

import jax.numpy as jnp
import numpy as np
from jax import Array
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
from flowinv.diagnostics.device import at_once, in_float64, of_each

__all__ = ["WEIGHTS", "Importance", "corrected", "importance", "pareto_tail"]

LEAST_DRAWS = 50
GOOD_K = 0.7
"""Above it weights have no mean that any number of draws finds."""
LEAST_EFFICIENCY = 0.5
"""Of an answer that passes: half as wide or twice as wide ones have less."""


class Importance(NamedTuple):
    """What weights say of draws: numbers, or arrays `[S]` for S observations.

    Attributes:
        log_weights: smoothed, with a mean weight of 1, `[n]`, or `[S, n]`.
        efficiency: effective share of the draws, (sum w)^2 / (n sum w^2).
        k: tail index; below 0.5 good, above 0.7 weights cannot correct the draws.
        log_evidence: log of the mean raw weight.
        log_evidence_error: its standard error.
    """

    log_weights: np.ndarray
    efficiency: float | np.ndarray
    k: float | np.ndarray
    log_evidence: float | np.ndarray
    log_evidence_error: float | np.ndarray


def importance(
    log_likelihood: ArrayLike, log_prior: ArrayLike, log_q: ArrayLike
) -> Importance:
    """Weigh posterior draws, on the device.

    Args:
        log_likelihood: log p(x | theta) of each draw, up to a constant (which the
            evidence then has too), `[n]`, or `[S, n]` for S observations in one call.
        log_prior: log density of the prior, of the same shape.
        log_q: log density of the posterior that was drawn from, of the same shape.

    Raises:
        ValueError: shapes that do not fit, NaN, or fewer than 50 draws. Draws that the
            likelihood or the prior excludes (-inf) are right: they weigh nothing.
    """
    given = [np.asarray(a, np.float64) for a in (log_likelihood, log_prior, log_q)]
    shape = given[0].shape
    if len(shape) not in (1, 2):
        fail("log_likelihood", "with shape (n,) or (S, n)", shape)
    for name, array in zip(("log_prior", "log_q"), given[1:], strict=True):
        check_shape(name, array.shape, shape)
    check_at_least("number of draws", shape[-1], LEAST_DRAWS)
    raw = given[0] + given[1] - given[2]
    excluded = (~np.isfinite(raw)).all(-1).any()
    if np.isnan(raw).any() or excluded or (raw == np.inf).any():
        fail("weights", "to be numbers, not all zero", "NaN, infinity or zeros")
    return at_once(_weighed, len(shape) == 1, raw)


@in_float64()
def _weighed(raw: Array) -> Importance:
    def one(raw: Array) -> Importance:
        top = raw.max()
        weights = jnp.exp(raw - top)
        mean = weights.mean()
        error = weights.std(ddof=1) / (mean * jnp.sqrt(len(raw)))
        smooth, k = _smoothed(weights)
        share = smooth / smooth.mean()
        efficiency = share.sum() ** 2 / (len(share) * (share**2).sum())
        evidence = jnp.log(mean) + top
        return Importance(jnp.log(share), efficiency, k, evidence, error)

    return of_each(one, raw)


def corrected(samples: ArrayLike, found: Importance, seed: int = 0) -> np.ndarray:
    """Draws of the exact posterior: `samples` `[n, D]`, taken again by their weights.

    Of one observation. As many as the weights are worth (n times the efficiency), drawn
    without replacement, so that none is there twice.

    Raises:
        ValueError: other shapes, or weights that cannot correct them (k above 0.7).
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


class _Tail(NamedTuple):
    k: Array
    scale: Array


def pareto_tail(excess: ArrayLike) -> tuple[float, float]:
    """Fit a generalised Pareto distribution: its shape k and scale.

    Args:
        excess: numbers above a threshold, minus it, `[m]`, m at least 5.

    The posterior mean of Zhang and Stephens, with the weak prior of PSIS that pulls k
    to 1/2 by as much as ten numbers would.
    """
    x = np.sort(np.asarray(excess, np.float64))
    check_at_least("numbers above the threshold", len(x), 5)
    k, scale = _fitted(x)
    return k.item(), scale.item()


def _tail(x: Array) -> _Tail:
    """Fit to numbers `[m]` in order."""
    m = len(x)
    points = 30 + int(np.sqrt(m))
    index = np.arange(1, points + 1)
    quarter = x[max(int(m / 4 + 0.5) - 1, 0)]
    theta = 1 / x[-1] + (1 - np.sqrt(points / (index - 0.5))) / (3 * quarter)
    shape = jnp.log1p(-theta[:, None] * x).mean(1)
    log_like = m * (jnp.log(-theta / shape) - shape - 1)
    weights = jnp.exp(log_like - log_like.max())
    best = (theta * weights).sum() / weights.sum()
    k = jnp.log1p(-best * x).mean()
    return _Tail((m * k + 10 * 0.5) / (m + 10), -k / best)


_fitted = in_float64()(_tail)


def _smoothed(weights: Array) -> tuple[Array, Array]:
    """Weights whose largest are replaced by quantiles of their fitted tail, and k."""
    n = len(weights)
    size = int(min(0.2 * n, 3 * np.sqrt(n)))
    order = jnp.argsort(weights)
    tail, threshold = order[n - size :], weights[order[n - size - 1]]
    excess = weights[tail] - threshold
    # All alike: nothing to smooth.
    alike = excess[-1] <= 1e-10 * jnp.maximum(threshold, 1e-300)
    k, scale = _tail(jnp.where(alike, 1.0, jnp.maximum(excess, 1e-300)))
    p = (np.arange(size) + 0.5) / size
    near = jnp.abs(k) < 1e-12
    bent = scale / k * jnp.expm1(-k * np.log1p(-p))
    quantiles = jnp.where(near, -scale * np.log1p(-p), bent)
    smooth = weights.at[tail].set(jnp.minimum(threshold + quantiles, weights.max()))
    return jnp.where(alike, weights, smooth), jnp.where(alike, 0.0, k)


def _has_weights(answered: Answered) -> bool:
    return answered.weighing is not None and len(answered.draws) >= LEAST_DRAWS


def _measure(inputs: Inputs) -> Numbers:
    numbers: dict[str, float | np.ndarray] = {}
    for own in filter(_has_weights, inputs.answered):
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
    for own in filter(_has_weights, inputs.answered):
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
    needs=lambda inputs: any(map(_has_weights, inputs.answered)),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
