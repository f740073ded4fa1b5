"""A learned ratio of likelihood and evidence, r(theta, x) = p(x | theta) / p(x)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_last_axis, check_shape
from flowinv.flows.density import Flow
from flowinv.models.estimator import Estimator, Variables
from flowinv.models.latent_density import latent_log_prob
from flowinv.priors.latent import Prior

__all__ = ["Ratio"]


@jax.tree_util.register_pytree_node_class
class Ratio:
    """log r(theta, x) of one trained network, or of an ensemble's mean ratio.

    Attributes:
        estimator: whose flow is a `RatioNetwork`.
        variables: trained numbers.
    """

    def __init__(self, estimator: Estimator, variables: Variables) -> None:
        """Bind trained numbers."""
        self.estimator, self.variables = estimator, variables

    def tree_flatten(self) -> tuple[tuple[Variables], Estimator]:
        """Numbers are leaves, the estimator is structure."""
        return (self.variables,), self.estimator

    @classmethod
    def tree_unflatten(cls, estimator: Estimator, children: tuple[Any]) -> "Ratio":
        """Put a ratio together again."""
        return cls(estimator, *children)

    @property
    def prior(self) -> Prior:
        """Prior of theta."""
        return self.estimator.prior

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.variables.frozen.statistics.shift.shape

    @property
    def summary(self) -> Any:
        """Summary of x that is read, or None."""
        return self.estimator.summary

    @property
    def input_scaling(self) -> str:
        """Map of x before standardisation."""
        return self.estimator.input_scaling

    def member(self, index: int) -> "Ratio":
        """Of one network of an ensemble."""
        return Ratio(self.estimator, self.variables.member(index))

    @property
    def flow(self) -> Flow:
        """The network."""
        return self.estimator.flow

    def told(self, x: Array) -> Array:
        """What the network is told of x `[..., *x_shape]`: its features, `[..., C]`."""
        features = self.estimator.features(self.variables.frozen, x)
        inputs = features.inputs.reshape(*features.known.shape[:-1], -1)
        return jnp.concatenate([features.known, inputs], -1)

    def of_latents(self, z: Array, x: Array) -> Array:
        """Log ratio of one x `[*x_shape]` at latents z `[P, D]`, `[P]`."""
        log_q = latent_log_prob(self.estimator, self.variables, z[None], x[None])[0]
        return log_q - self.prior.latent_log_prob(z)

    def log_prob(self, x: ArrayLike, theta: ArrayLike) -> Array:
        """Return log r(theta, x), `[...]`; jit-, vmap- and differentiable.

        Args:
            x: `[*batch, *x_shape]`.
            theta: `[*batch, D]`; axes of size 1 broadcast.

        Raises:
            ValueError: for shapes that do not fit.
        """
        x, theta = jnp.asarray(x, jnp.float32), jnp.asarray(theta)
        event = len(self.x_shape)
        check_shape("x", x.shape[x.ndim - event :], self.x_shape)
        check_last_axis("theta", theta.shape, self.prior.dim)
        z, inner = self.prior.to_latent(theta), x.shape[: x.ndim - event]
        batch = jnp.broadcast_shapes(inner, z.shape[:-1])
        x = jnp.broadcast_to(x, (*batch, *self.x_shape)).reshape(-1, *self.x_shape)
        z = jnp.broadcast_to(z, (*batch, z.shape[-1])).reshape(-1, 1, z.shape[-1])
        log_q = latent_log_prob(self.estimator, self.variables, z, x)[:, 0]
        return (log_q - self.prior.latent_log_prob(z[:, 0])).reshape(batch)
