"""Posteriors: draws, density and point estimates of a trained estimator."""

from flowinv.posteriors.direct import Posterior
from flowinv.posteriors.model_files import load, save

__all__ = ["Posterior", "load", "save"]
