"""Mixtures of normals: z = Phi^-1(CDF), both tails kept apart, the way back by halving.

A mixture's quantile has no closed form, and no table holds it: between two far modes it
jumps. But the CDF is a sum, and the quantile lies between those of the components.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import log_ndtr, logsumexp, ndtri

from flowinv.priors.blocks import BoxBlock
from flowinv.priors.normal import log_normal_density

__all__ = ["NormalMixture"]

# Log tail below which exp would leave float32; there z comes by Newton's steps.
_FAR_TAIL, _NUM_NEWTON = -40.0, 5


class NormalMixture(BoxBlock):
    """d columns, each a mixture of K normals."""

    kind = "normal_mixture"

    def __init__(self, weights: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> None:
        """Take arrays of shape `[d, K]`; the caller has checked them.

        Args:
            weights: of the components, above 0, of sum 1 after division by it.
            loc: means.
            scale: standard deviations, above 0.
        """
        self.weights = np.asarray(weights, np.float64)
        self.loc = np.asarray(loc, np.float64)
        self.scale = np.asarray(scale, np.float64)
        self._log_weights = np.log(self.weights / self.weights.sum(-1, keepdims=True))
        columns = self.loc.shape[:1]
        self.low, self.high = np.full(columns, -np.inf), np.full(columns, np.inf)
        # Derivatives of both by the densities: exact, to any order.
        self._score = jax.custom_jvp(self._score_of)
        self._score.defjvp(self._score_jvp)
        self._quantile = jax.custom_jvp(self._quantile_of)
        self._quantile.defjvp(self._quantile_jvp)

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Z = Phi^-1(CDF(theta)) from the smaller tail, and log p(theta) - log N(z)."""
        z = self._score(theta)
        return z, (self._log_density(theta) - log_normal_density(z)).sum(-1)

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta by halving, and log N(z) - log p(theta)."""
        theta = self._quantile(z)
        return theta, (log_normal_density(z) - self._log_density(theta)).sum(-1)

    def log_prob(self, theta: Array) -> Array:
        """Sum of the mixtures' log densities."""
        return self._log_density(theta).sum(-1)

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Theta at two sds of the latent to either side, in float32."""
        z = jnp.asarray([[-2.0], [2.0]], jnp.float32) * jnp.ones(len(self.low))
        low, high = np.asarray(self._quantile(z), np.float64)
        return low, high

    def to_config(self) -> dict[str, Any]:
        """Weights, means and sds as lists of lists."""
        return {
            "kind": self.kind,
            "weights": self.weights.tolist(),
            "loc": self.loc.tolist(),
            "scale": self.scale.tolist(),
        }

    def _parts(self, theta: Array) -> tuple[Array, Array, Array]:
        """Log weights, distances from the means in sds, log sds: `[..., d, K]`."""
        log_weights, loc, scale, log_scale = (
            jnp.asarray(v, theta.dtype)
            for v in (self._log_weights, self.loc, self.scale, np.log(self.scale))
        )
        return log_weights, (theta[..., None] - loc) / scale, log_scale

    def _log_density(self, theta: Array) -> Array:
        log_weights, away, log_scale = self._parts(theta)
        return logsumexp(log_weights - log_scale + log_normal_density(away), -1)

    def _log_tail(self, theta: Array, side: Array) -> Array:
        """Log of the mass below theta where `side` is 1, above it where it is -1."""
        log_weights, away, _ = self._parts(theta)
        return logsumexp(log_weights + log_ndtr(side[..., None] * away), -1)

    def _score_of(self, theta: Array) -> Array:
        ones = jnp.ones_like(theta)
        lower, upper = self._log_tail(theta, ones), self._log_tail(theta, -ones)
        is_lower = lower <= upper
        tail = jnp.where(is_lower, lower, upper)
        near = ndtri(jnp.exp(jnp.maximum(tail, _FAR_TAIL)))
        far = -jnp.sqrt(-2.0 * jnp.minimum(tail, _FAR_TAIL))
        for _ in range(_NUM_NEWTON):
            log_tail = log_ndtr(far)
            ratio = jnp.exp(log_tail - log_normal_density(far))
            far = far + (jnp.minimum(tail, _FAR_TAIL) - log_tail) * ratio
        z = jnp.where(tail > _FAR_TAIL, near, far)
        return jnp.where(is_lower, z, -z)

    def _score_jvp(self, given: Any, moved: Any) -> tuple[Array, Array]:
        (theta,), (step,) = given, moved
        z = self._score(theta)
        slope = jnp.exp(self._log_density(theta) - log_normal_density(z))
        return z, slope * step

    def _quantile_of(self, z: Array) -> Array:
        """By halving the bracket between the components' quantiles."""
        loc, scale = (jnp.asarray(v, z.dtype) for v in (self.loc, self.scale))
        at = loc + scale * z[..., None]
        # From the smaller tail, which keeps its digits.
        side = jnp.where(z <= 0, 1.0, -1.0).astype(z.dtype)
        wanted = log_ndtr(side * z)

        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = low + 0.5 * (high - low)
            above = side * (self._log_tail(middle, side) - wanted) > 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        # Until both ends are neighbours, also where components differ by 4,000 times.
        steps = jnp.finfo(z.dtype).nmant + 12
        low, high = jax.lax.fori_loop(0, steps, halve, (at.min(-1), at.max(-1)))
        return low + 0.5 * (high - low)

    def _quantile_jvp(self, given: Any, moved: Any) -> tuple[Array, Array]:
        (z,), (step,) = given, moved
        theta = self._quantile(z)
        slope = jnp.exp(log_normal_density(z) - self._log_density(theta))
        return theta, slope * step
