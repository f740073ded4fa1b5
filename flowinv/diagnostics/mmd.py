"""Maximum mean discrepancy: a kernel distance between two sets of draws.

References: Gretton et al. 2012, JMLR 13:723.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_known, check_positive, fail
from flowinv.diagnostics.arrays import sets_of_draws, z_scored
from flowinv.diagnostics.device import (
    at_once,
    in_float64,
    of_each,
    squared_distances,
)

__all__ = ["LARGEST", "MMDTest", "mmd_squared", "mmd_test"]

LARGEST = 5_000
"""Most draws per set: the kernel matrices are quadratic, 200 MB each in float64."""
ROWS = 256
"""Rows of a kernel matrix that are held at once."""
HALVINGS = 64
"""Most steps to a median: all of a float64's digits."""


def mmd_squared(
    reference: ArrayLike,
    samples: ArrayLike,
    bandwidth: str | float = "reference",
    standardise: bool = False,
) -> float | np.ndarray:
    """Return the unbiased MMD^2 with the kernel exp(-|a - b|^2 / (2 h^2)), in float64.

    Zero on average for equal distributions, so small values are negative half the time.

    Args:
        reference: draws of the exact posterior, shape `[n, D]`, 2 to 5,000 of them, or
            `[S, n, D]` for S observations in one call.
        samples: draws of the approximation, shape `[m, D]`, 2 to 5,000 of them, or
            `[S, m, D]`.
        bandwidth: h itself, or whose median pairwise distance it is: `"reference"`
            (sbibm) or `"both"` (sbi).
        standardise: z-score both sets by the reference first.

    Returns:
        A number, or `[S]`.

    Raises:
        ValueError: sets of unequal width, non-finite draws, too few or too many, or a
            bandwidth that is not positive.
    """
    reference, samples = _sets(reference, samples, LARGEST)
    if standardise:
        reference, samples = z_scored(reference, samples)
    of = "given"
    if isinstance(bandwidth, str):
        check_known("bandwidth", bandwidth, ("reference", "both"))
        bandwidth, of = np.nan, bandwidth
    else:
        check_positive("bandwidth", bandwidth)

    def every(reference: np.ndarray, samples: np.ndarray) -> _Squared:
        return _squared(reference, samples, float(bandwidth), of=of)

    found = at_once(every, reference.ndim == 2, reference, samples)
    _check_widths(found.bandwidth)
    return found.squared


class MMDTest(NamedTuple):
    """Result of a permutation test: numbers, or arrays `[S]` for S observations.

    Attributes:
        squared: unbiased MMD^2 of the two sets.
        p: share of random divisions of both sets that are at least as far apart.
    """

    squared: float | np.ndarray
    p: float | np.ndarray


