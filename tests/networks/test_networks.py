"""Embeddings: shapes, invariances, invalid arguments."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.networks import MLP, ConvEmbedding, ResidualMLP, SetEmbedding

EMBEDDINGS = {
    "mlp": (MLP((16, 8)), (20,), 8),
    "mlp_silu": (MLP((5,), "silu"), (20,), 5),
    "residual": (ResidualMLP(12, 2), (20,), 12),
    "conv": (ConvEmbedding(2, (4, 6), 3, 10), (40,), 10),
    "conv_single": (ConvEmbedding(1, (4,), 5, 7), (33,), 7),
    "set": (SetEmbedding(MLP((8,)), (6,)), (4, 20), 6),
    "set_conv": (SetEmbedding(ConvEmbedding(2, (4,), 3, 5), (6,)), (3, 40), 6),
}
TABLE = pytest.mark.parametrize("name", EMBEDDINGS)


def draw(name, *batch):
    module, shape, size = EMBEDDINGS[name]
    x = jax.random.normal(jax.random.key(0), (*batch, *shape))
    return module, jax.jit(module.init)(jax.random.key(1), x), x, size


@TABLE
def test_shapes_with_any_batch(name):
    module, variables, x, size = draw(name, 2, 3)
    apply = jax.jit(module.apply)
    context = apply(variables, x)
    chex.assert_shape(context, (2, 3, size))
    assert context.dtype == jnp.float32
    np.testing.assert_allclose(
        apply(variables, x[1, 2]), context[1, 2], rtol=1e-4, atol=1e-5
    )


@TABLE
def test_every_parameter_has_a_finite_gradient(name):
    module, variables, x, _ = draw(name, 64)

    def loss(params):
        return (module.apply({"params": params}, x) ** 2).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    chex.assert_tree_all_finite(gradients)
    # In a residual block the last layer is zero at first and holds the first one back.
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        held_back = name == "residual" and "Dense_1" in jax.tree_util.keystr(path)
        held_back |= name == "residual" and "Dense_3" in jax.tree_util.keystr(path)
        assert held_back or np.abs(leaf).max() > 0, path


def test_residual_blocks_start_at_the_identity():
    module, variables, x, _ = draw("residual", 5)
    first = variables["params"]["Dense_0"]
    expected = jax.nn.relu(x @ first["kernel"] + first["bias"])
    np.testing.assert_allclose(
        module.apply(variables, x), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["set", "set_conv"])
def test_the_order_of_a_set_does_not_matter_but_its_size_does(name):
    module, variables, x, _ = draw(name, 2)
    context = module.apply(variables, x)
    turned = module.apply(variables, x[:, ::-1])
    np.testing.assert_allclose(turned, context, rtol=1e-5, atol=1e-5)
    twice = module.apply(variables, jnp.concatenate([x, x], 1))
    assert np.abs(twice - context).max() > 1e-3


def test_a_convolution_sees_where_a_beam_is():
    module = ConvEmbedding(1, (4,), 3, 10)
    beam = np.zeros((2, 32), np.float32)
    beam[0, 10], beam[1, 20] = 1.0, 1.0
    variables = module.init(jax.random.key(0), beam)
    one, other = module.apply(variables, beam)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (
            ConvEmbedding(3),
            (2, 20),
            r"Expected x as 3 profiles of equal length; got \(2, 20",
        ),
        (ConvEmbedding(0), (2, 20), "Expected num_profiles of at least 1; got 0"),
        (ConvEmbedding(act="rleu"), (2, 20), "Did you mean .*'relu'"),
        (
            MLP(act="swish"),
            (2, 20),
            "Expected activation to be one of elu, gelu, relu, silu",
        ),
        (ResidualMLP(act="tahn"), (2, 20), "Did you mean 'tanh'"),
        (
            SetEmbedding(MLP()),
            (20,),
            r"Expected x with shape \(..., M, L\), .*; got \(20,\)",
        ),
        (SetEmbedding(MLP()), (2, 0, 20), r"at least one member; got \(2, 0, 20\)"),
    ],
)
def test_invalid_arguments(module, shape, message):
    with pytest.raises(ValueError, match=message):
        module.init(jax.random.key(0), jnp.zeros(shape))
