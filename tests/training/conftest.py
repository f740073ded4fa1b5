"""A linear-Gaussian problem with a known posterior, and training pieces of a toy."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowinv import compiling
from flowinv.data.simulate import simulate
from flowinv.flows import CINN
from flowinv.losses.npe import Batch
from flowinv.models.estimator import Estimator
from flowinv.priors.latent import normal
from flowinv.training.config import TrainConfig
from flowinv.training.epoch import EpochParts
from flowinv.training.fit import train
from flowinv.training.source import fixed_source
from flowinv.training.state import Schedule, init_state
from flowinv.training.update import make_choose, make_update, make_validate

DESIGN = ((1.0, 0.5), (-0.5, 1.0), (0.3, 0.3))


@dataclasses.dataclass(frozen=True)
class Linear:
    """x = A theta + 0.5 noise with theta ~ N(0, I): every posterior has one covariance.

    A share of the simulations may fail with NaN or inf.
    """

    failing: float = 0.0
    noise = 0.5

    @property
    def x_shape(self):
        return (3,)

    def simulate(self, key, theta):
        key_noise, key_fail = jax.random.split(key)
        noise = jax.random.normal(key_noise, (3,))
        x = jnp.asarray(DESIGN) @ theta + self.noise * noise
        draw = jax.random.uniform(key_fail)
        x = jnp.where(draw < self.failing, x.at[1].set(jnp.nan), x)
        return jnp.where(draw < 0.5 * self.failing, x.at[0].set(jnp.inf), x)

    @property
    def covariance(self):
        design = np.array(DESIGN)
        return np.linalg.inv(np.eye(2) + design.T @ design / self.noise**2)

    def posterior_mean(self, x):
        return np.asarray(x) @ np.array(DESIGN) / self.noise**2 @ self.covariance

    @property
    def entropy(self):
        """Mean of -log p(theta | x): what no loss can undercut on average."""
        return 0.5 * np.log(np.linalg.det(2 * np.pi * np.e * self.covariance))


@pytest.fixture(scope="session")
def linear():
    return Linear()


@pytest.fixture(scope="session")
def failing():
    return Linear(failing=0.1)


@pytest.fixture(scope="session")
def prior():
    return normal([0.0, 0.0], [1.0, 1.0])


@pytest.fixture(scope="session")
def estimator(prior):
    # Not placed: what the training tests see was learned, not solved.
    flow = CINN(num_layers=2, hidden=(8,), head_hidden=(16,))
    return Estimator(prior, flow, input_scaling="none", placed=False)


@pytest.fixture(scope="session")
def data(linear, prior):
    return simulate(jax.random.key(0), prior, linear, 6_000)


@pytest.fixture(scope="session")
def settings():
    # 18 steps an epoch, six epochs a chunk: several chunks.
    return TrainConfig(
        batch_size=300, max_epochs=20, learning_rate=1e-2, warmup_steps=20
    )


@pytest.fixture(scope="session")
def fit(estimator, data, settings):
    """One training that several tests look at."""
    return train(jax.random.key(1), estimator, data, settings)


@pytest.fixture
def toy():
    """Pieces of a training of one vector p: loss |p - z|^2, rows z ~ N(2, 0.1)."""

    def make(
        *,
        rows=None,
        patience=0,
        max_epochs=100,
        ema=0.0,
        held=None,
        rate=0.05,
        loss=None,
    ):
        key = jax.random.key(0)
        if rows is None:
            rows = 2.0 + 0.1 * jax.random.normal(key, (64, 3))
        held = rows if held is None else held

        def quadratic(params, batch, key):
            del key
            return ((params["p"] - batch.z) ** 2).sum(-1)

        def batch(z, lead=()):
            return Batch(z, (), jnp.ones((*lead, z.shape[-2]), bool))

        loss = loss or quadratic
        optimizer = optax.adam(rate)
        parts = EpochParts(
            fixed_source(8, len(rows) // 8),
            make_update(loss, optimizer, ema),
            make_validate(loss, lambda params, batch: jnp.zeros(len(batch.z))),
            make_choose(loss),
            Schedule(max_epochs, patience),
        )
        blocks = batch(held[None], (1,))

        def start(seed=1):
            params = {"p": 0.1 * jax.random.normal(jax.random.key(seed + 10), (3,))}
            state = init_state(jax.random.key(seed), params, optimizer, ema > 0)
            # As if the start had been validated, and never were the best.
            return state._replace(epoch=jnp.zeros((), jnp.int32))

        return SimpleNamespace(
            parts=parts, data=batch(rows), blocks=blocks, start=start, batch=batch
        )

    return make


@pytest.fixture
def optimised(monkeypatch):
    """Training programs compiled as users have them, not quickly as tests do."""
    plain = compiling.compiler_options

    def options(once=False):
        level = {} if once else {"xla_backend_optimization_level": 3}
        return {**(plain(once) or {}), **level}

    if jax.default_backend() == "cpu":
        monkeypatch.setattr(compiling, "compiler_options", options)


def _same(a, b):
    """Bitwise equality of two pytrees, typed keys included."""
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, two = jax.random.key_data(one), jax.random.key_data(two)
        np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="session")
def assert_same():
    return _same
