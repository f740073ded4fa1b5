"""Bands that a whole curve of uniform ranks stays in: simultaneous, not point by point.

Of S uniform ranks the number below a level is binomial. A band of pointwise intervals
that holds the whole curve with probability `level` uses narrower tails; how narrow is
found by simulating curves.

Reference: Saeilynoja, Buerkner & Vehtari 2022, arXiv:2103.10522.
"""

from typing import NamedTuple

import numpy as np

from flowinv.checks import check_at_least, fail
from flowinv.diagnostics.sbc import check_ranks

__all__ = ["EcdfBand", "ecdf_band", "ecdf_difference"]

NUM_CURVES = 2_000


class EcdfBand(NamedTuple):
    """Difference between the ranks' distribution and a uniform one, and its band.

    Attributes:
        levels: where it is taken, `[K]`.
        difference: ECDF - level of each parameter, `[K, D]`.
        low: lower edge of the band, `[K]`.
        high: upper edge, `[K]`.
        inside: whether the curve stays inside, bool `[D]`.
    """

    levels: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    inside: np.ndarray


def ecdf_band(
    num_ranks: int, num_samples: int, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return levels, and the edges of the counts that hold a whole curve, `[K]` each.

    Args:
        num_ranks: ranks S.
        num_samples: draws L behind each: levels are at most 100 of (k + 1) / (L + 1).
        level: probability that a right curve stays inside everywhere.
        seed: of the simulated curves; their number makes the level true to 0.005.
    """
    from scipy import stats

    check_at_least("num_ranks", num_ranks, 1)
    check_at_least("num_samples", num_samples, 1)
    if not 0 < level < 1:
        fail("level", "in (0, 1)", level)
    steps = min(num_samples, 100)
    cuts = np.unique(np.rint(np.arange(1, steps + 1) * num_samples / (steps + 1)))
    # Ranks 0..cut - 1 of L + 1 lie below.
    levels = cuts / (num_samples + 1)
    share = np.diff(levels, prepend=0.0, append=1.0)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_ranks, share, NUM_CURVES).cumsum(1)[:, :-1]
    below = stats.binom.cdf(counts, num_ranks, levels)
    above = stats.binom.sf(counts - 1, num_ranks, levels)
    tail = np.quantile(2 * np.minimum(below, above).min(1), 1 - level)
    low = stats.binom.ppf(tail / 2, num_ranks, levels)
    high = stats.binom.isf(tail / 2, num_ranks, levels)
    return levels, low, high


def ecdf_difference(
    ranks: np.ndarray, num_samples: int, level: float = 0.95
) -> EcdfBand:
    """Compare ranks with uniform ones over their whole range.

    Args:
        ranks: ranks of the truth, integers `[S, D]`.
        num_samples: draws behind each.
        level: probability that a right curve stays in the band.
    """
    ranks = check_ranks(ranks, num_samples)
    levels, low, high = ecdf_band(len(ranks), num_samples, level)
    cuts = np.rint(levels * (num_samples + 1))[:, None, None]
    counts = (ranks[None] < cuts).sum(1)
    inside = ((counts >= low[:, None]) & (counts <= high[:, None])).all(0)
    share = np.stack([low, high]) / len(ranks) - levels
    difference = counts / len(ranks) - levels[:, None]
    return EcdfBand(levels, difference, share[0], share[1], inside)
