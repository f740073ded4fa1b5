"""The classical fit of a scan, as people do it today: least squares by scipy.

Knife-edge curves: offset + A/2 (1 + erf((u - u0) / (sqrt(2) sigma))); projections:
offset + A exp(-(u - u0)^2 / (2 sigma^2)). Unweighted, with the standard errors that
the residuals suggest: counting statistics are ignored, as is customary. It is the
baseline that a posterior is shown beside.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from flowinv.checks import check_known, check_shape, fail

__all__ = ["ClassicalFit", "classical_fit"]

MAX_EVALUATIONS = 4000

Model = Callable[..., np.ndarray]


class ClassicalFit(NamedTuple):
    """Fitted beam parameters of the scans along each axis.

    Attributes:
        value: means, then stds of the axes in the positions' unit: (mean_x, mean_y,
            std_x, std_y) for two, `[4]`; nan where a fit failed.
        error: their standard errors, of the same shape.
        curve: fitted curves, as long as x.
        converged: True if all fits ended at finite values and errors.
    """

    value: np.ndarray
    error: np.ndarray
    curve: np.ndarray
    converged: bool


def _gaussian(
    u: np.ndarray, centre: float, width: float, size: float, offset: float
) -> np.ndarray:
    return offset + size * np.exp(-0.5 * ((u - centre) / width) ** 2)


def _erf_step(
    u: np.ndarray, centre: float, width: float, size: float, offset: float
) -> np.ndarray:
    from scipy.special import erf

    return offset + 0.5 * size * (1.0 + erf((u - centre) / (np.sqrt(2.0) * width)))


def _guess(grid: np.ndarray, scan: np.ndarray, is_step: bool) -> np.ndarray:
    """Start values (centre, width, size, offset) from the scan's moments."""
    bump = np.gradient(scan, grid) if is_step else scan
    if is_step and scan[-1] < scan[0]:
        bump = -bump
    weight = np.clip(bump - np.median(bump), 0.0, None)
    # A tenth of the maximum keeps noise in the tails out of the width.
    weight = np.where(weight > 0.1 * weight.max(), weight, 0.0)
    total = weight.sum()
    spacing = grid[1] - grid[0]
    if not total > 0:
        return np.array([grid.mean(), 10.0 * spacing, np.ptp(scan), scan.min()])
    centre = (weight * grid).sum() / total
    width = np.sqrt((weight * (grid - centre) ** 2).sum() / total)
    width = max(width, 0.5 * spacing)
    if is_step:
        return np.array([centre, width, scan[-1] - scan[0], scan[0]])
    return np.array([centre, width, np.ptp(scan), np.median(scan)])


def _fit_axis(
    grid: np.ndarray, scan: np.ndarray, observable: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (centre, width), their errors and the curve; nan if the fit fails."""
    from scipy.optimize import curve_fit

    is_step = observable == "knife_edge"
    model: Model = _erf_step if is_step else _gaussian
    failed = (np.full(2, np.nan), np.full(2, np.nan), np.full(grid.size, np.nan))
    if not np.all(np.isfinite(scan)) or np.ptp(scan) == 0:
        return failed
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            start = _guess(grid, scan, is_step)
            best, covariance = curve_fit(
                model, grid, scan, p0=start, maxfev=MAX_EVALUATIONS
            )
            error = np.sqrt(np.diag(covariance))[:2]
            curve = model(grid, *best)
    except (RuntimeError, ValueError, TypeError, np.linalg.LinAlgError):
        return failed
    value = np.array([best[0], abs(best[1])])
    if not np.all(np.isfinite([*value, *error])) or value[1] == 0:
        return failed
    return value, error, curve


def classical_fit(
    x: ArrayLike, positions: Sequence[ArrayLike], observable: str
) -> ClassicalFit:
    """Fit one observation by least squares; odd scans give nan, never an exception.

    Args:
        x: the scans of the axes, one after the other, flat.
        positions: those of each axis: the simulator's `positions`, which for
            cumulative sums are the upper edges of the pixels.
        observable: "projections" (Gaussian fit) or "knife_edge" (erf fit; for
            cumulative curves and step scans, rising or falling).

    Returns:
        The fit; `converged` is False if an axis failed.

    Raises:
        ValueError: for a wrong shape or an unknown observable: mistakes of the
            program, not of the scan.
    """
    check_known("observable", observable, ("projections", "knife_edge"))
    grids = [np.asarray(own, np.float64) for own in positions]
    for grid in grids:
        if grid.ndim != 1 or grid.size < 5:
            fail("positions", "with shape (P,), P at least 5", grid.shape)
    sizes = [grid.size for grid in grids]
    x = np.asarray(x, np.float64)
    check_shape("x", x.shape, (sum(sizes),))
    scans = np.split(x, np.cumsum(sizes)[:-1])
    pairs = zip(grids, scans, strict=True)
    fits = [_fit_axis(grid, scan, observable) for grid, scan in pairs]
    value = np.stack([fit[0] for fit in fits], axis=1).ravel()
    error = np.stack([fit[1] for fit in fits], axis=1).ravel()
    curve = np.concatenate([fit[2] for fit in fits])
    return ClassicalFit(value, error, curve, bool(np.all(np.isfinite(value))))
