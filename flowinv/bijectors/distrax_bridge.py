"""Both ways between flowinv's bijectors and distrax's.

distrax costs seconds to import, so it loads when a function here is called.
"""

from typing import TYPE_CHECKING, Any

from jax import Array

from flowinv.types import Bijector

if TYPE_CHECKING:
    import distrax

__all__ = ["from_distrax", "to_distrax"]


def to_distrax(bijector: Bijector) -> "distrax.Bijector":
    """Return a real `distrax.Bijector` on vectors that computes the same numbers."""
    import distrax

    class Wrapped(distrax.Bijector):
        def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
            return bijector.forward_and_log_det(x)

        def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
            return bijector.inverse_and_log_det(y)

    return Wrapped(event_ndims_in=1)


def from_distrax(bijector: Any) -> Bijector:
    """Return `bijector` fit for a stack here: event last, log_det of batch shape.

    Args:
        bijector: a distrax bijector on scalars (applied element by element) or vectors.

    Raises:
        ValueError: if its event has more than one axis.
    """
    import distrax

    from flowinv.checks import fail

    if bijector.event_ndims_in > 1 or bijector.event_ndims_out > 1:
        fail("a distrax bijector", "on scalars or vectors", bijector.event_ndims_in)
    if bijector.event_ndims_in == 0:
        return distrax.Block(bijector, ndims=1)
    return bijector
