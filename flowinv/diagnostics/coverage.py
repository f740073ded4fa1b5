"""Coverage of central intervals: how often the truth lies inside, promised and seen.

References: Talts et al. 2018, arXiv:1804.06788; Hermans et al. 2022, arXiv:2110.06581.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import fail
from flowinv.diagnostics.sbc import check_ranks

__all__ = ["IntervalCoverage", "interval_coverage"]


class IntervalCoverage(NamedTuple):
    """Promised and observed coverage of central intervals, per parameter.

    Attributes:
        levels: levels asked for, `[K]`.
        nominal: exact coverage of the interval that L draws allow, `[K]`; equal to the
            level when level * (L + 1) has the right parity, off by 1 / (L + 1) at most.
        observed: share of truths inside, `[K, D]`.
        sd: binomial standard deviation sqrt(nominal (1 - nominal) / S), `[K]`.
        z_score: (observed - nominal) / sd, `[K, D]`; beyond +-3 is no accident.
    """

    levels: np.ndarray
    nominal: np.ndarray
    observed: np.ndarray
    sd: np.ndarray
    z_score: np.ndarray


def interval_coverage(
    ranks: ArrayLike, num_samples: int, levels: Sequence[float] = (0.5, 0.9, 0.95)
) -> IntervalCoverage:
    """Count how often the truth lies in the central intervals of its draws.

    The interval between the m-th smallest and the m-th largest of L draws holds the
    truth with probability (L + 1 - 2 m) / (L + 1) exactly when the posterior is right,
    so few draws cost no bias, and the ranks of SBC are all that is needed.

    Args:
        ranks: ranks of the truth from `sbc_ranks`, integers `[S, D]`.
        num_samples: number of posterior draws L behind every rank.
        levels: promised coverages, each in (0, 1) and wide enough for L draws.

    Raises:
        ValueError: a level outside (0, 1) or too near 0 or 1 for L draws.
    """
    ranks = check_ranks(ranks, num_samples)
    level = np.asarray(levels, np.float64)
    if level.ndim != 1 or not ((level > 0) & (level < 1)).all():
        fail("levels", "in (0, 1)", list(np.ravel(level)))
    num_values = num_samples + 1
    cut = np.rint((1 - level) / 2 * num_values).astype(int)
    nominal = 1 - 2 * cut / num_values
    if (cut < 1).any() or (nominal <= 0).any():
        fail("levels", f"resolved by {num_samples} draws", list(level), "Draw more.")
    lower, upper = cut[:, None, None], (num_samples - cut)[:, None, None]
    observed = ((ranks >= lower) & (ranks <= upper)).mean(1)
    sd = np.sqrt(nominal * (1 - nominal) / len(ranks))
    z_score = (observed - nominal[:, None]) / sd[:, None]
    return IntervalCoverage(level, nominal, observed, sd, z_score)
