"""A continuous flow: draws follow a learned velocity from the base to the posterior.

The flow lives in the units of the placed Gaussian, u = (z - mean) / sd. A point of the
base N(0, I) at time 0 follows du/dt = v(u, t, context) and is a draw at time 1; its log
density changes by the integral of -tr dv/du. For the straight paths
u_t = (1 - t) u_0 + t u_1 between independent normals the best velocity is

    v(u, t) = (2 t - 1) / (t^2 + (1 - t)^2) u,

whose flow from time 0 to 1 is the identity. The network learns what is to be added to
it, and begins at 0: a new flow is the placed Gaussian, as every flow here.

References:
    Chen et al. 2018, Neural ordinary differential equations, arXiv:1806.07366.
    Grathwohl et al. 2018, FFJORD, arXiv:1810.01367 (the trace by random probes).
    Lipman et al. 2022, Flow matching, arXiv:2210.02747.
    Dax et al. 2023, Flow matching posterior estimation, arXiv:2305.17161.
"""

import math
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_at_least, check_known, check_positive, fail
from flowinv.flows.conditioner import Conditioner, ConditionerLayer, evaluate
from flowinv.flows.density import (
    as_distribution,
    draw_and_log_prob,
    spread,
    standard_normal_log_prob,
)
from flowinv.flows.head import LOG_SIGMA_RANGE
from flowinv.networks.activation import activation
from flowinv.types import Placed

if TYPE_CHECKING:
    import distrax

__all__ = ["TRACES", "VectorField"]

TRACES = ("exact", "hutchinson")
MOST_STEPS = 1_024
WAVES = 3  # of the time, which the network is told as sines and cosines
_FIELD = "field"


