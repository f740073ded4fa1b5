"""The continuous flow: densities against autodiff, its start, its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flowinv.flows import VectorField, vector_field
from flowinv.types import Placed

D, C = 3, 4
FLOW = VectorField(hidden=(16, 16))
PLACED = Placed(jnp.array([1.0, -2.0, 0.5]), jnp.log(jnp.array([0.1, 1.0, 3.0])))


@pytest.fixture(scope="module")
def params():
    """A network whose velocity is far from the start's."""
    new = FLOW.init(jax.random.key(0), jnp.zeros((1, D)), jnp.zeros((1, C)), PLACED)

    def stirred(leaf):
        return leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)

    return jax.tree.map(stirred, new)


@pytest.fixture(scope="module")
def context():
    return jax.random.normal(jax.random.key(2), (5, C))


def asked(flow, method):
    return jax.jit(lambda *given: flow.apply(*given, method=method))


FORWARD = asked(FLOW, "forward_and_log_det")


def test_a_new_flow_is_the_placed_gaussian(context):
    new = FLOW.init(jax.random.key(0), jnp.zeros((1, D)), jnp.zeros((1, C)), PLACED)
    assert set(new) == {"params"}
    z0 = jax.random.normal(jax.random.key(1), (5, D))
    z, log_det = FORWARD(new, z0, context, PLACED)
    sd = jnp.exp(PLACED.log_sd)
    np.testing.assert_allclose(z, PLACED.mean + sd * z0, atol=2e-4, rtol=2e-4)
    np.testing.assert_allclose(log_det, PLACED.log_sd.sum(), atol=2e-4)
    expected = stats.norm.logpdf(z, PLACED.mean, sd).sum(-1)
    log_q = asked(FLOW, "log_prob")(new, z, context, PLACED)
    np.testing.assert_allclose(log_q, expected, atol=2e-3)


def test_log_det_is_that_of_the_jacobian_and_the_way_back_is_the_way(params, context):
    z0 = jax.random.normal(jax.random.key(1), (5, D))
    z, log_det = FORWARD(params, z0, context, PLACED)
    # The velocity did something.
    assert np.abs(z - PLACED.mean - jnp.exp(PLACED.log_sd) * z0).max() > 0.1
    only = asked(FLOW, "forward")(params, z0, context, PLACED)
    np.testing.assert_allclose(only, z, atol=3e-4)

    def one(z0, context):
        return FLOW.apply(params, z0, context, PLACED, method="forward")

    jacobian = jax.jit(jax.vmap(jax.jacrev(one)))(z0, context)
    expected = np.linalg.slogdet(np.float64(jacobian))[1]
    np.testing.assert_allclose(log_det, expected, atol=2e-3)
    back, other = asked(FLOW, "inverse_and_log_det")(params, z, context, PLACED)
    np.testing.assert_allclose(back, z0, atol=1e-3)
    np.testing.assert_allclose(other, -log_det, atol=2e-3)


def test_rows_do_not_see_each_other(params, context):
    z0 = jax.random.normal(jax.random.key(1), (5, D)) * jnp.arange(1, 6)[:, None]
    together = FORWARD(params, z0, context, PLACED)[0]
    alone = FORWARD(params, z0[3:4], context[3:4], PLACED)[0]
    np.testing.assert_allclose(together[3:4], alone, atol=1e-5, rtol=1e-5)


def test_random_directions_give_the_divergence_on_average(params, context, monkeypatch):
    """500 signs: a standard error of 1/sqrt(500) of what single ones scatter by."""
    z0 = jax.random.normal(jax.random.key(1), (1, D))
    exact = FORWARD(params, z0, context[:1], PLACED)[1]
    signs = jax.random.rademacher(jax.random.key(5), (500, D), jnp.float32)
    found = []
    for some in (signs, signs[:1]):
        monkeypatch.setattr(vector_field, "_directions", lambda *_, own=some: own)
        run = asked(FLOW.clone(trace="hutchinson"), "forward_and_log_det")
        found.append(run(params, z0, context[:1], PLACED)[1])
    np.testing.assert_allclose(found[0], exact, atol=0.05)
    assert abs(found[1] - exact) > 1e-3
    monkeypatch.undo()
    own = vector_field._directions("hutchinson", 2, 5, jnp.float32)
    assert own.shape == (2, 5)
    np.testing.assert_array_equal(np.abs(own), 1)
    # As many directions as dimensions: the exact trace costs no more.
    np.testing.assert_array_equal(
        vector_field._directions("hutchinson", 5, 5, jnp.float32), np.eye(5)
    )


def test_distribution_and_widths(params, context):
    bound = FLOW.bind(params)
    own = bound.distribution(context, PLACED)
    z = own.sample(seed=jax.random.key(3))
    assert z.shape == (5, D)
    log_q = asked(FLOW, "log_prob")(params, z, context, PLACED)
    np.testing.assert_allclose(own.log_prob(z), log_q, atol=2e-3)
    wide = FLOW.clone(widths=(2.0, 1.0, 0.5))
    z0 = jax.random.normal(jax.random.key(1), (5, D))
    plain = FORWARD(params, z0, context, PLACED)[0] - PLACED.mean
    wider = asked(wide, "forward")(params, z0, context, PLACED) - PLACED.mean
    np.testing.assert_allclose(wider, plain * np.array([2.0, 1.0, 0.5]), rtol=1e-3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden": ()}, "hidden .*at least one unit"),
        ({"trace": "guessed"}, "trace .*exact"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"widths": (1.0,)}, "widths .*2 factors"),
    ],
)
def test_fields_out_of_range_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        VectorField(**fields).init(jax.random.key(0), jnp.zeros((1, 2)))
