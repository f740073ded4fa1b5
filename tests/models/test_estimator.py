"""The estimator: frozen numbers from training rows only, and a start that is solved."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.data.simulate import simulate
from flowinv.flows import CINN, SplineCouplingFlow
from flowinv.models.estimator import Estimator
from flowinv.models.placing import place, predict
from flowinv.networks.mlp import MLP
from flowinv.networks.moments import ProfileMoments
from flowinv.priors.latent import normal, uniform
from flowinv.training.prepare import initial
from flowinv.types import Dataset

KEY = jax.random.key(3)
TINY = CINN(num_layers=2, hidden=(8,), head_hidden=(8,))


@dataclasses.dataclass(frozen=True)
class Linear:
    """x = A theta + noise with theta in D dimensions."""

    dim: int
    noise: float = 0.5

    @property
    def x_shape(self):
        return (4,)

    @property
    def design(self):
        return np.cos(np.arange(4 * self.dim).reshape(4, self.dim))

    def simulate(self, key, theta):
        noise = self.noise * jax.random.normal(key, (4,))
        return jnp.asarray(self.design, jnp.float32) @ theta + noise


@pytest.fixture(scope="module")
def data():
    return simulate(jax.random.key(0), normal([0, 0], [1, 1]), Linear(2), 4_000)


# Compiled: operation by operation they are a hundred small programs.
features_of = jax.jit(Estimator.features, static_argnums=0)
apply_flow = jax.jit(Estimator.apply_flow, static_argnums=(0, 1))


def make(**fields):
    defaults = {"prior": normal([0, 0], [1, 1]), "flow": TINY, "input_scaling": "none"}
    return Estimator(**{**defaults, **fields})


@pytest.mark.parametrize("summary", [None, ProfileMoments()])
def test_validation_rows_change_no_statistic(data, summary):
    estimator = make(embedding=MLP((4,)), summary=summary)
    held = data._replace(x=data.x.at[3_600:].multiply(100.0))
    one, two = (initial(KEY, estimator, rows, 400).frozen for rows in (data, held))
    for a, b in zip(
        jax.tree.leaves((one.statistics, one.summary)),
        jax.tree.leaves((two.statistics, two.summary)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    moved = data._replace(x=data.x.at[0].multiply(100.0))
    other = initial(KEY, estimator, moved, 400)
    assert not np.array_equal(other.frozen.statistics.shift, one.statistics.shift)


def test_statistics_are_those_of_the_training_rows(data):
    frozen = initial(KEY, make(), data, 400).frozen
    x = np.asarray(data.x[:3_600])
    np.testing.assert_allclose(frozen.statistics.shift, x.mean(0), atol=1e-5)
    np.testing.assert_allclose(frozen.statistics.scale, x.std(0), rtol=1e-5)


@pytest.mark.parametrize("embedding", [None, MLP((4,))])
def test_the_place_is_exact_for_a_linear_gaussian(data, embedding):
    """log q at the start is the exact posterior's: 0.02 nats on average.

    14 regression terms and 2 errors per parameter from 3,600 rows cost about
    (14 + 2) / 3600 nats; sampling errors of the two means cancel in the difference.
    """
    estimator = make(embedding=embedding)
    variables = initial(KEY, estimator, data, 400)
    new = simulate(jax.random.key(9), estimator.prior, Linear(2), 2_000)
    features = features_of(estimator, variables.frozen, new.x)
    log_q, outside = (
        apply_flow(estimator, what, variables.params, new.theta, features)
        for what in ("log_prob", "out_of_range")
    )
    design = Linear(2).design
    covariance = np.linalg.inv(np.eye(2) + design.T @ design / 0.25)
    off = np.asarray(new.theta) - np.asarray(new.x) @ design / 0.25 @ covariance
    square = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
    # The start knows no correlation: its Gaussian has the marginal sds.
    sd = np.sqrt(np.diag(covariance))
    best = (-0.5 * (off / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)).sum(-1)
    assert abs(float(log_q.mean()) - best.mean()) < 0.02
    exact = -0.5 * (square + np.log(np.linalg.det(2 * np.pi * covariance)))
    assert float(log_q.mean()) < exact.mean() + 0.02
    assert float(outside.mean()) < 1e-3


@pytest.mark.slow
def test_narrow_posteriors_are_found_in_a_box():
    """A posterior 1,000 times narrower than its prior, located by the start alone."""
    prior = uniform([0.0], [100.0])
    simulator = Linear(1, noise=0.1)
    data = simulate(jax.random.key(0), prior, simulator, 4_000)
    estimator = make(prior=prior)
    variables = initial(KEY, estimator, data, 400)
    new = simulate(jax.random.key(9), prior, simulator, 500)
    keys = jax.random.split(KEY, 500)
    from flowinv.models.latent_density import latent_sample

    z = latent_sample(estimator, variables, keys, new.x, 200)
    theta = np.asarray(prior.from_latent(z))[..., 0]
    sd = 0.1 / np.linalg.norm(simulator.design)
    truth = np.asarray(new.theta)[:, 0]
    inner = (truth > 1) & (truth < 99)  # near an edge no normal is right
    off = (theta.mean(1) - truth)[inner] / sd
    assert np.sqrt((off**2).mean()) < 1.3
    assert 0.8 < np.median(theta.std(1)[inner]) / sd < 1.4


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("dim", [1, pytest.param(2, marks=pytest.mark.slow), 5])
def test_any_number_of_parameters(dim, placed):
    prior = uniform([0.0] * dim, [1.0] * dim)
    data = simulate(jax.random.key(0), prior, Linear(dim), 200)
    flow = SplineCouplingFlow(num_layers=2, hidden=(8,), head_hidden=(8,), num_bins=4)
    estimator = make(prior=prior, flow=flow, placed=placed, embedding=MLP((3,)))
    variables = initial(KEY, estimator, data, 20)
    features = features_of(estimator, variables.frozen, data.x)
    assert features.inputs.shape == (200, 4)
    assert features.known.shape == (200, 4 * dim if placed else 0)
    begins = estimator.placed_of(features)
    if placed:
        found = jax.jit(lambda *of: place(prior, predict(*of)))(
            variables.frozen.placing, features.inputs
        )
        for one, other in zip(begins, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    else:
        assert begins is None
    context = estimator.context(variables.params, features)
    assert context.shape == (200, 3 + (4 * dim if placed else 0))
    z = prior.to_latent(data.theta)
    log_q, outside = (
        apply_flow(estimator, what, variables.params, z, features)
        for what in ("log_prob", "out_of_range")
    )
    assert log_q.shape == outside.shape == (200,)
    assert np.isfinite(log_q).all()
    if not placed:
        # A new flow is the identity, q the standard normal.
        expected = -0.5 * (z**2).sum(-1) - 0.5 * dim * np.log(2 * np.pi)
        np.testing.assert_allclose(log_q, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"embedding": MLP((4,))},
        {"summary": ProfileMoments()},
        {"summary": ProfileMoments(), "embedding": MLP((4,)), "placed": False},
    ],
)
def test_skeleton_has_the_structure_of_trained_variables(data, fields):
    estimator = make(**fields)
    variables = initial(KEY, estimator, data, 400)
    like = jax.eval_shape(lambda: estimator.skeleton((4,)))
    assert jax.tree.structure(like) == jax.tree.structure(variables)
    shapes = [leaf.shape for leaf in jax.tree.leaves(like)]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(variables)]


def test_resolve_names_the_scaling(data):
    counts = data._replace(x=jnp.round(jnp.abs(data.x) * 20))
    assert make(input_scaling="auto").resolve(counts).input_scaling == "root"
    assert make(input_scaling="asinh").resolve(counts).input_scaling == "asinh"


def test_embedding_alone_gets_gradients(data):
    """Frozen numbers are not trained; every trained one has a finite gradient."""
    estimator = make(embedding=MLP((4,), "silu"))
    variables = initial(KEY, estimator, data, 400)
    features = features_of(estimator, variables.frozen, data.x[:64])

    def loss(params):
        return estimator.apply_flow(
            "log_prob", params, data.theta[:64], features
        ).mean()

    slopes = jax.jit(jax.grad(loss))(variables.params)
    assert set(variables.params) == {"embedding", "flow"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_bad_rows_answer_in_one_line(data):
    estimator = make()
    few = Dataset(*(leaf[:3] for leaf in data))
    wide = data._replace(theta=jnp.zeros((4_000, 3)))
    table = [
        (estimator, data, 1, "num_validation of at least 2; got 1"),
        (estimator, few, 2, "training simulations of at least 2; got 1"),
        (estimator, wide, 400, r"theta with shape \(2,\); got \(3,\)"),
        (make(input_scaling="auto"), data, 400, "input scaling to be resolved"),
        (make(input_scaling="rot"), data, 400, "Did you mean 'root'"),
        (make(input_scaling="root"), data, 400, "of at least 0 for the root"),
    ]
    for own, rows, held, message in table:
        with pytest.raises(ValueError, match=message) as error:
            initial(KEY, own, rows, held)
        assert "\n" not in str(error.value)


def test_no_parameters_no_prior():
    """D = 0 is refused where it could first arise."""
    with pytest.raises(ValueError, match="prior of at least one parameter; got none"):
        uniform([], [])
    with pytest.raises(ValueError, match="theta with at least one dimension; got 0"):
        TINY.init(KEY, jnp.zeros((1, 0)), jnp.zeros((1, 2)))
