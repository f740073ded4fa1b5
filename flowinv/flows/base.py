"""What every conditional flow shares: density, draws, distribution."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.bijectors.chain import Chain, Inverse
from flowinv.bijectors.permute import Permutation
from flowinv.bijectors.stack import Stack
from flowinv.checks import check_at_least, check_last_axis, check_positive, fail
from flowinv.flows.conditioner import Conditioner, evaluate
from flowinv.flows.density import (
    as_distribution,
    draw_and_log_prob,
    spread,
    standard_normal_log_prob,
)
from flowinv.flows.head import AffineHead, head_dim
from flowinv.flows.mixing import Mixing
from flowinv.flows.univariate import Affine, Univariate
from flowinv.networks.activation import activation
from flowinv.types import Bijector, Placed

if TYPE_CHECKING:
    import distrax

__all__ = ["ConditionalFlow", "Layout"]


class Layout(NamedTuple):
    """How the layers of a kind of flow look at an event of D dimensions.

    Attributes:
        num_inputs: dimensions that a conditioner sees.
        num_moved: dimensions that it moves.
        masks: 0/1 masks of its weights, or None.
        permutations: one after each layer, stacked.
        last: the permutation that undoes them all.
        layer: bijector of a layer from its conditioner.
    """

    num_inputs: int
    num_moved: int
    masks: tuple[np.ndarray, ...] | None
    permutations: Permutation
    last: Permutation
    layer: Callable[[Callable[[Array], Bijector]], Bijector]


class ConditionalFlow(nn.Module):
    """Abstract flow over z in R^D given a context in R^C (or None).

    `flow.init(key, z, context)` gives `{"params": ...}`. All methods broadcast: z
    `[..., D]`, context `[..., C]`, `placed` a mean and a log sd of `[..., D]` each in
    whose units the flow works (None: the standard normal). Forward goes from the base
    N(0, I) to z. A new flow is the placed Gaussian; without one, the identity.

    In float32 three layers invert to 5e-3 of |z| while the raw parameters of the
    element-wise maps have an sd of at most 3 (affine) or 1.5 (spline), 1 with linear
    mixing, and half of that in 20 dimensions.

    Attributes:
        univariate: element-wise map of every layer, `Affine()` or `Spline()`.
        num_layers: layers of the stack.
        hidden: widths of each layer's conditioner.
        act: name of the conditioners' activation.
        head_hidden: widths of the affine head's correction.
        lu_mixing: add a learned LU-factorised linear map to every layer.
        unroll: write the layers out instead of scanning them; same numbers.
        bound: |v| beyond which a latent counts as out of range (a spline's interval).
        widths: factors on the widths of what a trained flow says, D of them, about
            the middle of its head; () for 1. See `flowinv.models.widened`.
    """

    univariate: Univariate = Affine()
    num_layers: int = 8
    hidden: tuple[int, ...] = (256, 256)
    act: str = "relu"
    head_hidden: tuple[int, ...] = (64,)
    lu_mixing: bool = False
    unroll: bool = False
    bound: float = 5.0
    widths: tuple[float, ...] = ()

    @abc.abstractmethod
    def layout(self, dim: int) -> Layout:
        """Return what the layers keep, move and permute of D dimensions."""

    def check(self) -> None:
        """Raise one line if a field is out of its range.

        Raises:
            ValueError: for fewer than one layer, no or empty hidden layers, an unknown
                activation, a bound that is not positive, or what the element-wise map
                does not accept.
        """
        check_at_least("num_layers", self.num_layers, 1)
        if not self.hidden or min(self.hidden) < 1:
            fail(
                "hidden", "to name at least one layer of at least one unit", self.hidden
            )
        if self.head_hidden and min(self.head_hidden) < 1:
            fail("head_hidden", "to name layers of at least one unit", self.head_hidden)
        check_positive("bound", self.bound)
        for factor in self.widths:
            check_positive("widths", factor)
        activation(self.act)
        self.univariate.check()

    @nn.compact
    def parts(
        self, context: Array | None, dim: int, placed: Placed | None = None
    ) -> tuple[Bijector, Bijector]:
        """Return the stack (base to v) and the affine head (v to z)."""
        self.check()
        if dim < 1:
            fail("theta", "with at least one dimension", dim)
        context = (
            jnp.zeros((0,), jnp.float32) if context is None else jnp.asarray(context)
        )
        self._check_sizes(context, dim)
        if self.widths and len(self.widths) != dim:
            fail("widths", f"to be {dim} factors", len(self.widths))
        head = AffineHead(dim, self.head_hidden, name="head")(context, placed)
        begins = jnp.concatenate([head.shift, head.log_scale], -1)
        if self.widths:
            wider = jnp.log(jnp.asarray(self.widths, head.log_scale.dtype))
            head = dataclasses.replace(head, log_scale=head.log_scale + wider)
        return Inverse(self._normalising((context, begins), dim)), head

    def _normalising(self, contexts: Sequence[Array], dim: int) -> Bijector:
        """Return the layers' map from v to the base, for context parts `[..., C_i]`."""
        layout, count = self.layout(dim), self.univariate.num_parameters
        conditioner = Conditioner(
            self.num_layers,
            self.hidden,
            layout.num_inputs,
            layout.num_moved * count,
            layout.masks,
            name="conditioner",
        )(contexts)
        mixing = Mixing(self.num_layers, dim, self.lu_mixing, name="mixing")()

        def make_layer(parts: tuple[Any, ...]) -> Bijector:
            weights, permutation, linear = parts

            def condition(event: Array) -> Bijector:
                raw = evaluate(weights, event, self.act)
                raw = raw.reshape(*raw.shape[:-1], layout.num_moved, count)
                return self.univariate(raw, self.bound)

            return Chain([layout.layer(condition), permutation, *linear])

        stacked = (conditioner, layout.permutations, mixing)
        return Chain([Stack(make_layer, stacked, self.unroll), layout.last])

    def _check_sizes(self, context: Array, dim: int) -> None:
        """Raise unless D and C are those that the flow was made with."""
        if not self.is_initializing():
            size = self.variables["params"]["conditioner"]["context_0"].shape[0]
            check_last_axis("context", context.shape, size)
            check_last_axis("z", (dim,), self._dim())

    def _dim(self) -> int:
        return head_dim(self.variables["params"]["head"])

    def __call__(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return `log_prob(z, context, placed)`."""
        return self.log_prob(z, context, placed)

    def forward(
        self, z0: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Map base `z0` `[..., D]` to z."""
        return self.forward_and_log_det(z0, context, placed)[0]

    def forward_and_log_det(
        self, z0: Array, context: Array | None = None, placed: Placed | None = None
    ) -> tuple[Array, Array]:
        """Map base `z0` `[..., D]` to z; log_det has shape `[...]`."""
        z0 = spread(z0, context, placed)
        parts = self.parts(context, z0.shape[-1], placed)
        return Chain(parts).forward_and_log_det(z0)

    def inverse_and_log_det(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> tuple[Array, Array]:
        """Map z `[..., D]` to the base; log_det has shape `[...]`."""
        z = spread(z, context, placed)
        parts = self.parts(context, z.shape[-1], placed)
        return Chain(parts).inverse_and_log_det(z)

    def log_prob(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return log q(z | context) with shape `[...]`, z with shape `[..., D]`."""
        z0, log_det = self.inverse_and_log_det(z, context, placed)
        return standard_normal_log_prob(z0) + log_det

    def out_of_range(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return the share of the D entries of v beyond `bound`, `[...]`."""
        z = spread(z, context, placed)
        head = self.parts(context, z.shape[-1], placed)[1]
        v = head.inverse_and_log_det(z)[0]
        return (jnp.abs(v) > self.bound).mean(-1)

    def sample(
        self,
        key: Array,
        context: Array | None,
        num_samples: int,
        placed: Placed | None = None,
    ) -> Array:
        """Draw z with shape `[*batch, num_samples, D]` for context `[*batch, C]`."""
        return self.sample_and_log_prob(key, context, num_samples, placed)[0]

    def sample_and_log_prob(
        self,
        key: Array,
        context: Array | None,
        num_samples: int,
        placed: Placed | None = None,
    ) -> tuple[Array, Array]:
        """Draw as `sample` does, and return log q of the draws, `[*batch, n]`."""
        return draw_and_log_prob(self, key, context, num_samples, placed, self._dim())

    def distribution(
        self, context: Array | None = None, placed: Placed | None = None
    ) -> "distrax.Transformed":
        """Return q(. | context) as a `distrax.Transformed` on R^D.

        It is a pytree: it may enter and leave jit, vmap and grad.
        """
        return as_distribution(self, context, placed, self._dim())
