"""Ordinary differential equations on the device, solved by diffrax."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

__all__ = ["floating", "solved_at"]

TOLERANCE = {"float32": 1e-6, "float64": 1e-9}
"""Of a step, relative and absolute, in each dtype."""
MOST_STEPS = 4_096


def floating(theta: ArrayLike) -> Array:
    """Return parameters as floats of their own precision."""
    theta = jnp.asarray(theta)
    is_float = jnp.issubdtype(theta.dtype, jnp.floating)
    return theta if is_float else theta.astype(float)


def solved_at(
    field: Callable[[Array, Array], Array],
    start: Array,
    theta: Array,
    times: tuple[float, ...],
) -> Array:
    """Solve dy/dt = field(y, theta) from time 0 and return y at `times`, `[T, K]`.

    Tsitouras' 5(4) method with steps by its own error (diffrax; Kidger 2021,
    arXiv:2202.02435), in the dtype of `start`. NaN everywhere where 4,096 steps do not
    reach the last time.

    Args:
        field: of the state `[K]` and theta, to `[K]`.
        start: state at time 0, `[K]`.
        theta: parameters.
        times: when, in order, from 0 on.
    """
    # Imported here: it takes a second, and only two tasks ask for it.
    import diffrax

    dtype = start.dtype
    tolerance = TOLERANCE[dtype.name]
    at = jnp.asarray(times, dtype)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: field(y, args)),
        diffrax.Tsit5(),
        t0=jnp.zeros((), dtype),
        t1=at[-1],
        dt0=None,
        y0=start,
        args=theta,
        saveat=diffrax.SaveAt(ts=at),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=MOST_STEPS,
        throw=False,
    )
    good = solution.result == diffrax.RESULTS.successful
    return jnp.where(good, solution.ys, jnp.nan)
