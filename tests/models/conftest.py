"""Posteriors without training: solved starts, and networks of random numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowinv.data.simulate import simulate
from flowinv.flows import CINN, SplineCouplingFlow
from flowinv.models.estimator import Estimator
from flowinv.models.posterior import Posterior
from flowinv.networks.mlp import MLP
from flowinv.priors.latent import normal, uniform
from flowinv.training.prepare import initial

DESIGN = ((1.0, 0.5), (-0.5, 1.0), (0.3, 0.3))


@dataclasses.dataclass(frozen=True)
class Linear:
    """x = A theta + 0.5 noise, for one or two parameters."""

    dim: int = 2
    noise = 0.5

    @property
    def x_shape(self):
        return (3,)

    def simulate(self, key, theta):
        noise = self.noise * jax.random.normal(key, (3,))
        return jnp.asarray(DESIGN)[:, : self.dim] @ theta + noise

    @property
    def covariance(self):
        """Posterior covariance under N(0, I)."""
        design = np.array(DESIGN)
        return np.linalg.inv(np.eye(2) + design.T @ design / self.noise**2)

    def posterior_mean(self, x):
        return np.asarray(x) @ np.array(DESIGN) / self.noise**2 @ self.covariance


def disturbed(variables, seed, scale):
    """Trained numbers far from anything sensible."""
    params = _disturbed(variables.params, jax.random.key(seed), scale)
    return dataclasses.replace(variables, params=params)


@jax.jit
def _disturbed(params, key, scale):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    leaves = [
        leaf + scale * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


def _make(prior, flow, *, count=4_000, embedding=None, placed=True, scale=0.0, seed=0):
    simulator = Linear(prior.dim)
    data = simulate(jax.random.key(seed), prior, simulator, count)
    estimator = Estimator(prior, flow, embedding, None, "none", placed)
    variables = initial(jax.random.key(seed + 1), estimator, data, count // 10)
    return Posterior(estimator, disturbed(variables, seed, scale))


@pytest.fixture(scope="session")
def linear():
    return Linear()


@pytest.fixture(scope="session")
def solved():
    """The solved start of a linear-Gaussian problem: nearly its exact posterior."""
    prior = normal([0.0, 0.0], [1.0, 1.0], ["a", "b"], ["mm", ""])
    return _make(prior, CINN(num_layers=2, hidden=(8,), head_hidden=(8,)))


@pytest.fixture(scope="session")
def boxed():
    """A poor network over a box of two parameters, with an embedding."""
    prior = uniform([-2.0, -3.0], [2.0, 4.0], ["a", "b"])
    flow = CINN(num_layers=2, hidden=(8,), head_hidden=(8,))
    return _make(prior, flow, count=500, embedding=MLP((4,)), scale=0.1)


@pytest.fixture(scope="session")
def line():
    """A bad network over one bounded parameter."""
    flow = SplineCouplingFlow(num_layers=2, hidden=(8,), head_hidden=(8,), num_bins=4)
    return _make(uniform([0.0], [10.0]), flow, count=500, placed=False, scale=0.2)


@pytest.fixture(scope="session")
def ensemble(boxed):
    """Three poor networks as one mixture, and the three alone."""
    members = [
        Posterior(boxed.estimator, disturbed(boxed.variables, seed, 0.3))
        for seed in range(3)
    ]
    trees = [member.variables.params for member in members]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    mixture = dataclasses.replace(boxed.variables, params=params, num_members=3)
    return Posterior(boxed.estimator, mixture), members


@pytest.fixture(scope="session")
def scans():
    """Six observations `[2, 3, 3]`."""
    return 0.6 * np.asarray(jax.random.normal(jax.random.key(8), (2, 3, 3)))
