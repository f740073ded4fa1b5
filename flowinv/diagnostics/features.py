"""A few numbers of x that say most of how simulations differ: principal components."""

from typing import NamedTuple, Self

import numpy as np

from flowinv.diagnostics.check import least_spread

__all__ = ["Features"]

MOST = 12


class Features(NamedTuple):
    """Standardised principal components of x.

    Attributes:
        shift: mean of x, flat, `[L]`.
        axes: from x to components of variance 1, `[L, F]`.
    """

    shift: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, most: int = MOST) -> Self:
        """Find the components of simulations `[S, *x_shape]`, in units of each sd."""
        rows = np.asarray(x, np.float64).reshape(len(x), -1)
        shift = rows.mean(0)
        scale = np.maximum(rows.std(0), least_spread(rows))
        _, size, turned = np.linalg.svd((rows - shift) / scale, full_matrices=False)
        kept = min(most, int((size > 1e-6 * size[0]).sum()) or 1)
        spread = np.maximum(size[:kept], 1e-30) / np.sqrt(len(rows))
        return cls(shift, (turned[:kept] / spread[:, None]).T / scale[:, None])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Components of x `[S, *x_shape]`, `[S, F]`."""
        rows = np.asarray(x, np.float64).reshape(len(x), -1)
        return (rows - self.shift) @ self.axes
