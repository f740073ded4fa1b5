"""Conditional normalizing flows as flax.linen modules, usable on their own."""

from flowinv.flows.autoregressive import AutoregressiveFlow
from flowinv.flows.base import ConditionalFlow
from flowinv.flows.candidates import Candidates
from flowinv.flows.coupling import CouplingFlow
from flowinv.flows.named import (
    CINN,
    AffineAutoregressiveFlow,
    SplineAutoregressiveFlow,
    SplineCouplingFlow,
)
from flowinv.flows.ratio import RatioNetwork
from flowinv.flows.univariate import Affine, Spline, Univariate
from flowinv.flows.vector_field import VectorField
from flowinv.types import Placed

__all__ = [
    "CINN",
    "Affine",
    "AffineAutoregressiveFlow",
    "AutoregressiveFlow",
    "Candidates",
    "ConditionalFlow",
    "CouplingFlow",
    "Placed",
    "RatioNetwork",
    "Spline",
    "SplineAutoregressiveFlow",
    "SplineCouplingFlow",
    "Univariate",
    "VectorField",
]
