"""Tasks of the standard benchmark (Lueckmann et al. 2021, arXiv:2101.04653).

two_moons and slcp with box priors, gaussian_linear with a normal prior and
gaussian_linear_uniform with a box, both in any dimension. Their fixed observations here
are flowinv's own; the benchmark's are read with `--references`.
"""

import math
from collections.abc import Mapping

import jax
import numpy as np
from jax import Array

from flowinv.priors.latent import Prior, normal, uniform
from flowinv.simulators.gaussian_linear import GaussianLinear
from flowinv.simulators.slcp import Slcp
from flowinv.simulators.two_moons import TwoMoons
from flowinv.tasks.options import integer, parse_options
from flowinv.tasks.task import Reference, Task

__all__ = [
    "GAUSSIAN_OPTIONS",
    "gaussian_linear",
    "gaussian_linear_uniform",
    "slcp",
    "two_moons",
]

NUM_OBSERVATIONS = 10
OBSERVATION_KEY = 2101  # the year and month of the paper
PRIOR_VARIANCE = 0.1  # of gaussian_linear

GAUSSIAN_OPTIONS = {"dim": integer}


def two_moons(texts: Mapping[str, str]) -> Task:
    """Build two_moons: U[-1, 1]^2, exact posterior draws."""
    parse_options("two_moons", texts, {})
    simulator = TwoMoons()

    def exact(x: np.ndarray, num_samples: int, key: Array) -> np.ndarray:
        return simulator.posterior(x, num_samples, _generator(key))

    prior = _box(simulator.names, 1.0)
    text = "Two thin crescents: a folded half ring, seen once."
    return _task("two_moons", simulator, prior, text, exact)


def slcp(texts: Mapping[str, str]) -> Task:
    """Build slcp: U[-3, 3]^5, four modes."""
    parse_options("slcp", texts, {})
    simulator = Slcp()
    prior = _box(simulator.names, 3.0)
    text = "Mean and covariance of a 2-D normal from four points: four modes."
    return _task("slcp", simulator, prior, text, None)


def gaussian_linear(texts: Mapping[str, str]) -> Task:
    """Build gaussian_linear: N(0, 0.1 I), posterior in closed form."""
    simulator = _gaussian("gaussian_linear", texts)

    def exact(x: np.ndarray, num_samples: int, key: Array) -> np.ndarray:
        precision = 1 / PRIOR_VARIANCE + 1 / simulator.variance
        mean = np.asarray(x) / simulator.variance / precision
        noise = _generator(key).normal(size=(num_samples, simulator.dim))
        return mean + noise / math.sqrt(precision)

    scale = [math.sqrt(PRIOR_VARIANCE)] * simulator.dim
    prior = normal([0.0] * simulator.dim, scale, simulator.names)
    text = f"Location of a normal in {simulator.dim} dimensions, normal prior."
    return _task("gaussian_linear", simulator, prior, text, exact)


def gaussian_linear_uniform(texts: Mapping[str, str]) -> Task:
    """Build gaussian_linear_uniform: U[-1, 1]^D, a normal cut by the box."""
    simulator = _gaussian("gaussian_linear_uniform", texts)

    def exact(x: np.ndarray, num_samples: int, key: Array) -> np.ndarray:
        from scipy.stats import truncnorm

        sd = math.sqrt(simulator.variance)
        low, high = (-1.0 - np.asarray(x)) / sd, (1.0 - np.asarray(x)) / sd
        size = (num_samples, simulator.dim)
        return truncnorm.rvs(low, high, x, sd, size, random_state=_generator(key))

    prior = _box(simulator.names, 1.0)
    text = f"Location of a normal in {simulator.dim} dimensions, box prior."
    return _task("gaussian_linear_uniform", simulator, prior, text, exact)


def _gaussian(name: str, texts: Mapping[str, str]) -> GaussianLinear:
    return GaussianLinear(**parse_options(name, texts, GAUSSIAN_OPTIONS))


def _box(names: tuple[str, ...], half: float) -> Prior:
    return uniform([-half] * len(names), [half] * len(names), names)


def _generator(key: Array) -> np.random.Generator:
    """A numpy generator seeded with a typed key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _task(
    name: str,
    simulator: GaussianLinear | Slcp | TwoMoons,
    prior: Prior,
    description: str,
    exact: Reference | None,
) -> Task:
    return Task(
        prior,
        simulator,
        name=name,
        description=description,
        num_observations=NUM_OBSERVATIONS,
        observation_key=OBSERVATION_KEY,
        input_scaling="none",
        exact=exact,
    )
