"""The affine head's bounds."""

import jax
import jax.numpy as jnp
import numpy as np

from flowinv.flows.head import LOG_SIGMA_RANGE, AffineHead, head_dim
from flowinv.types import Placed


def test_the_width_is_bounded_whatever_the_start_and_the_network_say():
    head = AffineHead(2)
    context = jnp.ones((4, 3))
    placed = Placed(jnp.zeros((4, 2)), jnp.zeros((4, 2)))
    variables = head.init(jax.random.key(0), context, placed)
    for sign in (-1.0, 1.0):
        wild, far = (
            jax.tree.map(lambda leaf, s=sign: jnp.full_like(leaf, 1e4 * s), tree)
            for tree in (variables, placed)
        )
        log_scale = head.apply(wild, context, far).log_scale
        assert (log_scale >= LOG_SIGMA_RANGE[0] - 4.0).all()
        assert (log_scale <= LOG_SIGMA_RANGE[1] + 4.0).all()


def test_a_new_head_is_the_placed_gaussian():
    head, context = AffineHead(2), jnp.ones((4, 3))
    placed = Placed(jnp.full((4, 2), 3.0), jnp.full((4, 2), -2.0))
    variables = head.init(jax.random.key(0), context, placed)
    assert set(variables) == {"params"}
    affine = head.apply(variables, context, placed)
    np.testing.assert_array_equal(affine.shift, placed.mean)
    np.testing.assert_array_equal(affine.log_scale, placed.log_sd)
    standard = head.apply(variables, context)
    np.testing.assert_array_equal(standard.shift, 0.0)
    np.testing.assert_array_equal(standard.log_scale, 0.0)


def test_one_unit_of_correction_is_one_placed_sd():
    head, context = AffineHead(1, hidden=()), jnp.ones((1, 1))
    variables = head.init(jax.random.key(0), context)
    assert head_dim(variables["params"]) == 1
    moved = jax.tree.map(jnp.zeros_like, variables)
    moved["params"]["correction"]["bias"] = jnp.asarray([1.0, 0.0])
    for log_sd in (-7.0, 0.0, 2.0):
        placed = Placed(jnp.zeros((1, 1)), jnp.full((1, 1), log_sd))
        shift = head.apply(moved, context, placed).shift
        np.testing.assert_allclose(shift, np.exp(log_sd), rtol=1e-6)


def test_without_a_context_a_constant_is_learned():
    head = AffineHead(2)
    variables = head.init(jax.random.key(0), jnp.zeros((0,)))
    moved = jax.tree.map(lambda leaf: leaf + 1.0, variables["params"])
    affine = head.apply({**variables, "params": moved}, jnp.zeros((0,)))
    np.testing.assert_allclose(affine.shift, [1.0, 1.0])
    np.testing.assert_allclose(affine.log_scale, [0.8, 0.8], rtol=1e-6)
