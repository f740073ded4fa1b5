"""Multivariate normal: z by whitening, theta = loc + L z with L L^T the covariance."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular

from flowinv.priors.blocks import BoxBlock
from flowinv.priors.normal import log_normal_density

__all__ = ["MultivariateNormal"]


class MultivariateNormal(BoxBlock):
    """d correlated parameters; the latent is exactly N(0, I)."""

    kind = "multivariate_normal"

    def __init__(self, loc: np.ndarray, scale_tril: np.ndarray) -> None:
        """Take the mean `[d]` and the lower Cholesky factor `[d, d]`, checked."""
        self.loc = np.asarray(loc, np.float64)
        self.scale_tril = np.asarray(scale_tril, np.float64)
        self.low = np.full(self.loc.shape, -np.inf)
        self.high = np.full(self.loc.shape, np.inf)
        self._log_det = np.log(np.diag(self.scale_tril)).sum()

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Z = L^-1 (theta - loc), by a triangular solve rather than an inverse."""
        factor = jnp.asarray(self.scale_tril, theta.dtype)
        offset = theta - jnp.asarray(self.loc, theta.dtype)
        flat = offset.reshape(-1, offset.shape[-1]).T
        z = solve_triangular(factor, flat, lower=True).T.reshape(offset.shape)
        log_det = jnp.asarray(-self._log_det, theta.dtype)
        return z, jnp.broadcast_to(log_det, theta.shape[:-1])

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta and its constant log-det."""
        factor = jnp.asarray(self.scale_tril, z.dtype)
        # TPUs and recent GPUs would multiply in bfloat16 or TF32 by default.
        moved = jnp.matmul(z, factor.T, precision="highest")
        log_det = jnp.asarray(self._log_det, z.dtype)
        theta = jnp.asarray(self.loc, z.dtype) + moved
        return theta, jnp.broadcast_to(log_det, z.shape[:-1])

    def log_prob(self, theta: Array) -> Array:
        """Multivariate normal log density."""
        z, log_det = self.to_latent_and_log_det(theta)
        return log_normal_density(z).sum(-1) + log_det

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Two sds to either side."""
        sd = np.linalg.norm(self.scale_tril, axis=1)
        return self.loc - 2.0 * sd, self.loc + 2.0 * sd

    def to_config(self) -> dict[str, Any]:
        """Mean and Cholesky factor as lists."""
        return {
            "kind": self.kind,
            "loc": self.loc.tolist(),
            "scale_tril": self.scale_tril.tolist(),
        }
