"""Samplers of a posterior whose likelihood is known, and the classical fit.

They need a prior and a simulator, no network: exact references for what a flow says.
"""

from flowinv.samplers.classical import ClassicalFit, classical_fit
from flowinv.samplers.grid import grid_posterior
from flowinv.samplers.nuts import NutsConfig, NutsResult, nuts_posterior

__all__ = [
    "ClassicalFit",
    "NutsConfig",
    "NutsResult",
    "classical_fit",
    "grid_posterior",
    "nuts_posterior",
]
