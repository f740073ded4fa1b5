"""What every conditional flow shares: density, draws, distribution."""

import abc
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from flowinv.bijectors.chain import Chain, Inverse
from flowinv.checks import check_at_least, check_last_axis, check_positive, fail
from flowinv.flows.head import AffineHead
from flowinv.networks.activation import activation
from flowinv.types import Bijector

if TYPE_CHECKING:
    import distrax

__all__ = ["ConditionalFlow", "standard_normal_log_prob"]


def standard_normal_log_prob(z: Array) -> Array:
    """Log N(z; 0, I) over the last axis, shape `[...]`."""
    return -0.5 * (z**2).sum(-1) - 0.5 * z.shape[-1] * math.log(2.0 * math.pi)


class ConditionalFlow(nn.Module):
    """Abstract flow over z in R^D given a context in R^C (or None).

    `flow.init(key, z, context)` gives the collections `params` (trained) and `start`
    (the head's solved start). All methods broadcast: z `[..., D]`, context `[..., C]`.
    Forward goes from the base N(0, I) to z. A new flow is the identity.

    Attributes:
        num_layers: layers of the stack.
        hidden: widths of each layer's conditioner.
        act: name of the conditioners' activation.
        head_hidden: widths of the affine head's correction.
        lu_mixing: add a learned LU-factorised linear map to every layer.
        unroll: write the layers out instead of scanning them; same numbers.
        bound: |v| beyond which a latent counts as out of range (a spline's interval).
    """

    num_layers: int = 8
    hidden: tuple[int, ...] = (256, 256)
    act: str = "relu"
    head_hidden: tuple[int, ...] = (64,)
    lu_mixing: bool = False
    unroll: bool = False
    bound: float = 5.0

    @abc.abstractmethod
    def normalising_stack(self, contexts: Sequence[Array], dim: int) -> Bijector:
        """Return the layers' map from v to the base, for context parts `[..., C_i]`."""

    def check(self) -> None:
        """Raise one line if a field is out of its range.

        Raises:
            ValueError: for fewer than one layer, no or empty hidden layers, an unknown
                activation or a bound that is not positive.
        """
        check_at_least("num_layers", self.num_layers, 1)
        if not self.hidden or min(self.hidden) < 1:
            fail(
                "hidden", "to name at least one layer of at least one unit", self.hidden
            )
        if self.head_hidden and min(self.head_hidden) < 1:
            fail("head_hidden", "to name layers of at least one unit", self.head_hidden)
        check_positive("bound", self.bound)
        activation(self.act)

    @nn.compact
    def parts(self, context: Array | None, dim: int) -> tuple[Bijector, Bijector]:
        """Return the stack (base to v) and the affine head (v to z)."""
        self.check()
        if dim < 1:
            fail("theta", "with at least one dimension", dim)
        context = jnp.zeros((0,)) if context is None else jnp.asarray(context)
        self._check_sizes(context, dim)
        head = AffineHead(dim, self.head_hidden, name="head")(context)
        placed = jnp.concatenate([head.shift, head.log_scale], -1)
        return Inverse(self.normalising_stack((context, placed), dim)), head

    def _check_sizes(self, context: Array, dim: int) -> None:
        """Raise unless D and C are those that the flow was made with."""
        if self.has_variable("start", "head"):
            size, known = self.get_variable("start", "head")["mean_kernel"].shape
            check_last_axis("context", context.shape, size)
            check_last_axis("z", (dim,), known)

    def __call__(self, z: Array, context: Array | None = None) -> Array:
        """Return `log_prob(z, context)`."""
        return self.log_prob(z, context)

    def forward_and_log_det(
        self, z0: Array, context: Array | None = None
    ) -> tuple[Array, Array]:
        """Map base `z0` `[..., D]` to z; log_det has shape `[...]`."""
        return Chain(self.parts(context, z0.shape[-1])).forward_and_log_det(z0)

    def inverse_and_log_det(
        self, z: Array, context: Array | None = None
    ) -> tuple[Array, Array]:
        """Map z `[..., D]` to the base; log_det has shape `[...]`."""
        return Chain(self.parts(context, z.shape[-1])).inverse_and_log_det(z)

    def log_prob(self, z: Array, context: Array | None = None) -> Array:
        """Return log q(z | context) with shape `[...]`, z with shape `[..., D]`."""
        z0, log_det = self.inverse_and_log_det(jnp.asarray(z), context)
        return standard_normal_log_prob(z0) + log_det

    def log_prob_and_range(
        self, z: Array, context: Array | None = None
    ) -> tuple[Array, Array]:
        """Return log q and the share of the D entries of v beyond `bound`, `[...]`."""
        stack, head = self.parts(context, z.shape[-1])
        v, head_log_det = head.inverse_and_log_det(z)
        z0, log_det = stack.inverse_and_log_det(v)
        outside = (jnp.abs(v) > self.bound).mean(-1)
        return standard_normal_log_prob(z0) + log_det + head_log_det, outside

    def sample(self, key: Array, context: Array | None, num_samples: int) -> Array:
        """Draw z with shape `[*batch, num_samples, D]` for context `[*batch, C]`."""
        return self.sample_and_log_prob(key, context, num_samples)[0]

    def sample_and_log_prob(
        self, key: Array, context: Array | None, num_samples: int
    ) -> tuple[Array, Array]:
        """Draw as `sample` does, and return log q of the draws, `[*batch, n]`."""
        check_at_least("num_samples", num_samples, 1)
        dim = self.get_variable("start", "head")["mean_bias"].shape[-1]
        batch = () if context is None else context.shape[:-1]
        z0 = jax.random.normal(key, (*batch, num_samples, dim))
        context = None if context is None else context[..., None, :]
        z, log_det = self.forward_and_log_det(z0, context)
        return z, standard_normal_log_prob(z0) - log_det

    def distribution(
        self, context: Array | None = None, dim: int | None = None
    ) -> "distrax.Transformed":
        """Return q(. | context) as a `distrax.Transformed` on R^D."""
        import distrax

        from flowinv.bijectors.distrax_bridge import to_distrax

        dim = dim or self.get_variable("start", "head")["mean_bias"].shape[-1]
        batch = () if context is None else context.shape[:-1]
        base = distrax.MultivariateNormalDiag(
            jnp.zeros((*batch, dim)), jnp.ones((*batch, dim))
        )
        bijector = Chain(self.parts(context, dim))
        return distrax.Transformed(base, to_distrax(bijector))
