"""A linear-Gaussian problem small enough for rounds within seconds."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from flowinv.flows import CINN
from flowinv.methods import APT, Truncated
from flowinv.models.estimator import Estimator
from flowinv.priors.latent import normal
from flowinv.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Shift:
    """x = theta + 0.1 noise in two dimensions; a share of the runs may fail."""

    failing: float = 0.0
    noise = 0.1

    @property
    def x_shape(self):
        return (2,)

    def simulate(self, key, theta):
        key_noise, key_fail = jax.random.split(key)
        x = theta + self.noise * jax.random.normal(key_noise, (2,))
        return jnp.where(jax.random.uniform(key_fail) < self.failing, jnp.nan, x)


@pytest.fixture(scope="session")
def simulator():
    return Shift()


@pytest.fixture(scope="session")
def failing():
    return Shift(failing=0.1)


@pytest.fixture(scope="session")
def normal_prior():
    return normal([0.0, 0.0], [1.0, 1.0])


@pytest.fixture(scope="session")
def make_estimator():
    def make(prior):
        flow = CINN(num_layers=2, hidden=(16,), head_hidden=(16,))
        return Estimator(prior, flow, input_scaling="none")

    return make


@pytest.fixture(scope="session")
def estimator(make_estimator, normal_prior):
    return make_estimator(normal_prior)


# Few steps: what the small tests ask for is independent of the fit.
QUICK = TrainConfig(
    batch_size=64, max_epochs=2, steps_per_epoch=5, warmup_steps=2, patience=0
)


@pytest.fixture(scope="session")
def quick():
    """All methods, three rounds of 300 with ten steps: one program each."""

    def make(name, **fields):
        # One lane a call, on an accelerator too.
        few = {"num_rounds": 3, "num_simulations": 300, "last_training": 2}
        few["lanes_per_call"] = 1
        fields = {**few, "train": QUICK, **fields}
        if name == "hybrid":
            return APT(truncated_rounds=1, **fields)
        if name == "apt":
            return APT(**{"truncated_rounds": 0, "combined": False, **fields})
        return Truncated(region=name, **fields)

    return make


# The hybrid is a box and atoms, which have rows of their own, and "auto" is a box or a
# region of highest density: those two are slow ones.
METHODS = (
    *("auto", "box", "apt"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("hdr", "hybrid")),
)


# One method after the other: its programs are compiled once for all tests.
@pytest.fixture(params=METHODS, scope="module")
def method(request):
    return request.param
