"""A ratio network: a density that is known up to a factor, and cannot be drawn from.

    log q(z | x) = log N(z; placed) + f(z, x) + const(x),

f a network that begins at 0. Trained by a loss of ratios (`flowinv.losses.nre`) the
ratio q(z | x) / p(z) is the likelihood over the evidence. It begins at the placed
Gaussian's ratio, which few simulations suffice for, and learns what is to be added.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from flowinv.checks import fail
from flowinv.flows.density import spread, standard_normal_log_prob
from flowinv.flows.head import LOG_SIGMA_RANGE
from flowinv.networks.activation import activation
from flowinv.types import Placed

__all__ = ["RatioNetwork"]


class RatioNetwork(nn.Module):
    """Score of a pair (z, x), shapes as of `ConditionalFlow`.

    Attributes:
        hidden: widths of the first layer and of the residual blocks' insides, one block
            for each width but the first.
        act: name of the activation.
        bound: sds of the placed Gaussian beyond which the network sees no farther, and
            a latent counts as out of range.
    """

    hidden: tuple[int, ...] = (128, 128, 128)
    act: str = "silu"
    bound: float = 8.0

    @nn.compact
    def _score(self, u: Array, z: Array, context: Array) -> Array:
        act, width = activation(self.act), self.hidden[0]
        # The context is multiplied once for all z of an x.
        net = nn.Dense(width, name="context")(context)
        net = net + nn.Dense(width, use_bias=False, name="pair")(
            jnp.concatenate([u, z], -1)
        )
        for inner in self.hidden[1:]:
            zeros = nn.initializers.zeros
            net = net + nn.Dense(width, kernel_init=zeros)(act(nn.Dense(inner)(net)))
        zeros = nn.initializers.zeros
        return nn.Dense(1, kernel_init=zeros, name="score")(act(net))[..., 0]

    def __call__(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return `log_prob(z, context, placed)`."""
        return self.log_prob(z, context, placed)

    def log_prob(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return log q(z | context) up to a constant of the context, `[...]`."""
        if not self.hidden or min(self.hidden) < 1:
            fail("hidden", "to name layers of at least one unit", self.hidden)
        z = spread(z, context, placed)
        u, log_det = self._scaled(z, placed)
        context = jnp.zeros((0,), z.dtype) if context is None else context
        seen = jnp.clip(u, -self.bound, self.bound)
        score = self._score(seen, jnp.clip(z, -self.bound, self.bound), context)
        return standard_normal_log_prob(u) + log_det + score

    def out_of_range(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return the share of the D entries beyond `bound`, `[...]`."""
        u, _ = self._scaled(spread(z, context, placed), placed)
        return (jnp.abs(u) > self.bound).mean(-1)

    def _scaled(self, z: Array, placed: Placed | None) -> tuple[Array, Array]:
        """Z in units of the placed Gaussian, and the log det of that."""
        if placed is None:
            return z, jnp.zeros((), z.dtype)
        log_sd = jnp.clip(placed.log_sd, *LOG_SIGMA_RANGE)
        return (z - placed.mean) * jnp.exp(-log_sd), -log_sd.sum(-1)
