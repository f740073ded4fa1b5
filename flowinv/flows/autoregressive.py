"""Autoregressive flows: MAF and its spline version.

Density in one pass of every conditioner, draws in D passes.

References:
    Papamakarios et al. 2017, Masked Autoregressive Flow, arXiv:1705.07057.
    Germain et al. 2015, MADE, arXiv:1502.03509 (the masks).
    Durkan et al. 2019, Neural Spline Flows, arXiv:1906.04032.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import Array

from flowinv.bijectors.affine import Affine, soft_clamp
from flowinv.bijectors.autoregressive import Autoregressive
from flowinv.bijectors.chain import Chain
from flowinv.bijectors.permute import permutation
from flowinv.bijectors.spline import RationalQuadraticSpline, num_spline_parameters
from flowinv.bijectors.stack import Stack
from flowinv.checks import check_positive
from flowinv.flows.base import ConditionalFlow
from flowinv.flows.conditioner import Conditioner, evaluate
from flowinv.flows.coupling import check_bins
from flowinv.flows.mixing import Mixing
from flowinv.types import Bijector

__all__ = [
    "AffineAutoregressiveFlow",
    "AutoregressiveFlow",
    "SplineAutoregressiveFlow",
    "made_masks",
]


def made_masks(
    dim: int, hidden: tuple[int, ...], num_parameters: int
) -> tuple[np.ndarray, ...]:
    """0/1 masks `[D, H], [H, H'], ..., [H, D P]` of MADE.

    Hidden units take the degrees 0..D-1 in turn; a unit of degree m sees the first m
    dimensions, and output i sees units of degree at most i (counted from 0). Degree 0
    sees the context alone.
    """
    degrees = [np.arange(1, dim + 1)] + [np.arange(width) % dim for width in hidden]
    masks = [
        (before[:, None] <= after[None, :]).astype(np.float32)
        for before, after in zip(degrees[:-1], degrees[1:], strict=True)
    ]
    outputs = np.repeat(np.arange(dim), num_parameters)
    return (*masks, (degrees[-1][:, None] <= outputs[None, :]).astype(np.float32))


class AutoregressiveFlow(ConditionalFlow):
    """Abstract autoregressive flow; the order of dimensions reverses every layer."""

    @abc.abstractmethod
    def univariate(self, raw: Array) -> Bijector:
        """Return the element-wise map from raw parameters `[..., D, P]`."""

    @abc.abstractmethod
    def num_parameters(self) -> int:
        """Raw parameters P per dimension."""

    def normalising_stack(self, contexts: Sequence[Array], dim: int) -> Bijector:
        """Return the layers' map from v to the base, for context parts `[..., C_i]`."""
        count = self.num_parameters()
        conditioner = Conditioner(
            self.num_layers,
            self.hidden,
            dim,
            dim * count,
            made_masks(dim, self.hidden, count),
            name="conditioner",
        )(contexts)
        mixing = Mixing(self.num_layers, dim, self.lu_mixing, name="mixing")()
        reverse = np.arange(dim)[::-1]
        flips = permutation(np.tile(reverse, (self.num_layers, 1)))
        last = permutation(reverse if self.num_layers % 2 else np.arange(dim))

        def make_layer(layer: tuple[Any, ...]) -> Bijector:
            weights, flip, linear = layer

            def condition(event: Array) -> Bijector:
                raw = evaluate(weights, event, self.act)
                return self.univariate(raw.reshape(*raw.shape[:-1], dim, count))

            return Chain([Autoregressive(condition), flip, *linear])

        layers = (conditioner, flips, mixing)
        return Chain([Stack(make_layer, layers, self.unroll), last])


class AffineAutoregressiveFlow(AutoregressiveFlow):
    """Masked autoregressive flow (MAF) with softly clamped log-scales.

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


class SplineAutoregressiveFlow(AutoregressiveFlow):
    """Autoregressive rational-quadratic spline flow; the identity beyond `bound`.

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
        return RationalQuadraticSpline(raw, self.bound)