def mmd_test(
    reference: ArrayLike,
    samples: ArrayLike,
    num_permutations: int = 500,
    seed: int = 0,
) -> MMDTest:
    """Test whether two sets come from one distribution, z-scored by the first.

    Args:
        reference: `[n, D]`, 2 to 2,500 rows, or `[S, n, D]` for S pairs in one call.
        samples: `[m, D]`, 2 to 2,500 rows, or `[S, m, D]`.
        num_permutations: random divisions; the smallest p is 1 over one more.
        seed: of the divisions.

    Raises:
        ValueError: as `mmd_squared` does.
    """
    check_at_least("num_permutations", num_permutations, 1)
    reference, samples = _sets(reference, samples, LARGEST // 2)
    reference, samples = z_scored(reference, samples)
    n, m = reference.shape[-2], samples.shape[-2]
    # The division as it is, and random ones.
    rng, first = np.random.default_rng(seed), np.zeros((1 + num_permutations, n + m))
    first[0, :n] = 1.0
    for row in first[1:]:
        row[rng.permutation(n + m)[:n]] = 1.0

    def every(reference: np.ndarray, samples: np.ndarray) -> _Divided:
        return _divided(reference, samples, first)

    found = at_once(every, reference.ndim == 2, reference, samples)
    _check_widths(found.bandwidth)
    return MMDTest(found.squared, found.p)


def _sets(
    reference: ArrayLike, samples: ArrayLike, most: int
) -> tuple[np.ndarray, np.ndarray]:
    reference, samples = sets_of_draws(reference, samples, 2)
    for what, array in (("reference", reference), ("samples", samples)):
        if array.shape[-2] > most:
            expected = f"with at most {most} rows"
            fail(what, expected, array.shape[-2], "Thin the draws.")
    return reference, samples


def _check_widths(widths: float | np.ndarray) -> None:
    check_positive("bandwidth", float(np.min(widths)))


class _Squared(NamedTuple):
    squared: Array
    bandwidth: Array


@in_float64("of")
def _squared(reference: Array, samples: Array, bandwidth: Array, of: str) -> _Squared:
    def one(reference: Array, samples: Array) -> _Squared:
        h = bandwidth
        if of != "given":
            both = jnp.concatenate([reference, samples])
            h = _median(_distances(both if of == "both" else reference))
        n, m = len(reference), len(samples)
        # The diagonal of a set's own kernel matrix is 1 and left out (equation 3).
        own = (_kernel_sum(reference, reference, h) - n) / (n * (n - 1))
        other = (_kernel_sum(samples, samples, h) - m) / (m * (m - 1))
        between = _kernel_sum(reference, samples, h) / (n * m)
        return _Squared(own + other - 2 * between, h)

    return of_each(one, reference, samples)


class _Divided(NamedTuple):
    squared: Array
    p: Array
    bandwidth: Array


@in_float64()
def _divided(reference: Array, samples: Array, first: Array) -> _Divided:
    """MMD^2 of the division as it is, and its rank among the others."""
    n, m = reference.shape[1], samples.shape[1]
    second = 1 - first

    def one(reference: Array, samples: Array) -> _Divided:
        squared = _distances(jnp.concatenate([reference, samples]))
        h = _median(squared)
        kernel = jnp.exp(squared / (-2 * h**2)) * (1 - jnp.eye(n + m))
        # Sums of the kernel within and between the two parts of every division.
        with_first, with_second = first @ kernel, second @ kernel
        own = (with_first * first).sum(1) / (n * (n - 1))
        other = (with_second * second).sum(1) / (m * (m - 1))
        every = own + other - 2 * (with_first * second).sum(1) / (n * m)
        share = (every >= every[0]).mean(dtype=float)  # itself among them
        return _Divided(every[0], share, h)

    return of_each(one, reference, samples)


def _distances(points: Array) -> Array:
    """Squared distances of all pairs, `[n, n]`."""
    return jax.vmap(lambda point: squared_distances(point, points))(points)


def _median(squared: Array) -> Array:
    """Median distance of all pairs of different points, from `[n, n]` squared ones.

    By halving the range until as many are below as shall be: no sort. A pair stands in
    the matrix twice, and n zeros stand on its diagonal.
    """
    n = len(squared)
    pairs = n * (n - 1) // 2
    wanted = n + 2 * ((pairs + 1) // 2)

    def goes_on(state: tuple[Array, Array, Array, Array]) -> Array:
        _, _, below, step = state
        return (below != wanted) & (step < HALVINGS)

    def halve(
        state: tuple[Array, Array, Array, Array],
    ) -> tuple[Array, Array, Array, Array]:
        low, high, below, step = state
        middle = (low + high) / 2
        count = (squared <= middle).sum()
        enough = count >= wanted
        low, high = jnp.where(enough, low, middle), jnp.where(enough, middle, high)
        return low, high, jnp.where(enough, count, below), step + 1

    most = squared.max()
    start = (jnp.full_like(most, -1.0), most, jnp.int64(n * n), jnp.int64(0))
    _, high, below, _ = jax.lax.while_loop(goes_on, halve, start)
    lower = jnp.max(squared, initial=0.0, where=squared <= high)
    if pairs % 2:
        return jnp.sqrt(lower)
    # The next one is the same where there are equal ones.
    upper = jnp.min(squared, initial=jnp.inf, where=squared > high)
    upper = jnp.where(below > wanted, lower, upper)
    return (jnp.sqrt(lower) + jnp.sqrt(upper)) / 2


def _kernel_sum(a: Array, b: Array, h: Array) -> Array:
    """Sum of the kernel over all pairs, some rows at a time."""

    def row(point: Array) -> Array:
        return jnp.exp(squared_distances(point, b) / (-2 * h**2)).sum()

    return jax.lax.map(row, a, batch_size=min(len(a), ROWS)).sum()
