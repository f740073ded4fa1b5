"""Maximum mean discrepancy: a kernel distance between two sets of draws.

References: Gretton et al. 2012, JMLR 13:723.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_known, check_positive, fail
from flowinv.diagnostics.arrays import draws, two_samples, z_scored

__all__ = ["LARGEST", "MMDTest", "mmd_squared", "mmd_test"]

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


class MMDTest(NamedTuple):
    """Result of a permutation test.

    Attributes:
        squared: unbiased MMD^2 of the two sets.
        p: share of random divisions of both sets that are at least as far apart.
    """

    squared: float
    p: float


def mmd_test(
    reference: ArrayLike,
    samples: ArrayLike,
    num_permutations: int = 500,
    seed: int = 0,
) -> MMDTest:
    """Test whether two sets come from one distribution, z-scored by the first.

    Args:
        reference: `[n, D]`, 2 to 2,500 rows.
        samples: `[m, D]`, 2 to 2,500 rows.
        num_permutations: random divisions; the smallest p is 1 over one more.
        seed: of the divisions.

    Raises:
        ValueError: as `mmd_squared` does.
    """
    from scipy.spatial.distance import cdist

    check_at_least("num_permutations", num_permutations, 1)
    reference, samples = two_samples(reference, samples)
    for what, array in (("reference", reference), ("samples", samples)):
        if len(draws(what, array, 2)) > LARGEST // 2:
            expected = f"with at most {LARGEST // 2} rows"
            fail(what, expected, len(array), "Thin the draws.")
    reference, samples = z_scored(reference, samples)
    both, n = np.concatenate([reference, samples]), len(reference)
    h = _bandwidth(reference, samples, "both")
    kernel = np.exp(cdist(both, both, "sqeuclidean") / (-2 * h**2))
    np.fill_diagonal(kernel, 0.0)
    m = len(both) - n
    rng = np.random.default_rng(seed)
    signs = np.zeros((1 + num_permutations, len(both)))
    signs[0, :n] = 1.0
    for row in signs[1:]:
        row[rng.permutation(len(both))[:n]] = 1.0
    # Sums of the kernel within and between the two parts of every division.
    one = ((signs @ kernel) * signs).sum(1)
    other = (((1 - signs) @ kernel) * (1 - signs)).sum(1)
    between = ((signs @ kernel) * (1 - signs)).sum(1)
    squared = one / (n * (n - 1)) + other / (m * (m - 1)) - 2 * between / (n * m)
    p = (1 + (squared[1:] >= squared[0]).sum()) / (1 + num_permutations)
    return MMDTest(float(squared[0]), float(p))


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
