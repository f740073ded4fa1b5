"""The context-dependent affine head: a Gaussian around the stack of layers.

Posteriors can be a thousand times narrower than the prior, out of reach of splines on a
fixed interval. The head places and scales them: z = mu(c) + sigma(c) v, with v the
output of the stack. Where it begins is handed in (`placed`, solved by a regression or
known otherwise), not learned; the network learns the correction *in units of the placed
sigma*, so one optimizer step never moves a narrow posterior by many widths.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flowinv.bijectors.affine import Affine, soft_clamp
from flowinv.networks.activation import activation
from flowinv.types import Placed

__all__ = ["LOG_SIGMA_RANGE", "AffineHead", "head_dim"]

# exp(-11.5) = 1e-5: ten times float32's spacing at |z| = 8, the widest useful latent.
LOG_SIGMA_RANGE = (-11.5, 3.0)
# Name of the last layer: its size tells D.
_LAST = "correction"


class AffineHead(nn.Module):
    """Gaussian head: a placed Gaussian and a learned correction.

    mu = mu_0 + sigma_0 delta(c), log sigma = log sigma_0 + s(c), with (mu_0,
    log sigma_0) handed in, standard normal if not, and delta, s from an MLP whose last
    layer starts at zero; |s| is softly bounded by 4.

    Attributes:
        dim: D.
        hidden: widths of the correction's hidden layers; none leaves it linear.
        act: name of the activation.
    """

    dim: int
    hidden: tuple[int, ...] = (64,)
    act: str = "silu"

    @nn.compact
    def __call__(self, context: Array, placed: Placed | None = None) -> Affine:
        """Return the affine map with shift and log_scale of shape `[..., D]`.

        Args:
            context: shape `[..., C]`.
            placed: mean and log sd, `[..., D]` each; None is the standard normal.
        """
        net = context
        # Without a context there is nothing to correct by: a learned constant is left.
        for width in self.hidden if context.shape[-1] else ():
            net = activation(self.act)(nn.Dense(width)(net))
        zeros = nn.initializers.zeros
        net = nn.Dense(2 * self.dim, kernel_init=zeros, name=_LAST)(net)
        delta, change = jnp.split(net, 2, -1)
        if placed is None:
            return Affine(delta, soft_clamp(change, 4.0))
        log_sd = jnp.clip(placed.log_sd, *LOG_SIGMA_RANGE)
        shift = placed.mean + jnp.exp(log_sd) * delta
        return Affine(shift, log_sd + soft_clamp(change, 4.0))


def head_dim(params: Any) -> int:
    """D of the head that `params` are the parameters of."""
    return params[_LAST]["bias"].shape[-1] // 2
