"""Bijectors: distrax's contract, value and log-det always together.

`forward_and_log_det(x) -> (y, log_det)` and `inverse_and_log_det(y) -> (x, log_det)`
with the event on the last axis and any leading batch.
"""

from flowinv.bijectors.affine import Affine, soft_clamp
from flowinv.bijectors.autoregressive import Autoregressive
from flowinv.bijectors.chain import Chain, Inverse
from flowinv.bijectors.coupling import Coupling
from flowinv.bijectors.distrax_bridge import from_distrax, to_distrax
from flowinv.bijectors.lu import LULinear
from flowinv.bijectors.permute import Permutation, mixing_permutations, permutation
from flowinv.bijectors.spline import RationalQuadraticSpline, num_spline_parameters
from flowinv.bijectors.stack import Stack

__all__ = [
    "Affine",
    "Autoregressive",
    "Chain",
    "Coupling",
    "Inverse",
    "LULinear",
    "Permutation",
    "RationalQuadraticSpline",
    "Stack",
    "from_distrax",
    "mixing_permutations",
    "num_spline_parameters",
    "permutation",
    "soft_clamp",
    "to_distrax",
]
