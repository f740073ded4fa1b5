"""What every diagnostic asks of the arrays it is given."""

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_last_axis, check_shape, fail

__all__ = [
    "draws",
    "draws_per_row",
    "matrix",
    "sets_of_draws",
    "two_samples",
    "z_scored",
]


def matrix(what: str, value: ArrayLike) -> np.ndarray:
    """Return `value` as a finite float64 matrix `[N, D]` with N and D at least 1.

    Raises:
        ValueError: any other rank, an empty array, or a number that is not finite.
    """
    array = np.asarray(value, np.float64)
    if array.ndim != 2 or 0 in array.shape:
        fail(what, "with shape (N, D), both above 0", array.shape)
    num_bad = int(array.size - np.isfinite(array).sum())
    if num_bad:
        fail(what, "to hold finite numbers only", f"{num_bad} non-finite ones")
    return array


def two_samples(
    reference: ArrayLike, samples: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets of draws as finite float64 matrices of equal width D."""
    reference, samples = matrix("reference", reference), matrix("samples", samples)
    check_last_axis("samples", samples.shape, reference.shape[1])
    return reference, samples


def sets_of_draws(
    reference: ArrayLike, samples: ArrayLike, least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets as finite float64, of one observation or of S observations.

    Args:
        reference: `[n, D]`, or `[S, n, D]`.
        samples: `[m, D]`, or `[S, m, D]`.
        least: fewest draws of a set.

    Raises:
        ValueError: other shapes, too few draws, or numbers that are not finite.
    """
    both = []
    for what, value in (("reference", reference), ("samples", samples)):
        array = np.asarray(value, np.float64)
        if array.ndim == 3 and 0 not in array.shape:
            draws(what, array.reshape(-1, array.shape[-1]), 1)
            if array.shape[1] < least:
                fail(what, f"with at least {least} rows", array.shape[1])
        else:
            array = draws(what, array, least)
        both.append(array)
    check_last_axis("samples", both[1].shape, both[0].shape[-1])
    if both[0].shape[:-2] != both[1].shape[:-2]:
        expected = "of as many observations as reference"
        fail("samples", expected, (both[0].shape, both[1].shape))
    return both[0], both[1]


def draws(what: str, value: ArrayLike, least: int) -> np.ndarray:
    """Return `value` as a matrix of at least `least` draws."""
    array = matrix(what, value)
    if len(array) < least:
        fail(what, f"with at least {least} rows", len(array))
    return array


def draws_per_row(theta: ArrayLike, samples: ArrayLike) -> None:
    """Raise unless `theta` is `[S, D]` and `samples` `[S, n, D]`, n at least 1."""
    shape, got = np.shape(theta), np.shape(samples)
    if len(shape) != 2 or 0 in shape:
        fail("theta", "with shape (S, D), both above 0", shape)
    if len(got) != 3 or got[1] == 0:
        fail("samples", f"with shape ({shape[0]}, n, {shape[1]}), n above 0", got)
    check_shape("samples", got, (shape[0], got[1], shape[1]))


def z_scored(
    reference: np.ndarray, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale both sets by the mean and sd (n - 1) of the reference.

    A parameter that is constant in the reference is shifted only. Sets `[n, D]`, or
    `[S, n, D]`: each observation by its own reference.
    """
    shift = reference.mean(-2, keepdims=True)
    scale = np.zeros_like(shift)
    if reference.shape[-2] > 1:
        scale = reference.std(-2, ddof=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    return (reference - shift) / scale, (samples - shift) / scale
