"""One table of all bijectors, and every property for each of them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import parameterized

from flowinv.bijectors import (
    Affine,
    Autoregressive,
    Chain,
    Coupling,
    Inverse,
    LULinear,
    RationalQuadraticSpline,
    Stack,
    permutation,
    soft_clamp,
    to_distrax,
)
from flowinv.types import Bijector

# Under pytest nobody parses absl's command line; the pmap variant then runs on the one
# device that there is.
flags.FLAGS.mark_as_parsed()
flags.FLAGS.chex_skip_pmap_variant_if_single_device = False

EPS = float(np.finfo(np.float32).eps)
BATCH = 64
NUM_BINS = 6
LAYERS = 3


@functools.lru_cache
def normals(shapes: tuple[tuple[str, tuple[int, ...]], ...], seed: int) -> Any:
    """Standard normal numbers of these shapes, drawn by one program."""

    @jax.jit
    def draw(key: jax.Array) -> Any:
        keys = jax.random.split(key, len(shapes))
        pairs = zip(keys, shapes, strict=True)
        return {name: jax.random.normal(key, shape) for key, (name, shape) in pairs}

    return jax.tree.map(np.asarray, draw(jax.random.key(seed))) if shapes else {}


@dataclass(frozen=True)
class Case:
    """Shapes of the parameters for D, and the bijector made of them."""

    shapes: Callable[[int], dict[str, tuple[int, ...]]]
    build: Callable[[dict[str, Any]], Bijector]
    identity: bool = True

    def params(self, dim: int, scale: float, seed: int = 0) -> dict[str, Any]:
        drawn = normals(tuple(self.shapes(dim).items()), seed)
        drawn = {name: jnp.asarray(scale * leaf) for name, leaf in drawn.items()}
        return {**drawn, "dim": np.zeros(dim)}


def affine(params: dict[str, Any]) -> Affine:
    return Affine(params["shift"], soft_clamp(params["log_scale"], 2.0))


def spline(params: dict[str, Any]) -> RationalQuadraticSpline:
    return RationalQuadraticSpline(params["raw"])


def lu(params: dict[str, Any]) -> LULinear:
    return LULinear(params["lower"], params["upper"], params["log_diagonal"])


def riffle(params: dict[str, Any]) -> Bijector:
    dim = params["dim"].shape[0]
    return permutation(np.roll(np.arange(dim)[::-1], 1))


def coupling(params: dict[str, Any]) -> Coupling:
    split = params["dim"].shape[0] // 2

    def condition(kept: jax.Array) -> Bijector:
        raw = params["bias"] + jnp.einsum(
            "...i,ijp->...jp", jnp.tanh(kept), params["w"]
        )
        return RationalQuadraticSpline(raw)

    return Coupling(split, condition)


def autoregressive(params: dict[str, Any]) -> Autoregressive:
    dim = params["dim"].shape[0]
    before = np.triu(np.ones((dim, dim), np.float32), 1)[..., None]

    def condition(x: jax.Array) -> Bijector:
        raw = jnp.einsum("...i,ijp->...jp", jnp.tanh(x), before * params["w"])
        raw = raw + params["bias"]
        return Affine(raw[..., 0], soft_clamp(raw[..., 1], 1.0))

    return Autoregressive(condition)


def layer(params: dict[str, Any]) -> Chain:
    return Chain([spline(params), lu(params), affine(params)])


def stack(params: dict[str, Any], unroll: bool) -> Stack:
    layers = {name: value for name, value in params.items() if name != "dim"}
    return Stack(layer, layers, unroll)


def affine_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {"shift": (dim,), "log_scale": (dim,)}


def spline_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {"raw": (dim, 3 * NUM_BINS - 1)}


def lu_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {"lower": (dim, dim), "upper": (dim, dim), "log_diagonal": (dim,)}


def chain_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {**affine_shapes(dim), **spline_shapes(dim), **lu_shapes(dim)}


def coupling_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    tail = (dim - dim // 2, 3 * NUM_BINS - 1)
    return {"w": (dim // 2, *tail), "bias": tail}


def autoregressive_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {"w": (dim, dim, 2), "bias": (dim, 2)}


def stack_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    return {name: (LAYERS, *shape) for name, shape in chain_shapes(dim).items()}


CASES = {
    "affine": Case(affine_shapes, affine),
    "spline": Case(spline_shapes, spline),
    "permutation": Case(lambda dim: {}, riffle, identity=False),
    "lu": Case(lu_shapes, lu),
    "coupling": Case(coupling_shapes, coupling),
    "autoregressive": Case(autoregressive_shapes, autoregressive),
    "chain": Case(chain_shapes, layer),
    "inverse": Case(chain_shapes, lambda params: Inverse(layer(params))),
    "stack_scan": Case(stack_shapes, functools.partial(stack, unroll=False)),
    "stack_unrolled": Case(stack_shapes, functools.partial(stack, unroll=True)),
}
# Case by case: its programs are compiled once for all tests.
TABLE = pytest.mark.parametrize("name", CASES, scope="module")
DIMS = pytest.mark.parametrize(
    "dim", [1, pytest.param(2, marks=pytest.mark.slow), 5], scope="module"
)


@functools.lru_cache
def directions(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    build = CASES[name].build
    forward = jax.jit(lambda params, x: build(params).forward_and_log_det(x))
    inverse = jax.jit(lambda params, y: build(params).inverse_and_log_det(y))
    return forward, inverse


def points(dim: int, size: float = 2.0) -> np.ndarray:
    return size * np.random.default_rng(0).normal(size=(BATCH, dim)).astype(np.float32)


def double(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@TABLE
@DIMS
@pytest.mark.parametrize("size", [2.0, 1e6])
@pytest.mark.later("2.0-*-stack_unrolled")
def test_round_trip_loses_no_more_than_rounding_does(name, dim, size):
    # Moving y by one float32 rounding, of |y| or of the knots' bound of 5, costs
    # `inherent`, seen in float64: no float32 code can do better. A chain of k maps
    # rounds k times, each time amplified differently: 50 leaves room for nine maps.
    case, x = CASES[name], points(dim, size)
    for scale in (1.0, 3.0, 10.0):
        params = case.params(dim, scale)
        for there, back in (directions(name), directions(name)[::-1]):
            x_back = back(params, there(params, x)[0])[0]
            with jax.enable_x64(True):
                y = there(double(params), double(x))[0]
                y = y + EPS * np.maximum(np.abs(y), 5.0)
                inherent = np.abs(back(double(params), double(y))[0] - double(x)).max()
            tolerance = 50.0 * inherent + 10.0 * EPS * np.abs(x).max()
            assert np.abs(x_back - x).max() <= tolerance, (scale, inherent)


@pytest.mark.parametrize("num_bins", [2, 4, 8, 16])
@pytest.mark.parametrize(
    ("scale", "most"), [(1.0, 1e-4), (3.0, 1.5e-3), (10.0, 1.5e-2)]
)
def test_spline_round_trip_on_a_bound_of_five(num_bins, scale, most):
    # Knot slopes and mean slopes reach 1 / min_slope = 100 each, the slope in between
    # at most their product, so the worst error is 5 eps 1e4 = 6e-3 to a factor of 2.
    rows = 20_000
    key_raw, key_x = jax.random.split(jax.random.key(0))
    raw = scale * jax.random.normal(key_raw, (rows, 1, 3 * num_bins - 1))
    x = jax.random.uniform(key_x, (rows, 1), minval=-5.0, maxval=5.0)
    forward, inverse = directions("spline")
    params = {"raw": raw}
    for there, back in ((forward, inverse), (inverse, forward)):
        y, log_det = there(params, x)
        x_back, log_det_back = back(params, y)
        assert np.abs(x_back - x).max() < most
        assert np.isfinite(log_det).all()
        assert np.isfinite(log_det_back).all()


@TABLE
@DIMS
@pytest.mark.later("*-stack_unrolled")
def test_log_det_is_that_of_the_jacobian(name, dim):
    case = CASES[name]
    with jax.enable_x64(True):
        params = double(case.params(dim, 1.0))
        x = double(points(dim)[:4])
        for direction in directions(name):
            jacobian = jax.jit(
                jax.vmap(jax.jacfwd(lambda v, f=direction: f(params, v)[0]))
            )
            expected = np.linalg.slogdet(jacobian(x))[1]
            np.testing.assert_allclose(direction(params, x)[1], expected, atol=1e-9)


@TABLE
@DIMS
def test_inverse_log_det_is_minus_the_forward_one(name, dim):
    params, x = CASES[name].params(dim, 1.0), points(dim)
    forward, inverse = directions(name)
    y, log_det = forward(params, x)
    chex.assert_shape(log_det, (BATCH,))
    np.testing.assert_allclose(inverse(params, y)[1], -log_det, atol=2e-3)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.identity]
)
@DIMS
def test_zero_parameters_are_the_identity(name, dim):
    params, x = CASES[name].params(dim, 0.0), points(dim, 10.0)
    for direction in directions(name):
        y, log_det = direction(params, x)
        np.testing.assert_allclose(y, x, atol=5e-6)
        np.testing.assert_allclose(log_det, 0.0, atol=5e-6)


@TABLE
@pytest.mark.later("stack_unrolled")
def test_vmap_and_batch_equal_a_loop(name):
    params, x = CASES[name].params(5, 1.0), points(5)[:6]
    for direction in directions(name):
        loop = [direction(params, row) for row in x]
        y, log_det = (np.stack(part) for part in zip(*loop, strict=True))
        for batched in (
            direction(params, x),
            jax.vmap(direction, (None, 0))(params, x),
            jax.tree.map(
                lambda leaf: leaf.reshape(6, *leaf.shape[2:]),
                direction(params, x.reshape(2, 3, 5)),
            ),
        ):
            np.testing.assert_allclose(batched[0], y, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(batched[1], log_det, rtol=1e-4, atol=1e-5)


@TABLE
@pytest.mark.later("stack_unrolled")
def test_gradients_are_finite_at_knots_on_the_bound_and_far_outside(name):
    case, dim = CASES[name], 2

    def total(params: Any, x: jax.Array, method: str) -> jax.Array:
        value, log_det = getattr(case.build(params), method)(x)
        return (jnp.tanh(value).sum() + log_det.sum()) / x.size

    gradient = jax.jit(jax.grad(total, (0, 1)), static_argnums=2)
    for scale in (0.0, 1.0, 30.0):
        params = case.params(dim, scale)
        special = [0.0, 5.0, -5.0, 5.0 + 1e-6, 1e6, -1e6, 1e30]
        if "raw" in params:
            knots_x, knots_y, _ = RationalQuadraticSpline(params["raw"]).knots()
            special.extend([*np.ravel(knots_x), *np.ravel(knots_y)])
        x = np.repeat(np.resize(np.float32(special), 120)[:, None], dim, 1)
        for method in ("forward_and_log_det", "inverse_and_log_det"):
            chex.assert_tree_all_finite(gradient(params, x, method))


class VariantsTest(chex.TestCase):
    """The same numbers with and without jit, on and off the device, and in pmap."""

    @chex.all_variants
    @parameterized.parameters(*CASES)
    def test_forward_and_inverse(self, name: str) -> None:
        case = CASES[name]
        params, x = case.params(2, 1.0), points(2)[:4]

        def both(params: Any, x: jax.Array) -> Any:
            bijector = case.build(params)
            y, log_det = bijector.forward_and_log_det(x)
            return y, log_det, bijector.inverse_and_log_det(y)

        y, log_det, (x_back, log_det_back) = self.variant(both)(params, x)
        expected = directions(name)[0](params, x)
        np.testing.assert_allclose(y, expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(log_det, expected[1], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(x_back, x, atol=1e-3)
        np.testing.assert_allclose(log_det_back, -log_det, atol=1e-3)


@TABLE
def test_a_distrax_distribution_gives_our_density(name):
    import distrax

    bijector, x = CASES[name].build(CASES[name].params(2, 1.0)), points(2)
    base = distrax.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
    z, log_det = directions(name)[1](CASES[name].params(2, 1.0), x)
    expected = base.log_prob(z) + log_det
    density = jax.jit(distrax.Transformed(base, to_distrax(bijector)).log_prob)(x)
    np.testing.assert_allclose(density, expected, rtol=1e-4, atol=1e-4)


def test_scanned_and_unrolled_stack_give_the_same_numbers():
    # In float64: two compilers' float32 roundings grow a hundredfold in the inverse.
    params, x = double(CASES["stack_scan"].params(5, 1.0)), double(points(5))
    pairs = zip(directions("stack_scan"), directions("stack_unrolled"), strict=True)
    with jax.enable_x64(True):
        for scanned, unrolled in pairs:
            found, expected = scanned(params, x), unrolled(params, x)
            chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-10)
