"""Closed-form blocks of a prior: uniform, normal, and their logarithmic kin.

A block is a group of parameters with one transport to z ~ N(0, I). `Block` states the
contract; the blocks here need no table and no numpyro. Everything a block holds is a
float64 numpy constant, cast to the dtype of the argument when used.
"""

from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.priors.normal import (
    inner_edges,
    log_normal_density,
    lower_tail,
    normal_score,
)

__all__ = [
    "Block",
    "BoxBlock",
    "LogNormal",
    "LogUniform",
    "Normal",
    "Uniform",
    "clip_inside",
]


class Block(Protocol):
    """A group of d parameters and its one-to-one map to z in R^d.

    Methods take arrays `[..., d]` of float32 or float64 strictly inside the support
    (the prior clips before it calls) and give `[..., d]` values and `[...]` log-dets.
    """

    kind: str
    low: np.ndarray
    high: np.ndarray

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Return z and log |det dz/dtheta|."""
        ...

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Return theta (unclipped) and log |det dtheta/dz|."""
        ...

    def log_prob(self, theta: Array) -> Array:
        """Log density of theta on the closed support."""
        ...

    def latent_log_prob(self, z: Array) -> Array:
        """Exact log density of z when theta follows the block."""
        ...

    def contains(self, theta: Array) -> Array:
        """True where theta lies in the closed support, shape `[...]`."""
        ...

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of about the middle 95 % of each parameter, float64 `[d]` each."""
        ...

    def to_config(self) -> dict[str, Any]:
        """JSON-able description."""
        ...


class BoxBlock:
    """What all blocks with a box support and an exactly normal latent share."""

    kind: str
    low: np.ndarray
    high: np.ndarray

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of about the middle 95 % of each parameter: here, of all of it."""
        return self.low, self.high

    def latent_log_prob(self, z: Array) -> Array:
        """Log N(z; 0, I), shape `[...]`."""
        return log_normal_density(z).sum(-1)

    def contains(self, theta: Array) -> Array:
        """True where every component lies in the closed interval [low, high]."""
        low, high = (jnp.asarray(e, theta.dtype) for e in (self.low, self.high))
        return jnp.all((theta >= low) & (theta <= high) & jnp.isfinite(theta), -1)


class Uniform(BoxBlock):
    """theta = low + (high - low) Phi(z), taken from whichever edge is nearer.

    Distances are formed in the argument's dtype, so that z keeps its precision at both
    edges. Both directions cost one (inverse) error function.
    """

    kind = "uniform"

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        """Take edges of shape `[d]`; the caller has checked low < high."""
        self.low = np.asarray(low, np.float64)
        self.high = np.asarray(high, np.float64)
        self._width = self.high - self.low

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Z = Phi^-1((theta - low) / width) and its log-det."""
        dtype = theta.dtype
        low, high = jnp.asarray(self.low, dtype), jnp.asarray(self.high, dtype)
        from_low, from_high = theta - low, high - theta
        width = jnp.asarray(self._width, dtype)
        # Not minimum: at a tie its gradient is the mean of both, here 0.
        lower = from_low <= from_high
        score = normal_score(jnp.where(lower, from_low, from_high) / width)
        z = jnp.where(lower, score, -score)
        return z, -(log_normal_density(z) + jnp.log(width)).sum(-1)

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta and log |det dtheta/dz| = sum log width + log N(z)."""
        low, high = jnp.asarray(self.low, z.dtype), jnp.asarray(self.high, z.dtype)
        width = jnp.asarray(self._width, z.dtype)
        distance = width * lower_tail(z)
        theta = jnp.where(z <= 0, low + distance, high - distance)
        return theta, (log_normal_density(z) + jnp.log(width)).sum(-1)

    def log_prob(self, theta: Array) -> Array:
        """-sum log width everywhere on the box."""
        total = jnp.asarray(-np.log(self._width).sum(), theta.dtype)
        return jnp.broadcast_to(total, theta.shape[:-1])

    def to_config(self) -> dict[str, Any]:
        """Edges as lists."""
        return {
            "kind": self.kind,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }


class LogUniform(BoxBlock):
    """log theta uniform on [log low, log high], 0 < low < high."""

    kind = "log_uniform"

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        """Take positive edges of shape `[d]`; the caller has checked them."""
        self.low = np.asarray(low, np.float64)
        self.high = np.asarray(high, np.float64)
        self._decades = np.log(self.high) - np.log(self.low)

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Z = Phi^-1(log(theta / low) / log(high / low)) and its log-det."""
        dtype = theta.dtype
        low, high = jnp.asarray(self.low, dtype), jnp.asarray(self.high, dtype)
        from_low = jnp.log1p((theta - low) / low)
        from_high = -jnp.log1p((theta - high) / high)
        span = jnp.asarray(self._decades, dtype)
        lower = from_low <= from_high
        score = normal_score(jnp.where(lower, from_low, from_high) / span)
        z = jnp.where(lower, score, -score)
        log_det = jnp.log(span) + jnp.log(theta) + log_normal_density(z)
        return z, -log_det.sum(-1)

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta and log |det dtheta/dz|; each edge is approached by expm1."""
        low, high = jnp.asarray(self.low, z.dtype), jnp.asarray(self.high, z.dtype)
        span = jnp.asarray(self._decades, z.dtype)
        distance = span * lower_tail(z)
        theta = jnp.where(
            z <= 0,
            low + low * jnp.expm1(distance),
            high + high * jnp.expm1(-distance),
        )
        log_det = jnp.log(span) + jnp.log(theta) + log_normal_density(z)
        return theta, log_det.sum(-1)

    def log_prob(self, theta: Array) -> Array:
        """-sum log theta + log log(high / low)."""
        constant = jnp.asarray(np.log(self._decades), theta.dtype)
        return -(jnp.log(theta) + constant).sum(-1)

    def to_config(self) -> dict[str, Any]:
        """Edges as lists."""
        return {
            "kind": self.kind,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }


