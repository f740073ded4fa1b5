"""Where a user's other code has switched float64 on, everything works in float32.

Two flows, two kinds of prior and every method are slow rows; one of each is fast.
"""

import itertools

import jax
import numpy as np
import pytest

import flowinv as fi

KEY = jax.random.key(0)
TRAIN = fi.TrainConfig(
    batch_size=64, max_epochs=2, num_steps=20, steps_per_epoch=10, num_validation=100
)
SIZES = {"num_layers": 1, "hidden": (8,), "head_hidden": (8,)}
FLOWS = {
    "cinn": fi.flows.CINN(lu_mixing=True, **SIZES),
    "spline-ar": fi.flows.SplineAutoregressiveFlow(**SIZES),
}
SHORT = fi.TrainConfig(batch_size=32, max_epochs=1, steps_per_epoch=10, patience=0)
ROUNDS = {"num_rounds": 2, "num_simulations": 200, "train": SHORT}
METHODS = {
    "box": fi.Truncated(**ROUNDS),
    "hdr": fi.Truncated(region="hdr", **ROUNDS),
    "apt": fi.APT(**ROUNDS),
}


class Sim:
    x_shape = (2,)

    def simulate(self, key, theta):
        return theta + 0.1 * jax.random.normal(key, (2,))


def make_prior(kind):
    if kind == "box":
        return fi.priors.uniform([-1, -1], [1, 1])
    import numpyro.distributions as dist

    return fi.priors.independent(
        {"a": dist.Gamma(2.0, 1.0), "b": dist.Laplace(0.0, 1.0)}
    )


def marked(pairs):
    pairs = list(pairs)
    slow = [pytest.param(*pair, marks=pytest.mark.slow) for pair in pairs[1:]]
    return [pairs[0], *slow]


def assert_float32(tree):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    assert {str(leaf.dtype) for leaf in leaves} <= {"float32", "int32", "bool"}


@pytest.mark.parametrize(
    ("flow", "kind"), marked(itertools.product(FLOWS, ("box", "mixed")))
)
@pytest.mark.slow
def test_training_asking_and_files(flow, kind, tmp_path):
    prior = make_prior(kind)
    estimator = fi.Estimator(prior, FLOWS[flow])
    data = fi.simulate(KEY, prior, Sim(), 300)
    expected = fi.train(KEY, estimator, data, TRAIN).history["validation_loss"]
    with jax.enable_x64(True):
        wide = data._replace(x=np.asarray(data.x, float))
        for source in (wide, Sim()):
            fit = fi.train(KEY, estimator, source, TRAIN)
            assert_float32(fit.variables)
            if source is wide:
                found = fit.history["validation_loss"]
                np.testing.assert_allclose(found, expected, rtol=1e-3)
        posterior, x = fit.posterior, np.array([0.1, 0.2])
        draws = posterior.sample(KEY, x, 10)
        assert_float32((draws, posterior.log_prob(draws, x), posterior.map(KEY, x)))
        fi.save(tmp_path, posterior)
        again = fi.load(tmp_path)
        np.testing.assert_array_equal(again.sample(KEY, x, 10), draws)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "kind"),
    [("box", "box"), ("hdr", "mixed"), ("apt", "mixed"), ("apt", "box")],
)
def test_rounds(method, kind):
    estimator = fi.Estimator(make_prior(kind), FLOWS["cinn"], input_scaling="none")
    with jax.enable_x64(True):
        x_obs = np.array([0.1, 0.2])
        done = fi.run_rounds(KEY, estimator, Sim(), x_obs, METHODS[method])
        assert_float32((done.posterior.variables, done.states[0].theta))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["box", "mixed"])
@pytest.mark.parametrize(
    "method",
    [
        fi.FMPE("300", TRAIN),
        fi.NLE("300", TRAIN),
        fi.NRE("300", TRAIN),
        fi.RejectionABC("300"),
    ],
    ids=lambda method: type(method).__name__,
)
def test_rivals(method, kind, tmp_path):
    prior, x = make_prior(kind), np.array([0.1, 0.2])
    flow = fi.models.registry.build_flow(method.flows[0], method.network)
    estimator = fi.Estimator(prior, flow)
    data = fi.simulate(KEY, prior, Sim(), 300)
    with jax.enable_x64(True):
        posterior = method.fit(KEY, estimator, data).posterior
        draws = posterior.sample(KEY, x, 10)
        assert draws.dtype == np.float32
        assert np.isfinite(posterior.log_prob(draws, x)).all()
        if not isinstance(method, fi.RejectionABC):
            fi.save(tmp_path, posterior)
            again = fi.load(tmp_path).sample(KEY, x, 10)
            np.testing.assert_array_equal(again, draws)
