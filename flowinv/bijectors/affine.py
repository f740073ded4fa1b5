"""Element-wise affine map and the soft clamp that bounds its log-scale."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Affine", "soft_clamp"]


def soft_clamp(value: Array, bound: float) -> Array:
    """Bound `value` smoothly to (-bound, bound): v / (1 + |v| / bound).

    The slope is 1 at 0 and falls off as 1 / v^2, so a saturated network still gets a
    gradient (a tanh would starve it exponentially). The same form bounds the spline
    parameters of zuko. Any shape; dtype of `value`.
    """
    return value / (1.0 + jnp.abs(value) / bound)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Affine:
    """y = x exp(log_scale) + shift, element by element; both directions cost the same.

    Attributes:
        shift: shape that broadcasts against the event, `[..., D]`.
        log_scale: the same; already bounded by the caller (`soft_clamp`).
    """

    shift: Array
    log_scale: Array

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y with shape `[..., D]` and log_det with shape `[...]`."""
        log_scale = jnp.broadcast_to(self.log_scale, x.shape)
        return x * jnp.exp(log_scale) + self.shift, log_scale.sum(-1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x with shape `[..., D]` and log_det with shape `[...]`."""
        log_scale = jnp.broadcast_to(self.log_scale, y.shape)
        return (y - self.shift) * jnp.exp(-log_scale), -log_scale.sum(-1)
