"""A prior cut to a box of its latent space, with a latent of its own.

Where independent z ~ N(0, I) is cut to a box a < z < b, every z_d is a truncated
normal, and

    w_d = Phi^-1((Phi(z_d) - Phi(a_d)) / (Phi(b_d) - Phi(a_d)))

is N(0, 1) again. So a cut prior is a prior: nothing is rejected, no draw is outside,
and a flow over w sees a problem of unit scale however narrow the box is. The edges are
arrays, which may be traced and have a leading lane axis under vmap.

Reference: Deistler et al. 2022, Truncated proposals, arXiv:2210.04815 (truncation);
the rebuilt latent takes the place of their rejection sampling.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import fail
from flowinv.priors.latent import Prior
from flowinv.priors.normal import (
    log_normal_density,
    lower_tail,
    normal_cdf,
    normal_score,
)

__all__ = ["WHOLE", "Box", "CutPrior", "check_cuttable", "whole_box"]

# Edge of a box that cuts nothing: 2e-9 of a normal's mass lie beyond.
WHOLE = 6.0
# In sds of the prior: a normal prior cut to less is placed on as a uniform one.
FLAT = 2.0
# A share of the box's mass below this is rounding; its w is -5.2.
LEAST_SHARE = 1e-7


class Box(NamedTuple):
    """A box in the latent z of a prior; `[D]` each, within [-6, 6].

    Attributes:
        low: lower edges.
        high: upper edges.
    """

    low: Array
    high: Array

    def contains(self, z: Array) -> Array:
        """True where z `[..., D]` lies inside, shape `[...]`."""
        return ((z >= self.low) & (z <= self.high)).all(-1)

    def holds(self, other: "Box") -> Array:
        """True where `other` lies inside this box; broadcasts over leading axes."""
        return ((self.low <= other.low) & (other.high <= self.high)).all(-1)

    def log_mass(self) -> Array:
        """Log of the prior's mass inside."""
        return jnp.log(_edge_tails(self)[3]).sum(-1)


def whole_box(dim: int) -> Box:
    """The box that cuts nothing."""
    return Box(*(jnp.full(dim, edge, jnp.float32) for edge in (-WHOLE, WHOLE)))


def check_cuttable(prior: Prior) -> None:
    """Raise unless the prior's latent is exactly N(0, I).

    Raises:
        ValueError: for a prior with a part that `biject_to` had to stand in for.
    """
    if not prior.has_normal_latent:
        bad = [b.kind for b, _ in prior.blocks if hasattr(b, "sample_latent")]
        fail(
            "prior of truncated rounds",
            "of parts with a known CDF",
            f"{bad[0]} (a biject_to fallback)",
            "Use method apt, or another prior.",
        )