class Normal(BoxBlock):
    """theta = loc + scale z, on the line or up to edges that no float reaches.

    A truncation beyond 37 sds removes less mass than the smallest float: the density
    stays, only the support ends there.
    """

    kind = "normal"

    def __init__(
        self,
        loc: np.ndarray,
        scale: np.ndarray,
        low: np.ndarray | None = None,
        high: np.ndarray | None = None,
    ) -> None:
        """Take arrays of shape `[d]`; the caller has checked them.

        Args:
            loc: means.
            scale: standard deviations, above 0.
            low: lower edges, at least 37 sds below the mean; -inf by default.
            high: upper edges, at least 37 sds above the mean; inf by default.
        """
        self.loc = np.asarray(loc, np.float64)
        self.scale = np.asarray(scale, np.float64)
        shape = self.loc.shape
        self.low = np.full(shape, -np.inf) if low is None else np.asarray(low, float)
        self.high = np.full(shape, np.inf) if high is None else np.asarray(high, float)

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Z = (theta - loc) / scale and its constant log-det."""
        loc, scale = (jnp.asarray(v, theta.dtype) for v in (self.loc, self.scale))
        log_det = jnp.asarray(-np.log(self.scale).sum(), theta.dtype)
        return (theta - loc) / scale, jnp.broadcast_to(log_det, theta.shape[:-1])

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta and its constant log-det."""
        loc, scale = (jnp.asarray(v, z.dtype) for v in (self.loc, self.scale))
        log_det = jnp.asarray(np.log(self.scale).sum(), z.dtype)
        return loc + scale * z, jnp.broadcast_to(log_det, z.shape[:-1])

    def log_prob(self, theta: Array) -> Array:
        """Sum of normal log densities."""
        z, log_det = self.to_latent_and_log_det(theta)
        return log_normal_density(z).sum(-1) + log_det

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Two sds to either side."""
        return self.loc - 2.0 * self.scale, self.loc + 2.0 * self.scale

    def to_config(self) -> dict[str, Any]:
        """Location, scale and finite edges as lists; None stands for infinity."""
        edges = {"low": self.low, "high": self.high}
        return {
            "kind": self.kind,
            "loc": self.loc.tolist(),
            "scale": self.scale.tolist(),
            **{
                name: [float(e) if np.isfinite(e) else None for e in values]
                for name, values in edges.items()
                if np.isfinite(values).any()
            },
        }


class LogNormal(BoxBlock):
    """theta = exp(loc + scale z), positive."""

    kind = "log_normal"

    def __init__(self, loc: np.ndarray, scale: np.ndarray) -> None:
        """Take the mean and sd of log theta, shape `[d]`, scale > 0."""
        self.loc = np.asarray(loc, np.float64)
        self.scale = np.asarray(scale, np.float64)
        self.low = np.zeros(self.loc.shape)
        self.high = np.full(self.loc.shape, np.inf)

    def to_latent_and_log_det(self, theta: Array) -> tuple[Array, Array]:
        """Z = (log theta - loc) / scale; theta relative to the median keeps digits."""
        median, scale = (
            jnp.asarray(v, theta.dtype) for v in (np.exp(self.loc), self.scale)
        )
        ratio = jnp.clip(theta / median, *_normal_range(theta))
        z = jnp.log(ratio) / scale
        return z, -(jnp.log(theta) + jnp.log(scale)).sum(-1)

    def from_latent_and_log_det(self, z: Array) -> tuple[Array, Array]:
        """Theta and log |det dtheta/dz| = sum log scale + log theta, never overflowing.

        The log-det uses loc + scale z itself, so that it stays finite where theta
        overflows and the prior clips it.
        """
        median, loc, scale = (
            jnp.asarray(v, z.dtype) for v in (np.exp(self.loc), self.loc, self.scale)
        )
        bound = jnp.log(jnp.finfo(z.dtype).max) - 1.0
        theta = median * jnp.exp(jnp.clip(scale * z, -bound, bound))
        return theta, (jnp.log(scale) + loc + scale * z).sum(-1)

    def log_prob(self, theta: Array) -> Array:
        """Sum of log-normal log densities; -inf at 0."""
        inside = jnp.maximum(theta, jnp.finfo(theta.dtype).tiny)
        z, log_det = self.to_latent_and_log_det(inside)
        value = log_normal_density(z).sum(-1) + log_det
        return jnp.where(jnp.all(theta > 0, -1), value, -jnp.inf)

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Two sds of the logarithm to either side."""
        with np.errstate(over="ignore"):
            ends = (np.exp(self.loc + side * self.scale) for side in (-2.0, 2.0))
            return tuple(ends)

    def to_config(self) -> dict[str, Any]:
        """Location and scale of log theta as lists."""
        return {
            "kind": self.kind,
            "loc": self.loc.tolist(),
            "scale": self.scale.tolist(),
        }


def _normal_range(like: Array) -> tuple[Array, Array]:
    """Smallest and largest positive normal float of the dtype."""
    return jnp.finfo(like.dtype).tiny, jnp.finfo(like.dtype).max


def clip_inside(theta: Array, low: np.ndarray, high: np.ndarray) -> Array:
    """Clip `theta` to the floats strictly between `low` and `high`."""
    inside = inner_edges(low, high, np.dtype(theta.dtype))
    return jnp.clip(theta, *(jnp.asarray(edge) for edge in inside))
