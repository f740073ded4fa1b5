"""Activations by name."""

from collections.abc import Callable

import jax
from jax import Array

from flowinv.checks import check_known

__all__ = ["ACTIVATIONS", "activation"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jax.numpy.tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """Return the activation called `name`.

    Raises:
        ValueError: if the name is unknown; the message gives near names.
    """
    check_known("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