class CutPrior:
    """`prior` cut to `box`; has the methods of `Prior` that estimators ask for.

    Attributes:
        prior: the whole prior; its latent must be N(0, I) (`check_cuttable`).
        box: box in its latent space.
    """

    def __init__(self, prior: Prior, box: Box) -> None:
        """Cut `prior` to `box`."""
        self.prior, self.box = prior, box
        self.dim, self.names, self.units = prior.dim, prior.names, prior.units

    def sample_latent(self, key: Array, num_samples: int) -> Array:
        """Draw w of cut-prior draws, `[num_samples, D]`: N(0, I)."""
        return jax.random.normal(key, (num_samples, self.dim), jnp.float32)

    def from_latent(self, w: ArrayLike) -> Array:
        """Map any finite w `[..., D]` to a theta inside the box."""
        return self.from_latent_and_log_det(w)[0]

    def to_latent(self, theta: ArrayLike) -> Array:
        """Map theta `[..., D]` to w; outside the box its edge's w."""
        return self.to_latent_and_log_det(theta)[0]

    def from_latent_and_log_det(self, w: ArrayLike) -> tuple[Array, Array]:
        """Map w to theta with log |det dtheta/dw|, `[..., D]` and `[...]`."""
        w = jnp.asarray(w)
        z = uncut(self.box, w)
        theta, log_det = self.prior.from_latent_and_log_det(z)
        return theta, log_det - self._log_det(z, w)

    def to_latent_and_log_det(self, theta: ArrayLike) -> tuple[Array, Array]:
        """Map theta to w with log |det dw/dtheta|; -inf outside the box."""
        z, log_det = self.prior.to_latent_and_log_det(theta)
        w = cut(self.box, z)
        inside = self.box.contains(z)
        return w, jnp.where(inside, log_det + self._log_det(z, w), -jnp.inf)

    def latent_log_prob(self, w: ArrayLike) -> Array:
        """Log N(w; 0, I), `[...]`."""
        return log_normal_density(jnp.asarray(w)).sum(-1)

    def log_prob(self, theta: ArrayLike) -> Array:
        """Log density of the cut prior, normalised; -inf outside the box."""
        inside = self.contains(theta)
        log_prob = self.prior.log_prob(theta) - self.box.log_mass()
        return jnp.where(inside, log_prob, -jnp.inf)

    def contains(self, theta: ArrayLike) -> Array:
        """True where theta lies in the box, shape `[...]`."""
        z = self.prior.to_latent(theta)
        return self.box.contains(z) & self.prior.contains(theta)

    def to_scaled(self, theta: ArrayLike, z: ArrayLike | None = None) -> Array:
        """Put theta on (-1, 1) between the edges: linear in theta, or in z.

        Args:
            theta: parameters.
            z: their latent under the whole prior, where it is known already.
        """
        low, high = self._edges()
        z = self.prior.to_latent(theta) if z is None else z
        value = jnp.where(self._linear, jnp.asarray(theta), z)
        return 2.0 * (value - low) / (high - low) - 1.0

    def from_scaled(self, scaled: ArrayLike) -> Array:
        """Inverse of `to_scaled`."""
        low, high = self._edges()
        value = low + 0.5 * (jnp.asarray(scaled) + 1.0) * (high - low)
        safe = jnp.where(self._linear, 0.0, value)
        return jnp.where(self._linear, value, self.prior.from_latent(safe))

    @property
    def bounded(self) -> np.ndarray:
        """All parameters have edges."""
        return np.ones(self.dim, bool)

    @property
    def flat(self) -> Array:
        """True where the cut prior is about uniform between its edges, `[D]`."""
        return jnp.asarray(self._linear) | (self.box.high - self.box.low < FLAT)

    def scaled_normal(self) -> tuple[Array, Array]:
        """Mean and precision in scaled units that the prior had before the cut, `[D]`.

        The precision is 0 where it was uniform, or next to it.
        """
        low, high = self.box
        half = 0.5 * (high - low)
        mean = -(low + high) / (high - low)
        return mean, jnp.where(self._linear, 0.0, half**2)

    @property
    def _linear(self) -> np.ndarray:
        """Parameters that are regressed in their own units."""
        return np.isfinite(self.prior.low) & np.isfinite(self.prior.high)

    def _edges(self) -> tuple[Array, Array]:
        """Edges of the box in the parameters' units, or in z."""
        low, high = self.prior.from_latent(jnp.stack(self.box))
        low = jnp.where(self._linear, low, self.box.low)
        return low, jnp.where(self._linear, high, self.box.high)

    def _log_det(self, z: Array, w: Array) -> Array:
        """Log |det dw/dz|."""
        change = log_normal_density(z) - log_normal_density(w)
        return change.sum(-1) - self.box.log_mass()


def cut(box: Box, z: Array) -> Array:
    """Latent w of the cut prior for z of the whole one; z is clipped into the box."""
    side, near, far, mass = _edge_tails(box)
    z = side * jnp.clip(z, box.low, box.high)
    tail = lower_tail(z)
    below = (jnp.where(z <= 0, tail, 1.0 - tail) - near) / mass
    # Beyond the middle of the prior the other tail has the digits.
    above = jnp.where(z > 0, (tail - far) / mass, 1.0 - below)
    low = below <= 0.5
    rest = jnp.clip(jnp.where(low, below, above), LEAST_SHARE, 0.5)
    w = normal_score(rest)
    return side * jnp.where(low, w, -w)


def uncut(box: Box, w: Array) -> Array:
    """Inverse of `cut`."""
    side, near, far, mass = _edge_tails(box)
    w = side * w
    tail = lower_tail(w)
    below = near + mass * jnp.where(w <= 0, tail, 1.0 - tail)
    above = far + mass * jnp.where(w <= 0, 1.0 - tail, tail)
    low = below <= 0.5
    z = normal_score(jnp.clip(jnp.where(low, below, above), 0.0, 0.5))
    return jnp.clip(side * jnp.where(low, z, -z), box.low, box.high)


def _edge_tails(box: Box) -> tuple[Array, Array, Array, Array]:
    """Side (+-1), tails beyond both edges and mass of the box, elementwise.

    Counted from the side where the box lies, the tails keep their digits.
    """
    side = jnp.where(box.low + box.high > 0, -1.0, 1.0)
    first = jnp.where(side > 0, box.low, -box.high)
    last = jnp.where(side > 0, box.high, -box.low)
    # A stack: the compiled program holds the function once.
    near, far, below = normal_cdf(jnp.stack([first, -last, last]))
    return side, near, far, jnp.maximum(below - near, 1e-12)
