"""Small networks as one vector: what the optimizer does to ten arrays, done to one.

AdamW, clipping, averaging and best-so-far are element-wise. On one vector they compile
to a handful of kernels instead of a hundred, which halves the compile time of a small
network's program. Wide networks keep their arrays: cutting a large vector would copy
it in every step.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Packing", "as_vector", "unpacked"]


class Packing(NamedTuple):
    """Both ways between a parameter tree and what is trained.

    Attributes:
        pack: tree to trained form.
        unpack: trained form to tree.
    """

    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def unpacked() -> Packing:
    """Train the tree as it is."""
    return Packing(lambda tree: tree, lambda tree: tree)


def as_vector(shapes: Any) -> Packing:
    """Train one float32 vector; `shapes` is the tree, or its `jax.eval_shape`."""
    leaves, structure = jax.tree.flatten(shapes)
    sizes = [math.prod(leaf.shape) for leaf in leaves]

    def pack(tree: Any) -> Array:
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])

    def unpack(vector: Array) -> Any:
        parts = jax.lax.split(vector, sizes)
        pairs = zip(parts, leaves, strict=True)
        return jax.tree.unflatten(structure, [p.reshape(s.shape) for p, s in pairs])

    return Packing(pack, unpack)
