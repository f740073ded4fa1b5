"""Shared data containers and protocols: what one room hands to the next.

`State` feeds the next step, `Info` feeds a human; both are NamedTuples and
therefore pytrees. Sizes: D of theta, x_shape of x, C of the context, N of a batch.
"""

from typing import NamedTuple, Protocol, runtime_checkable

from jax import Array
from jax.typing import ArrayLike

__all__ = ["EMPTY", "Bijector", "Dataset", "Placed", "Simulator"]

EMPTY = -1
"""Round of a row that is not filled yet."""


class Dataset(NamedTuple):
    """Simulations as arrays; rows with `valid` False are never trained on.

    Attributes:
        theta: parameters in their own units, shape `[N, D]`, float32.
        x: simulated observations, shape `[N, *x_shape]`, float32.
        valid: False where the simulator failed or gave non-finite numbers, `[N]`.
        round: round in which the row was drawn, 0 for the prior, int32 `[N]`; `EMPTY`
            for places that later rounds fill, which are not valid: programs for all
            rounds are then the same.
    """

    theta: Array
    x: Array
    valid: Array
    round: Array


class Placed(NamedTuple):
    """A Gaussian in the latent for each context: where a flow begins.

    Attributes:
        mean: shape `[..., D]`.
        log_sd: natural log of the standard deviation, `[..., D]`.
    """

    mean: Array
    log_sd: Array


@runtime_checkable
class Simulator(Protocol):
    """A jit- and vmap-able simulator: one theta in, one observation out."""

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        ...

    def simulate(self, key: Array, theta: ArrayLike) -> Array:
        """Draw x ~ p(x | theta) for one `theta` of shape `[D]`."""
        ...


@runtime_checkable
class Bijector(Protocol):
    """distrax's contract: value and log-det always leave together.

    The event is the last axis, any batch may lead, and `log_det` has the batch shape.
    """

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return y = f(x) and log |det df/dx|."""
        ...

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return x = f^-1(y) and log |det df^-1/dy|."""
        ...
