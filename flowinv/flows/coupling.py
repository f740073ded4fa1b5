"""Coupling flows: the conditional INN and the neural spline flow.

References:
    Ardizzone et al. 2019, conditional invertible neural networks, arXiv:1907.02392.
    Durkan et al. 2019, Neural Spline Flows, arXiv:1906.04032.
"""

import functools

from flowinv.bijectors.coupling import Coupling
from flowinv.bijectors.permute import mixing_permutations
from flowinv.flows.base import ConditionalFlow, Layout

__all__ = ["CouplingFlow"]


class CouplingFlow(ConditionalFlow):
    """Coupling flow: both directions cost one pass of every conditioner.

    Each layer keeps the first half of the event, moves the rest given that half and
    the context, then permutes. D = 1 keeps nothing: the map depends on the context.
    """

    def layout(self, dim: int) -> Layout:
        """Keep the first half, move the rest."""
        split = dim // 2
        permutations, last = mixing_permutations(dim, self.num_layers, split)
        layer = functools.partial(Coupling, split)
        return Layout(split, dim - split, None, permutations, last, layer)
