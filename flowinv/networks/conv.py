"""One-dimensional convolutions for scans."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_at_least, fail
from flowinv.networks.activation import activation

__all__ = ["ConvEmbedding"]


class ConvEmbedding(nn.Module):
    """Strided convolutions over the points of a scan, then one dense layer.

    The profiles of a scan (two axes of one beam) are the input channels; the last
    feature map is flattened, not pooled, because the position of a beam is what is
    asked for.

    Attributes:
        num_profiles: profiles P that a flat x of length P x points holds.
        channels: channels of the convolutions, each with stride 2.
        kernel_size: points per kernel.
        features: size of the context.
        act: name of the activation.
    """

    num_profiles: int = 2
    channels: tuple[int, ...] = (16, 32, 32)
    kernel_size: int = 5
    features: int = 128
    act: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the context of flat scans, `[..., P x points]` to `[..., features]`.

        Raises:
            ValueError: if the length of x is no multiple of `num_profiles`, or that is
                below 1.
        """
        check_at_least("num_profiles", self.num_profiles, 1)
        if x.shape[-1] % self.num_profiles:
            fail("x", f"as {self.num_profiles} profiles of equal length", x.shape)
        batch, points = x.shape[:-1], x.shape[-1] // self.num_profiles
        x = jnp.moveaxis(x.reshape(-1, self.num_profiles, points), 1, 2)
        act = activation(self.act)
        for channels in self.channels:
            x = act(nn.Conv(channels, (self.kernel_size,), strides=(2,))(x))
        x = act(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))
        return x.reshape(*batch, self.features)
