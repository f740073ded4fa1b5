"""A flow with another base than N(0, I): proposals that are wider than a posterior."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from scipy.special import gammainccinv

from flowinv.flows.density import standard_normal_log_prob
from flowinv.models.estimator import Variables
from flowinv.sequential.method import Plan

__all__ = ["Ball", "Base", "WideFlow", "WideNormal", "ball_radius"]

# Rows whose density is computed side by side.
AT_ONCE = 2**15


class Base(Protocol):
    """A distribution in the base of a flow."""

    def sample(self, key: Array, shape: tuple[int, ...], dim: int) -> Array:
        """Draw u, float32 `[*shape, dim]`."""
        ...

    def log_prob(self, u: Array) -> Array:
        """Log density of u `[..., D]`, `[...]`."""
        ...


@dataclass(frozen=True)
class WideNormal:
    """N(0, scale^2 I).

    Attributes:
        scale: standard deviation; 1 gives the flow itself.
    """

    scale: float

    def sample(self, key: Array, shape: tuple[int, ...], dim: int) -> Array:
        """Draw u, float32 `[*shape, dim]`."""
        return self.scale * jax.random.normal(key, (*shape, dim), jnp.float32)

    def log_prob(self, u: Array) -> Array:
        """Log density of u `[..., D]`, `[...]`."""
        change = u.shape[-1] * math.log(self.scale)
        return standard_normal_log_prob(u / self.scale) - change


@dataclass(frozen=True)
class Ball:
    """Even in |u| < radius: through a Gaussian flow, a region of highest density.

    Attributes:
        radius: of the ball.
    """

    radius: float

    def sample(self, key: Array, shape: tuple[int, ...], dim: int) -> Array:
        """Draw u, float32 `[*shape, dim]`."""
        # Not jax.random.ball: its gamma variates are 800 operations to compile.
        towards, depth = jax.random.split(key)
        u = jax.random.normal(towards, (*shape, dim), jnp.float32)
        share = jax.random.uniform(depth, (*shape, 1), jnp.float32)
        return (
            self.radius
            * share ** (1.0 / dim)
            * u
            / jnp.linalg.norm(u, axis=-1, keepdims=True)
        )

    def log_prob(self, u: Array) -> Array:
        """Log density of u `[..., D]`, `[...]`; -inf outside."""
        dim = u.shape[-1]
        unit = 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim + 1.0)
        log_volume = unit + dim * math.log(self.radius)
        inside = (u**2).sum(-1) < self.radius**2
        return jnp.where(inside, -log_volume, -jnp.inf)


def ball_radius(dim: int, epsilon: float) -> float:
    """Radius that holds all but `epsilon` of N(0, I) in `dim` dimensions."""
    # scipy.stats has it by name, and takes 0.7 s to import.
    return math.sqrt(2.0 * gammainccinv(0.5 * dim, epsilon))


@dataclass(frozen=True)
class WideFlow:
    """The posterior at x_obs with `base` in place of N(0, I).

    Of an ensemble it is the equal mixture of all networks so changed.

    Attributes:
        plan: what is static.
        variables: networks.
        x_obs: the observation, `[*x_shape]`.
        base: distribution in the base.
    """

    plan: Plan
    variables: Variables
    x_obs: Array
    base: Base

    @property
    def _params(self) -> Any:
        """Numbers of the networks, with a member axis."""
        if self.variables.num_members > 1:
            return self.variables.params
        return jax.tree.map(lambda leaf: leaf[None], self.variables.params)

    def _through(self, method: str, params: Any, rows: Array) -> tuple[Array, Array]:
        estimator = self.plan.estimator
        features = estimator.features(self.variables.frozen, self.x_obs[None])
        return estimator.apply_flow(method, params, rows, features)

    def sample(self, key: Array, count: int) -> Array:
        """Draw in the networks' latent, `[count, D]`."""
        members, dim = self.variables.num_members, self.plan.estimator.prior.dim
        each = -(-count // members)
        base = self.base.sample(key, (members, each), dim)
        rows = jax.vmap(
            lambda params, u: self._through("forward_and_log_det", params, u)[0]
        )(self._params, base)
        # Turns of one draw of each member.
        return jnp.moveaxis(rows, 0, 1).reshape(members * each, dim)[:count]

    def log_probs(self, w: Array) -> tuple[Array, Array]:
        """Log density of the posterior and of this at w `[n, D]`, `[n]` each."""
        dim, members = w.shape[-1], self.variables.num_members

        def some(rows: Array) -> tuple[Array, Array]:
            base, log_det = jax.vmap(
                lambda params: self._through("inverse_and_log_det", params, rows)
            )(self._params)
            parts = standard_normal_log_prob(base), self.base.log_prob(base)
            return tuple(
                jax.nn.logsumexp(part + log_det, 0) - math.log(members)
                for part in parts
            )

        if len(w) <= AT_ONCE:
            return some(w)
        # Padded to whole blocks: the last one is no program of its own.
        blocks = -(-len(w) // AT_ONCE)
        padded = jnp.concatenate([w, jnp.zeros((blocks * AT_ONCE - len(w), dim))])
        found = jax.lax.map(some, padded.reshape(blocks, AT_ONCE, dim))
        return tuple(part.reshape(-1)[: len(w)] for part in found)
