"""Observations and parameters of any batch shape as rows, checked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_last_axis, fail, finite_float32

__all__ = ["rows_of_theta", "rows_of_x"]


def rows_of_x(x: ArrayLike, x_shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """Return observations `[*batch, *x_shape]` as `[N, *x_shape]`, and their batch.

    Raises:
        ValueError: for another shape, no observation, or numbers that are not finite.
    """
    x = finite_float32("x", x)
    event = len(x_shape)
    if x.ndim < event or x.shape[x.ndim - event :] != x_shape:
        fail("x", f"with shape (..., {str(x_shape)[1:-1]})", x.shape)
    batch = x.shape[: x.ndim - event]
    if 0 in batch:
        fail("x", "with at least one observation", x.shape)
    # Values are known but inside another traced program.
    if not isinstance(x, jax.core.Tracer):
        finite = np.isfinite(np.asarray(x)).reshape(-1, *x_shape)
        bad = (~finite.all(tuple(range(1, finite.ndim)))).sum()
        if bad:
            fail("x", "to be finite", f"NaN or infinity in {bad} observations")
    return x.reshape(-1, *x_shape), batch


def rows_of_theta(
    theta: ArrayLike, batch: tuple[int, ...], dim: int
) -> tuple[Array, tuple[int, ...]]:
    """Return parameters of a batch of observations as `[N, n, D]`, and `(n,)` or `()`.

    Args:
        theta: `[*batch, D]` or `[*batch, n, D]`.
        batch: shape of the observations' batch.
        dim: D.

    Raises:
        ValueError: for shapes that do not fit.
    """
    theta = jnp.asarray(finite_float32("theta", theta))
    check_last_axis("theta", theta.shape, dim)
    if theta.shape[: len(batch)] != batch or theta.ndim > len(batch) + 2:
        expected = f"with shape {(*batch, 'D')} or {(*batch, 'n', 'D')}"
        fail("theta", expected, theta.shape)
    inner = theta.shape[len(batch) : -1]
    count = int(np.prod(batch, dtype=int))
    return theta.reshape(count, -1, dim), inner
