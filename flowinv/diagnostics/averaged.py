"""Check: is the posterior, averaged over what is simulated, the prior again?

One draw of each simulation's posterior is, all together, a sample of the prior. A
posterior may pass and be wrong (the prior itself passes); one that fails has lost a
part of the prior, or invented one.

Reference: Talts et al. 2018, arXiv:1804.06788 (section 3).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.diagnostics.arrays import draws_per_row
from flowinv.diagnostics.check import Check, Finding, Inputs, Numbers
from flowinv.diagnostics.device import in_float64
from flowinv.diagnostics.sbc import holm

__all__ = ["AVERAGED", "Averaged", "data_averaged"]

P_LIMIT = 0.001


class Averaged(NamedTuple):
    """Draws of all posteriors against the true parameters, which are the prior's.

    Attributes:
        p: of a two-sample Kolmogorov-Smirnov test of each parameter, `[D]`.
        p_holm: after Holm's correction over parameters, `[D]`.
        sd_ratio: sd of the averaged posterior over that of the truths, `[D]`.
        shift: difference of their means in sds of the truths, `[D]`.
    """

    p: np.ndarray
    p_holm: np.ndarray
    sd_ratio: np.ndarray
    shift: np.ndarray


def data_averaged(theta: ArrayLike, samples: ArrayLike) -> Averaged:
    """Compare one draw of each posterior with the true parameters.

    Args:
        theta: true parameters, `[S, D]`.
        samples: posterior draws of each simulation, `[S, n, D]`.

    Raises:
        ValueError: shapes that do not fit.
    """
    from scipy import stats

    draws_per_row(theta, samples)
    theta, samples = np.asarray(theta), np.asarray(samples)
    # Truths of one half and draws of the other: those of one row depend on each other.
    half = len(theta) // 2
    p = [
        stats.ks_2samp(own, other).pvalue
        for own, other in zip(theta[:half].T, samples[half:, 0].T, strict=True)
    ]
    return Averaged(np.array(p), holm(p), *_moments(theta, samples))


@in_float64()
def _moments(theta: Array, samples: Array) -> tuple[Array, Array]:
    """Ratio of sds, and shift of means in sds of the truths."""
    theta, samples = theta.astype(float), samples.astype(float)
    sd = jnp.where(theta.std(0) > 0, theta.std(0), 1.0)
    shift = (samples.mean((0, 1)) - theta.mean(0)) / sd
    return samples.std((0, 1)) / sd, shift


def _measure(inputs: Inputs) -> Numbers:
    found = data_averaged(inputs.held_out.theta, inputs.held_out.draws)
    return {f"averaged_{name}": value for name, value in found._asdict().items()}


def _judge(numbers: Numbers, inputs: Inputs) -> Sequence[Finding | None]:
    findings: list[Finding | None] = []
    for d in range(len(inputs.names)):
        p, ratio = numbers["averaged_p_holm"][d], numbers["averaged_sd_ratio"][d]
        words = (
            f"Averaged over simulations it is no prior: {ratio:.2f} times as wide, "
            f"shifted by {numbers['averaged_shift'][d]:.2f} sd (p = {p:.1g})."
        )
        findings.append(Finding("not trusted", words) if p < P_LIMIT else None)
    return findings


AVERAGED = Check(
    name="averaged",
    asks="Is the posterior, averaged over simulations, the prior?",
    limit="Holm-corrected KS p above 0.001",
    meaning="Where it is not, parts of the prior are lost or invented.",
    needs=lambda inputs: (
        inputs.held_out is not None and bool(np.ptp(inputs.held_out.draws) > 0)
    ),
    measure=_measure,
    judge=_judge,
)
"""The row of the table."""
