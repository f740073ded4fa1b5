"""Precision, recall, density and coverage of a set of draws against a reference.

All four ask, with balls that reach each point's k-th nearest neighbour in its own set,
which draws lie where the reference lives (precision, density: nothing invented) and
which of the reference is reached (recall, coverage: nothing forgotten). Density and
coverage are the ones that single outliers cannot spoil.

References: Naeem et al. 2020, arXiv:2002.09797; Kynkaanniemi et al. 2019,
arXiv:1904.06991.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, fail
from flowinv.diagnostics.arrays import sets_of_draws, z_scored
from flowinv.diagnostics.device import (
    at_once,
    in_float64,
    of_each,
    squared_distances,
)

__all__ = ["PRDC", "prdc"]

UNROLL = 4
"""Points of a step of the loops: a third faster than one."""
EDGE = 1e-12
"""Rounding of a squared distance: one pair's may differ between two loops."""


class PRDC(NamedTuple):
    """Result of `prdc`; equal distributions give about 1 (density) or near 1 (others).

    Numbers; arrays `[S]` for S observations.

    Attributes:
        precision: share of draws inside at least one ball of the reference.
        recall: share of the reference inside at least one ball of the draws.
        density: mean number of reference balls around a draw, over k; may exceed 1.
        coverage: share of reference balls that hold at least one draw.
    """

    precision: float | np.ndarray
    recall: float | np.ndarray
    density: float | np.ndarray
    coverage: float | np.ndarray


def prdc(
    reference: ArrayLike, samples: ArrayLike, k: int = 5, standardise: bool = True
) -> PRDC:
    """Return precision, recall, density and coverage of `samples`, in float64.

    On the device, with the distances of one point to all held at once. For equal
    distributions and as many draws as references the expected coverage is
    1 - 2^-k (0.97 at k = 5).

    Args:
        reference: draws of the exact posterior ("real"), shape `[n, D]`, or `[S, n, D]`
            for S observations in one call.
        samples: draws of the approximation ("fake"), shape `[m, D]`, or `[S, m, D]`.
        k: which nearest neighbour sets a ball's radius; below n and m.
        standardise: divide each parameter by the reference's sd first, so that the
            result does not depend on units; False gives the paper's raw distances.

    Raises:
        ValueError: sets of unequal width, non-finite draws, k below 1 or too large.
    """
    reference, samples = sets_of_draws(reference, samples)
    check_at_least("k", k, 1)
    fewest = min(reference.shape[-2], samples.shape[-2])
    if k >= fewest:
        fail("k", f"below the number of draws, {fewest}", k)
    if standardise:
        reference, samples = z_scored(reference, samples)

    def every(reference: np.ndarray, samples: np.ndarray) -> PRDC:
        return _prdc(reference, samples, k=k)

    return at_once(every, reference.ndim == 2, reference, samples)


@in_float64("k")
def _prdc(reference: Array, samples: Array, k: int) -> PRDC:
    return of_each(lambda *own: _one(*own, k), reference, samples)


def _one(reference: Array, samples: Array, k: int) -> PRDC:
    """Of one observation, a point of the reference at a time against all draws."""
    reference_radii, sample_radii = _radii(reference, k), _radii(samples, k)

    def step(around: Array, own: tuple[Array, Array]) -> tuple[Array, Any]:
        squared = squared_distances(own[0], samples)
        inside = squared < own[1]
        return around + inside, ((squared < sample_radii).any(), inside.any())

    around = jnp.zeros(len(samples), jnp.int32)
    rows = (reference, reference_radii)
    around, (recalled, covered) = jax.lax.scan(step, around, rows, unroll=UNROLL)
    return PRDC(
        precision=(around > 0).mean(dtype=float),
        recall=recalled.mean(dtype=float),
        density=around.mean(dtype=float) / k,
        coverage=covered.mean(dtype=float),
    )


def _radii(points: Array, k: int) -> Array:
    """Squared distance of every point to its k-th nearest other point, `[n]`.

    The k + 1 smallest so far of every point (itself among them), in order: each new
    distance sinks to its place.
    """

    def step(least: tuple[Array, ...], point: Array) -> tuple[tuple[Array, ...], None]:
        new, kept = squared_distances(point, points), []
        for own in least:
            kept.append(jnp.minimum(own, new))
            new = jnp.maximum(own, new)
        return tuple(kept), None

    none = (jnp.full(len(points), jnp.inf),) * (k + 1)
    # A point on the edge, but for rounding, is outside.
    return (1 - EDGE) * jax.lax.scan(step, none, points, unroll=UNROLL)[0][k]
