"""Simulation-based calibration: ranks of the truth among posterior draws.

If theta ~ p(theta), x ~ p(x | theta) and the draws come from p(theta | x), the rank of
theta_d among L draws is uniform on 0..L for every parameter d. Ranks piled up at both
ends mean a posterior too narrow, in the middle too wide, on one side shifted.

References: Talts et al. 2018, arXiv:1804.06788; Holm 1979.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax import numpy as jnp
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, fail
from flowinv.diagnostics.arrays import draws_per_row

__all__ = ["SBC", "check_ranks", "holm", "rank_test", "sbc", "sbc_ranks"]

MOST_BINS = 20
"""More bins test finer detail and lose power against too wide, too narrow, shifted."""
FEWEST_PER_BIN = 20
"""Expected simulations in a bin (Talts 2018, section 5.1, advises about 20)."""


class SBC(NamedTuple):
    """Ranks and the tests that they are uniform, per parameter.

    Attributes:
        ranks: rank of the truth among the draws, 0..num_samples, int `[S, D]`.
        num_samples: number of posterior draws L behind every rank.
        counts: ranks per histogram bin, `[B, D]`.
        expected: expected count of every bin under uniform ranks, `[B]`.
        chi2_p: p-value of Pearson's chi-square test with B - 1 degrees, `[D]`.
        ks_p: p-value of the Kolmogorov-Smirnov test against U(0, L), `[D]`.
        chi2_p_holm: `chi2_p` after Holm's correction over parameters, `[D]`.
    """

    ranks: np.ndarray
    num_samples: int
    counts: np.ndarray
    expected: np.ndarray
    chi2_p: np.ndarray
    ks_p: np.ndarray
    chi2_p_holm: np.ndarray


def sbc_ranks(key: Array, theta: ArrayLike, samples: ArrayLike) -> Array:
    """Return the rank of each true parameter among its posterior draws.

    Ties (discrete parameters, draws clipped to an edge) are broken at random, which
    keeps the ranks uniform. One jitted program; call it batch by batch when the draws
    of all simulations do not fit in memory, with another key each time.

    Args:
        key: PRNG key of the tie-breaking.
        theta: true parameters, shape `[S, D]`.
        samples: posterior draws for each simulation, shape `[S, n, D]`.

    Returns:
        Ranks 0..n, int32 `[S, D]`.

    Raises:
        ValueError: shapes that do not fit, or non-finite numbers.
    """
    draws_per_row(theta, samples)
    ranks, num_bad = _ranks(key, jnp.asarray(theta), jnp.asarray(samples))
    if num_bad:
        fail("theta and samples", "to be finite", f"{int(num_bad)} non-finite numbers")
    return ranks


@jax.jit
def _ranks(key: Array, theta: Array, samples: Array) -> tuple[Array, Array]:
    below = (samples < theta[:, None]).sum(1, dtype=jnp.int32)
    equal = (samples == theta[:, None]).sum(1, dtype=jnp.int32)
    num_bad = (~jnp.isfinite(samples)).sum() + (~jnp.isfinite(theta)).sum()
    return below + jax.random.randint(key, theta.shape, 0, equal + 1), num_bad


def rank_test(ranks: ArrayLike, num_samples: int, num_bins: int | None = None) -> SBC:
    """Test ranks for uniformity on 0..num_samples.

    Args:
        ranks: from `sbc_ranks`, integers `[S, D]`.
        num_samples: number of posterior draws L behind every rank.
        num_bins: histogram bins; None takes S / 20, at least 2, at most 20 and L + 1.
            Bins that hold unequal numbers of rank values get unequal expectations.

    Raises:
        ValueError: ranks outside 0..num_samples, or fewer than 2 bins.
    """
    from scipy import stats

    ranks = check_ranks(ranks, num_samples)
    num_values = num_samples + 1
    if num_bins is None:
        num_bins = min(max(len(ranks) // FEWEST_PER_BIN, 2), MOST_BINS, num_values)
    check_at_least("num_bins", num_bins, 2)
    if num_bins > num_values:
        fail("num_bins", f"at most {num_values}, the number of ranks", num_bins)
    bin_of_value = np.arange(num_values) * num_bins // num_values
    expected = np.bincount(bin_of_value, minlength=num_bins) * len(ranks) / num_values
    counts = np.stack(
        [np.bincount(bin_of_value[r], minlength=num_bins) for r in ranks.T], axis=1
    )
    chi2_p = stats.chisquare(counts, expected[:, None]).pvalue
    uniform = stats.uniform(0, num_samples).cdf
    ks_p = np.array([stats.kstest(r, uniform).pvalue for r in ranks.T])
    return SBC(ranks, num_samples, counts, expected, chi2_p, ks_p, holm(chi2_p))


def sbc(
    key: Array, theta: ArrayLike, samples: ArrayLike, num_bins: int | None = None
) -> SBC:
    """Return ranks and their tests: `rank_test(sbc_ranks(key, theta, samples), n)`."""
    ranks = sbc_ranks(key, theta, samples)
    return rank_test(ranks, np.shape(samples)[1], num_bins)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return Holm's adjusted p-values: reject those below alpha, all tests together.

    The chance of one false rejection among all is at most alpha, under any dependence.

    Args:
        p_values: p-values of one family of tests, shape `[D]`.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def check_ranks(ranks: ArrayLike, num_samples: int) -> np.ndarray:
    """Return `ranks` as int64 `[S, D]`; raise unless all lie in 0..num_samples."""
    check_at_least("num_samples", num_samples, 1)
    array = np.asarray(ranks)
    if (
        array.ndim != 2
        or 0 in array.shape
        or not np.issubdtype(array.dtype, np.integer)
    ):
        fail("ranks", "as integers with shape (S, D)", f"{array.dtype} {array.shape}")
    if array.min() < 0 or array.max() > num_samples:
        fail("ranks", f"in 0..{num_samples}", f"{array.min()}..{array.max()}")
    return array.astype(np.int64)