class VectorField(nn.Module):
    """Flow along a learned velocity; methods and shapes as of `ConditionalFlow`.

    Draws and densities are solutions of an ordinary differential equation, by steps of
    their own for every row. Where 1,024 steps do not reach the end they are NaN.

    Attributes:
        hidden: widths of the network's layers.
        act: name of its activation.
        trace: of the divergence: "exact", D products; or "hutchinson", from `probes`
            random directions that all rows share: unbiased, for large D.
        probes: directions of "hutchinson".
        tolerance: relative and absolute error of a step.
        bound: |u| beyond which a latent counts as out of range.
        widths: factors on the widths of what a trained flow says; () for 1.
    """

    hidden: tuple[int, ...] = (128, 128, 128)
    act: str = "silu"
    trace: str = "exact"
    probes: int = 8
    tolerance: float = 1e-5
    bound: float = 5.0
    widths: tuple[float, ...] = ()

    def check(self) -> None:
        """Raise one line if a field is out of its range.

        Raises:
            ValueError: what, expected, got.
        """
        if not self.hidden or min(self.hidden) < 1:
            fail("hidden", "to name layers of at least one unit", self.hidden)
        activation(self.act)
        check_known("trace", self.trace, TRACES)
        check_at_least("probes", self.probes, 1)
        check_positive("tolerance", self.tolerance)
        check_positive("bound", self.bound)
        for factor in self.widths:
            check_positive("widths", factor)

    @nn.compact
    def parts(
        self, context: Array | None, dim: int, placed: Placed | None = None
    ) -> tuple[ConditionerLayer, Array, Array]:
        """Return the network's numbers for a context, and shift and log scale of u."""
        self.check()
        if self.widths and len(self.widths) != dim:
            fail("widths", f"to be {dim} factors", len(self.widths))
        empty = jnp.zeros((0,), jnp.float32)
        context = empty if context is None else jnp.asarray(context)
        inputs = dim + 2 * WAVES
        net = Conditioner(1, self.hidden, inputs, dim, None, name=_FIELD)((context,))
        layer = jax.tree.map(lambda leaf: leaf[0], net)
        zeros = jnp.zeros((dim,), jnp.float32)
        mean, log_sd = (zeros, zeros) if placed is None else placed
        log_sd = jnp.clip(log_sd, *LOG_SIGMA_RANGE)
        if self.widths:
            log_sd = log_sd + jnp.log(jnp.asarray(self.widths, log_sd.dtype))
        return layer, mean, log_sd

    def __call__(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return `log_prob(z, context, placed)`."""
        return self.log_prob(z, context, placed)

    def matching(
        self,
        value: tuple[Array, Array, Array],
        context: Array | None = None,
        placed: Placed | None = None,
    ) -> Array:
        """Half the squared distance of the velocity from a straight path's, `[...]`.

        Args:
            value: z and a draw of the base, `[..., D]` each, and times `[...]` in
                (0, 1).
            context: shape `[..., C]`.
            placed: mean and log sd, `[..., D]` each.
        """
        z, base, time = value
        layer, mean, log_sd = self.parts(context, z.shape[-1], placed)
        end, at = (z - mean) * jnp.exp(-log_sd), time[..., None]
        velocity = self._velocity(layer, (1.0 - at) * base + at * end, time)
        return 0.5 * ((velocity - (end - base)) ** 2).sum(-1)

    def forward(
        self, z0: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Map base `z0` `[..., D]` to z; cheaper without the log det."""
        z0 = spread(z0, context, placed)
        layer, mean, log_sd = self.parts(context, z0.shape[-1], placed)
        u = self._followed(layer, z0, (0.0, 1.0), traced=False)[0]
        return mean + jnp.exp(log_sd) * u

    def forward_and_log_det(
        self, z0: Array, context: Array | None = None, placed: Placed | None = None
    ) -> tuple[Array, Array]:
        """Map base `z0` `[..., D]` to z; log_det has shape `[...]`."""
        z0 = spread(z0, context, placed)
        layer, mean, log_sd = self.parts(context, z0.shape[-1], placed)
        u, log_det = self._followed(layer, z0, (0.0, 1.0))
        return mean + jnp.exp(log_sd) * u, log_det + log_sd.sum(-1)

    def inverse_and_log_det(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> tuple[Array, Array]:
        """Map z `[..., D]` to the base; log_det has shape `[...]`."""
        z = spread(z, context, placed)
        layer, mean, log_sd = self.parts(context, z.shape[-1], placed)
        u = (z - mean) * jnp.exp(-log_sd)
        if self.is_initializing():
            return u, jnp.zeros(z.shape[:-1], z.dtype)
        z0, log_det = self._followed(layer, u, (1.0, 0.0))
        return z0, log_det - log_sd.sum(-1)

    def log_prob(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return log q(z | context) with shape `[...]`, z with shape `[..., D]`."""
        z0, log_det = self.inverse_and_log_det(z, context, placed)
        return standard_normal_log_prob(z0) + log_det

    def out_of_range(
        self, z: Array, context: Array | None = None, placed: Placed | None = None
    ) -> Array:
        """Return the share of the D entries of u beyond `bound`, `[...]`."""
        z = spread(z, context, placed)
        _, mean, log_sd = self.parts(context, z.shape[-1], placed)
        return (jnp.abs((z - mean) * jnp.exp(-log_sd)) > self.bound).mean(-1)

    def sample(
        self,
        key: Array,
        context: Array | None,
        num_samples: int,
        placed: Placed | None = None,
    ) -> Array:
        """Draw z with shape `[*batch, num_samples, D]` for context `[*batch, C]`."""
        return self.sample_and_log_prob(key, context, num_samples, placed)[0]

    def sample_and_log_prob(
        self,
        key: Array,
        context: Array | None,
        num_samples: int,
        placed: Placed | None = None,
    ) -> tuple[Array, Array]:
        """Draw as `sample` does, and return log q of the draws, `[*batch, n]`."""
        dim = self._dim()
        return draw_and_log_prob(self, key, context, num_samples, placed, dim)

    def distribution(
        self, context: Array | None = None, placed: Placed | None = None
    ) -> "distrax.Transformed":
        """Return q(. | context) as a `distrax.Transformed` on R^D, a pytree."""
        return as_distribution(self, context, placed, self._dim())

    def _dim(self) -> int:
        last = len(self.hidden) - 1
        return self.variables["params"][_FIELD][f"bias_{last}"].shape[-1]

    def _velocity(self, layer: ConditionerLayer, u: Array, time: Array) -> Array:
        """Velocity at u `[..., D]` and time `[...]`."""
        time = jnp.asarray(time)[..., None]
        square = time**2 + (1.0 - time) ** 2
        angles = math.pi * time * jnp.arange(1, WAVES + 1, dtype=u.dtype)
        told = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)
        told = jnp.broadcast_to(told, (*u.shape[:-1], 2 * WAVES))
        event = jnp.concatenate([u / jnp.sqrt(square), told], -1)
        return (2.0 * time - 1.0) / square * u + evaluate(layer, event, self.act)

    def _followed(
        self,
        layer: ConditionerLayer,
        u: Array,
        times: tuple[float, float],
        traced: bool = True,
    ) -> tuple[Array, Array]:
        """Follow the velocity from one time to another; u and log_det of the map."""
        # Imported here: it takes a second, and only this flow asks for it.
        import diffrax

        dim, batch = u.shape[-1], u.shape[:-1]
        directions = _directions(self.trace, self.probes, dim, u.dtype)

        def rate(time: Array, state: Array, told: Array) -> Array:
            own = layer._replace(context=told)

            def velocity(u: Array) -> Array:
                return self._velocity(own, u, time)

            if not traced:
                return velocity(state)
            speed, pushed = jax.linearize(velocity, state[:dim])
            along = jax.vmap(pushed)(directions)
            trace = (directions * along).sum() * (dim / (directions**2).sum())
            return jnp.concatenate([speed, trace[None]])

        begin, end = times

        def one(u: Array, told: Array) -> Any:
            start = jnp.concatenate([u, jnp.zeros(1, u.dtype)]) if traced else u
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(rate),
                diffrax.Tsit5(),
                t0=begin,
                t1=end,
                dt0=0.05 * (end - begin),
                y0=start,
                args=told,
                stepsize_controller=diffrax.PIDController(
                    rtol=self.tolerance, atol=self.tolerance
                ),
                max_steps=MOST_STEPS,
                throw=False,
            )
            good = solution.result == diffrax.RESULTS.successful
            return jnp.where(good, solution.ys[0], jnp.nan)

        told = jnp.broadcast_to(layer.context, (*batch, layer.context.shape[-1]))
        rows = jax.vmap(one)(u.reshape(-1, dim), told.reshape(-1, told.shape[-1]))
        log_det = rows[:, dim] if traced else jnp.zeros(len(rows), u.dtype)
        return rows[:, :dim].reshape(u.shape), log_det.reshape(batch)


def _directions(trace: str, probes: int, dim: int, dtype: Any) -> Array:
    """Directions that a trace is taken along, `[K, D]`."""
    if trace == "exact" or probes >= dim:
        return jnp.eye(dim, dtype=dtype)
    return jax.random.rademacher(jax.random.key(0), (probes, dim), dtype)
