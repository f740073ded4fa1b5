"""The four flows by the names that papers give them: a layout and a map each."""

from typing import Any

from flowinv.flows.autoregressive import AutoregressiveFlow
from flowinv.flows.coupling import CouplingFlow
from flowinv.flows.univariate import Affine, Spline

__all__ = [
    "CINN",
    "AffineAutoregressiveFlow",
    "SplineAutoregressiveFlow",
    "SplineCouplingFlow",
]


def CINN(*, clamp: float = 2.0, **fields: Any) -> CouplingFlow:
    """Conditional INN: affine couplings with log-scales softly bounded by `clamp`."""
    return CouplingFlow(univariate=Affine(clamp), **fields)


def SplineCouplingFlow(*, num_bins: int = 8, **fields: Any) -> CouplingFlow:
    """Neural spline flow: rational-quadratic spline couplings of `num_bins` bins."""
    return CouplingFlow(univariate=Spline(num_bins), **fields)


def AffineAutoregressiveFlow(
    *, clamp: float = 2.0, **fields: Any
) -> AutoregressiveFlow:
    """Masked autoregressive flow (MAF), log-scales softly bounded by `clamp`."""
    return AutoregressiveFlow(univariate=Affine(clamp), **fields)


def SplineAutoregressiveFlow(*, num_bins: int = 8, **fields: Any) -> AutoregressiveFlow:
    """Autoregressive spline flow of `num_bins` bins."""
    return AutoregressiveFlow(univariate=Spline(num_bins), **fields)
