"""Monotone rational-quadratic spline with softly bounded parameters.

References:
    Durkan et al. 2019, Neural Spline Flows, arXiv:1906.04032 (eqs. 4-8).
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.bijectors.affine import soft_clamp
from flowinv.checks import check_positive, fail

__all__ = ["RationalQuadraticSpline", "num_spline_parameters"]


def num_spline_parameters(num_bins: int) -> int:
    """Numbers per dimension: K widths, K heights and K - 1 inner slopes."""
    return 3 * num_bins - 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RationalQuadraticSpline:
    """Element-wise RQ spline on [-bound, bound], the identity outside.

    Zero parameters give the identity. Both directions are closed forms and cost about
    the same; the inverse takes one square root more.

    The raw parameters are bounded softly, so that float32 round trips stay exact when
    a conditioner saturates: two bins differ by at most a factor min_slope^-1/2 in width
    and in height, and knot slopes lie in (min_slope, 1 / min_slope). Outer slopes are
    1, so the tails join smoothly.

    Attributes:
        raw: unbounded parameters, shape `[..., D, 3 K - 1]`: widths, heights, slopes.
        bound: half width B of the interval, in units of x.
        min_slope: the s above.
    """

    raw: Array
    bound: float = field(default=5.0, metadata={"static": True})
    min_slope: float = field(default=1e-2, metadata={"static": True})

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y with shape `[..., D]` and log_det with shape `[...]`."""
        inside, safe = self._inside(x)
        knots_x, knots_y, slopes = self.knots()
        left, width, low, height, slope, next_slope = _bin(
            safe, knots_x, knots_x, knots_y, slopes
        )
        mean_slope = height / width
        position = jnp.clip((safe - left) / width, 0.0, 1.0)
        bend = next_slope + slope - 2.0 * mean_slope
        mixed = position * (1.0 - position)
        denominator = mean_slope + bend * mixed
        y = low + height * (mean_slope * position**2 + slope * mixed) / denominator
        log_det = _log_derivative(
            position, mean_slope, slope, next_slope, mixed, denominator
        )
        return jnp.where(inside, y, x), jnp.where(inside, log_det, 0.0).sum(-1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x with shape `[..., D]` and log_det with shape `[...]`."""
        inside, safe = self._inside(y)
        knots_x, knots_y, slopes = self.knots()
        left, width, low, height, slope, next_slope = _bin(
            safe, knots_y, knots_x, knots_y, slopes
        )
        mean_slope = height / width
        rise = jnp.clip((safe - low) / height, 0.0, 1.0)
        bend = next_slope + slope - 2.0 * mean_slope
        # a position^2 + b position + c = 0 divided by the height. The root in this
        # form adds two numbers of one sign, so nothing cancels.
        a = (mean_slope - slope) + rise * bend
        b = slope - rise * bend
        c = -mean_slope * rise
        root = jnp.sqrt(jnp.maximum(b**2 - 4.0 * a * c, 1e-12 * mean_slope**2))
        position = jnp.clip(2.0 * c / (-b - root), 0.0, 1.0)
        mixed = position * (1.0 - position)
        denominator = mean_slope + bend * mixed
        log_det = _log_derivative(
            position, mean_slope, slope, next_slope, mixed, denominator
        )
        x = left + width * position
        return jnp.where(inside, x, y), jnp.where(inside, -log_det, 0.0).sum(-1)

    def _inside(self, value: Array) -> tuple[Array, Array]:
        """Mask of the interval, and the value clipped into it (the double where)."""
        inside = (value > -self.bound) & (value < self.bound)
        return inside, jnp.clip(value, -self.bound, self.bound)

    def knots(self) -> tuple[Array, Array, Array]:
        """Knot positions `[..., D, K + 1]` on both axes and knot slopes.

        Raises:
            ValueError: if the size of `raw` is not 3 K - 1, `bound` not above 0 or
                `min_slope` not in (0, 1).
        """
        if self.raw.shape[-1] % 3 != 2:
            fail("raw", "with 3 K - 1 entries on the last axis", self.raw.shape)
        check_positive("bound", self.bound)
        if not 0 < self.min_slope < 1:
            fail("min_slope", "between 0 and 1", self.min_slope)
        num_bins = (self.raw.shape[-1] + 1) // 3
        # |raw| < limit / 4 bounds the ratio of two bins by exp(limit / 2), so mean
        # slopes, like knot slopes, span at most [min_slope, 1 / min_slope].
        limit = -math.log(self.min_slope)
        sizes = soft_clamp(self.raw[..., : 2 * num_bins], limit / 4)
        slopes = jnp.exp(soft_clamp(self.raw[..., 2 * num_bins :], limit))
        edge = jnp.ones((*self.raw.shape[:-1], 1), self.raw.dtype)
        slopes = jnp.concatenate([edge, slopes, edge], -1)
        knots_x = self._cumulate(sizes[..., :num_bins])
        return knots_x, self._cumulate(sizes[..., num_bins:]), slopes

    def _cumulate(self, logits: Array) -> Array:
        """Knots from bin logits: softmax, running sum, first and last knot exact."""
        shares = jax.nn.softmax(logits, axis=-1)
        ends = [jnp.full(logits.shape[:-1], -self.bound, logits.dtype)]
        for k in range(logits.shape[-1] - 1):
            ends.append(ends[-1] + 2.0 * self.bound * shares[..., k])
        ends.append(jnp.full(logits.shape[:-1], self.bound, logits.dtype))
        return jnp.stack(ends, -1)


def _bin(
    value: Array, knots: Array, knots_x: Array, knots_y: Array, slopes: Array
) -> tuple[Array, ...]:
    """Left, width, low, height and both slopes of the bin that holds `value`.

    A masked sum instead of a gather: K is small, and CPUs and GPUs fuse it.
    """
    above = value[..., None] >= knots[..., 1:-1]
    first = jnp.ones((*above.shape[:-1], 1), bool)
    hit = jnp.concatenate([first, above], -1) & ~jnp.concatenate([above, ~first], -1)

    def pick(table: Array) -> Array:
        return jnp.where(hit, table, 0.0).sum(-1)

    left, low = pick(knots_x[..., :-1]), pick(knots_y[..., :-1])
    width = pick(knots_x[..., 1:] - knots_x[..., :-1])
    height = pick(knots_y[..., 1:] - knots_y[..., :-1])
    return left, width, low, height, pick(slopes[..., :-1]), pick(slopes[..., 1:])


def _log_derivative(
    position: Array,
    mean_slope: Array,
    slope: Array,
    next_slope: Array,
    mixed: Array,
    denominator: Array,
) -> Array:
    """log dy/dx inside a bin (Durkan eq. 5); every term is positive."""
    numerator = (
        next_slope * position**2
        + 2.0 * mean_slope * mixed
        + slope * (1.0 - position) ** 2
    )
    ratio = mean_slope / denominator
    return jnp.log(numerator) + 2.0 * jnp.log(ratio)
