"""Neural posterior estimation: maximum likelihood of theta given x.

The mean of -log q(z_i | x_i) over simulations from the joint p(theta) p(x | theta) is
smallest where q(. | x) is the posterior of every x (amortised). z is the prior's
latent; the constant log |dz / dtheta| is left out.

References:
    Papamakarios and Murray 2016, arXiv:1605.06376.
    Greenberg et al. 2019, Automatic Posterior Transformation, arXiv:1905.07488.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

__all__ = ["Apply", "Batch", "Loss", "npe_loss"]

Apply = Callable[..., Array]
"""`apply(params, z, features)`: log q(z | x), z `[..., D]` to `[...]`.

`method` names what else the network is asked, as `apply(..., method="matching")`.
"""


class Batch(NamedTuple):
    """Rows of a training step.

    Attributes:
        z: latent parameters, `[B, D]`.
        features: what the estimator sees of x, a pytree with leading axis B.
        valid: rows that are there, `[B]`.
        from_prior: rows that the prior drew, or the prior inside the box that the
            latent lives in, bool `[B]`; None where the loss does not ask.
        weight: how much each row counts, `[B]`; None for all the same. 0 for failed
            simulations, which may still be atoms of others.
    """

    z: Array
    features: Any
    valid: Array
    from_prior: Array | None = None
    weight: Array | None = None

    def weigh(self, values: Array) -> Array:
        """`values` `[B]` times the weights; 0 for rows that do not count.

        Values of those may be whatever they are. Their x must be finite all the same:
        a NaN's gradient stays NaN behind a factor of 0.
        """
        weighed = values if self.weight is None else values * self.weight
        return jnp.where(self.counts, weighed, 0.0)

    @property
    def counts(self) -> Array:
        """Rows that count, `[B]`."""
        return self.valid if self.weight is None else self.valid & (self.weight > 0)


Loss = Callable[[Apply, Any, Batch, Array], Array]
"""`loss(apply, params, batch, key)`: one number in nats for each row, `[B]`."""


def npe_loss(apply: Apply, params: Any, batch: Batch, key: Array) -> Array:
    """Return -log q(z | x) in nats, `[B]`.

    Args:
        apply: `apply(params, z, features) -> log q`.
        params: trained numbers.
        batch: rows from the joint distribution.
        key: not used; atomic losses draw their atoms with it.
    """
    del key
    return -apply(params, batch.z, batch.features)
