"""What flows of every kind share: draws, their density, and a distrax distribution."""

import math
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import whole
from flowinv.types import Placed

if TYPE_CHECKING:
    import distrax

__all__ = [
    "Flow",
    "as_distribution",
    "draw_and_log_prob",
    "spread",
    "standard_normal_log_prob",
]


@runtime_checkable
class Flow(Protocol):
    """What an estimator asks of a network over z given a context."""

    def log_prob(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return log q(z | context), `[...]`."""
        ...

    def out_of_range(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return the share of entries that the network was not made for, `[...]`."""
        ...


def standard_normal_log_prob(z: Array) -> Array:
    """Log N(z; 0, I) over the last axis, shape `[...]`."""
    return -0.5 * (z**2).sum(-1) - 0.5 * z.shape[-1] * math.log(2.0 * math.pi)


def spread(z: Array, context: Array | None, placed: Placed | None) -> Array:
    """Z for every context and place: `[..., D]` of the common batch shape, floating."""
    z = jnp.asarray(z)
    if z.dtype.kind in "iub":
        z = z.astype(jnp.float32)
    shapes = [z.shape[:-1]]
    shapes += [] if context is None else [jnp.shape(context)[:-1]]
    shapes += [] if placed is None else [jnp.shape(placed.mean)[:-1]]
    batch = jnp.broadcast_shapes(*shapes)
    return z if batch == z.shape[:-1] else jnp.broadcast_to(z, (*batch, z.shape[-1]))


def draw_and_log_prob(
    flow: Any,
    key: Array,
    context: Array | None,
    num_samples: int,
    placed: Placed | None,
    dim: int,
) -> tuple[Array, Array]:
    """Draws of a bound flow `[*batch, n, D]`, and their log density `[*batch, n]`."""
    num_samples = whole("num_samples", num_samples)
    batch = () if context is None else context.shape[:-1]
    if placed is not None:
        batch = jnp.broadcast_shapes(batch, placed.mean.shape[:-1])
        placed = jax.tree.map(lambda leaf: leaf[..., None, :], placed)
    z0 = jax.random.normal(key, (*batch, num_samples, dim), jnp.float32)
    context = None if context is None else context[..., None, :]
    z, log_det = flow.forward_and_log_det(z0, context, placed)
    return z, standard_normal_log_prob(z0) - log_det


def as_distribution(
    flow: Any, context: Array | None, placed: Placed | None, dim: int
) -> "distrax.Transformed":
    """Return q(. | context) of a bound flow as a `distrax.Transformed` on R^D.

    It is a pytree: it may enter and leave jit, vmap and grad.
    """
    import distrax

    from flowinv.bijectors.distrax_bridge import to_distrax

    batch = () if context is None else context.shape[:-1]
    zeros = jnp.zeros((*batch, dim), jnp.float32)
    # MultivariateNormalDiag keeps functions of traced arrays.
    normal = distrax.Normal(zeros, jnp.ones_like(zeros))
    base = distrax.Independent(normal, reinterpreted_batch_ndims=1)
    # Not the parts, whose functions hold traced arrays: what they are made from.
    unbound, variables = flow.unbind()
    own = {"params": variables["params"]}
    bound = _Bound(unbound, own, context, placed)
    return distrax.Transformed(base, to_distrax(bound))


@jax.tree_util.register_pytree_node_class
class _Bound:
    """A flow with its numbers, its context and its place: a bijector and a pytree."""

    def __init__(self, flow: Any, variables: Any, context: Any, placed: Any) -> None:
        self.flow, self.numbers = flow, (variables, context, placed)

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        return self.numbers, self.flow

    @classmethod
    def tree_unflatten(cls, flow: Any, numbers: tuple) -> "_Bound":
        return cls(flow, *numbers)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._apply(x, "forward_and_log_det")

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._apply(y, "inverse_and_log_det")

    def _apply(self, value: Array, method: str) -> tuple[Array, Array]:
        variables, *rest = self.numbers
        return self.flow.apply(variables, value, *rest, method=method)
