"""Errors of point estimates against the truth, per parameter."""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_shape
from flowinv.diagnostics.arrays import draws, matrix

__all__ = ["EstimateErrors", "estimate_errors"]


class EstimateErrors(NamedTuple):
    """Errors of an estimator over S simulations, each `[D]`.

    Attributes:
        rmse: root mean squared error, in the parameter's unit.
        r2: 1 - sum of squared errors / sum of squares about the mean truth; 1 is
            perfect, 0 no better than always answering the mean; -inf or NaN where all
            truths are equal.
        bias: mean of estimate - truth, in the parameter's unit.
    """

    rmse: np.ndarray
    r2: np.ndarray
    bias: np.ndarray


def estimate_errors(truth: ArrayLike, estimate: ArrayLike) -> EstimateErrors:
    """Return RMSE, R2 and bias of estimates (posterior means, medians or modes).

    Args:
        truth: true parameters, shape `[S, D]`, S at least 2.
        estimate: their estimates, shape `[S, D]`.

    Raises:
        ValueError: shapes that differ, fewer than 2 rows, or non-finite numbers.
    """
    truth, estimate = draws("truth", truth, 2), matrix("estimate", estimate)
    check_shape("estimate", estimate.shape, truth.shape)
    error = estimate - truth
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1 - (error**2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    return EstimateErrors(np.sqrt((error**2).mean(0)), r2, error.mean(0))
