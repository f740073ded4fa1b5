"""Check: do regions of highest density hold the truth as often as they promise?

The share of a posterior's draws that are denser than the truth is uniform for a right
posterior: the region that ends at the truth holds that mass. Unlike intervals it sees
correlations. A posterior that ignores x passes: its density ranks are those of the
prior. The same ranks of the log-likelihood, where it is known, fail it.

References: Hermans et al. 2022, arXiv:2110.06581; Modrak et al. 2023, arXiv:2211.02383
(ranks of quantities that depend on the data).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_shape, fail
from flowinv.diagnostics.check import Check, Finding, Inputs, Numbers, said_of_all

__all__ = ["REGIONS", "RegionCoverage", "quantity_ranks", "region_coverage"]

P_LIMIT = 0.001
LEAST_OFF = 0.05
"""Mean share of draws by which the likelihood's ranks are off, to be worth a word."""
LEVELS = (0.5, 0.68, 0.9, 0.95)


class RegionCoverage(NamedTuple):
    """Promised and observed coverage of regions of highest density.

    Attributes:
        levels: promised, `[K]`.
        observed: share of truths inside, `[K]`.
        sd: binomial standard deviation of it, `[K]`.
        p: of a Kolmogorov-Smirnov test that the regions which end at the truths hold
            uniform masses.
        error: mean of observed - promised over all levels: below 0 for regions that
            are too small.
    """

    levels: np.ndarray
    observed: np.ndarray
    sd: np.ndarray
    p: float
    error: float


def quantity_ranks(key: Array, true: ArrayLike, drawn: ArrayLike) -> np.ndarray:
    """Ranks of a quantity of the truth among those of the draws, int `[S]`.

    Any function of theta and x may be the quantity: log q, the log-likelihood.

    Args:
        key: typed key of ties.
        true: the quantity at the truth, `[S]`.
        drawn: at the draws, `[S, n]`.

    Raises:
        ValueError: shapes that do not fit, or NaN.
    """
    true, drawn = np.asarray(true), np.asarray(drawn)
    check_shape("drawn", drawn.shape[:1], true.shape)
    if drawn.ndim != 2 or (np.isnan(true).any() or np.isnan(drawn).any()):
        fail("quantity", "as numbers (S,) and (S, n)", f"{drawn.shape}, or NaN")
    below = (drawn < true[:, None]).sum(1)
    equal = (drawn == true[:, None]).sum(1)
    return below + np.asarray(jax.random.randint(key, true.shape, 0, equal + 1))


def region_coverage(
    log_q_true: ArrayLike,
    log_q: ArrayLike,
    levels: Sequence[float] = LEVELS,
    key: Array | None = None,
) -> RegionCoverage:
    """Count how often regions of highest density hold the truth.

    Args:
        log_q_true: log density of the truth under its posterior, `[S]`.
        log_q: of the posterior's draws, `[S, n]`.
        levels: promised coverages.
        key: typed key of ties; None takes a fixed one.
    """
    from scipy import stats

    key = jax.random.key(0) if key is None else key
    count = np.shape(log_q)[1]
    ranks = quantity_ranks(key, log_q_true, log_q)
    # Mass of the region that ends at the truth, between the n + 1 values by chance.
    inner = jax.random.fold_in(key, 1)
    ties = np.asarray(jax.random.uniform(inner, ranks.shape), np.float64)
    mass = (count - ranks + ties) / (count + 1)
    level = np.asarray(levels, np.float64)
    observed = (mass[:, None] <= level).mean(0)
    return RegionCoverage(
        level,
        observed,
        np.sqrt(level * (1 - level) / len(mass)),
        float(stats.kstest(mass, "uniform").pvalue),
        # The area between the curve of coverage and its promise.
        float(0.5 - mass.mean()),
    )


def _measure(inputs: Inputs) -> Numbers:
    found = region_coverage(inputs.held_out.log_q_true, inputs.held_out.log_q)
    numbers: dict[str, float | np.ndarray] = {
        "regions_p": found.p,
        "regions_error": found.error,
    }
    pairs = zip(found.levels, found.observed, strict=True)
    numbers |= {f"regions_{100 * level:.0f}": float(own) for level, own in pairs}
    held = inputs.held_out
    if held.log_p is not None:
        # Regions of the likelihood: a quantity like any other.
        own = region_coverage(held.log_p_true, held.log_p)
        numbers |= {"likelihood_p": own.p, "likelihood_error": own.error}
    return numbers


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    p, error = numbers["regions_p"], numbers["regions_error"]
    known = numbers.get("likelihood_p", 1.0)
    off = numbers.get("likelihood_error", 0.0)
    if p >= P_LIMIT and known < P_LIMIT and abs(off) > LEAST_OFF:
        words = (
            "By the likelihood truths are "
            + ("more" if off > 0 else "less")
            + " likely than draws: the posterior "
            + ("says less than x does" if off > 0 else "claims more than x says")
            + f" (p = {known:.1g})."
        )
        status = "caution" if off > 0 else "not trusted"
        return said_of_all(inputs, Finding(status, words))
    if p >= P_LIMIT:
        return said_of_all(inputs, None)
    share = f"the 90 % region holds the truth {100 * numbers['regions_90']:.1f} %"
    words = f"Regions of all parameters together are off: {share} (p = {p:.1g})."
    status = "caution" if error > 0 else "not trusted"
    return said_of_all(inputs, Finding(status, words))


REGIONS = Check(
    name="regions",
    asks="Do regions of highest density hold the truth as often as they promise?",
    limit="KS p above 0.001 by density; by likelihood also 5 % of the draws off",
    meaning="It sees correlations and shapes that intervals of one parameter do not.",
    needs=lambda inputs: (
        inputs.held_out is not None and bool(np.ptp(inputs.held_out.log_q) > 0)
    ),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
