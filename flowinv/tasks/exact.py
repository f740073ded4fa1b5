"""Exact posteriors of tasks by a sampler, with what it says of its own work."""

from typing import Any

import numpy as np
from jax import Array

from flowinv.priors.latent import Prior
from flowinv.tasks.task import ExactDraws

__all__ = ["by_nuts", "by_particles"]


def by_nuts(
    simulator: Any, prior: Prior, x: np.ndarray, num_samples: int, key: Array
) -> ExactDraws:
    """Draw with NUTS; see `flowinv.samplers.nuts.nuts_posterior`."""
    # Imported here: numpyro loads only when a reference is asked for.
    from flowinv.samplers.nuts import nuts_posterior

    found = nuts_posterior(simulator, prior, x, num_samples, key)
    r_hat, ess = float(found.r_hat.max()), float(found.ess.min())
    return ExactDraws(found.draws, r_hat, ess, int(found.num_divergent))


def by_particles(
    simulator: Any, prior: Prior, x: np.ndarray, num_samples: int, key: Array
) -> ExactDraws:
    """Draw with tempered particles; see `flowinv.samplers.tempered`."""
    from flowinv.samplers.tempered import tempered_posterior

    found = tempered_posterior(simulator, prior, x, num_samples, key)
    return ExactDraws(found.draws, float(found.r_hat.max()), float(found.ess.min()))
