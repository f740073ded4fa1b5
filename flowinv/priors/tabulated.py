"""Blocks whose quantile is a table: gamma, beta, truncated normal and their kin.

theta lies at a distance from an edge (half line), between two edges (interval), or at
a number of scales from a centre (line); the table holds the logarithmic coordinate of
that distance, so that z keeps its precision however close to an edge theta lies.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import check_known
from flowinv.priors.blocks import BoxBlock
from flowinv.priors.families import FAMILIES, complete
from flowinv.priors.table import build_table, look_up, look_up_inverse

__all__ = ["Tabulated"]


class Tabulated(BoxBlock):
    """d columns of one family, each placed and stretched on its own.

    | coordinate | first | second | theta |
    |---|---|---|---|
    | log | edge | signed scale | edge + scale d |
    | logit | low | width | low + width u |
    | line, asinh | loc | scale | loc + scale t |
    """

    def __init__(
        self,
        kind: str,
        first: np.ndarray,
        second: np.ndarray,
        far: np.ndarray | None = None,
        **parameters: np.ndarray,
    ) -> None:
        """Build the tables; a few milliseconds per column.

        Args:
            kind: a name of `FAMILIES`.
            first: edge, low or loc, `[d]`.
            second: scale (negative: the half line below the edge) or width, `[d]`.
            far: end of the half line, `[d]`: an edge beyond which the family has less
                mass than a float can hold; infinite by default.
            **parameters: the family's shape parameters, each `[d]`.

        Raises:
            ValueError: a shape whose quantiles leave floating point.
        """
        check_known("prior kind", kind, FAMILIES)
        self.kind = kind
        self._family = FAMILIES[kind]
        self._first = np.asarray(first, np.float64)
        self._second = np.asarray(second, np.float64)
        self._shape = {k: np.asarray(v, np.float64) for k, v in parameters.items()}
        self._constants = complete(kind, self._shape)
        self._far = np.full(self._first.shape, np.inf) if far is None else far
        self._far = np.asarray(self._far, np.float64)
        self._set_edges()
        self._set_table()

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Z by table; log |dz/dtheta| from the same polynomial."""
        s = self._coordinate(theta)
        z, log_slope = look_up_inverse(self._table, s)
        return z * self._constant(self._direction, z), -(
            log_slope + self._log_stretch(s)
        ).sum(-1)

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta by table, from its nearer edge, and log |dtheta/dz|."""
        s, log_slope = look_up(self._table, z * self._constant(self._direction, z))
        return self._place(s), (log_slope + self._log_stretch(s)).sum(-1)

    def log_prob(self, theta: Array) -> Array:
        """Sum of the family's log densities; edges as the density's limit there."""
        constants = {k: jnp.asarray(v, theta.dtype) for k, v in self._constants.items()}
        value = self._family.log_density(jnp, self._distances(theta), constants)
        return (value - jnp.asarray(self._log_size, theta.dtype)).sum(-1)

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Theta at two sds of the latent to either side."""
        table, ends = self._table, []
        for side in (-2.0, 2.0):
            rows = zip(table.scores, table.knots, strict=True)
            s = np.array([np.interp(side, score, knot) for score, knot in rows])
            distances = _distances_at(self._family.coordinate, s + self._middle)
            ends.append(self._first + self._second * distances[0])
        return np.minimum(*ends), np.maximum(*ends)

    def to_config(self) -> dict[str, Any]:
        """Place, stretch and shape as lists."""
        return {
            "kind": self.kind,
            "first": self._first.tolist(),
            "second": self._second.tolist(),
            **({} if np.isinf(self._far).all() else {"far": _finite(self._far)}),
            **{k: v.tolist() for k, v in self._shape.items()},
        }

    def _set_edges(self) -> None:
        low = np.full(self._first.shape, -np.inf)
        high = np.full(self._first.shape, np.inf)
        self._direction = np.ones(self._first.shape)
        if self._family.coordinate == "log":
            # The distance grows downwards from an upper edge; z grows with theta.
            upward = self._second > 0
            self._direction = np.where(upward, 1.0, -1.0)
            low = np.where(upward, self._first, -np.abs(self._far))
            low = np.where(upward | np.isinf(self._far), low, self._far)
            high = np.where(upward, self._far, self._first)
        elif self._family.coordinate == "logit":
            low, high = self._first, self._first + self._second
        self.low, self.high = low, high
        self._log_size = np.log(np.abs(self._second))

    def _set_table(self) -> None:
        """Table of s about its median, whose coordinate is kept apart in float64."""
        family, constants = self._family, self._constants
        columns = {k: v[:, None] for k, v in constants.items()}
        coordinate = family.coordinate

        def log_density(s: np.ndarray) -> np.ndarray:
            value = family.log_density(np, _distances_at(coordinate, s), columns)
            return value + _log_jacobian(np, coordinate, s)

        def log_tails(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return family.log_tails(_distances_at(coordinate, s), columns)

        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            table = build_table(log_tails, log_density, self._first.size, self.kind)
        self._middle = np.zeros(self._first.size)
        if coordinate in ("log", "logit"):
            self._middle = table.knots[:, table.knots.shape[1] // 2].copy()
            table.knots[:] -= self._middle[:, None]
            table.coefficients[..., 0] -= self._middle[:, None]
        self._table = table

    def _constant(self, value: np.ndarray, like: Array) -> Array:
        return jnp.asarray(value, like.dtype)

    def _distances(self, theta: Array) -> tuple[Array, ...]:
        """Distances from the edges in units of the stretch."""
        offset = theta - self._constant(self._first, theta)
        stretch = self._constant(self._second, theta)
        # The largest float over a scale below 1 would overflow.
        bound = jnp.finfo(theta.dtype).max
        first = jnp.clip(offset / stretch, -bound, bound)
        if self._family.coordinate != "logit":
            return (first,)
        return first, (self._constant(self.high, theta) - theta) / stretch

    def _coordinate(self, theta: Array) -> Array:
        distances = self._distances(theta)
        if self._family.coordinate == "line":
            return distances[0]
        if self._family.coordinate == "asinh":
            return jnp.arcsinh(distances[0])
        # Quotients of the smallest floats flush to 0, whose log is -inf.
        tiny, largest = 16.0 * jnp.finfo(theta.dtype).tiny, jnp.finfo(theta.dtype).max
        nearest = [jnp.maximum(d, tiny) for d in distances]
        ratio = nearest[0] / self._constant(np.exp(self._middle), theta)
        if self._family.coordinate == "logit":
            ratio = ratio / nearest[1]
        return jnp.log(jnp.clip(ratio, tiny, largest))

    def _place(self, s: Array) -> Array:
        first = self._constant(self._first, s)
        stretch = self._constant(self._second, s)
        if self._family.coordinate == "line":
            return first + stretch * s
        # Beyond it exp leaves the floats; clipping here keeps gradients finite.
        bound = jnp.log(jnp.finfo(s.dtype).max) - 1.0
        s = jnp.clip(s, -bound, bound)
        if self._family.coordinate == "asinh":
            return first + stretch * jnp.sinh(s)
        if self._family.coordinate == "log":
            middle = self._constant(np.exp(self._middle), s)
            return first + stretch * middle * jnp.exp(s)
        total = s + self._constant(self._middle, s)
        # The smaller share keeps its digits; odds of e^80 would overflow.
        smaller = self._smaller_share(s)
        high = self._constant(self.high, s)
        return jnp.where(
            total <= 0, first + stretch * smaller, high - stretch * smaller
        )

    def _smaller_share(self, s: Array) -> Array:
        total = s + self._constant(self._middle, s)
        sign = jnp.where(total <= 0, 1.0, -1.0).astype(s.dtype)
        middle = jnp.where(
            total <= 0,
            self._constant(np.exp(self._middle), s),
            self._constant(np.exp(-self._middle), s),
        )
        odds = middle * jnp.exp(sign * s)
        return odds / (1.0 + odds)

    def _log_stretch(self, s: Array) -> Array:
        """Log |dtheta/ds|."""
        total = s + self._constant(self._middle, s)
        size = self._constant(self._log_size, s)
        return size + _log_jacobian(jnp, self._family.coordinate, total)


def _finite(edges: np.ndarray) -> list[float | None]:
    """Edges as JSON: None stands for infinity."""
    return [float(e) if np.isfinite(e) else None for e in edges]


def _distances_at(coordinate: str, s: np.ndarray) -> tuple[np.ndarray, ...]:
    """Distances of `families` at coordinate s, in float64."""
    if coordinate == "log":
        return (np.exp(s),)
    if coordinate == "line":
        return (s,)
    if coordinate == "asinh":
        return (np.sinh(s),)
    return 1.0 / (1.0 + np.exp(-s)), 1.0 / (1.0 + np.exp(s))


def _log_jacobian(xp: Any, coordinate: str, s: Any) -> Any:  # noqa: ANN401
    """Log of d distance / ds: s, 0, log cosh s, or log u v."""
    if coordinate == "log":
        return s
    if coordinate == "line":
        return xp.zeros_like(s)
    size = xp.abs(s)
    if coordinate == "asinh":
        return size + xp.log1p(xp.exp(-2.0 * size)) - math.log(2.0)
    return -size - 2.0 * xp.log1p(xp.exp(-size))
