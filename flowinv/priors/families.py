"""Univariate families without a closed quantile: log density and both log tails.

Each family is written in distances from its edges, so that nothing cancels there:

- coordinate "log", half a line: d = |theta - edge| / scale > 0;
- coordinate "logit", an interval: u = (theta - low) / width and v = 1 - u;
- coordinate "line" (light tails) or "asinh" (heavy tails): t = (theta - loc) / scale.

Densities are per unit of d, u or t. They run in numpy (float64, to build the tables)
and in jax.numpy (to evaluate log_prob); the tails only in numpy, by scipy.stats except
where it loses digits: normals cut near an edge or in a far tail, and Student's t.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FAMILIES", "Family", "complete", "log_normal_mass"]

Parameters = dict[str, Any]
Coordinates = tuple[Any, ...]
Tails = Callable[[Coordinates, Parameters], tuple[np.ndarray, np.ndarray]]

_LOG_2PI = math.log(2.0 * math.pi)


class Family(NamedTuple):
    """One shape of distribution in the standard form of its coordinate.

    Attributes:
        coordinate: "log", "logit", "line" or "asinh".
        parameters: names of the shape parameters, float64 arrays `[d]`.
        log_density: (xp, coordinates, parameters) -> log density.
        log_tails: (coordinates, parameters) -> log CDF and log (1 - CDF), each
            accurate to rounding in its own tail; numpy float64.
        positive: True when every shape parameter must be above 0.
    """

    coordinate: str
    parameters: tuple[str, ...]
    log_density: Callable[[Any, Coordinates, Parameters], Any]
    log_tails: Tails
    positive: bool = True


def _tails_of(name: str, *shapes: str) -> Tails:
    """Log tails by `scipy.stats.<name>`, whose shape parameters are ours in order."""

    def log_tails(c: Coordinates, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
        from scipy import stats

        base = getattr(stats, name)(*(p[shape] for shape in shapes))
        return base.logcdf(c[0]), base.logsf(c[0])

    return log_tails


def _log_power(xp: Any, base: Any, power: Any) -> Any:  # noqa: ANN401
    """Power * log(base), 0 for power 0 also at base 0 (gradients stay finite)."""
    return power * xp.log(xp.where(power == 0, 1.0, base))


def _gamma_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    """(k - 1) log d - d - log Gamma(k), for shape k, scale 1.

    Written about d = k, where the large terms of a large k cancel exactly:
    the constant is the log density at k by Stirling's series (p["at_shape"]).
    """
    k = p["concentration"]
    (d,) = c
    return p["at_shape"] + _log_power(xp, d / k, k - 1.0) - (d - k)


def _inverse_gamma_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    k = p["concentration"]
    inverse = 1.0 / c[0]
    value = p["at_shape"] + (k + 1.0) * xp.log(inverse / k) - (inverse - k)
    return xp.where(c[0] > 0, value + 2.0 * xp.log(k), -xp.inf)


def _weibull_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    k = p["concentration"]
    return xp.log(k) + _log_power(xp, c[0], k - 1.0) - c[0] ** k


def _pareto_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    return xp.log(p["alpha"]) - (p["alpha"] + 1.0) * xp.log1p(c[0])


def _half_cauchy_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    return math.log(2.0 / math.pi) - 2.0 * xp.log(xp.hypot(xp.ones_like(c[0]), c[0]))


def _beta_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    """Beta density about its mean m, where large parameters cancel exactly."""
    a, b = p["concentration1"], p["concentration0"]
    mean = a / (a + b)
    left = _log_power(xp, c[0] / mean, a - 1.0)
    right = _log_power(xp, c[1] / (b / (a + b)), b - 1.0)
    return p["at_mean"] + left + right


def _beta_tails(c: Coordinates, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """The upper tail as the lower one of the mirrored family: 1 - u keeps no digits."""
    from scipy.stats import beta

    a, b = p["concentration1"], p["concentration0"]
    return beta(a, b).logcdf(c[0]), beta(b, a).logcdf(c[1])


def log_normal_mass(a: np.ndarray, width: np.ndarray) -> np.ndarray:
    """log(Phi(a + width) - Phi(a)) to rounding, also for tiny widths and far tails.

    Narrow intervals are integrated (Gauss-Legendre, a sum of positive terms); wide
    ones are the difference of the tails on the side where they do not cancel.
    """
    from scipy.special import log_ndtr

    a, width = np.broadcast_arrays(np.asarray(a, float), np.asarray(width, float))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    # Reflect, so that the interval's nearer-to-zero end carries the larger tail.
    mirrored = a + 0.5 * np.where(np.isfinite(width), width, 1e300) > 0
    b = a + width
    far, near = np.where(mirrored, -b, a), np.where(mirrored, -a, b)
    big, small = log_ndtr(near), log_ndtr(far)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = big + np.log(-np.expm1(np.minimum(small - big, 0.0)))
        step = np.where(np.isfinite(width), width, 0.0)[..., None] * 0.5
        t = a[..., None] + step * (1.0 + nodes)
        # Factor the largest exponent out of the sum.
        peak = -0.5 * np.where(a > 0, a, np.where(b < 0, b, 0.0)) ** 2
        sum_ = np.sum(weights * np.exp(-0.5 * t * t - peak[..., None]), -1)
        together = peak - 0.5 * _LOG_2PI + np.log(step[..., 0] * sum_)
    return np.where(width * (1.0 + np.abs(a)) <= 2.0, together, apart)


def _half_truncated_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    """Normal above `edge` (in sds from the mean): d = t - edge."""
    d, a = c[0], p["edge"]
    return p["at_edge"] - d * (a + 0.5 * d)


def _half_truncated_tails(
    c: Coordinates, p: Parameters
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import log_ndtr

    total = log_ndtr(-p["edge"])
    upper = log_ndtr(-(p["edge"] + c[0]))
    return log_normal_mass(p["edge"], c[0]) - total, upper - total


def _truncated_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    """Normal between `low` and `high` (in sds from the mean), per unit of u.

    From the nearer edge: -t^2/2 = -edge^2/2 -+ d (edge +- d/2).
    """
    low, high = p["low_sd"], p["high_sd"]
    width = high - low
    up, down = width * c[0], width * c[1]
    from_low = p["at_low"] - up * (low + 0.5 * up)
    from_high = p["at_high"] + down * (high - 0.5 * down)
    return xp.where(c[0] <= c[1], from_low, from_high)


def _truncated_tails(c: Coordinates, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
    low, high = p["low_sd"], p["high_sd"]
    width = high - low
    total = log_normal_mass(low, width)
    lower = log_normal_mass(low, width * c[0]) - total
    return lower, log_normal_mass(-high, width * c[1]) - total


def _student_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    scaled = c[0] / xp.sqrt(p["df"])
    return p["at_zero"] - (p["df"] + 1.0) * xp.log(
        xp.hypot(xp.ones_like(scaled), scaled)
    )


def _student_tails(c: Coordinates, p: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """By hand: scipy.stats.t squares t, which overflows within the tables' range."""
    from scipy.special import betainc, betaln

    df, t = p["df"], c[0]
    half = 0.5 * df
    # x = df / (df + t^2) by its log: t^2 overflows long before the tail is negligible.
    log_x = -2.0 * np.log(np.hypot(1.0, t / np.sqrt(df)))
    x = np.exp(log_x)
    share = np.where(x > 0.5, -np.expm1(log_x), 0.0)
    far = half * log_x - np.log(half) - betaln(half, 0.5)
    near = np.where(x > 0.5, 1.0 - betainc(0.5, half, share), betainc(half, 0.5, x))
    near = np.log(np.maximum(near, 1e-300))
    # Below 1e-30 the series of the incomplete beta ends after its first term.
    outer = math.log(0.5) + np.where(x < 1e-30, far, near)
    inner = np.log1p(-np.exp(outer))
    return np.where(t < 0, outer, inner), np.where(t < 0, inner, outer)


