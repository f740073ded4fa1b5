"""Approximate Bayesian computation: no network, only simulations that look like x.

Rejection keeps the nearest of one table of prior draws, for any x. The sequential form
(`SMCABC`) looks closer and closer around one x: each generation draws around the
particles that were nearest so far, weighs what it draws by prior over proposal, and
keeps the nearest of old and new.

References:
    Pritchard et al. 1999, doi:10.1093/oxfordjournals.molbev.a026091 (rejection).
    Beaumont et al. 2002, doi:10.1093/genetics/162.4.2025 (adjustment).
    Beaumont et al. 2009, Adaptive approximate Bayesian computation, arXiv:0805.2256;
    Lenormand et al. 2013, Adaptive ABC for complex models, arXiv:1111.1308 (the
    generations of fixed size).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, fail, whole
from flowinv.data.entrance import is_host
from flowinv.data.standardise import standardise
from flowinv.identity import by_content
from flowinv.models.estimator import Estimator
from flowinv.models.kernel_density import (
    Kernels,
    kernel_density,
    kernel_log_prob,
    kernel_sample,
)
from flowinv.models.likelihood import Reader, Readings, reading_of
from flowinv.models.neighbours import Nearest, NeighbourPosterior, Table
from flowinv.models.registry import NetworkConfig
from flowinv.priors.latent import Prior
from flowinv.types import Dataset, Simulator

__all__ = ["ABCRounds", "Neighbours", "RejectionABC", "SMCABC"]

LEAST_KEPT = 20


class Neighbours(NamedTuple):
    """What rejection gives.

    Attributes:
        posterior: that answers any x.
    """

    posterior: NeighbourPosterior


@dataclass(frozen=True)
class RejectionABC:
    """Rejection by distance: the nearest simulations of one table.

    x, or the estimator's summary of it, is standardised; distances are Euclidean.

    Attributes:
        num_simulations: size of the table, kept as a text.
        share: of the table that is taken.
        num_kept: simulations that are taken at least.
        adjusted: move them to x by a local linear regression.
    """

    num_simulations: str = "10000"
    share: float = 0.01
    num_kept: int = 100
    adjusted: bool = True

    amortised: ClassVar[bool] = True
    network: ClassVar[NetworkConfig] = NetworkConfig()
    flows: ClassVar[tuple[str, ...]] = ("spline",)

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        if not self.num_simulations.isdecimal():
            fail("num_simulations", "to be a whole number", repr(self.num_simulations))
        check_at_least("num_kept", self.num_kept, LEAST_KEPT)
        check_at_least("num_simulations", int(self.num_simulations), self.num_kept)
        if not 0 < self.share <= 1:
            fail("share", "above 0 and at most 1", self.share)

    def fit(
        self, key: Array, estimator: Estimator, data: Dataset, **options: Any
    ) -> Neighbours:
        """Read the table; nothing is trained, and no option changes anything."""
        del key, options
        valid = np.asarray(data.valid)
        scaling, summary = estimator.input_scaling, estimator.summary
        reader, readings = reading_of(data.x, valid, summary, scaling)
        flat = reader.flat(jnp.asarray(np.asarray(data.x)[valid]))
        y = standardise(readings.statistics, flat, reader.scaling)
        z = estimator.prior.to_latent(jnp.asarray(np.asarray(data.theta)[valid]))
        kept = min(max(self.num_kept, round(self.share * len(z))), len(z))
        how = Nearest(estimator.prior, reader, kept, self.adjusted)
        return Neighbours(NeighbourPosterior(Table(z, y, readings), how))


class _Particles(NamedTuple):
    """The nearest so far.

    Attributes:
        z: latents, `[K, D]`.
        distance: of their x, `[K]`.
        weight: prior over proposal, `[K]`.
    """

    z: Array
    distance: Array
    weight: Array


class ABCPosterior:
    """p(theta | x_obs) of weighted particles, for the one x they were led to."""

    def __init__(self, prior: Prior, kernels: Kernels, distance: Array) -> None:
        """Bind the last generation.

        Args:
            prior: prior of theta.
            kernels: its particles, smoothed.
            distance: of the farthest one.
        """
        self.prior, self.kernels, self.distance = prior, kernels, distance

    def sample(self, key: Array, x: ArrayLike, num_samples: int) -> Array:
        """Draw theta `[num_samples, D]`; x is not looked at again."""
        del x
        z = kernel_sample(key, self.kernels, whole("num_samples", num_samples))
        return self.prior.from_latent(z).astype(jnp.float32)


class ABCRounds(NamedTuple):
    """What sequential ABC gives.

    Attributes:
        posteriors: one for each observation.
        distances: of the farthest particle kept, in each round, `[L, R]`.
    """

    posteriors: list[ABCPosterior]
    distances: np.ndarray


@dataclass(frozen=True)
class SMCABC:
    """Sequential Monte Carlo ABC with generations of fixed size.

    Attributes:
        num_rounds: generations R.
        num_simulations: simulations of each.
        share: of a generation's size that is kept.
        widening: variance of a kernel, in times of the particles' own.
    """

    num_rounds: int = 10
    num_simulations: int = 1_000
    share: float = 0.2
    widening: float = 2.0

    amortised: ClassVar[bool] = False
    network: ClassVar[NetworkConfig] = NetworkConfig()
    flows: ClassVar[tuple[str, ...]] = ("spline",)

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("num_rounds", self.num_rounds, 1)
        least = LEAST_KEPT / self.share if self.share > 0 else LEAST_KEPT
        check_at_least("num_simulations", self.num_simulations, least)
        if not 0 < self.share < 1:
            fail("share", "between 0 and 1", self.share)
        check_at_least("widening", self.widening, 1)

    def run(
        self,
        keys: Array,
        estimator: Estimator,
        simulator: Simulator,
        x_obs: ArrayLike,
        **options: Any,
    ) -> ABCRounds:
        """Lead particles to each observation.

        Args:
            keys: one typed key for each observation, `[L]`.
            estimator: its prior, summary and input scaling are used.
            simulator: jit- and vmap-able.
            x_obs: observations, `[L, *x_shape]`.
            **options: of other methods; none changes anything.

        Raises:
            ValueError: a simulator that runs on the host, or a setting out of range.
        """
        del options
        self.check()
        if is_host(simulator):
            fail("simulator", "with simulate(key, theta)", "simulate_batch alone")
        run = _program(self, estimator.prior, simulator)
        ended, distances = [], []
        for key, x in zip(keys, jnp.asarray(x_obs, jnp.float32), strict=True):
            theta, seen, valid = run.first(jax.random.fold_in(key, 0))
            scaling, summary = estimator.input_scaling, estimator.summary
            reader, readings = reading_of(seen, valid, summary, scaling)
            goal = run.numbers(reader, readings, x)
            ys = run.numbers(reader, readings, seen)
            rounds = run.rest(reader)
            particles, own = rounds(key, theta, ys, valid, readings, goal)
            ended.append(
                ABCPosterior(
                    estimator.prior,
                    kernel_density(particles.z, particles.weight),
                    particles.distance[-1],
                )
            )
            distances.append(np.asarray(own))
        return ABCRounds(ended, np.stack(distances))


class _Programs(NamedTuple):
    first: Callable[..., Any]
    numbers: Callable[..., Any]
    rest: Callable[..., Any]


@by_content(maxsize=8)
def _program(method: SMCABC, prior: Prior, simulator: Simulator) -> _Programs:
    """Compiled parts of a run, the same for all observations."""
    count = method.num_simulations
    kept = round(method.share * count)

    def simulated(key: Array, z: Array) -> Array:
        keys = jax.random.split(key, count)
        theta = prior.from_latent(z)
        return jax.vmap(simulator.simulate)(keys, theta).astype(jnp.float32)

    def finite(x: Array) -> Array:
        return jnp.isfinite(x.reshape(count, -1)).all(-1)

    @jax.jit
    def first(key: Array) -> tuple[Array, Array, Array]:
        z = prior.sample_latent(key, count)
        x = simulated(jax.random.fold_in(key, 1), z)
        valid = finite(x)
        return z, jnp.where(jnp.isfinite(x), x, 0.0), valid

    @functools.partial(jax.jit, static_argnums=0)
    def numbers(reader: Reader, readings: Readings, x: Array) -> Array:
        return standardise(readings.statistics, reader.flat(x), reader.scaling)

    def rest(reader: Reader) -> Callable[..., Any]:
        @jax.jit
        def run(
            key: Array, z: Array, y: Array, valid: Array, readings: Any, goal: Array
        ) -> tuple[_Particles, Array]:
            start = _Particles(z, _distance(y, goal, valid), jnp.ones(count))
            particles = _nearest(kept, start)

            def one(particles: _Particles, index: Array) -> tuple[_Particles, Array]:
                own = jax.random.fold_in(key, index)
                z, weight = _moved(own, particles, method, prior)
                x = simulated(jax.random.fold_in(own, 1), z)
                good = finite(x)
                y = numbers(reader, readings, jnp.where(jnp.isfinite(x), x, 0.0))
                new = _Particles(z, _distance(y, goal, good), weight)
                particles = _nearest(kept, particles, new)
                return particles, particles.distance[-1]

            rounds = jnp.arange(1, method.num_rounds)
            ended, farthest = jax.lax.scan(one, particles, rounds)
            return ended, jnp.concatenate([particles.distance[-1:], farthest])

        return run

    return _Programs(first, numbers, functools.lru_cache(maxsize=4)(rest))


def _nearest(kept: int, *parts: _Particles) -> _Particles:
    """The `kept` nearest of all."""
    every = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    _, near = jax.lax.top_k(-every.distance, kept)
    return jax.tree.map(lambda leaf: leaf[near], every)


def _distance(y: Array, goal: Array, valid: Array) -> Array:
    """Euclidean distance, infinite for failed simulations."""
    return jnp.where(valid, jnp.linalg.norm(y - goal, axis=-1), jnp.inf)


def _moved(
    key: Array, particles: _Particles, method: SMCABC, prior: Prior
) -> tuple[Array, Array]:
    """New latents around the particles, and their weights: prior over proposal."""
    weights, count = particles.weight / particles.weight.sum(), method.num_simulations
    off = particles.z - weights @ particles.z
    covariance = method.widening * (weights[:, None] * off).T @ off
    dim = off.shape[-1]
    ridge = 1e-8 + 1e-6 * jnp.trace(covariance) / dim
    factor = jnp.linalg.cholesky(covariance + ridge * jnp.eye(dim))
    own = Kernels(particles.z, jnp.log(weights), factor, jnp.ones(()))
    z = kernel_sample(key, own, count)
    log_prior = jax.vmap(prior.latent_log_prob)(z)
    return z, jnp.exp(log_prior - kernel_log_prob(own, z))
