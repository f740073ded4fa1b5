"""A learned likelihood p(x | theta): the flow's roles exchanged.

The same estimator that learns q(theta | x) learns p(x | theta) when x and theta change
places: y, the standardised numbers of x, is what the flow lives in, and coordinates of
theta (the latent, or the rank of a uniform parameter) are what it is told. Where it
begins is solved, too: a regression of y on them and their products, with its error
bars.

Reference: Papamakarios et al. 2019, Sequential neural likelihood, arXiv:1805.07226.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_last_axis, check_shape, fail, one_key, whole
from flowinv.data.standardise import (
    Statistics,
    fit_statistics,
    resolve_scaling,
    standardise,
)
from flowinv.flows.density import Flow
from flowinv.models.coordinates import coordinates
from flowinv.models.estimator import Estimator, Variables
from flowinv.models.latent_density import latent_log_prob, latent_sample
from flowinv.priors.latent import Prior, normal
from flowinv.types import Dataset

if TYPE_CHECKING:
    import numpyro

__all__ = [
    "Likelihood",
    "Reader",
    "Readings",
    "exchanged",
    "likelihood_skeleton",
    "reading_of",
]

# A column whose values are whole numbers of a step, and that spans so many steps at
# most (16 bits), counts as discrete.
MOST_LEVELS = 2**16
Summary = Callable[[Array], Array]


class Readings(NamedTuple):
    """How x becomes y: numbers of training rows.

    Attributes:
        statistics: of x, or of its summary, flattened, `[K]` each.
        step: distance of the levels of a discrete column, 0 for continuous ones, `[K]`.
    """

    statistics: Statistics
    step: Array


@dataclass(frozen=True)
class Reader:
    """Static part of the way from x to y.

    Attributes:
        x_shape: shape of one observation.
        summary: raw x to summaries `[..., K]`, or None for x itself.
        scaling: map before standardisation.
    """

    x_shape: tuple[int, ...]
    summary: Summary | None
    scaling: str

    def flat(self, x: Array) -> Array:
        """Numbers of x `[..., *x_shape]` as they come, `[..., K]`."""
        x = jnp.asarray(x, jnp.float32)
        if self.summary is not None:
            return self.summary(x)
        return x.reshape(*x.shape[: x.ndim - len(self.x_shape)], -1)


def reading_of(
    x: ArrayLike, valid: ArrayLike, summary: Summary | None, scaling: str
) -> tuple[Reader, Readings]:
    """Return how x `[N, *x_shape]` is read: its numbers, their scale, and their steps.

    Args:
        x: simulations.
        valid: rows that count, `[N]`.
        summary: what is learned in place of x, or None.
        scaling: map of x, "auto" decides.
    """
    x, valid = np.asarray(x), np.asarray(valid, bool)
    if summary is not None:
        scaling = "none"
    rough = Reader(x.shape[1:], summary, scaling)
    flat = np.asarray(rough.flat(x))
    scaling = resolve_scaling(flat, valid, scaling)
    statistics = fit_statistics(flat, valid, scaling)
    reader = Reader(x.shape[1:], summary, scaling)
    steps = np.array([_step(column) for column in flat[valid].T], np.float32)
    return reader, Readings(statistics, jnp.asarray(steps))


def _step(column: np.ndarray) -> float:
    """Distance between the levels of a discrete column; 0 for a continuous one."""
    levels = np.unique(column[: 4 * 1_024].astype(np.float64))
    if len(levels) < 2:
        return 0.0
    gap = np.diff(levels).min()
    places = (levels - levels[0]) / gap
    even = np.allclose(places, np.round(places), rtol=0.0, atol=1e-2)
    return float(gap) if even and places[-1] < MOST_LEVELS else 0.0


def exchanged(
    key: Array, estimator: Estimator, data: Dataset
) -> tuple[Estimator, Dataset, Reader, Readings]:
    """Return the estimator and the rows of p(x | theta), and how x is read.

    Discrete numbers are spread evenly over the step above them: a density of their
    levels is what is left at its middle. Not below: where a map of x ends, at no counts
    or at the smallest, half of them would fall on one number, and all flows would learn
    that this is endlessly likely.

    Args:
        key: typed key of the spread.
        estimator: of q(theta | x): its prior, flow, summary and input scaling.
        data: simulations; of any proposal, since p(x | theta) has none.
    """
    scaling = estimator.input_scaling
    reader, readings = reading_of(data.x, data.valid, estimator.summary, scaling)
    flat = reader.flat(data.x)
    spread = jax.random.uniform(key, flat.shape, jnp.float32)
    y = standardise(readings.statistics, flat + spread * readings.step, reader.scaling)
    own = _of_numbers(flat.shape[-1], estimator.flow, estimator.placed)
    z = estimator.prior.to_latent(data.theta).astype(jnp.float32)
    told, rounds = coordinates(estimator.prior, z), jnp.minimum(data.round, 0)
    return own, Dataset(y, told, jnp.asarray(data.valid), rounds), reader, readings


def _of_numbers(size: int, flow: Flow, placed: bool) -> Estimator:
    """Estimator of `size` standardised numbers of x; their prior is N(0, I)."""
    names = [f"y_{index}" for index in range(size)]
    prior = normal(np.zeros(size), np.ones(size), names)
    return Estimator(prior, flow, None, None, "none", placed)


def likelihood_skeleton(
    prior: Prior, flow: Flow, placed: bool, size: int, num_members: int
) -> tuple[Estimator, tuple[Variables, Readings]]:
    """Return the estimator of `size` numbers of x, and the shapes of its numbers."""
    own = _of_numbers(size, flow, placed)

    def numbers() -> tuple[Variables, Readings]:
        zeros = jnp.zeros(size, jnp.float32)
        readings = Readings(Statistics(zeros, zeros, zeros, zeros), zeros)
        return own.skeleton((prior.dim,), num_members), readings

    return own, jax.eval_shape(numbers)


@jax.tree_util.register_pytree_node_class
class Likelihood:
    """p(x | theta) of one trained network, or of an ensemble as an equal mixture.

    Attributes:
        prior: prior of theta.
        estimator: with x and theta exchanged.
        variables: trained numbers.
        reader: how x is read.
        readings: and with which numbers.
    """

    def __init__(
        self,
        prior: Prior,
        estimator: Estimator,
        variables: Variables,
        reader: Reader,
        readings: Readings,
    ) -> None:
        """Bind trained numbers."""
        self.prior, self.estimator, self.variables = prior, estimator, variables
        self.reader, self.readings = reader, readings

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Numbers are leaves, the rest is structure."""
        structure = self.prior, self.estimator, self.reader
        return (self.variables, self.readings), structure

    @classmethod
    def tree_unflatten(cls, structure: tuple, children: tuple) -> "Likelihood":
        """Put a likelihood together again."""
        prior, estimator, reader = structure
        variables, readings = children
        return cls(prior, estimator, variables, reader, readings)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.reader.x_shape

    @property
    def summary(self) -> Any:
        """Summary of x that is read, or None."""
        return self.reader.summary

    @property
    def input_scaling(self) -> str:
        """Map of x before standardisation."""
        return self.reader.scaling

    def member(self, index: int) -> "Likelihood":
        """Of one network of an ensemble."""
        rest = self.variables.member(index), self.reader, self.readings
        return Likelihood(self.prior, self.estimator, *rest)

    @property
    def flow(self) -> Flow:
        """The flow over y."""
        return self.estimator.flow

    def told(self, x: Array) -> Array:
        """Standardised numbers y of x `[..., *x_shape]`, `[..., K]`."""
        middle = self.reader.flat(x) + 0.5 * self.readings.step
        return standardise(self.readings.statistics, middle, self.reader.scaling)

    def of_latents(self, z: Array, x: Array) -> Array:
        """Log density of y of one x `[*x_shape]` at latents z `[P, D]`, `[P]`."""
        y = jnp.broadcast_to(self.told(x), (len(z), 1, self.estimator.prior.dim))
        told = coordinates(self.prior, z)
        return latent_log_prob(self.estimator, self.variables, y, told)[:, 0]

    def log_prob(self, x: ArrayLike, theta: ArrayLike) -> Array:
        """Return log p(x | theta) in nats, `[...]`; jit-, vmap- and differentiable.

        With a summary it is the density of the summary; of discrete numbers that of
        their levels over their steps.

        Args:
            x: `[*batch, *x_shape]`.
            theta: `[*batch, D]`; axes of size 1 broadcast.

        Raises:
            ValueError: for shapes that do not fit.
        """
        x, theta = jnp.asarray(x, jnp.float32), jnp.asarray(theta)
        event = len(self.x_shape)
        check_shape("x", x.shape[x.ndim - event :], self.x_shape)
        check_last_axis("theta", theta.shape, self.prior.dim)
        flat = self.reader.flat(x) + 0.5 * self.readings.step
        y, slopes = jax.jvp(
            lambda x: standardise(self.readings.statistics, x, self.reader.scaling),
            (flat,),
            (jnp.ones_like(flat),),
        )
        z = self.prior.to_latent(theta)
        batch = jnp.broadcast_shapes(y.shape[:-1], z.shape[:-1])
        y = jnp.broadcast_to(y, (*batch, y.shape[-1])).reshape(-1, 1, y.shape[-1])
        z = jnp.broadcast_to(z, (*batch, z.shape[-1])).reshape(-1, z.shape[-1])
        told = coordinates(self.prior, z)
        found = latent_log_prob(self.estimator, self.variables, y, told)
        return found.reshape(batch) + jnp.log(jnp.abs(slopes)).sum(-1)

    def sample(self, key: Array, theta: ArrayLike, num_samples: int) -> Array:
        """Draw numbers of x as the network simulates them, `[*batch, n, K]`.

        In the standardised units of `told`; an emulator to compare with the simulator.

        Args:
            key: typed key.
            theta: `[*batch, D]`.
            num_samples: draws n of each.
        """
        key, num_samples = one_key(key), whole("num_samples", num_samples)
        theta = jnp.asarray(theta)
        check_last_axis("theta", theta.shape, self.prior.dim)
        z = self.prior.to_latent(theta)
        flat = coordinates(self.prior, z).reshape(-1, z.shape[-1])
        rest = jax.random.split(key, len(flat)), flat, num_samples
        y = latent_sample(self.estimator, self.variables, *rest)
        return y.reshape(*z.shape[:-1], num_samples, -1)

    def distribution(self, theta: ArrayLike) -> "numpyro.distributions.Distribution":
        """Return p(. | theta) for a numpyro model: `sample("x", ..., obs=x)`.

        Args:
            theta: `[D]`, as sites of the model make it up.

        Raises:
            ValueError: for another shape.
        """
        from flowinv.models.numpyro_bridge import learned_distribution

        theta = jnp.asarray(theta)
        if theta.shape != (self.prior.dim,):
            fail("theta", f"with shape ({self.prior.dim},)", theta.shape)
        return learned_distribution(self, theta)
