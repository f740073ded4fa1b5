"""Autoregressive flows: MAF and its spline version.

Density in one pass of every conditioner, draws in D passes.

References:
    Papamakarios et al. 2017, Masked Autoregressive Flow, arXiv:1705.07057.
    Germain et al. 2015, MADE, arXiv:1502.03509 (the masks).
    Durkan et al. 2019, Neural Spline Flows, arXiv:1906.04032.
"""

import numpy as np

from flowinv.bijectors.autoregressive import Autoregressive
from flowinv.bijectors.permute import permutation
from flowinv.flows.base import ConditionalFlow, Layout

__all__ = ["AutoregressiveFlow", "made_masks"]


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
    """Autoregressive flow; the order of dimensions reverses every layer."""

    def layout(self, dim: int) -> Layout:
        """See all dimensions through masks, move all."""
        reverse = np.arange(dim)[::-1]
        return Layout(
            dim,
            dim,
            made_masks(dim, self.hidden, self.univariate.num_parameters),
            permutation(np.tile(reverse, (self.num_layers, 1))),
            permutation(reverse if self.num_layers % 2 else np.arange(dim)),
            Autoregressive,
        )
