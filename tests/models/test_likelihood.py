"""Learned likelihoods: closed forms, densities that integrate to 1, files, numpyro."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist
from numpyro.infer.util import log_density
from scipy import stats

import flowinv as fi
from flowinv.flows import CouplingFlow, RatioNetwork
from flowinv.methods import NLE, NRE
from flowinv.models import files
from flowinv.models.likelihood import exchanged, reading_of
from flowinv.models.sampled import SampledPosterior
from flowinv.priors.latent import normal
from flowinv.training.config import TrainConfig
from flowinv.types import Dataset

PRIOR = normal(np.array([1.0, -1.0]), np.array([2.0, 0.5]))
MIX = np.array([[1.0, 0.0], [1.0, 2.0], [0.0, -1.0]], np.float32)
NOISE = np.array([0.3, 1.0, 0.1], np.float32)
ROWS = 2_000
FLOW = CouplingFlow(num_layers=2, hidden=(8,), head_hidden=())
QUICK = TrainConfig(max_epochs=1, num_members=2, warmup_steps=1)


def simulations(rows=ROWS, key=0):
    theta = PRIOR.sample(jax.random.key(key), rows)
    noise = NOISE * jax.random.normal(jax.random.key(key + 1), (rows, 3))
    valid = jnp.ones(rows, bool)
    return Dataset(theta, theta @ MIX.T + noise, valid, jnp.zeros(rows, jnp.int32))


@pytest.fixture(scope="module")
def trained():
    estimator = fi.Estimator(PRIOR, FLOW, input_scaling="none")
    return NLE("2000", QUICK).fit(jax.random.key(5), estimator, simulations())


@pytest.fixture(scope="module")
def ratio():
    estimator = fi.Estimator(PRIOR, RatioNetwork((8, 8)), input_scaling="none")
    return NRE("2000", QUICK).fit(jax.random.key(5), estimator, simulations())


def test_likelihood_is_the_simulators(trained):
    """Solved from 1,800 rows: means to a few hundredths of an sd, sds to 2 %."""
    learned, fresh = trained.posterior.learned, simulations(500, 7)
    found = np.asarray(jax.jit(learned.log_prob)(fresh.x, fresh.theta))
    exact = stats.norm.logpdf(fresh.x, np.asarray(fresh.theta @ MIX.T), NOISE).sum(-1)
    assert found.shape == (500,)
    assert abs((exact - found).mean()) < 0.05
    assert np.abs(exact - found).max() < 1.0
    # Every theta for one x, as a numpy user broadcasts.
    rows = jax.jit(learned.log_prob)(fresh.x[:1], fresh.theta)
    assert rows.shape == (500,)
    np.testing.assert_allclose(rows[0], found[0], atol=1e-4)
    np.testing.assert_allclose(
        np.diff(rows),
        np.diff(jax.jit(learned.of_latents)(PRIOR.to_latent(fresh.theta), fresh.x[0])),
        atol=2e-3,
    )


@pytest.mark.slow
def test_it_emulates_the_simulator(trained):
    theta = np.array([[1.0, -1.0], [3.0, 0.0]], np.float32)
    y = trained.posterior.learned.sample(jax.random.key(0), theta, 4_000)
    statistics = trained.posterior.learned.readings.statistics
    x = np.asarray(y) * statistics.scale + statistics.shift
    assert x.shape == (2, 4_000, 3)
    np.testing.assert_allclose(x.mean(1), theta @ MIX.T, atol=0.12)
    np.testing.assert_allclose(x.std(1), np.tile(NOISE, (2, 1)), rtol=0.08)


def test_numpyro_knows_it(trained):
    learned, x = trained.posterior.learned, np.array([1.0, 0.0, 1.0], np.float32)

    def model():
        import numpyro

        first = numpyro.sample("first", dist.Normal(1.0, 2.0))
        second = numpyro.sample("second", dist.Normal(-1.0, 0.5))
        theta = jnp.stack([first, second])
        numpyro.sample("x", learned.distribution(theta), obs=x)

    at = {"first": jnp.float32(0.7), "second": jnp.float32(-0.2)}
    found = jax.jit(lambda at: log_density(model, (), {}, at)[0])(at)
    theta = np.array([0.7, -0.2], np.float32)
    prior = stats.norm.logpdf(theta, [1.0, -1.0], [2.0, 0.5]).sum()
    value, slope = jax.jit(jax.value_and_grad(lambda t: learned.log_prob(x, t)))(theta)
    np.testing.assert_allclose(found, prior + value, rtol=1e-5)
    assert np.isfinite(slope).all()
    with pytest.raises(ValueError, match=r"theta with shape \(2,\)"):
        learned.distribution(theta[None])


@pytest.mark.parametrize(
    ("scaling", "draw"),
    [
        ("none", lambda key, z: z + jax.random.normal(key, z.shape)),
        ("log", lambda key, z: jnp.exp(z + jax.random.normal(key, z.shape))),
        ("asinh", lambda key, z: jnp.sinh(2 * z + jax.random.normal(key, z.shape))),
    ],
)
def test_densities_of_every_scaling_integrate_to_one(scaling, draw):
    prior = normal(np.zeros(1), np.ones(1))
    theta = prior.sample(jax.random.key(0), 1_000)
    x = draw(jax.random.key(1), theta)
    data = Dataset(theta, x, jnp.ones(1_000, bool), jnp.zeros(1_000, jnp.int32))
    estimator = fi.Estimator(prior, FLOW, input_scaling=scaling)
    quick = TrainConfig(max_epochs=1, warmup_steps=1)
    learned = NLE("1000", quick).fit(jax.random.key(2), estimator, data).posterior
    assert learned.input_scaling == scaling
    low = float(x.min()) if scaling == "log" else -400.0
    # Fine where the density is: steps that grow with the distance from its middle.
    steps = np.sinh(np.linspace(-7.0, 7.0, 4_001))
    grid = np.clip(steps, low, 400.0).astype(np.float32)
    at = jnp.broadcast_to(jnp.array([0.3]), (len(grid), 1))
    density = np.exp(jax.jit(learned.learned.log_prob)(grid[:, None], at))
    total = np.trapezoid(np.where(grid > low, density, 0.0), grid)
    assert total == pytest.approx(1.0, abs=0.02)


def test_levels_of_discrete_numbers_add_up_to_one():
    """A coin, a die of steps .5 and counts up to thousands, by a flow of their spread.

    Upwards: below none and below the smallest, a map of counts has nowhere to go.
    """
    rows = 2_000
    prior = normal(np.zeros(1), np.ones(1))
    theta = prior.sample(jax.random.key(0), rows)
    coin = jax.random.bernoulli(jax.random.key(1), jax.nn.sigmoid(theta[:, 0]))
    die = jax.random.randint(jax.random.key(2), (rows,), 0, 6) * 0.5
    smooth = theta[:, 0] + jax.random.normal(jax.random.key(3), (rows,))
    counts = jax.random.poisson(jax.random.key(5), jnp.exp(2 + 2 * theta[:, 0]))
    x = jnp.stack([coin, die, smooth, counts], -1).astype(jnp.float32)
    data = Dataset(theta, x, jnp.ones(rows, bool), jnp.zeros(rows, jnp.int32))
    reader, readings = reading_of(x, data.valid, None, "none")
    np.testing.assert_allclose(readings.step, [1.0, 0.5, 0.0, 1.0])
    estimator = fi.Estimator(prior, FLOW, input_scaling="none")
    own, swapped, *_ = exchanged(jax.random.key(4), estimator, data)
    assert own.prior.dim == 4
    y = (
        np.asarray(swapped.theta) * readings.statistics.scale
        + readings.statistics.shift
    )
    off = np.asarray(y - x)
    assert (off >= -1e-3).all()
    assert (off <= np.array([1.0, 0.5, 0.0, 1.0]) + 1e-3).all()
    # Uniform over the step: its sd is step / sqrt(12), to 5 % (2,000 rows).
    found = off.std(0)[[0, 1, 3]]
    np.testing.assert_allclose(found, np.array([1, 0.5, 1]) / np.sqrt(12), rtol=0.05)
    # In roots too every number differs: no two zeros are one.
    rooted = fi.Estimator(prior, FLOW, input_scaling="root")
    only = data._replace(x=jnp.asarray(counts, jnp.float32)[:, None])
    _, spread, *_ = exchanged(jax.random.key(4), rooted, only)
    assert (counts == 0).sum() > 100
    assert len(np.unique(np.asarray(spread.theta))) > 0.99 * rows


@pytest.mark.slow
def test_more_networks_are_an_equal_mixture(trained, ratio):
    x, theta = simulations(20, 3).x, simulations(20, 3).theta
    for posterior in (trained.posterior, ratio.posterior):
        both = jax.jit(posterior.learned.log_prob)(x, theta)
        each = [jax.jit(m.learned.log_prob)(x, theta) for m in posterior.members()]
        assert len(each) == 2
        expected = jax.nn.logsumexp(jnp.stack(each), 0) - np.log(2)
        np.testing.assert_allclose(both, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["trained", "ratio"])
def test_what_is_saved_is_read(name, request, tmp_path):
    posterior = request.getfixturevalue(name).posterior
    fi.save(tmp_path / "model", posterior)
    again = fi.load(tmp_path / "model")
    assert isinstance(again, SampledPosterior)
    assert type(again.learned) is type(posterior.learned)
    assert again.sampler == posterior.sampler
    assert again.x_shape == (3,)
    fresh = simulations(10, 3)
    run = jax.jit(lambda own: own.learned.log_prob(fresh.x, fresh.theta))
    np.testing.assert_array_equal(run(again), run(posterior))
    with pytest.raises(ValueError, match="x with shape"):
        again.learned.log_prob(fresh.x[:, :2], fresh.theta)


def test_a_model_that_was_told_otherwise_is_refused(trained, tmp_path, monkeypatch):
    fi.save(tmp_path, trained.posterior)
    monkeypatch.setattr(files, "evenly_spread", lambda prior: np.ones(2, bool))
    with pytest.raises(ValueError, match="told of theta as flowinv does now"):
        fi.load(tmp_path)


def test_ratio_begins_at_the_solved_gaussians(ratio):
    """log r = log posterior - log prior, exact for a linear Gaussian."""
    learned, fresh = ratio.posterior.learned, simulations(500, 7)
    found = np.asarray(jax.jit(learned.log_prob)(fresh.x, fresh.theta))
    like = stats.norm.logpdf(fresh.x, np.asarray(fresh.theta @ MIX.T), NOISE).sum(-1)
    covariance = MIX @ np.diag([4.0, 0.25]) @ MIX.T + np.diag(NOISE**2)
    middle = MIX @ np.array([1.0, -1.0])
    evidence = stats.multivariate_normal.logpdf(fresh.x, middle, covariance)
    assert abs((found - (like - evidence)).mean()) < 0.15


def test_only_a_fixed_set_is_learned():
    estimator = fi.Estimator(PRIOR, FLOW)
    with pytest.raises(ValueError, match="data to be a fixed set"):
        NLE().fit(jax.random.key(0), estimator, fi.task("two_moons").simulator)
    with pytest.raises(ValueError, match="num_simulations .*fresh"):
        NLE("fresh").check()
