"""One table of all flows, and every property for each of them.

A flow is a structure and a map: the fast rows have both structures and both maps, once
each, and every way of making them. The full product of flows, dimensions, context,
mixing and unrolling is marked slow.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.flows import (
    CINN,
    AffineAutoregressiveFlow,
    Placed,
    SplineAutoregressiveFlow,
    SplineCouplingFlow,
)
from flowinv.flows.density import standard_normal_log_prob

EPS = float(np.finfo(np.float32).eps)
ROWS = 64
CLASSES = {
    "cinn": CINN,
    "spline": SplineCouplingFlow,
    "maf": AffineAutoregressiveFlow,
    "spline-ar": SplineAutoregressiveFlow,
}


@dataclass(frozen=True)
class Case:
    """One row of the table; `num_context` None is the unconditional use."""

    flow: str
    dim: int
    num_context: int | None = 3
    lu_mixing: bool = False
    unroll: bool = False

    def module(self) -> Any:
        return CLASSES[self.flow](
            num_layers=3,
            hidden=(16,),
            head_hidden=(8,),
            lu_mixing=self.lu_mixing,
            unroll=self.unroll,
        )

    def __str__(self) -> str:
        extra = "-lu" * self.lu_mixing + "-unrolled" * self.unroll
        return f"{self.flow}-D{self.dim}-C{self.num_context}{extra}"


SMALL = [
    Case("cinn", 1, unroll=True),
    Case("spline", 2, None),
    *(Case(flow, 5, lu_mixing=True) for flow in ("maf", "spline-ar")),
]
FULL = [
    *(Case(flow, 1, unroll=True) for flow in CLASSES),
    *(Case(flow, 2, None) for flow in CLASSES),
    *(Case(flow, 5, lu_mixing=True) for flow in CLASSES),
    *itertools.starmap(
        Case, itertools.product(CLASSES, (1, 2, 20), (None, 3), (False, True))
    ),
]
FULL = [row for row in dict.fromkeys(FULL) if row not in SMALL]
ROW_MARKS = [*SMALL, *(pytest.param(row, marks=pytest.mark.slow) for row in FULL)]
# One case after the other: its programs are compiled once for all tests.
TABLE = pytest.mark.parametrize("case", ROW_MARKS, ids=str, scope="module")


def context_of(case: Case, rows: int = ROWS) -> np.ndarray | None:
    if case.num_context is None:
        return None
    draws = np.random.default_rng(1).normal(size=(rows, case.num_context))
    return draws.astype(np.float32)


def points(case: Case, size: float = 1.0, rows: int = ROWS) -> np.ndarray:
    draws = np.random.default_rng(0).normal(size=(rows, case.dim))
    return (size * draws).astype(np.float32)


@functools.lru_cache
def new(case: Case) -> dict[str, Any]:
    # float32 whoever asks first.
    with jax.enable_x64(False):
        init = jax.jit(case.module().init)
        return init(jax.random.key(0), points(case, rows=2), context_of(case, rows=2))


def drawn(case: Case, scale: float, seed: int = 0) -> dict[str, Any]:
    """Variables whose networks put out raw parameters of about `scale`.

    Hidden layers keep sd 1 per unit; the last kernels and biases, which start at zero,
    are drawn `scale` times larger; linear mixing likewise.
    """
    rng = np.random.default_rng(seed)
    last = ("kernel_0", "bias_0", "correction", "lower", "upper", "log_diagonal")

    def draw(path: Any, leaf: jax.Array) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        size = scale if any(key in name for key in last) else 1.0
        matrix = leaf.ndim > 1 and "bias" not in name and "mixing" not in name
        fan_in = max(leaf.shape[-2], 1) if matrix else 1
        return np.float32(size * rng.normal(size=leaf.shape) / fan_in**0.5)

    variables = new(case)
    return {
        **variables,
        "params": jax.tree_util.tree_map_with_path(draw, variables["params"]),
    }


@functools.lru_cache
def jitted(case: Case, method: str) -> Callable[..., Any]:
    return jax.jit(functools.partial(case.module().apply, method=method))


def directions(case: Case) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return jitted(case, "forward_and_log_det"), jitted(case, "inverse_and_log_det")


def double(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@TABLE
def test_a_new_flow_is_the_identity(case):
    z, context = points(case, 3.0), context_of(case)
    for direction in directions(case):
        moved, log_det = direction(new(case), z, context)
        np.testing.assert_allclose(moved, z, atol=2e-5)
        np.testing.assert_allclose(log_det, 0.0, atol=2e-5)
    log_prob = jitted(case, "log_prob")(new(case), z, context)
    np.testing.assert_allclose(log_prob, standard_normal_log_prob(z), rtol=1e-5)


@TABLE
@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0])
def test_round_trip_loses_no_more_than_rounding_does(case, scale):
    # Moving the end point by one float32 rounding, of its size or of the bound of 5,
    # up or down in each coordinate, costs `inherent`, seen in float64; a flow rounds at
    # every step, each time amplified by its own share of the layers.
    variables, context = drawn(case, scale), context_of(case)
    signs = np.random.default_rng(2).choice([-1, 1], size=(8, ROWS, case.dim))
    for size in (1.0, 10.0, 1e3, 1e6):
        z = points(case, size)
        for there, back in (directions(case), directions(case)[::-1]):
            middle = there(variables, z, context)[0]
            z_back = back(variables, middle, context)[0]
            with jax.enable_x64(True):
                wide = double((variables, z, context))
                exact = there(*wide)[0]
                rounding = EPS * np.maximum(np.abs(exact), 5.0)
                inherent = max(
                    np.abs(back(wide[0], exact + sign * rounding, wide[2])[0] - z).max()
                    for sign in signs
                )
            error = np.abs(z_back - z).max()
            assert error <= 100.0 * inherent + 100.0 * EPS * np.abs(z).max()


@TABLE
def test_round_trip_of_moderate_parameters(case):
    # Measured on the fast rows: at most 1e-3 of the size, for the cINN with mixing.
    variables, context = drawn(case, 0.5), context_of(case)
    for size in (1.0, 1e3, 1e6):
        z = points(case, size)
        for there, back in (directions(case), directions(case)[::-1]):
            y, log_det = there(variables, z, context)
            z_back, log_det_back = back(variables, y, context)
            np.testing.assert_allclose(z_back, z, atol=2e-3 * size)
            if size == 1.0:
                np.testing.assert_allclose(log_det_back, -log_det, atol=2e-2)


# Raw parameters of this sd are what a flow inverts in float32: beyond it a layer
# stretches by more than the digits that are left.
INVERTS = {"cinn": 3.0, "maf": 3.0, "spline": 1.5, "spline-ar": 1.5}
INVERTS_WITH_LU = 1.0


@TABLE
@pytest.mark.parametrize("size", [1.0, 10.0])
def test_a_flow_inverts_in_float32_up_to_its_scale(case, size):
    """To 5e-3 of the largest |z|, both ways round."""
    scale = INVERTS_WITH_LU if case.lu_mixing else INVERTS[case.flow]
    scale = scale if case.dim <= 5 else 0.5 * scale
    variables, context = drawn(case, scale), context_of(case)
    z = points(case, size)
    for there, back in (directions(case), directions(case)[::-1]):
        z_back = back(variables, there(variables, z, context)[0], context)[0]
        assert np.abs(z_back - z).max() <= 5e-3 * np.abs(z).max()


@TABLE
def test_log_det_is_that_of_the_jacobian(case):
    with jax.enable_x64(True):
        variables, z = double(drawn(case, 1.0)), double(points(case, rows=3))
        context = double(context_of(case, rows=3))
        axes = (None, 0, None if context is None else 0)
        for direction in directions(case):
            jacobian = jax.vmap(
                jax.jacfwd(lambda v, z, c, f=direction: f(v, z, c)[0], 1), axes
            )(variables, z, context)
            expected = np.linalg.slogdet(jacobian)[1]
            log_det = direction(variables, z, context)[1]
            np.testing.assert_allclose(log_det, expected, atol=1e-6)
        back = directions(case)[1](
            variables, directions(case)[0](variables, z, context)[0], context
        )
        np.testing.assert_allclose(back[0], z, atol=1e-6)


@TABLE
def test_gradients_are_finite_everywhere(case):
    module, context = case.module(), context_of(case)

    def loss(params: Any, placed: Any, z: jax.Array, context: Any) -> jax.Array:
        rest = (z, context, placed)
        log_prob = module.apply({"params": params}, *rest, method="log_prob")
        sample = module.apply({"params": params}, *rest, method="forward_and_log_det")
        return jnp.tanh(1e-2 * log_prob).mean() + jnp.tanh(sample[0]).mean()

    gradient = jax.jit(jax.grad(loss, (0, 2)))
    special = np.float32([0.0, 5.0, -5.0, 10.0, 5.0 - 1e-6, 1e6, -1e6, 1e15])
    z = np.repeat(np.resize(special, ROWS)[:, None], case.dim, 1)
    placed = Placed(np.float32(0.3) * np.ones_like(z), np.float32(-2.0) + 0 * z)
    for scale in (1.0, 30.0):
        params = drawn(case, scale)["params"]
        chex.assert_tree_all_finite(gradient(params, placed, z, context))
    # Nothing is left without a gradient, except in a MADE what its masks cut off and
    # the weights of inputs of which there are none.
    near = jax.tree.map(lambda leaf: leaf[:ROWS], placed)
    gradients, _ = gradient(drawn(case, 1.0)["params"], near, points(case), context)
    for leaf in jax.tree.leaves(gradients):
        assert leaf.size == 0 or np.abs(leaf).max() > 0 or case.dim == 1


@TABLE
def test_vmap_equals_a_loop_and_jit_equals_none(case):
    variables, z, context = drawn(case, 0.5), points(case)[:4], context_of(case, 4)
    log_prob = jitted(case, "log_prob")
    rows = [
        log_prob(variables, z[i], None if context is None else context[i])
        for i in range(4)
    ]
    axes = (None, 0, None if context is None else 0)
    mapped = jax.jit(jax.vmap(log_prob, axes))(variables, z, context)
    plain = case.module().apply(variables, z, context)
    for other in (mapped, plain, log_prob(variables, z, context)):
        np.testing.assert_allclose(other, np.stack(rows), rtol=1e-3, atol=1e-3)


@TABLE
def test_samples_have_their_shape_and_their_density(case):
    variables, key = drawn(case, 0.3), jax.random.key(3)
    context = context_of(case, 2)
    draw = jax.jit(
        functools.partial(case.module().apply, method="sample_and_log_prob"),
        static_argnums=3,
    )
    for given, batch in (
        (context, (2,)),
        (None if context is None else context[0], ()),
    ):
        batch = () if given is None else batch
        z, log_prob = draw(variables, key, given, 50)
        chex.assert_shape(z, (*batch, 50, case.dim))
        chex.assert_shape(log_prob, (*batch, 50))
        spread = None if given is None else given[..., None, :]
        again = jitted(case, "log_prob")(variables, z, spread)
        np.testing.assert_allclose(again, log_prob, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("flow", CLASSES)
@pytest.mark.parametrize("lu_mixing", [False, True])
@pytest.mark.later("False-*")
def test_scanned_and_unrolled_layers_give_the_same_numbers(flow, lu_mixing):
    case = Case(flow, 5, 3, lu_mixing)
    variables, z, context = drawn(case, 0.5), points(case), context_of(case)
    unrolled = replace(case, unroll=True)
    chex.assert_trees_all_equal_shapes(new(case), new(unrolled))
    for one, other in zip(directions(case), directions(unrolled), strict=True):
        expected = one(variables, z, context)
        found = other(variables, z, context)
        chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("flow", CLASSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_density_integrates_to_one_in_1d(flow, seed):
    case = Case(flow, 1, unroll=True)
    variables, context = drawn(case, 1.0, seed), context_of(case)[0]
    # The image of (-6, 6) under an increasing map holds all but 2e-9 of the mass.
    grid = np.linspace(-6.0, 6.0, 20_001, dtype=np.float32)[:, None]
    z = directions(case)[0](variables, grid, context)[0]
    density = np.exp(jitted(case, "log_prob")(variables, z, context))
    assert np.trapezoid(density, z[:, 0]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("flow", CLASSES)
@pytest.mark.parametrize("scale", [0.0, 0.3])
@pytest.mark.later("0.0-*")
def test_the_density_integrates_to_one_in_2d(flow, scale):
    case = Case(flow, 2, None)
    variables = drawn(case, scale)
    base = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    cloud = np.asarray(directions(case)[0](variables, base, None)[0])
    low, high = cloud.min(0), cloud.max(0)
    pad = 0.2 * (high - low)
    axes = np.linspace(low - pad, high + pad, 300)
    grid = np.stack(np.meshgrid(*axes.T, indexing="ij"), -1).astype(np.float32)
    density = np.exp(jitted(case, "log_prob")(variables, grid, None))
    cell = np.prod(axes[1] - axes[0])
    assert density.sum() * cell == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("flow", CLASSES)
@pytest.mark.later("cinn", "maf")
def test_draws_follow_the_density(flow):
    # Kolmogorov-Smirnov against the CDF by quadrature; the seed is fixed, and a right
    # flow fails for one seed in a thousand.
    from scipy.stats import kstest

    case = Case(flow, 1, unroll=True)
    variables, context = drawn(case, 1.0), context_of(case)[0]
    grid = np.linspace(-6.0, 6.0, 20_001, dtype=np.float32)[:, None]
    z = np.asarray(directions(case)[0](variables, grid, context)[0][:, 0])
    density = np.exp(jitted(case, "log_prob")(variables, z[:, None], context))
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(z)
    cdf = np.concatenate([[0.0], np.cumsum(steps)])
    sample = case.module().apply(
        variables, jax.random.key(5), context, 4_000, method="sample"
    )
    result = kstest(np.asarray(sample[:, 0]), lambda v: np.interp(v, z, cdf))
    assert result.pvalue > 1e-3


@pytest.mark.parametrize("flow", CLASSES)
def test_the_range_is_the_share_beyond_the_bound(flow):
    case = Case(flow, 2, None)
    z = np.float32([[0, 0], [4.9, 5.1], [-6, 7]])
    outside = jitted(case, "out_of_range")(new(case), z, None)
    np.testing.assert_allclose(outside, [0.0, 0.5, 1.0])
    placed = Placed(np.float32([0, 0]), np.float32([0, np.log(2)]))
    outside = jitted(case, "out_of_range")(new(case), z, None, placed)
    np.testing.assert_allclose(outside, [0.0, 0.0, 0.5])


@pytest.mark.parametrize("flow", CLASSES)
def test_a_placed_flow_is_the_flow_in_units_of_its_place(flow):
    """log q(z; placed) = log q((z - mean) / sd) - log sd, and draws likewise."""
    case = Case(flow, 2)
    z, context = points(case)[:4], context_of(case, 4)
    placed = Placed(np.float32([[3.0, -2.0]]), np.float32([[-5.0, 1.0]]))
    scale = np.exp(placed.log_sd)
    # A head without an own correction: the conditioners see the head's place.
    variables = new(case)
    plain = jitted(case, "log_prob")(variables, z, context)
    moved = jitted(case, "log_prob")(
        variables, placed.mean + scale * z, context, placed
    )
    expected = plain - placed.log_sd.sum()
    np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=1e-3)
    sample = case.module().apply(
        variables, jax.random.key(0), context, 5_000, placed, method="sample"
    )
    assert sample.shape == (4, 5_000, 2)
    # Five sds of a mean of 5,000, and of an sd.
    gap = (sample.mean(1) - placed.mean) / scale
    assert np.abs(gap).max() < 5 / 5_000**0.5
    np.testing.assert_allclose(sample.std(1), np.tile(scale, (4, 1)), rtol=0.05)
