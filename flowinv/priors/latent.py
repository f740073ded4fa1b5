"""Priors as latents: named parameters, and z ~ N(0, I) for every one of them.

A flow lives in z only. `to_latent` takes theta to z, one to one, and `from_latent`
brings any finite z back to a theta strictly inside the support, also after rounding.
"""

import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_last_axis, fail
from flowinv.priors.blocks import Block, BoxBlock, Normal, Uniform, clip_inside
from flowinv.priors.normal import as_floating
from flowinv.priors.trust import check_resolution

__all__ = ["Prior", "normal", "uniform"]


# One compiled program for each prior, shape and dtype: a dozen small kernels would cost
# a dozen compilations and dispatches when called outside jit.
_compiled = functools.partial(jax.jit, static_argnums=0)


class Prior:
    """A prior over D named parameters and its one-to-one map to z in R^D.

    The map makes the prior in z exactly N(0, I) for every block whose CDF or whitening
    is known; for others (`from_numpyro` of a distribution without one) `biject_to` of
    the support and a standardisation take its place and `latent_log_prob` holds the
    exact density of z. Methods are jit- and vmap-able, accept any leading batch, and
    follow the dtype: float64 in gives float64 out where x64 is on, else float32.
    Priors are immutable; equal configurations are equal and hash alike.

    Attributes:
        names: one name for each parameter.
        units: one unit for each parameter, "" where it has none.
        dim: D.
        low: lower edges of the box hull of the support, float64 `[D]`, may be -inf.
        high: upper edges, float64 `[D]`, may be inf.

    References:
        Rosenblatt 1952 (the CDF transport); distrax and TFP call such a map a
        bijector: Dillon 2017, arXiv:1711.10604.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    dim: int
    low: np.ndarray
    high: np.ndarray

    def __init__(
        self,
        blocks: Sequence[tuple[Block, Sequence[int]]],
        names: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
    ) -> None:
        """Join blocks; each comes with the columns of theta that it owns.

        Raises:
            ValueError: names or units of the wrong count, or a name twice.
        """
        self._blocks = tuple((b, tuple(int(c) for c in cols)) for b, cols in blocks)
        columns = [c for _, cols in self._blocks for c in cols]
        self.dim = len(columns)
        if self.dim == 0:
            fail("prior", "of at least one parameter", "none")
        if sorted(columns) != list(range(self.dim)):
            fail("columns of the blocks", f"to cover 0..{self.dim - 1} once", columns)
        self._order = (
            None
            if columns == list(range(self.dim))
            else np.argsort(columns).astype(np.int32)
        )
        self.low = np.concatenate([b.low for b, _ in self._blocks])[self._order_or_all]
        self.high = np.concatenate([b.high for b, _ in self._blocks])[
            self._order_or_all
        ]
        self.names = _check_labels("names", names, self.dim, unique=True)
        self.units = _check_labels("units", units, self.dim, unique=False)
        spreads = zip(*(b.spread() for b, _ in self._blocks), strict=True)
        ends = [np.concatenate(parts)[self._order_or_all] for parts in spreads]
        check_resolution(self.names, *ends)

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def sample(self, key: Array, num_samples: int) -> Array:
        """Draw from the prior: `[num_samples, D]`, strictly inside the support."""
        return self.from_latent(self.sample_latent(key, num_samples))

    def sample_latent(self, key: Array, num_samples: int) -> Array:
        """Draw z of prior draws, `[num_samples, D]`: N(0, I) but for fallbacks."""
        shape = (num_samples, self.dim)
        z = jax.random.normal(key, shape, dtype=jnp.result_type(float))
        parts = []
        for index, (block, columns) in enumerate(self._blocks):
            draw = getattr(block, "sample_latent", None)
            if draw is None:
                parts.append(z[:, np.asarray(columns, np.int32)])
            else:
                parts.append(draw(jax.random.fold_in(key, index), num_samples, z.dtype))
        return self._join(parts)

    @_compiled
    def log_prob(self, theta: ArrayLike) -> Array:
        """Log prior density of `theta` `[..., D]`, shape `[...]`; -inf outside."""
        theta = self._checked(theta, "theta")
        inside = self.contains(theta)
        # Outside, a point of the support stands in, so that gradients stay finite.
        safe = jnp.where(inside[..., None], theta, self._centre(theta.dtype))
        total = sum(b.log_prob(part) for b, part in self._split(safe))
        return jnp.where(inside, total, -jnp.inf)

    def to_latent(self, theta: ArrayLike) -> Array:
        """Map theta `[..., D]` to z; outside a box its edge's z."""
        return self.to_latent_and_log_det(theta)[0]

    def from_latent(self, z: ArrayLike) -> Array:
        """Map any finite z `[..., D]` to a theta strictly inside the support."""
        return self.from_latent_and_log_det(z)[0]

    @_compiled
    def to_latent_and_log_det(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Map theta to z with log |det dz/dtheta|, `[..., D]` and `[...]`.

        The log-det is finite in the closed support and -inf outside, so that
        log q(z) + log_det is the density of theta everywhere.
        """
        theta = self._checked(theta, "theta")
        inside = self.contains(theta)
        safe = jnp.where(inside[..., None], theta, self._nearest(theta))
        safe = clip_inside(safe, self.low, self.high)
        parts = [b.to_latent_and_log_det(part) for b, part in self._split(safe)]
        log_det = sum(part[1] for part in parts)
        z = self._join([part[0] for part in parts])
        return z, jnp.where(inside, log_det, -jnp.inf)

    @_compiled
    def from_latent_and_log_det(self, z: ArrayLike) -> tuple[Array, Array]:
        """Map z to theta with log |det dtheta/dz|, `[..., D]` and `[...]`."""
        z = self._checked(z, "z")
        parts = [b.from_latent_and_log_det(part) for b, part in self._split(z)]
        theta = clip_inside(self._join([p[0] for p in parts]), self.low, self.high)
        return theta, sum(part[1] for part in parts)

    @_compiled
    def latent_log_prob(self, z: ArrayLike) -> Array:
        """Exact log density of z under the prior, `[...]`; N(0, I) for most."""
        z = self._checked(z, "z")
        return sum(b.latent_log_prob(part) for b, part in self._split(z))

    @_compiled
    def contains(self, theta: ArrayLike) -> Array:
        """True where theta lies in the closed support, shape `[...]`; False for NaN."""
        theta = self._checked(theta, "theta")
        inside = [b.contains(part) for b, part in self._split(theta)]
        return jnp.all(jnp.stack(inside), axis=0)

    def to_scaled(self, theta: ArrayLike, z: ArrayLike | None = None) -> Array:
        """Put theta `[..., D]` on (-1, 1) between its edges; z where it has none.

        Args:
            theta: parameters.
            z: their latent, where it is known already.
        """
        theta = self._checked(theta, "theta")
        low, high = self._finite_edges()
        scaled = 2.0 * (theta - low) / (high - low) - 1.0
        z = self.to_latent(theta) if z is None else z
        return jnp.where(self.bounded, scaled, z)

    def from_scaled(self, scaled: ArrayLike) -> Array:
        """Inverse of `to_scaled`."""
        scaled = self._checked(scaled, "scaled theta")
        low, high = self._finite_edges()
        theta = low + 0.5 * (scaled + 1.0) * (high - low)
        # Bounded parameters take no part in z here: 0 is the centre of all.
        free = self.from_latent(jnp.where(self.bounded, 0.0, scaled))
        return jnp.where(self.bounded, theta, free)

    @property
    def has_normal_latent(self) -> bool:
        """Whether z is exactly N(0, I): for all but `biject_to` fallbacks."""
        return not any(hasattr(block, "sample_latent") for block, _ in self._blocks)

    @property
    def bounded(self) -> np.ndarray:
        """True for parameters with two finite edges, `[D]`."""
        return np.isfinite(self.low) & np.isfinite(self.high)

    def scaled_normal(self) -> tuple[Array, Array]:
        """Mean and precision of the prior in scaled units, `[D]`; 0 where it is flat.

        A parameter with edges is taken for uniform between them.
        """
        zeros = jnp.zeros(self.dim, jnp.float32)
        return zeros, jnp.where(self.bounded, 0.0, 1.0)

    @property
    def flat(self) -> np.ndarray:
        """True for parameters that are taken as uniform between their edges, `[D]`."""
        return self.bounded

    def _finite_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Edges in float32, with -1, 1 standing in for unbounded parameters."""
        low = np.where(self.bounded, self.low, -1.0).astype(np.float32)
        return low, np.where(self.bounded, self.high, 1.0).astype(np.float32)

    def to_config(self) -> dict[str, Any]:
        """Description that JSON can hold; `prior_from_config` reads it."""
        blocks = [{**b.to_config(), "columns": list(c)} for b, c in self._blocks]
        return {"names": list(self.names), "units": list(self.units), "blocks": blocks}

    def __eq__(self, other: object) -> bool:
        """Equal when the configurations are."""
        return isinstance(other, Prior) and self._identity == other._identity

    def __hash__(self) -> int:
        """Hash of the configuration."""
        return hash(self._identity)

    def __repr__(self) -> str:
        """Kinds and names on one line."""
        kinds = ", ".join(f"{b.kind}[{len(c)}]" for b, c in self._blocks)
        return f"Prior({kinds}; {', '.join(self.names)})"

    @property
    def blocks(self) -> tuple[tuple[Block, tuple[int, ...]], ...]:
        """The blocks, each with the columns of theta that it owns."""
        return self._blocks

    @functools.cached_property
    def _identity(self) -> str:
        return json.dumps(self.to_config(), sort_keys=True)

    @property
    def _order_or_all(self) -> np.ndarray | slice:
        return slice(None) if self._order is None else self._order

    def _checked(self, value: ArrayLike, what: str) -> Array:
        value = as_floating(value)
        check_last_axis(what, value.shape, self.dim)
        return value

    def _split(self, value: Array) -> list[tuple[Block, Array]]:
        if len(self._blocks) == 1 and self._order is None:
            return [(self._blocks[0][0], value)]
        return [(b, value[..., np.asarray(c, np.int32)]) for b, c in self._blocks]

    def _join(self, parts: list[Array]) -> Array:
        value = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
        return value if self._order is None else value[..., self._order]

    def _centre(self, dtype: np.dtype) -> Array:
        return self.from_latent(jnp.zeros(self.dim, dtype))

    def _nearest(self, theta: Array) -> Array:
        """The closest point of a box; the centre for supports of another shape."""
        centre = self._centre(theta.dtype)
        if not all(isinstance(block, BoxBlock) for block, _ in self._blocks):
            return jnp.broadcast_to(centre, theta.shape)
        return jnp.where(jnp.isnan(theta), centre, theta)


def uniform(
    low: ArrayLike,
    high: ArrayLike,
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Prior:
    """Independent uniform parameters on [low, high]; needs no numpyro.

    Args:
        low: lower edges, `[D]` or a number.
        high: upper edges, `[D]` or a number.
        names: D names; theta_0, theta_1, ... by default.
        units: D units; "" by default.

    Raises:
        ValueError: an edge is not finite, low is not below high, or labels do not fit.
    """
    low, high = _columns("low", low, "high", high)
    labels = _check_labels("names", names, low.size, unique=True)
    for name, a, b in zip(labels, low, high, strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            fail(f"prior edges of {name!r}", "to be finite", f"low={a:g}, high={b:g}")
        if not a < b:
            fail(f"prior of {name!r}", "with low < high", f"low={a:g}, high={b:g}")
    return Prior([(Uniform(low, high), range(low.size))], labels, units)


def normal(
    loc: ArrayLike,
    scale: ArrayLike,
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Prior:
    """Independent normal parameters N(loc, scale^2); needs no numpyro.

    Args:
        loc: means, `[D]` or a number.
        scale: standard deviations, `[D]` or a number.
        names: D names; theta_0, theta_1, ... by default.
        units: D units; "" by default.

    Raises:
        ValueError: a number is not finite, scale is not above 0, or labels do not fit.
    """
    loc, scale = _columns("loc", loc, "scale", scale)
    labels = _check_labels("names", names, loc.size, unique=True)
    for name, m, s in zip(labels, loc, scale, strict=True):
        if not (math.isfinite(m) and math.isfinite(s) and s > 0):
            fail(
                f"prior of {name!r}",
                "with finite loc and scale > 0",
                f"loc={m:g}, scale={s:g}",
            )
    return Prior([(Normal(loc, scale), range(loc.size))], labels, units)


def _columns(
    first: str, a: ArrayLike, second: str, b: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Broadcast two arguments to one float64 vector each."""
    a, b = np.atleast_1d(np.asarray(a, float)), np.atleast_1d(np.asarray(b, float))
    if a.ndim > 1 or b.ndim > 1 or (a.size != b.size and 1 not in (a.size, b.size)):
        fail(f"{first} and {second}", "as vectors of one length", (a.shape, b.shape))
    return tuple(np.array(v) for v in np.broadcast_arrays(a, b))


def _check_labels(
    what: str, labels: Sequence[str] | None, dim: int, *, unique: bool
) -> tuple[str, ...]:
    """Return `dim` labels, checked, or the defaults."""
    if labels is None:
        return tuple(f"theta_{i}" if unique else "" for i in range(dim))
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    if len(labels) != dim or not all(isinstance(label, str) for label in labels):
        fail(what, f"as {dim} strings, one for each parameter", list(labels))
    if unique and (len(set(labels)) != dim or "" in labels):
        fail(what, "to be distinct and not empty", list(labels))
    return labels
