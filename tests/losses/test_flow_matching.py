"""Flow matching against the value that its best velocity has in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate

from flowinv.flows import VectorField
from flowinv.losses.flow_matching import flow_matching_loss
from flowinv.losses.npe import Batch
from flowinv.types import Placed

FLOW, D = VectorField(hidden=(8,)), 2
PLACED = Placed(jnp.array([1.0, -1.0]), jnp.array([-2.0, 0.5]))


def batch(rows, shift=0.0):
    z = (
        PLACED.mean
        + shift
        + jnp.exp(PLACED.log_sd) * jax.random.normal(jax.random.key(1), (rows, D))
    )
    return Batch(z, jnp.zeros((rows, 1)), jnp.ones(rows, bool))


def apply(params, value, features, method):
    return FLOW.apply(params, value, features, PLACED, method=method)


PARAMS = FLOW.init(jax.random.key(0), jnp.zeros((1, D)), jnp.zeros((1, 1)), PLACED)
LOSS = jax.jit(lambda params, rows, key: flow_matching_loss(apply, params, rows, key))


def test_the_start_has_the_least_loss_of_a_gaussian():
    """Half the variance of u_1 - u_0 given u_t, for every dimension, over all times."""

    def variance(t):
        return 2 - (2 * t - 1) ** 2 / (t**2 + (1 - t) ** 2)

    expected = 0.5 * D * integrate.quad(variance, 0, 1)[0]
    values = LOSS(PARAMS, batch(40_000), jax.random.key(2))
    assert values.shape == (40_000,)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error
    # No small change of the network makes it smaller: the gradient is noise.
    slope = jax.grad(lambda own: LOSS(own, batch(40_000), jax.random.key(2)).mean())
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(slope(PARAMS)))
    assert size < 0.03
    shifted = jax.grad(
        lambda own: LOSS(own, batch(40_000, 1.0), jax.random.key(2)).mean()
    )
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(shifted(PARAMS))) > 0.3


def test_times_are_spread_evenly():
    seen = []

    def spy(params, value, features, method):
        seen.append(value[2])
        return jnp.zeros(len(value[2]))

    flow_matching_loss(spy, None, batch(64), jax.random.key(0))
    np.testing.assert_array_equal(np.sort(np.floor(seen[0] * 64)), np.arange(64))
