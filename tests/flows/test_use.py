"""Flows as others use them: distrax, nnx, a map of the user's, and bad calls."""

from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.bijectors.affine import Affine as AffineBijector
from flowinv.flows import (
    CINN,
    AffineAutoregressiveFlow,
    AutoregressiveFlow,
    CouplingFlow,
    SplineAutoregressiveFlow,
    SplineCouplingFlow,
)
from flowinv.flows.density import standard_normal_log_prob
from flowinv.types import Placed

ROWS = 64
# Both structures and both maps; the two others are slow rows.
FLOWS = [
    *(CINN, SplineAutoregressiveFlow),
    *(
        pytest.param(kind, marks=pytest.mark.slow)
        for kind in (SplineCouplingFlow, AffineAutoregressiveFlow)
    ),
]
EACH = pytest.mark.parametrize("kind", FLOWS, ids=lambda kind: kind.__name__)


def normals(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def small(kind: Any) -> Any:
    return kind(num_layers=3, hidden=(16,), head_hidden=(8,))


def variables_of(flow: Any, z: np.ndarray, context: Any, scale: float = 0.0) -> Any:
    """New variables, moved from the identity by `scale`."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) + np.float32(scale * rng.normal(size=leaf.shape)),
        jax.jit(flow.init)(jax.random.key(0), z, context),
    )


@EACH
@pytest.mark.parametrize("num_context", [None, 3])
def test_the_distribution_of_distrax_has_our_density_and_draws(kind, num_context):
    import distrax

    flow = small(kind)
    context = None if num_context is None else normals(4, num_context)
    variables = variables_of(flow, normals(4, 2), context, 0.1)
    found = flow.apply(variables, context, method="distribution")
    assert isinstance(found, distrax.Transformed)
    batch = () if context is None else (4,)
    assert found.batch_shape == batch
    assert found.event_shape == (2,)
    sample, log_prob = found.sample_and_log_prob(seed=jax.random.key(0), sample_shape=6)
    chex.assert_shape(sample, (6, *batch, 2))
    ours = jax.jit(flow.apply)(variables, sample, context)
    np.testing.assert_allclose(found.log_prob(sample), ours, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(log_prob, ours, rtol=1e-2, atol=1e-2)


def test_a_users_own_map_makes_a_flow():
    """Both layouts take any map: here a shift alone."""

    @dataclass(frozen=True)
    class Shift:
        num_parameters = 1

        def check(self) -> None:
            pass

        def __call__(self, raw: jax.Array, bound: float) -> Any:
            return AffineBijector(raw[..., 0], jnp.zeros_like(raw[..., 0]))

    z = normals(ROWS, 3)
    for kind in (CouplingFlow, AutoregressiveFlow):
        flow = kind(univariate=Shift(), num_layers=2, hidden=(8,))
        variables = jax.jit(flow.init)(jax.random.key(0), z)
        rng = np.random.default_rng(0)
        variables = jax.tree.map(
            lambda leaf, rng=rng: leaf + np.float32(0.3 * rng.normal(size=leaf.shape)),
            jax.tree.map(np.asarray, variables),
        )
        apply = jax.jit(flow.apply, static_argnames="method")
        base, log_det = apply(variables, z, method="inverse_and_log_det")
        back, _ = apply(variables, base, method="forward_and_log_det")
        np.testing.assert_allclose(back, z, atol=1e-4)
        # Shifts move no volume: the head's constant scale is all there is.
        np.testing.assert_allclose(log_det, log_det[0], rtol=1e-5)


@EACH
def test_the_distribution_is_a_pytree(kind):
    """It leaves jit, enters another one, is mapped, and has gradients."""
    flow, z, context = small(kind), normals(8, 2), normals(8, 3)
    variables = variables_of(flow, z, context, 0.1)
    make = jax.jit(lambda v, c: flow.apply(v, c, method="distribution"))
    expected = jax.jit(flow.apply)(variables, z, context)
    found = make(variables, context)
    np.testing.assert_allclose(found.log_prob(z), expected, rtol=1e-4, atol=1e-4)
    inside = jax.jit(lambda d, z: d.log_prob(z))(found, z)
    np.testing.assert_allclose(inside, expected, rtol=1e-4, atol=1e-4)
    each = jax.vmap(make, (None, 0))(variables, context)
    mapped = jax.jit(jax.vmap(lambda d, z: d.log_prob(z)))(each, z)
    np.testing.assert_allclose(mapped, expected, rtol=1e-4, atol=1e-4)
    slope = jax.jit(jax.grad(lambda v: make(v, context).log_prob(z).sum()))
    gradient = slope(variables)
    chex.assert_tree_all_finite(gradient)


@EACH
def test_z_context_and_place_broadcast(kind):
    flow, z, context = small(kind), normals(8, 2), normals(8, 3)
    variables, apply = variables_of(flow, z, context, 0.1), jax.jit(flow.apply)
    for one, many in (
        ((z[0], context), (np.tile(z[:1], (8, 1)), context)),
        ((z, context[0]), (z, np.tile(context[:1], (8, 1)))),
        ((z[:, None], context[None, :4]), None),
        ((np.ones((8, 2), np.int32), context), (np.ones((8, 2), np.float32), context)),
    ):
        got = apply(variables, *one)
        if many is None:
            many = (np.repeat(z, 4, 0), np.tile(context[:4], (8, 1)))
            got = got.reshape(-1)
        expected = apply(variables, *many)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    placed = Placed(normals(5, 1, 2), 0.1 * normals(5, 1, 2))
    forward = jax.jit(flow.apply, static_argnames="method")(
        variables, z, context, placed, method="forward_and_log_det"
    )
    assert forward[0].shape == (5, 8, 2)
    assert forward[1].shape == (5, 8)


@EACH
def test_a_flow_serves_nnx_users(kind):
    from flax import nnx

    z, context = normals(ROWS, 2), normals(ROWS, 3)
    model = nnx.bridge.ToNNX(small(kind), rngs=nnx.Rngs(0)).lazy_init(z, context)
    np.testing.assert_allclose(
        model(z, context), standard_normal_log_prob(z), rtol=1e-4
    )
    sample = model.sample(jax.random.key(1), context, 7)
    assert sample.shape == (ROWS, 7, 2)


@pytest.mark.parametrize(
    ("z", "context", "message"),
    [
        ((4, 3), (4, 3), r"Expected z with shape \(..., 2\); got \(3,\)"),
        ((4, 2), (4, 5), r"Expected context with shape \(..., 3\); got \(4, 5\)"),
        ((4, 2), None, r"Expected context with shape \(..., 3\); got \(0,\)"),
    ],
)
def test_sizes_that_do_not_fit_the_flow(z, context, message):
    flow = small(CINN)
    variables = variables_of(flow, normals(4, 2), normals(4, 3))
    context = None if context is None else np.zeros(context)
    with pytest.raises(ValueError, match=message):
        flow.apply(variables, np.zeros(z), context)


def test_invalid_calls():
    flow, context = small(CINN), normals(4, 3)
    variables = variables_of(flow, normals(4, 2), context)
    with pytest.raises(ValueError, match="Expected num_samples of at least 1; got 0"):
        flow.apply(variables, jax.random.key(0), context, 0, method="sample")
    with pytest.raises(ValueError, match="at least one dimension; got 0"):
        CINN().init(jax.random.key(0), jnp.zeros((1, 0)))