def _cauchy_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    return -math.log(math.pi) - 2.0 * xp.log(xp.hypot(xp.ones_like(c[0]), c[0]))


def _logistic_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    size = xp.abs(c[0])
    return -size - 2.0 * xp.log1p(xp.exp(-size))


def _gumbel_density(xp: Any, c: Coordinates, p: Parameters) -> Any:  # noqa: ANN401
    return -c[0] - xp.exp(-c[0])


_SHAPE, _BETA = ("concentration",), ("concentration1", "concentration0")

FAMILIES: dict[str, Family] = {
    "gamma": Family("log", _SHAPE, _gamma_density, _tails_of("gamma", *_SHAPE)),
    "inverse_gamma": Family(
        "log", _SHAPE, _inverse_gamma_density, _tails_of("invgamma", *_SHAPE)
    ),
    "weibull": Family(
        "log", _SHAPE, _weibull_density, _tails_of("weibull_min", *_SHAPE)
    ),
    "pareto": Family("log", ("alpha",), _pareto_density, _tails_of("lomax", "alpha")),
    "half_cauchy": Family("log", (), _half_cauchy_density, _tails_of("halfcauchy")),
    "half_truncated_normal": Family(
        "log", ("edge",), _half_truncated_density, _half_truncated_tails, False
    ),
    "beta": Family("logit", _BETA, _beta_density, _beta_tails),
    "truncated_normal": Family(
        "logit", ("low_sd", "high_sd"), _truncated_density, _truncated_tails, False
    ),
    "student_t": Family("asinh", ("df",), _student_density, _student_tails),
    "cauchy": Family("asinh", (), _cauchy_density, _tails_of("cauchy")),
    "logistic": Family("line", (), _logistic_density, _tails_of("logistic")),
    "gumbel": Family("line", (), _gumbel_density, _tails_of("gumbel_r")),
}


def complete(kind: str, parameters: Parameters) -> Parameters:
    """Add the normalisers that `log_density` needs, computed in float64.

    Each is the log density at the point about which the family is written.
    """
    from scipy.special import betaln, gammaln, log_ndtr

    p = dict(parameters)
    if kind in ("gamma", "inverse_gamma"):
        k = p["concentration"]
        p["at_shape"] = (k - 1.0) * np.log(k) - k - gammaln(k)
    elif kind == "beta":
        a, b = p["concentration1"], p["concentration0"]
        left = (a - 1.0) * np.log(a / (a + b))
        p["at_mean"] = left + (b - 1.0) * np.log(b / (a + b)) - betaln(a, b)
    elif kind == "half_truncated_normal":
        a = p["edge"]
        p["at_edge"] = -0.5 * (a * a + _LOG_2PI) - log_ndtr(-a)
    elif kind == "truncated_normal":
        low, high = p["low_sd"], p["high_sd"]
        total = log_normal_mass(low, high - low) - np.log(high - low)
        p["at_low"] = -0.5 * (low * low + _LOG_2PI) - total
        p["at_high"] = -0.5 * (high * high + _LOG_2PI) - total
    elif kind == "student_t":
        df = p["df"]
        p["at_zero"] = (
            gammaln(0.5 * (df + 1.0)) - gammaln(0.5 * df) - 0.5 * np.log(df * math.pi)
        )
    return p
