"""Masked autoregressive map: dimension i is moved given the dimensions before it.

References:
    Papamakarios et al. 2017, Masked Autoregressive Flow, arXiv:1705.07057.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from flowinv.types import Bijector

__all__ = ["Autoregressive"]


class Autoregressive:
    """y_i = f(x_i; conditioner(x_<i)).

    Forward is one pass. The inverse fixes one dimension a pass and costs D of them.
    """

    def __init__(self, conditioner: Callable[[Array], Bijector]) -> None:
        """Build from a conditioner whose i-th output depends on entries before i."""
        self.conditioner = conditioner

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y with shape `[..., D]` and log_det with shape `[...]`."""
        return self.conditioner(x).forward_and_log_det(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x with shape `[..., D]` and log_det with shape `[...]`."""

        def refine(x: Array, _: None) -> tuple[Array, None]:
            return self.conditioner(x).inverse_and_log_det(y)[0], None

        # After k passes the first k dimensions are exact, since they depend on exact
        # ones only. The last pass also gives the log-det.
        start = jnp.zeros_like(y)
        x, _ = lax.scan(refine, start, None, length=y.shape[-1] - 1)
        return self.conditioner(x).inverse_and_log_det(y)
