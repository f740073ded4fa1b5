"""Check: what does x say about each parameter?

Shrinkage compares the posterior's variance with the prior's: 1 for a parameter that x
determines, 0 for one that it says nothing about (a nuisance, or a direction in which
parameters trade against each other). The z-score says how far truths lie from posterior
means. Neither is a fault: a parameter without information has its prior as posterior.

Reference: Betancourt 2018, "Calibrating model-based inferences", arXiv:1803.08393.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.diagnostics.arrays import draws_per_row
from flowinv.diagnostics.check import Check, Inputs, Numbers
from flowinv.diagnostics.device import in_float64

__all__ = ["INFORMATION", "Information", "information"]


class Information(NamedTuple):
    """What simulations say about parameters, and about their worst direction.

    Attributes:
        shrinkage: 1 - posterior variance / prior variance, over simulations, `[D]`.
        z: root mean square of (mean - truth) / sd; 1 for right posteriors, `[D]`.
        least: shrinkage of the combination of parameters that x says least about.
        direction: its weights on parameters in units of their prior sds, `[D]`.
    """

    shrinkage: np.ndarray
    z: np.ndarray
    least: float
    direction: np.ndarray


def information(theta: ArrayLike, samples: ArrayLike) -> Information:
    """Measure what posteriors have learned, on the device.

    Args:
        theta: true parameters, draws of the prior, `[S, D]`.
        samples: posterior draws of each simulation, `[S, n, D]`, n at least 2.

    Raises:
        ValueError: shapes that do not fit.
    """
    draws_per_row(theta, samples)
    covariance, z = _moments(np.asarray(theta), np.asarray(samples))
    values, vectors = np.linalg.eigh(covariance)
    return Information(
        1.0 - np.diag(covariance),
        z,
        float(1.0 - values[-1]),
        vectors[:, -1] * np.sign(vectors[np.abs(vectors[:, -1]).argmax(), -1]),
    )


@in_float64()
def _moments(theta: Array, samples: Array) -> tuple[Array, Array]:
    """Mean of the posteriors' covariances, in units of the prior, and z."""
    theta, samples = theta.astype(float), samples.astype(float)
    prior_sd = jnp.where(theta.std(0) > 0, theta.std(0), 1.0)
    mean = samples.mean(1)
    centred = (samples - mean[:, None]) / prior_sd
    count = samples.shape[0] * (samples.shape[1] - 1)
    sd = jnp.maximum(samples.std(1), 1e-30)
    z = jnp.sqrt((((mean - theta) / sd) ** 2).mean(0))
    return jnp.einsum("snd,sne->de", centred, centred) / count, z


def _measure(inputs: Inputs) -> Numbers:
    found = information(inputs.held_out.theta, inputs.held_out.draws)
    return {
        "shrinkage": found.shrinkage,
        "z_rms": found.z,
        "least_shrinkage": found.least,
        "least_direction": found.direction,
    }


INFORMATION = Check(
    name="information",
    asks="What does x say about each parameter?",
    limit="none: it is no fault to learn nothing",
    meaning="Shrinkage 1: determined; 0: its posterior is its prior.",
    needs=lambda inputs: (
        inputs.held_out is not None and inputs.held_out.num_samples > 1
    ),
    measure=_measure,
)
"""The row of the table."""
