"""Permutation-invariant embedding: several scans of one beam.

References:
    Zaheer et al. 2017, Deep Sets, arXiv:1703.06114.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flowinv.checks import fail
from flowinv.networks.mlp import MLP

__all__ = ["SetEmbedding"]


class SetEmbedding(nn.Module):
    """Embed every member, average, and refine: `[..., M, L]` to `[..., C]`.

    The order of the M members does not matter. Their number joins as log M, since a
    mean forgets it and M scans tell more than one.

    Attributes:
        member: network of one member, `[..., L]` to `[..., K]`.
        hidden: widths of the layers after the mean.
        act: name of their activation.
    """

    member: nn.Module
    hidden: tuple[int, ...] = (128,)
    act: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the context of sets of observations, shape `[..., C]`.

        Raises:
            ValueError: if x has no axis of members, or no member.
        """
        if x.ndim < 2 or x.shape[-2] < 1:
            fail("x", "with shape (..., M, L), at least one member", x.shape)
        pooled = self.member(x).mean(-2)
        size = jnp.full((*pooled.shape[:-1], 1), jnp.log(x.shape[-2]), pooled.dtype)
        return MLP(self.hidden, self.act)(jnp.concatenate([pooled, size], -1))
