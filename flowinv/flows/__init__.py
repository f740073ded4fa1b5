"""Conditional normalizing flows as flax.linen modules, usable on their own."""

from flowinv.flows.autoregressive import (
    AffineAutoregressiveFlow,
    SplineAutoregressiveFlow,
)
from flowinv.flows.base import ConditionalFlow
from flowinv.flows.coupling import CINN, SplineCouplingFlow
from flowinv.flows.start import ridge_start

__all__ = [
    "CINN",
    "AffineAutoregressiveFlow",
    "ConditionalFlow",
    "SplineAutoregressiveFlow",
    "SplineCouplingFlow",
    "ridge_start",
]
