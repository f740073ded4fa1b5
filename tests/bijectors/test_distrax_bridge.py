"""distrax bijectors among ours, and ours as distrax's."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.bijectors import Affine, Chain, Stack, from_distrax, to_distrax


def test_ours_is_a_real_distrax_bijector():
    ours = Affine(jnp.array([1.0, -2.0]), jnp.array([0.5, 0.1]))
    wrapped = to_distrax(ours)
    assert isinstance(wrapped, distrax.Bijector)
    x = jnp.ones((3, 2))
    np.testing.assert_array_equal(wrapped.forward(x), ours.forward_and_log_det(x)[0])
    inverted = distrax.Inverse(wrapped)
    np.testing.assert_allclose(inverted.forward(wrapped.forward(x)), x, atol=1e-6)
    chained = distrax.Chain([wrapped, distrax.Block(distrax.Tanh(), 1)])
    assert chained.forward_log_det_jacobian(x).shape == (3,)


def test_a_distrax_bijector_stands_in_a_chain():
    spline = distrax.RationalQuadraticSpline(0.3 * jnp.ones((2, 13)), -3.0, 3.0)
    chain = Chain([from_distrax(spline), Affine(jnp.ones(2), jnp.ones(2))])
    x = jax.random.normal(jax.random.key(0), (7, 2))
    y, log_det = chain.forward_and_log_det(x)
    assert log_det.shape == (7,)
    x_back, log_det_back = chain.inverse_and_log_det(y)
    np.testing.assert_allclose(x_back, x, atol=1e-5)
    np.testing.assert_allclose(log_det_back, -log_det, atol=1e-5)
    slope = jax.jacfwd(lambda v: chain.forward_and_log_det(v)[0])
    jacobian = jax.jit(jax.vmap(slope))(x)
    np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], log_det, atol=1e-5)


@pytest.mark.parametrize("unroll", [False, True])
def test_a_distrax_bijector_stands_in_a_stack(unroll):
    matrices = jnp.stack([jnp.eye(2) + 0.3, jnp.array([[2.0, 0.0], [1.0, 1.0]])])
    shifts = jnp.array([[1.0, 2.0], [0.0, -1.0]])

    def make_layer(layer):
        matrix, shift = layer
        linear = distrax.UnconstrainedAffine(matrix, shift)
        return Chain(
            [from_distrax(linear), from_distrax(distrax.ScalarAffine(0.5, 2.0))]
        )

    stack = Stack(make_layer, (matrices, shifts), unroll)
    x = jax.random.normal(jax.random.key(0), (5, 2))
    y, log_det = stack.forward_and_log_det(x)
    expected = x
    for matrix, shift in zip(matrices, shifts, strict=True):
        expected = 2.0 * (expected @ matrix.T + shift) + 0.5
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    x_back, log_det_back = stack.inverse_and_log_det(y)
    np.testing.assert_allclose(x_back, x, atol=1e-5)
    np.testing.assert_allclose(log_det_back, -log_det, atol=1e-5)


def test_there_and_back_again():
    ours = Affine(jnp.array([1.0, -2.0]), jnp.array([0.5, 0.1]))
    again = from_distrax(to_distrax(ours))
    x = jnp.array([[0.3, 4.0]])
    for method in ("forward_and_log_det", "inverse_and_log_det"):
        for a, b in zip(
            getattr(ours, method)(x), getattr(again, method)(x), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_events_of_two_axes_are_refused():
    with pytest.raises(ValueError, match="on scalars or vectors; got 2"):
        from_distrax(distrax.Block(distrax.Tanh(), 2))
