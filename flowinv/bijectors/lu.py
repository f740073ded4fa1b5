"""Linear mixing through a bounded LU factorisation.

References:
    Kingma and Dhariwal 2018, Glow, arXiv:1807.03039, section 3.2.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

from flowinv.bijectors.affine import soft_clamp

__all__ = ["LULinear"]

# Off-diagonal entries are bounded by ROW_SUM / (D - 1), so each triangular factor is
# diagonally dominant: both its norm and that of its inverse stay below 1 / (1 - 0.9).
ROW_SUM = 0.9
LOG_DIAGONAL = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LULinear:
    """y = L U x with unit lower L and U = (I + N) diag(exp(d)), N strictly upper.

    Zero parameters give the identity. All entries are bounded softly, so that the
    matrix stays well conditioned whatever a network asks for. Forward costs two
    matrix-vector products, the inverse two triangular solves.

    Attributes:
        lower: raw entries, shape `[D, D]`; only those below the diagonal count.
        upper: raw entries, shape `[D, D]`; only those above the diagonal count.
        log_diagonal: raw d, shape `[D]`.
    """

    lower: Array
    upper: Array
    log_diagonal: Array

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y with shape `[..., D]` and log_det with shape `[...]`."""
        lower, upper, log_diagonal = self._factors()
        y = x * jnp.exp(log_diagonal)
        y = jnp.einsum("ij,...j->...i", upper, y, precision="highest")
        y = jnp.einsum("ij,...j->...i", lower, y, precision="highest")
        return y, jnp.broadcast_to(log_diagonal.sum(), x.shape[:-1])

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x with shape `[..., D]` and log_det with shape `[...]`."""
        lower, upper, log_diagonal = self._factors()
        flat = y.reshape(-1, y.shape[-1]).T
        flat = solve_triangular(lower, flat, lower=True, unit_diagonal=True)
        flat = solve_triangular(upper, flat, lower=False, unit_diagonal=True)
        x = flat.T.reshape(y.shape) * jnp.exp(-log_diagonal)
        return x, jnp.broadcast_to(-log_diagonal.sum(), y.shape[:-1])

    def _factors(self) -> tuple[Array, Array, Array]:
        dim = self.log_diagonal.shape[-1]
        limit = ROW_SUM / max(dim - 1, 1)
        eye = jnp.eye(dim, dtype=self.lower.dtype)
        lower = jnp.tril(soft_clamp(self.lower, limit), -1) + eye
        upper = jnp.triu(soft_clamp(self.upper, limit), 1) + eye
        return lower, upper, soft_clamp(self.log_diagonal, LOG_DIAGONAL)
