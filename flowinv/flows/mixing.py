"""Parameters of the optional linear maps between layers."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flowinv.bijectors.lu import LULinear

__all__ = ["Mixing"]


class Mixing(nn.Module):
    """Stacked LU maps, one per layer, the identity at start.

    Attributes:
        num_layers: L.
        dim: D.
        enabled: without it there is nothing to learn and nothing to apply.
    """

    num_layers: int
    dim: int
    enabled: bool

    @nn.compact
    def __call__(self) -> tuple[LULinear, ...]:
        """Return one stacked `LULinear`, or nothing."""
        if not self.enabled or self.dim == 1:
            return ()

        def zeros(name: str, *shape: int) -> Array:
            shape = (self.num_layers, *shape)
            return self.param(name, nn.initializers.zeros, shape, jnp.float32)

        lower, upper = (zeros(n, self.dim, self.dim) for n in ("lower", "upper"))
        return (LULinear(lower, upper, zeros("log_diagonal", self.dim)),)
