"""Multi-layer perceptrons as embeddings.

References:
    He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv:1603.05027.
"""

import flax.linen as nn
from jax import Array

from flowinv.networks.activation import activation

__all__ = ["MLP", "ResidualMLP"]


class MLP(nn.Module):
    """Dense layers with an activation after each: `[..., L]` to `[..., hidden[-1]]`.

    Attributes:
        hidden: widths of the layers.
        act: name of the activation.
    """

    hidden: tuple[int, ...] = (256, 256)
    act: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the context of x with shape `[..., L]`."""
        for width in self.hidden:
            x = activation(self.act)(nn.Dense(width)(x))
        return x


class ResidualMLP(nn.Module):
    """A dense layer, then pre-activation residual blocks that start at the identity.

    Attributes:
        width: units of every layer.
        num_blocks: residual blocks of two dense layers each.
        act: name of the activation.
    """

    width: int = 256
    num_blocks: int = 2
    act: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the context of x, `[..., L]` to `[..., width]`."""
        act = activation(self.act)
        x = nn.Dense(self.width)(x)
        for _ in range(self.num_blocks):
            inner = nn.Dense(self.width)(act(x))
            zero = nn.initializers.zeros
            x = x + nn.Dense(self.width, kernel_init=zero)(act(inner))
        return act(x)
