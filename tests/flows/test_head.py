"""The affine head's bounds."""

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.flows.head import LOG_SIGMA_RANGE, AffineHead


def test_the_width_is_bounded_whatever_the_start_and_the_network_say():
    head = AffineHead(2)
    context = jnp.ones((4, 3))
    variables = head.init(jax.random.key(0), context)
    for sign in (-1.0, 1.0):
        wild = jax.tree.map(
            lambda leaf, s=sign: jnp.full_like(leaf, 1e4 * s), variables
        )
        log_scale = head.apply(wild, context).log_scale
        assert (log_scale >= LOG_SIGMA_RANGE[0] - 4.0).all()
        assert (log_scale <= LOG_SIGMA_RANGE[1] + 4.0).all()


def test_without_a_context_a_constant_is_learned():
    head = AffineHead(2)
    variables = head.init(jax.random.key(0), jnp.zeros((0,)))
    moved = jax.tree.map(lambda leaf: leaf + 1.0, variables["params"])
    affine = head.apply({**variables, "params": moved}, jnp.zeros((0,)))
    np.testing.assert_allclose(affine.shift, [1.0, 1.0])
    np.testing.assert_allclose(affine.log_scale, [0.8, 0.8], rtol=1e-6)
