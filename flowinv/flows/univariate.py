"""Element-wise maps whose parameters a conditioner gives: one kind, one class.

A map is a frozen description. It says how many raw numbers it needs for each dimension
and turns them into a bijector; at raw parameters of zero that is the identity. A user's
own map needs nothing else.

References:
    Dinh et al. 2017, Real NVP, arXiv:1605.08803 (affine).
    Durkan et al. 2019, Neural Spline Flows, arXiv:1906.04032 (spline).
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array

from flowinv.bijectors import affine
from flowinv.bijectors.affine import soft_clamp
from flowinv.bijectors.spline import RationalQuadraticSpline, num_spline_parameters
from flowinv.checks import check_at_least, check_positive
from flowinv.types import Bijector

__all__ = ["Affine", "Spline", "Univariate"]


@runtime_checkable
class Univariate(Protocol):
    """What a flow asks of its element-wise map; a hashable description."""

    @property
    def num_parameters(self) -> int:
        """Raw parameters P for each dimension."""
        ...

    def check(self) -> None:
        """Raise one line if a field is out of its range."""
        ...

    def __call__(self, raw: Array, bound: float) -> Bijector:
        """Return the map of raw parameters `[..., d, P]`; the identity at zero.

        Args:
            raw: what the conditioner gives.
            bound: the flow's bound on latents, for maps on an interval.
        """
        ...


@dataclass(frozen=True)
class Affine:
    """Shift and scale.

    Attributes:
        clamp: soft bound of the |log-scale|.
    """

    clamp: float = 2.0

    @property
    def num_parameters(self) -> int:
        """Shift and log-scale."""
        return 2

    def check(self) -> None:
        """Raise one line if a field is out of its range."""
        check_positive("clamp", self.clamp)

    def __call__(self, raw: Array, bound: float) -> Bijector:
        """Return the affine map; the log-scale is softly clamped."""
        del bound
        return affine.Affine(raw[..., 0], soft_clamp(raw[..., 1], self.clamp))


@dataclass(frozen=True)
class Spline:
    """Monotone rational-quadratic spline; the identity beyond the flow's bound.

    Attributes:
        num_bins: bins K.
    """

    num_bins: int = 8

    @property
    def num_parameters(self) -> int:
        """Widths, heights and inner slopes."""
        return num_spline_parameters(self.num_bins)

    def check(self) -> None:
        """Raise one line if a field is out of its range."""
        check_at_least("num_bins", self.num_bins, 2)

    def __call__(self, raw: Array, bound: float) -> Bijector:
        """Return the spline; its parameters are softly bounded."""
        return RationalQuadraticSpline(jnp.asarray(raw), bound)
