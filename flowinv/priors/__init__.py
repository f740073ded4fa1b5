"""Priors: named parameters whose latent is a standard normal."""

from flowinv.priors.config import prior_from_config
from flowinv.priors.joint import from_numpyro, independent, mixed
from flowinv.priors.latent import Prior, normal, uniform

__all__ = [
    "Prior",
    "from_numpyro",
    "independent",
    "mixed",
    "normal",
    "prior_from_config",
    "uniform",
]
