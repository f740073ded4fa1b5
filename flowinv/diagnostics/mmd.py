"""Maximum mean discrepancy: a kernel distance between two sets of draws.

References: Gretton et al. 2012, JMLR 13:723.
"""

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_known, check_positive, fail
from flowinv.diagnostics.arrays import draws, two_samples, z_scored

__all__ = ["LARGEST", "mmd_squared"]

LARGEST = 5_000
"""Most draws per set: the kernel matrices are quadratic, 200 MB each in float64."""


def mmd_squared(
    reference: ArrayLike,
    samples: ArrayLike,
    bandwidth: str | float = "reference",
    standardise: bool = False,
) -> float:
    """Return the unbiased MMD^2 with the kernel exp(-|a - b|^2 / (2 h^2)), in float64.

    Zero on average for equal distributions, so small values are negative half the time.

    Args:
        reference: draws of the exact posterior, shape `[n, D]`, 2 to 5,000 of them.
        samples: draws of the approximation, shape `[m, D]`, 2 to 5,000 of them.
        bandwidth: h itself, or whose median pairwise distance it is: `"reference"`
            (sbibm) or `"both"` (sbi).
        standardise: z-score both sets by the reference first.

    Raises:
        ValueError: sets of unequal width, non-finite draws, too few or too many, or a
            bandwidth that is not positive.
    """
    reference, samples = two_samples(reference, samples)
    for what, array in (("reference", reference), ("samples", samples)):
        if len(draws(what, array, 2)) > LARGEST:
            fail(what, f"with at most {LARGEST} rows", len(array), "Thin the draws.")
    if standardise:
        reference, samples = z_scored(reference, samples)
    h = _bandwidth(reference, samples, bandwidth)
    n, m = len(reference), len(samples)
    # The diagonal of a set's own kernel matrix is 1 and left out (equation 3).
    own = (_kernel_sum(reference, reference, h) - n) / (n * (n - 1))
    other = (_kernel_sum(samples, samples, h) - m) / (m * (m - 1))
    return float(own + other - 2 * _kernel_sum(reference, samples, h) / (n * m))


def _bandwidth(
    reference: np.ndarray, samples: np.ndarray, bandwidth: str | float
) -> float:
    """Resolve the kernel width."""
    from scipy.spatial.distance import pdist

    if isinstance(bandwidth, str):
        check_known("bandwidth", bandwidth, ("reference", "both"))
        both = np.concatenate([reference, samples])
        bandwidth = np.median(pdist(both if bandwidth == "both" else reference))
    check_positive("bandwidth", bandwidth)
    return float(bandwidth)


def _kernel_sum(a: np.ndarray, b: np.ndarray, h: float) -> float:
    """Sum of the kernel over all pairs."""
    from scipy.spatial.distance import cdist

    return float(np.exp(cdist(a, b, "sqeuclidean") / (-2 * h**2)).sum())
