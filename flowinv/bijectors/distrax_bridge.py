"""Both ways between flowinv's bijectors and distrax's.

distrax costs seconds to import, so it loads when a function here is called.
"""

import functools
from typing import TYPE_CHECKING, Any

from jax import Array

from flowinv.types import Bijector

if TYPE_CHECKING:
    import distrax

__all__ = ["from_distrax", "to_distrax"]


def to_distrax(bijector: Bijector) -> "distrax.Bijector":
    """Return a real `distrax.Bijector` on vectors that computes the same numbers.

    It is a pytree; its arrays are leaves where those of `bijector` are.
    """
    return _wrapped_class()(bijector)


@functools.cache
def _wrapped_class() -> Any:
    """One class for all: a pytree's structure compares by class."""
    import distrax

    class Wrapped(distrax.Bijector):
        def __init__(self, bijector: Bijector) -> None:
            super().__init__(event_ndims_in=1)
            self._inner = bijector

        def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
            return self._inner.forward_and_log_det(x)

        def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
            return self._inner.inverse_and_log_det(y)

    return Wrapped


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
