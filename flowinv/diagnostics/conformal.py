"""Credible regions with a guarantee, from held-out simulations.

A region of highest density is {theta: log q(theta | x) >= c}. A network's own c for
90 % may hold more or less than that. The threshold below which a share alpha of
held-out truths fall is a conformal one: for a new simulation the region holds its truth
with

    1 - alpha <= P <= 1 - alpha + 1 / (S + 1),

however wrong the network is. The guarantee is an average over x of the prior, not for
each x. To come nearer to that, the depth of a point is counted from the density of the
same posterior's draws: log q of their median - log q(theta), which for a normal
posterior is a distance in its own sds.

References: Vovk et al. 2005; Angelopoulos & Bates 2021, arXiv:2107.07511; Patel et al.
2023, arXiv:2305.14275 (simulation-based inference).
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_shape, fail
from flowinv.diagnostics.check import Check, Inputs, Numbers

__all__ = ["CONFORMAL", "Recalibration", "WidthFactor", "recalibrate", "width_factor"]

LEVELS = (0.68, 0.9, 0.95)
LEAST_ROWS = 40


@dataclasses.dataclass(frozen=True)
class Recalibration:
    """What held-out simulations say of regions of highest density.

    Attributes:
        depths: of the truths, sorted, nats, `[S]`.
    """

    depths: np.ndarray

    def depth(self, level: float) -> float:
        """Return the depth that holds a share `level` of truths at least.

        Raises:
            ValueError: a level so near 1 that so few simulations cannot promise it.
        """
        if not 0 < level < 1:
            fail("level", "in (0, 1)", level)
        count = len(self.depths)
        rank = math.ceil(level * (count + 1) - 1e-9)
        if rank > count:
            least = math.ceil(level / (1 - level) - 1e-9)
            remedy = f"Hold out {least} simulations at least."
            fail("level", f"at most {count / (count + 1):.6g}", level, remedy)
        return float(self.depths[rank - 1])

    def threshold(self, log_q: ArrayLike, level: float) -> np.ndarray:
        """Return the log density at which the region of each x ends.

        Args:
            log_q: log densities of draws of each x, `[..., n]`.
            level: guaranteed coverage.

        Returns:
            Shape `[...]`: theta is in the region where its log density is at least
            this.
        """
        return np.median(np.asarray(log_q, np.float64), -1) - self.depth(level)

    def mass(self, log_q: ArrayLike, level: float) -> float:
        """Return the posterior's own mass of these regions: `level` for a right one.

        Args:
            log_q: log densities of draws of each x, `[..., n]`.
            level: guaranteed coverage.
        """
        threshold = self.threshold(log_q, level)
        return float((np.asarray(log_q) >= threshold[..., None]).mean())


def recalibrate(log_q_true: ArrayLike, log_q: ArrayLike) -> Recalibration:
    """Learn from held-out simulations how deep regions must go.

    Args:
        log_q_true: log density of the truth under its posterior, `[S]`.
        log_q: of the posterior's draws, `[S, n]`.

    Raises:
        ValueError: shapes that do not fit, or NaN.
    """
    true, drawn = np.asarray(log_q_true, np.float64), np.asarray(log_q, np.float64)
    if drawn.ndim != 2 or np.isnan(drawn).any() or np.isnan(true).any():
        fail("log_q", "as numbers (S, n)", f"{drawn.shape}, or NaN")
    check_shape("log_q_true", true.shape, drawn.shape[:1])
    return Recalibration(np.sort(np.median(drawn, -1) - true))


class WidthFactor(NamedTuple):
    """How much wider or narrower posteriors should be.

    Attributes:
        factor: by which errors exceed the posterior's, `[D]`; 1 for right ones.
        error: its standard error, `[D]`.
    """

    factor: np.ndarray
    error: np.ndarray


def width_factor(theta: ArrayLike, samples: ArrayLike) -> WidthFactor:
    """Return the factor on widths that makes held-out intervals right.

    The 68 % quantile of |truth - median| over half the 68 % interval: for a right
    posterior near 1, and for a symmetric one exactly, whatever its tails.

    Args:
        theta: true parameters, `[S, D]`.
        samples: posterior draws of each simulation, `[S, n, D]`.
    """
    return _factor(_errors_in_widths(theta, samples))


def _errors_in_widths(theta: ArrayLike, samples: ArrayLike) -> np.ndarray:
    """|truth - median| over half the 68 % interval, `[S, D]`."""
    theta, samples = np.asarray(theta, np.float64), np.asarray(samples, np.float64)
    check_shape("samples", samples.shape[::2], theta.shape)
    low, middle, high = np.quantile(samples, [0.1587, 0.5, 0.8413], axis=1)
    return np.abs(theta - middle) / np.maximum(0.5 * (high - low), 1e-300)


def _factor(off: np.ndarray) -> WidthFactor:
    factor = np.quantile(off, 0.6827, axis=0)
    # Binomial error of the quantile's level over a normal density there.
    error = np.sqrt(0.6827 * 0.3173 / len(off)) / 0.4839 * factor
    return WidthFactor(factor, error)


def _measure(inputs: Inputs) -> Numbers:
    found = inputs.held_out
    true, drawn = found.log_q_true, found.log_q
    whole, half = recalibrate(true, drawn), len(true) // 2
    one = recalibrate(true[:half], drawn[:half])
    numbers: dict[str, float | np.ndarray] = {}
    for level in LEVELS:
        name = f"{100 * level:.0f}"
        # Before and after, on simulations that the correction has not seen.
        own = np.quantile(drawn[half:], 1.0 - level, axis=-1)
        after = one.threshold(drawn[half:], level)
        numbers |= {
            f"region_before_{name}": float((true[half:] >= own).mean()),
            f"region_after_{name}": float((true[half:] >= after).mean()),
            f"region_mass_for_{name}": whole.mass(drawn, level),
        }
    off = _errors_in_widths(found.theta, found.draws)
    all_of, one_half = _factor(off), _factor(off[:half]).factor
    return numbers | {
        "width_factor": all_of.factor,
        "width_factor_sd": all_of.error,
        "intervals_before_68": (off[half:] <= 1.0).mean(0),
        "intervals_after_68": (off[half:] <= one_half).mean(0),
    }


CONFORMAL = Check(
    name="recalibration",
    asks="What would make regions and widths right?",
    limit="none: a remedy, not a test",
    meaning=(
        "Take the region that holds this mass for the level that you promise; before "
        "and after are of simulations that the correction has not seen."
    ),
    needs=lambda inputs: (
        inputs.held_out is not None
        and len(inputs.held_out.theta) >= LEAST_ROWS
        and bool(np.ptp(inputs.held_out.log_q) > 0)
    ),
    measure=_measure,
)
"""The row of the table."""
