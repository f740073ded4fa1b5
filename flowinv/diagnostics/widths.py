"""Location and width of an approximate posterior in units of the exact one."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.diagnostics.arrays import draws, two_samples

__all__ = ["WidthComparison", "compare_widths"]


class WidthComparison(NamedTuple):
    """First two moments against the reference, per parameter.

    Attributes:
        mean_shift: (mean of draws - exact mean) / exact sd, `[D]`; 0 is right.
        sd_ratio: sd of draws / exact sd, `[D]`; 1 is right, below 1 overconfident.
    """

    mean_shift: np.ndarray
    sd_ratio: np.ndarray


def compare_widths(reference: ArrayLike, samples: ArrayLike) -> WidthComparison:
    """Compare mean and sd of draws with those of the exact posterior.

    With n draws in each set both numbers carry Monte-Carlo noise: sqrt(2 / n) in the
    shift, about 1 / sqrt(n) in the ratio.

    Args:
        reference: draws of the exact posterior, shape `[n, D]`, n at least 2.
        samples: draws of the approximation, shape `[m, D]`, m at least 2.

    Raises:
        ValueError: sets of unequal width, non-finite draws, or fewer than 2 draws.
    """
    reference, samples = two_samples(reference, samples)
    exact_sd = draws("reference", reference, 2).std(0, ddof=1)
    sd = draws("samples", samples, 2).std(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (samples.mean(0) - reference.mean(0)) / exact_sd
        return WidthComparison(shift, sd / exact_sd)
