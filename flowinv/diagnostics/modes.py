"""Separate ranges of a parameter: where a median lies between them, it says little."""

from typing import NamedTuple

import numpy as np

__all__ = ["Part", "separate_parts"]

# Of the central 95 %, from which tails are left out.
BINS = 20
# A bin with less than this share of an even one's draws holds nothing.
EMPTY_SHARE = 0.1
# What a part must hold to count, and the draws from which a bin is more than chance.
LEAST_SHARE, LEAST_DRAWS = 0.05, 1_000


class Part(NamedTuple):
    """One range of a parameter.

    Attributes:
        low: smallest draw of it among the central 95 % of all.
        high: largest.
        share: of the central 95 %.
    """

    low: float
    high: float
    share: float


def separate_parts(draws: np.ndarray) -> tuple[Part, ...]:
    """Ranges that hold the draws of one parameter, with next to nothing between them.

    Parts are runs of bins, of 20 over the central 95 %, that hold a tenth at least of
    what an even density would give them; those with less than 5 % of the draws are
    left out. One mode has one part, however skewed. Of fewer than 1,000 draws a bin
    may be empty by chance: they are taken for one part.

    Args:
        draws: of one parameter, `[n]`.

    Returns:
        One part or more, from the lowest on.
    """
    draws = np.asarray(draws, np.float64)
    low, high = np.quantile(draws, [0.025, 0.975])
    own = np.sort(draws[(draws >= low) & (draws <= high)])
    whole = (Part(float(own[0]), float(own[-1]), 1.0),)
    if len(draws) < LEAST_DRAWS or not high > low:
        return whole
    number = np.minimum(((own - low) / (high - low) * BINS).astype(int), BINS - 1)
    full = np.bincount(number, minlength=BINS) > EMPTY_SHARE * len(own) / BINS
    # Runs of full bins: a new one begins where the bin before is empty.
    run = np.cumsum(full & ~np.concatenate([[False], full[:-1]])) * full
    parts = []
    for index in range(1, run.max() + 1):
        inside = own[run[number] == index]
        share = len(inside) / len(own)
        if share >= LEAST_SHARE:
            parts.append(Part(float(inside[0]), float(inside[-1]), share))
    return tuple(parts) if len(parts) > 1 else whole
