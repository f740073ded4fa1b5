"""Fixed permutations of the event."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowinv.checks import fail

__all__ = ["Permutation", "mixing_permutations", "permutation"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Permutation:
    """y_i = x_indices[i]; volume-preserving, both directions cost the same.

    Computed as a product with a 0/1 matrix: exact for finite x, and unlike a gather its
    gradient needs no scatter, which costs more on a CPU than the rest of a layer.

    Attributes:
        indices: a permutation of 0..D-1, int, shape `[D]` (or `[L, D]` in a stack).
    """

    indices: Array

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y with shape `[..., D]` and zeros with shape `[...]`."""
        matrix = self._matrix(x.dtype)
        y = jnp.einsum("...j,ij->...i", x, matrix, precision="highest")
        return y, jnp.zeros(x.shape[:-1], x.dtype)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x with shape `[..., D]` and zeros with shape `[...]`."""
        matrix = self._matrix(y.dtype)
        x = jnp.einsum("...i,ij->...j", y, matrix, precision="highest")
        return x, jnp.zeros(y.shape[:-1], y.dtype)

    def _matrix(self, dtype: jnp.dtype) -> Array:
        indices = jnp.asarray(self.indices)
        return jax.nn.one_hot(indices, indices.shape[-1], dtype=dtype)


def permutation(indices: np.ndarray) -> Permutation:
    """Build a `Permutation` from its indices, shape `[D]` or stacked `[L, D]`.

    Raises:
        ValueError: if a row does not hold each of 0..D-1 once.
    """
    indices = np.asarray(indices)
    order = np.arange(indices.shape[-1])
    if not np.array_equal(np.sort(indices, -1), np.broadcast_to(order, indices.shape)):
        fail("indices", f"to hold each of 0..{len(order) - 1} once", indices.tolist())
    return Permutation(indices.astype(np.int32))


def mixing_permutations(
    dim: int, num_layers: int, split: int
) -> tuple[Permutation, Permutation]:
    """Permutations after each coupling layer, and the one that undoes them all.

    Every layer exchanges the kept and the transformed part, so that layers 0 and 1, 2
    and 3, ... together move every dimension. Odd layers then also interleave the first
    half with the reversed second one: for four dimensions three such steps pass through
    all three ways to split them in pairs.

    Args:
        dim: D.
        num_layers: L, at least 1.
        split: number of kept dimensions, at the front.

    Returns:
        A stacked permutation with indices `[L, D]`, and the final one, `[D]`, that
        makes the product of all the identity.

    Raises:
        ValueError: if `num_layers` is below 1 or `split` outside 0..D.
    """
    if num_layers < 1 or not 0 <= split <= dim:
        fail(
            "num_layers >= 1 and 0 <= split <= D", f"at D = {dim}", (num_layers, split)
        )
    order = np.arange(dim)
    swap = np.roll(order, -split)
    half = (dim + 1) // 2
    riffle = np.empty(dim, int)
    riffle[0::2], riffle[1::2] = order[:half], order[half:][::-1]
    layers = np.stack(
        [swap if layer % 2 == 0 else swap[riffle] for layer in range(num_layers)]
    )
    total = order
    for row in layers:
        total = total[row]
    return permutation(layers), permutation(np.argsort(total))
