"""Precision, recall, density and coverage of a set of draws against a reference.

All four ask, with balls that reach each point's k-th nearest neighbour in its own set,
which draws lie where the reference lives (precision, density: nothing invented) and
which of the reference is reached (recall, coverage: nothing forgotten). Density and
coverage are the ones that single outliers cannot spoil.

References: Naeem et al. 2020, arXiv:2002.09797; Kynkaanniemi et al. 2019,
arXiv:1904.06991.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, fail
from flowinv.diagnostics.arrays import two_samples, z_scored

__all__ = ["PRDC", "prdc"]

TILE_ELEMENTS = 2**18
"""Distances held at once: 2 MiB in float64, which stays in the cache."""


class PRDC(NamedTuple):
    """Result of `prdc`; equal distributions give about 1 (density) or near 1 (others).

    Attributes:
        precision: share of draws inside at least one ball of the reference.
        recall: share of the reference inside at least one ball of the draws.
        density: mean number of reference balls around a draw, over k; may exceed 1.
        coverage: share of reference balls that hold at least one draw.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(
    reference: ArrayLike, samples: ArrayLike, k: int = 5, standardise: bool = True
) -> PRDC:
    """Return precision, recall, density and coverage of `samples`, in float64.

    Distances are computed in tiles by differences, without the cancellation of
    |a|^2 - 2ab + |b|^2: thin posteriors far from the origin lose nothing. For equal
    distributions and as many draws as references the expected coverage is
    1 - 2^-k (0.97 at k = 5).

    Args:
        reference: draws of the exact posterior ("real"), shape `[n, D]`.
        samples: draws of the approximation ("fake"), shape `[m, D]`.
        k: which nearest neighbour sets a ball's radius; below n and m.
        standardise: divide each parameter by the reference's sd first, so that the
            result does not depend on units; False gives the paper's raw distances.

    Raises:
        ValueError: sets of unequal width, non-finite draws, k below 1 or too large.
    """
    reference, samples = two_samples(reference, samples)
    check_at_least("k", k, 1)
    fewest = min(len(reference), len(samples))
    if k >= fewest:
        fail("k", f"below the number of draws, {fewest}", k)
    if standardise:
        reference, samples = z_scored(reference, samples)
    reference_radii = _neighbour_distance(reference, k)
    sample_radii = _neighbour_distance(samples, k)
    balls_around_sample = np.zeros(len(samples), np.int64)
    recalled, covered = 0, 0
    for start, squared in _tiles(reference, samples):
        radii = reference_radii[start : start + len(squared), None]
        inside = squared < radii
        balls_around_sample += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((squared < sample_radii).any(1).sum())
    return PRDC(
        precision=float((balls_around_sample > 0).mean()),
        recall=recalled / len(reference),
        density=float(balls_around_sample.mean() / k),
        coverage=covered / len(reference),
    )


def _tiles(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, squared distances of some rows to all columns)."""
    from scipy.spatial.distance import cdist

    step = max(1, TILE_ELEMENTS // len(columns))
    for start in range(0, len(rows), step):
        yield start, cdist(rows[start : start + step], columns, "sqeuclidean")


def _neighbour_distance(points: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of every point to its k-th nearest other point, `[n]`."""
    # Fancy indexing copies the one column; a view would keep every tile alive.
    tiles = (
        np.partition(squared, k, axis=1)[:, [k]]
        for _, squared in _tiles(points, points)
    )
    return np.concatenate(list(tiles))[:, 0]
