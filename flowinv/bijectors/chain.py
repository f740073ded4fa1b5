"""Composition and inversion of bijectors."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from flowinv.types import Bijector

__all__ = ["Chain", "Inverse"]


class Inverse:
    """The same map with its directions exchanged."""

    def __init__(self, bijector: Bijector) -> None:
        """Wrap `bijector`."""
        self.bijector = bijector

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return the wrapped inverse at x."""
        return self.bijector.inverse_and_log_det(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return the wrapped forward at y."""
        return self.bijector.forward_and_log_det(y)


class Chain:
    """Bijectors applied first to last (distrax's Chain applies last to first)."""

    def __init__(self, bijectors: Sequence[Bijector]) -> None:
        """Compose `bijectors`; an empty sequence is the identity."""
        self.bijectors = tuple(bijectors)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y with shape `[..., D]` and log_det with shape `[...]`."""
        log_det = jnp.zeros(x.shape[:-1], x.dtype)
        for bijector in self.bijectors:
            x, step = bijector.forward_and_log_det(x)
            log_det = log_det + step
        return x, log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x with shape `[..., D]` and log_det with shape `[...]`."""
        log_det = jnp.zeros(y.shape[:-1], y.dtype)
        for bijector in reversed(self.bijectors):
            y, step = bijector.inverse_and_log_det(y)
            log_det = log_det + step
        return y, log_det
