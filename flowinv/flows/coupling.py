"""Coupling flows: the conditional INN and the neural spline flow.

References:
    Ardizzone et al. 2019, conditional invertible neural networks, arXiv:1907.02392.
    Durkan et al. 2019, Neural Spline Flows, arXiv:1906.04032.
"""

import abc
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from flowinv.bijectors.affine import Affine, soft_clamp
from flowinv.bijectors.chain import Chain
from flowinv.bijectors.coupling import Coupling
from flowinv.bijectors.permute import mixing_permutations
from flowinv.bijectors.spline import RationalQuadraticSpline, num_spline_parameters
from flowinv.bijectors.stack import Stack
from flowinv.checks import check_at_least, check_positive
from flowinv.flows.base import ConditionalFlow
from flowinv.flows.conditioner import Conditioner, evaluate
from flowinv.flows.mixing import Mixing
from flowinv.types import Bijector

__all__ = ["CINN", "CouplingFlow", "SplineCouplingFlow"]


class CouplingFlow(ConditionalFlow):
    """Abstract coupling flow: both directions cost one pass of every conditioner.

    Each layer keeps the first half of the event, moves the rest given that half and
    the context, then permutes. D = 1 keeps nothing: the map depends on the context.
    """

    @abc.abstractmethod
    def univariate(self, raw: Array) -> Bijector:
        """Return the element-wise map from raw parameters `[..., d, P]`."""

    @abc.abstractmethod
    def num_parameters(self) -> int:
        """Raw parameters P per moved dimension."""

    def normalising_stack(self, contexts: Sequence[Array], dim: int) -> Bijector:
        """Return the layers' map from v to the base, for context parts `[..., C_i]`."""
        split = dim // 2
        moved, count = dim - split, self.num_parameters()
        conditioner = Conditioner(
            self.num_layers, self.hidden, split, moved * count, name="conditioner"
        )(contexts)
        mixing = Mixing(self.num_layers, dim, self.lu_mixing, name="mixing")()
        permutations, last = mixing_permutations(dim, self.num_layers, split)

        def make_layer(layer: tuple[Any, ...]) -> Bijector:
            weights, permutation, linear = layer

            def condition(kept: Array) -> Bijector:
                raw = evaluate(weights, kept, self.act)
                return self.univariate(raw.reshape(*raw.shape[:-1], moved, count))

            return Chain([Coupling(split, condition), permutation, *linear])

        layers = (conditioner, permutations, mixing)
        return Chain([Stack(make_layer, layers, self.unroll), last])


class CINN(CouplingFlow):
    """Conditional INN: affine coupling layers with softly clamped log-scales.

    Attributes:
        clamp: bound of each layer's |log-scale|.
    """

    clamp: float = 2.0

    def check(self) -> None:
        """Raise one line if a field is out of its range."""
        super().check()
        check_positive("clamp", self.clamp)

    def num_parameters(self) -> int:
        """Shift and log-scale."""
        return 2

    def univariate(self, raw: Array) -> Bijector:
        """Return the affine map; the log-scale is softly clamped."""
        return Affine(raw[..., 0], soft_clamp(raw[..., 1], self.clamp))


class SplineCouplingFlow(CouplingFlow):
    """Rational-quadratic spline coupling flow; the identity beyond `bound`.

    Attributes:
        num_bins: bins K of each spline.
    """

    num_bins: int = 8

    def check(self) -> None:
        """Raise one line if a field is out of its range."""
        super().check()
        check_bins(self.num_bins)

    def num_parameters(self) -> int:
        """Widths, heights and inner slopes."""
        return num_spline_parameters(self.num_bins)

    def univariate(self, raw: Array) -> Bijector:
        """Return the spline; its parameters are softly bounded."""
        return RationalQuadraticSpline(jnp.asarray(raw), self.bound)


def check_bins(num_bins: int) -> None:
    """Raise unless a spline has at least two bins."""
    check_at_least("num_bins", num_bins, 2)
