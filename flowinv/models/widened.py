"""A posterior whose widths are calibrated on simulations it has not seen.

Networks trained on few simulations are often a little too narrow or too wide
everywhere. One factor for each dimension of the latent, solved on held-out simulations,
mends that: about the middle of the flow's head, exactly normalised, draws and densities
alike. A factor is 1 where the posterior is right.
"""

from collections.abc import Sequence

import numpy as np
from jax import Array

from flowinv.checks import check_positive, fail
from flowinv.diagnostics.conformal import WidthFactor, width_factor
from flowinv.models.posterior import Posterior
from flowinv.models.sampled import AnyPosterior
from flowinv.types import Dataset

__all__ = ["check_widenable", "latent_width_factor", "widened"]

NUM_DRAWS = 199


def latent_width_factor(
    key: Array, posterior: Posterior, data: Dataset, num_samples: int = NUM_DRAWS
) -> WidthFactor:
    """Return the factors that make the latent's intervals right, and their errors.

    Args:
        key: typed key of the draws.
        posterior: that is asked.
        data: simulations that it has not seen.
        num_samples: draws for each.
    """
    valid = np.asarray(data.valid)
    theta, x = np.asarray(data.theta)[valid], np.asarray(data.x)[valid]
    draws = posterior.sample(key, x, num_samples)
    to_latent = posterior.prior.to_latent
    return width_factor(np.asarray(to_latent(theta)), np.asarray(to_latent(draws)))


def check_widenable(posterior: AnyPosterior) -> None:
    """Raise for a posterior whose widths are not its network's.

    Raises:
        ValueError: one that is drawn from by a sampler.
    """
    if not isinstance(posterior, Posterior):
        got = "one that is drawn from by a sampler"
        fail("a model to be widened", "of the posterior itself (npe, fmpe)", got)


def widened(posterior: Posterior, factor: Sequence[float]) -> Posterior:
    """Return the posterior with widths `factor` times as large.

    Args:
        posterior: of a network of flowinv, or of an ensemble.
        factor: of each dimension of the latent, D of them; those that it has already
            are multiplied.

    Raises:
        ValueError: another number of factors, or one that is not above 0.
    """
    check_widenable(posterior)
    estimator = posterior.estimator
    dim = estimator.prior.dim
    given = [float(one) for one in np.ravel(factor)]
    if len(given) != dim:
        fail("factor", f"to be {dim} numbers", len(given))
    for one in given:
        check_positive("factor", one)
    before = estimator.flow.widths or (1.0,) * dim
    widths = tuple(a * b for a, b in zip(before, given, strict=True))
    flow = estimator.flow.clone(widths=widths)
    return Posterior(estimator.with_flow(flow), posterior.variables)
