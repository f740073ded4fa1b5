"""Diagnostics on the device: float64, and all observations in one call."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["TOGETHER", "at_once", "in_float64", "of_each", "squared_distances"]

TOGETHER = 64
"""Observations side by side on an accelerator; on a CPU one fills it."""


def in_float64(*static: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for the device, in float64, whatever the default is.

    Args:
        static: names of arguments that are no arrays; given by name.

    Returns:
        A decorator: arrays of floats and their trees come in as float64, what goes out
        is NumPy's.
    """

    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = jax.jit(function, static_argnames=static)

        @functools.wraps(function)
        def call(*arrays: Any, **options: Any) -> Any:
            with jax.enable_x64(True):
                return jax.tree.map(np.asarray, compiled(*arrays, **options))

        return call

    return decorator


def at_once(function: Callable[..., Any], one: bool, *arrays: np.ndarray) -> Any:
    """Call a function of observations `[S, ...]`, also with one alone.

    Args:
        function: of arrays with a leading axis, to a tuple of arrays with that axis.
        one: whether the arrays are of one observation and lack the axis.
        arrays: as `function` takes them, with or without it.

    Returns:
        What `function` returns; of one alone its numbers are Python's.
    """
    if not one:
        return function(*arrays)
    found = function(*(np.asarray(array)[None] for array in arrays))
    own = (np.asarray(value)[0] for value in found)
    return type(found)(*(v.item() if np.ndim(v) == 0 else v for v in own))


def of_each(function: Callable[..., Any], *arrays: Array) -> Any:
    """Call a compiled function of one observation for all, `[S, ...]` each."""
    together = None if jax.default_backend() == "cpu" else TOGETHER
    return jax.lax.map(lambda own: function(*own), arrays, batch_size=together)


def squared_distances(point: Array, points: Array) -> Array:
    """Squared distances of a point `[D]` to others `[n, D]`, by differences, `[n]`.

    Without the cancellation of |a|^2 - 2ab + |b|^2: thin posteriors far from the origin
    lose nothing. Always in one order of the parameters, so that equal pairs are equal.
    """
    total = jnp.zeros(len(points), points.dtype)
    for d in range(points.shape[1]):
        total += (point[d] - points[:, d]) ** 2
    return total
