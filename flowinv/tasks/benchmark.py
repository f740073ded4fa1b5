"""Tasks of the standard benchmark (Lueckmann et al. 2021, arXiv:2101.04653).

All ten; the gaussian_linears in any dimension. Their fixed observations here are
flowinv's own; the benchmark's are read with `--references`.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax import Array

from flowinv.priors.joint import independent
from flowinv.priors.latent import Prior, normal, uniform
from flowinv.priors.whitened import MultivariateNormal
from flowinv.simulators.bernoulli_glm import BernoulliGlm, glm_precision
from flowinv.simulators.distractors import SlcpDistractors
from flowinv.simulators.gaussian_linear import GaussianLinear
from flowinv.simulators.gaussian_mixture import GaussianMixture
from flowinv.simulators.lotka_volterra import LotkaVolterra
from flowinv.simulators.sir import Sir
from flowinv.simulators.slcp import Slcp
from flowinv.simulators.two_moons import TwoMoons
from flowinv.tasks.exact import by_nuts, by_particles
from flowinv.tasks.options import integer, parse_options
from flowinv.tasks.task import Reference, Task
from flowinv.types import Simulator

__all__ = [
    "GAUSSIAN_OPTIONS",
    "bernoulli_glm",
    "bernoulli_glm_raw",
    "gaussian_linear",
    "gaussian_linear_uniform",
    "gaussian_mixture",
    "slcp",
    "slcp_distractors",
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
    exact = functools.partial(by_particles, simulator, prior)
    return _task("slcp", simulator, prior, text, exact)


def slcp_distractors(texts: Mapping[str, str]) -> Task:
    """Build slcp_distractors: slcp among 92 numbers of heavy tails."""
    parse_options("slcp_distractors", texts, {})
    simulator = SlcpDistractors()
    prior = _box(simulator.names, 3.0)
    text = "The four points of slcp among 92 numbers that say nothing."
    exact = functools.partial(by_particles, simulator, prior)
    # Two degrees of freedom: x has no variance.
    return _task("slcp_distractors", simulator, prior, text, exact, "asinh")


def gaussian_mixture(texts: Mapping[str, str]) -> Task:
    """Build gaussian_mixture: U[-10, 10]^2, exact posterior draws."""
    parse_options("gaussian_mixture", texts, {})
    simulator, half = GaussianMixture(), 10.0

    def exact(x: np.ndarray, num_samples: int, key: Array) -> np.ndarray:
        return simulator.posterior(x, half, num_samples, _generator(key))

    prior = _box(simulator.names, half)
    text = "Location of a normal whose sd is 1 or 0.1."
    return _task("gaussian_mixture", simulator, prior, text, exact)


def bernoulli_glm(texts: Mapping[str, str]) -> Task:
    """Build bernoulli_glm: spike count and spike-triggered sums."""
    return _glm("bernoulli_glm", texts, raw=False)


def bernoulli_glm_raw(texts: Mapping[str, str]) -> Task:
    """Build bernoulli_glm_raw: all spikes."""
    return _glm("bernoulli_glm_raw", texts, raw=True)


def _glm(name: str, texts: Mapping[str, str], raw: bool) -> Task:
    parse_options(name, texts, {})
    simulator = BernoulliGlm(raw)
    factor = np.linalg.cholesky(np.linalg.inv(glm_precision()))
    block = MultivariateNormal(np.zeros(len(factor)), factor)
    columns, units = range(len(factor)), [""] * len(factor)
    prior = Prior([(block, columns)], simulator.names, units)

    exact = functools.partial(by_nuts, simulator, prior)
    text = "Offset and filter of a neuron from 100 time bins of spikes."
    return _task(name, simulator, prior, text, exact)


def sir(texts: Mapping[str, str]) -> Task:
    """Build sir: rates of an epidemic, log-normal prior."""
    parse_options("sir", texts, {})
    simulator = Sir()
    logs = ((math.log(0.4), 0.5), (math.log(0.125), 0.2))
    prior = _log_normal(simulator.names, logs, ["1/day", "1/day"])
    exact = functools.partial(by_particles, simulator, prior)
    text = "Rates of contact and recovery from ten days of an epidemic."
    return _task("sir", simulator, prior, text, exact, "root")


def lotka_volterra(texts: Mapping[str, str]) -> Task:
    """Build lotka_volterra: rates of prey and predators, log-normal prior."""
    parse_options("lotka_volterra", texts, {})
    simulator = LotkaVolterra()
    logs = ((-0.125, 0.5), (-3.0, 0.5), (-0.125, 0.5), (-3.0, 0.5))
    prior = _log_normal(simulator.names, logs)
    exact = functools.partial(by_particles, simulator, prior)
    text = "Rates of prey and predators from ten counts of each."
    return _task("lotka_volterra", simulator, prior, text, exact, "log")


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


def _log_normal(
    names: tuple[str, ...],
    logs: tuple[tuple[float, float], ...],
    units: Sequence[str] | None = None,
) -> Prior:
    """Independent log-normals by mean and sd of the logs."""
    # Imported here: numpyro loads only for the tasks that need it.
    from numpyro.distributions import LogNormal

    each = {n: LogNormal(*own) for n, own in zip(names, logs, strict=True)}
    return independent(each, units=units)


def _generator(key: Array) -> np.random.Generator:
    """A numpy generator seeded with a typed key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _task(
    name: str,
    simulator: Simulator,
    prior: Prior,
    description: str,
    exact: Reference | None,
    input_scaling: str = "none",
) -> Task:
    return Task(
        prior,
        simulator,
        name=name,
        description=description,
        num_observations=NUM_OBSERVATIONS,
        observation_key=OBSERVATION_KEY,
        input_scaling=input_scaling,
        exact=exact,
    )
