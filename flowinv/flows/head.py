"""The context-dependent affine head: a Gaussian around the stack of layers.

Posteriors can be a thousand times narrower than the prior, out of reach of splines on a
fixed interval. The head places and scales them: z = mu(c) + sigma(c) v, with v the
output of the stack. Its start is solved (`flowinv.flows.start`), not learned, and
kept out of the trained parameters; the network learns the correction *in units of the
solved sigma*, so one optimizer step never moves a narrow posterior by many widths.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flowinv.bijectors.affine import Affine, soft_clamp
from flowinv.networks.activation import activation

__all__ = ["LOG_SIGMA_RANGE", "AffineHead"]

# exp(-11.5) = 1e-5: ten times float32's spacing at |z| = 8, the widest useful latent.
LOG_SIGMA_RANGE = (-11.5, 3.0)


class AffineHead(nn.Module):
    """Gaussian head with a solved start and a learned correction.

    mu = mu_0 + sigma_0 delta(c), log sigma = log sigma_0 + s(c), with mu_0 = W c + b
    and log sigma_0 = V c + d from the collection `start` (zero until solved), and
    delta, s from an MLP whose last layer starts at zero; |s| is softly bounded by 4.

    Attributes:
        dim: D.
        hidden: widths of the correction's hidden layers; none leaves it linear.
        act: name of the activation.
    """

    dim: int
    hidden: tuple[int, ...] = (64,)
    act: str = "silu"

    @nn.compact
    def __call__(self, context: Array) -> Affine:
        """Return the affine map with shift and log_scale of shape `[..., D]`."""
        size = context.shape[-1]
        start = {
            name: self.variable("start", name, jnp.zeros, shape, jnp.float32).value
            for name, shape in {
                "mean_kernel": (size, self.dim),
                "mean_bias": (self.dim,),
                "scale_kernel": (size, self.dim),
                "scale_bias": (self.dim,),
            }.items()
        }
        exact = {"precision": "highest"}
        mean = jnp.matmul(context, start["mean_kernel"], **exact) + start["mean_bias"]
        log_scale = jnp.matmul(context, start["scale_kernel"], **exact)
        log_scale = jnp.clip(log_scale + start["scale_bias"], *LOG_SIGMA_RANGE)
        net = context
        # Without a context there is nothing to correct by: a learned constant is left.
        for width in self.hidden if size else ():
            net = activation(self.act)(nn.Dense(width)(net))
        net = nn.Dense(2 * self.dim, kernel_init=nn.initializers.zeros)(net)
        delta, change = jnp.split(net, 2, -1)
        shift = mean + jnp.exp(log_scale) * delta
        return Affine(shift, log_scale + soft_clamp(change, 4.0))
