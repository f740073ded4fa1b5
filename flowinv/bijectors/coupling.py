"""Split coupling: one part is kept and conditions the map of the other.

References:
    Dinh et al. 2017, Real NVP, arXiv:1605.08803.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from flowinv.types import Bijector

__all__ = ["Coupling"]


class Coupling:
    """y = [x_kept, f(x_moved; conditioner(x_kept))]; both directions cost one pass.

    The element-wise map is evaluated for the moved part only.
    """

    def __init__(self, split: int, conditioner: Callable[[Array], Bijector]) -> None:
        """Build from the number of kept dimensions and their conditioner.

        Args:
            split: kept dimensions, at the front; 0 leaves a map without condition.
            conditioner: gives the bijector of the moved part from the kept part.
        """
        self.split = split
        self.conditioner = conditioner

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y with shape `[..., D]` and log_det with shape `[...]`."""
        kept, moved = x[..., : self.split], x[..., self.split :]
        moved, log_det = self.conditioner(kept).forward_and_log_det(moved)
        return jnp.concatenate([kept, moved], -1), log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x with shape `[..., D]` and log_det with shape `[...]`."""
        kept, moved = y[..., : self.split], y[..., self.split :]
        moved, log_det = self.conditioner(kept).inverse_and_log_det(moved)
        return jnp.concatenate([kept, moved], -1), log_det
