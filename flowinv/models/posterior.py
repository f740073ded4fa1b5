"""The amortised posterior q(theta | x): a pytree, asked for any batch of x at once."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import fail, one_key, whole
from flowinv.compiling import indexed
from flowinv.models.estimator import Estimator, Variables
from flowinv.models.latent_density import latent_log_prob, latent_sample
from flowinv.models.maximum import NUM_DRAWS, maximise
from flowinv.models.rows import rows_of_theta, rows_of_x
from flowinv.priors.latent import Prior

__all__ = ["Posterior"]

# Draws handled in one compiled call. On a CPU what 2^13 draws pass through 256 hidden
# units fits its caches: a third faster than 2^17, which suits accelerators and takes
# 128 MiB per activation there.
DRAWS_PER_CALL, DRAWS_PER_CPU_CALL = 2**17, 2**13
# Draws that cost less than a compilation does.
CHEAP_DRAWS = 2**15


@jax.tree_util.register_pytree_node_class
class Posterior:
    """q(theta | x) of one trained network, or of an ensemble as an equal mixture.

    Every method takes any batch of x, `[*batch, *x_shape]`, in calls of bounded memory:
    at most `chunk` observations at a time. Row i uses fold_in(key, i), so neither the
    chunk nor the other rows change a row's draws. No draw is ever outside the prior.
    """

    def __init__(self, estimator: Estimator, variables: Variables) -> None:
        """Bind trained variables; ensembles have a leading axis on every parameter.

        Raises:
            ValueError: something else than an estimator.
        """
        if not isinstance(estimator, Estimator):
            got = type(estimator).__name__
            fail("estimator", "to be a flowinv.Estimator", got)
        self.estimator = estimator
        self.variables = variables

    def tree_flatten(self) -> tuple[tuple[Variables], Estimator]:
        """Numbers are leaves, the estimator is structure."""
        return (self.variables,), self.estimator

    @classmethod
    def tree_unflatten(cls, estimator: Estimator, children: tuple) -> "Posterior":
        """Put a posterior together again."""
        return cls(estimator, *children)

    @property
    def prior(self) -> Prior:
        """Prior of theta."""
        return self.estimator.prior

    @property
    def summary(self) -> Any:
        """Summary of x that the network reads, or None."""
        return self.estimator.summary

    @property
    def input_scaling(self) -> str:
        """Map of x before standardisation."""
        return self.estimator.input_scaling

    def members(self) -> "list[Posterior]":
        """Posteriors of an ensemble's networks, one by one; of one network itself."""
        count = self.variables.num_members
        if count == 1:
            return [self]
        each = (self.variables.member(index) for index in range(count))
        return [Posterior(self.estimator, own) for own in each]

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.variables.frozen.statistics.shift.shape

    def sample(
        self, key: Array, x: ArrayLike, num_samples: int, chunk: int | None = None
    ) -> Array:
        """Draw theta ~ q(. | x), shape `[*batch, num_samples, D]`, float32.

        Args:
            key: typed key.
            x: raw observations, `[*batch, *x_shape]`.
            num_samples: draws per observation, n.
            chunk: observations per compiled call; by default as many as make 131,072
                draws (8,192 on a CPU).

        Raises:
            ValueError: for an x of another shape or not finite, or fewer than one draw.
        """
        return self._draws(key, x, num_samples, chunk, lambda draws: draws)

    def log_prob(
        self, theta: ArrayLike, x: ArrayLike, chunk: int | None = None
    ) -> Array:
        """Return log q(theta | x), -inf outside the prior's support.

        Args:
            theta: parameters, `[*batch, D]` or `[*batch, n, D]`.
            x: observations, `[*batch, *x_shape]`.
            chunk: observations per compiled call; by default as in `sample`.

        Returns:
            Shape `[*batch]` or `[*batch, n]`.

        Raises:
            ValueError: for shapes that do not fit.
        """
        flat, batch = self._flat(x)
        rows, inner = rows_of_theta(theta, batch, self.prior.dim)
        chunk = _chunk_of(rows.shape[1]) if chunk is None else chunk
        chunk = whole("chunk", chunk)
        run, sizes = _density(self.estimator), _sizes(self.estimator, rows.shape[1])
        parts = [
            _first(run(self.variables, jnp.asarray(t), jnp.asarray(x)), count)
            for t, x, count in _padded((rows, flat), chunk, sizes, rows.shape[1])
        ]
        return jnp.concatenate(parts).reshape(*batch, *inner)

    def context(self, x: ArrayLike) -> Array:
        """Return what the flow is told of x, `[*batch, C]`, float32.

        Summaries, classical estimates and the embedding; of an ensemble what each
        network is told, one after the other.

        Args:
            x: raw observations, `[*batch, *x_shape]`.

        Raises:
            ValueError: for an x of another shape or not finite.
        """
        flat, batch = self._flat(x)
        run, sizes = _context(self.estimator), _sizes(self.estimator, "context")
        parts = [
            _first(run(self.variables, jnp.asarray(x)), count)
            for x, count in _padded((flat,), _chunk_of(1), sizes, 1)
        ]
        found = jnp.concatenate(parts)
        return found.reshape(*batch, found.shape[-1])

    def mean(self, key: Array, x: ArrayLike, num_samples: int = 1_000) -> Array:
        """Return the mean of `num_samples` draws, `[*batch, D]`."""
        return self._draws(key, x, num_samples, None, lambda draws: draws.mean(-2))

    def median(self, key: Array, x: ArrayLike, num_samples: int = 1_000) -> Array:
        """Return each parameter's median over `num_samples` draws, `[*batch, D]`."""
        median = functools.partial(jnp.median, axis=-2)
        return self._draws(key, x, num_samples, None, median)

    def map(
        self,
        key: Array,
        x: ArrayLike,
        num_starts: int = 16,
        num_steps: int = 100,
        chunk: int = 512,
    ) -> Array:
        """Return the point of highest density in theta, `[*batch, D]`.

        Gradient ascent in the latent z from the best of 512 draws, all starts of all
        observations in one program; steps are in units of the posterior's own sds. A
        density that piles up at an edge of the prior has its highest point there; the
        answer then lies just inside.

        Args:
            key: typed key.
            x: observations, `[*batch, *x_shape]`.
            num_starts: draws with the highest density that are taken uphill.
            num_steps: ascent steps.
            chunk: observations per compiled call.

        Raises:
            ValueError: for an x of another shape, or a number out of its range.
        """
        num_starts = whole("num_starts", num_starts)
        if num_starts > NUM_DRAWS:
            fail("num_starts", f"from 1 to {NUM_DRAWS}", num_starts)
        num_steps = whole("num_steps", num_steps)
        run = _maximiser(self.estimator, num_starts, num_steps)
        sizes = _sizes(self.estimator, ("map", num_starts, num_steps))
        key, chunk = one_key(key), whole("chunk", chunk)
        flat, batch = self._flat(x)
        return self._over_x(run, key, flat, batch, chunk, (sizes, NUM_DRAWS))

    def _draws(
        self,
        key: Array,
        x: ArrayLike,
        num_samples: int,
        chunk: int | None,
        reduce: Callable[[Array], Array],
    ) -> Array:
        """What `reduce` makes of the draws `[rows, n, D]` of each call."""
        key, num_samples = one_key(key), whole("num_samples", num_samples)
        flat, batch = self._flat(x)
        drawn = _program_size(self.estimator, key, num_samples, len(flat))
        chunk = _chunk_of(drawn) if chunk is None else whole("chunk", chunk)
        run, sizes = _sampler(self.estimator, drawn), _sizes(self.estimator, drawn)

        def some(*arguments: Any) -> Array:
            return reduce(run(*arguments)[:, :num_samples])

        return self._over_x(some, key, flat, batch, chunk, (sizes, drawn))

    def _over_x(
        self,
        run: Callable[[Variables, Array, Array, Array], Array],
        key: Array,
        flat: Any,
        batch: tuple[int, ...],
        chunk: int,
        programs: tuple[set[int], int],
    ) -> Array:
        rows = np.arange(len(flat), dtype=np.int32)
        parts = [
            _first(run(self.variables, key, r, x), count)
            for r, x, count in _padded((rows, flat), chunk, *programs)
        ]
        drawn = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        return drawn.reshape(*batch, *drawn.shape[1:])

    def _flat(self, x: ArrayLike) -> tuple[Any, tuple[int, ...]]:
        """Observations as `[N, *x_shape]`, and their batch shape."""
        flat, batch = rows_of_x(x, self.x_shape)
        if isinstance(flat, jax.core.Tracer) or self.input_scaling != "root":
            return flat, batch
        if (least := flat.min()) < 0:
            remedy = "Subtract no background from counts."
            fail("x", "of at least 0, as counts are", f"{least:g}", remedy)
        return flat, batch


def _first(rows: Array, count: int) -> Array:
    return rows if len(rows) == count else rows[:count]


def _at(array: Any, index: np.ndarray) -> Any:
    return array[index] if isinstance(array, np.ndarray) else indexed(array, index)


def _chunk_of(num_samples: int) -> int:
    """Observations in one call with so many draws each."""
    on_cpu = jax.default_backend() == "cpu"
    draws = DRAWS_PER_CPU_CALL if on_cpu else DRAWS_PER_CALL
    return max(1, draws // num_samples)


@functools.lru_cache(maxsize=256)
def _sizes(estimator: Estimator, program: Any) -> set[int]:
    """Numbers of observations that a program has been compiled for."""
    del estimator, program
    return set()


@functools.lru_cache(maxsize=64)
def _draws_seen(estimator: Estimator) -> set[int]:
    """Numbers of draws that samplers have been compiled for."""
    del estimator
    return set()


def _program_size(estimator: Estimator, key: Array, num_samples: int, rows: int) -> int:
    """Draws of the program that serves `num_samples`: one that is compiled, if cheap.

    The first draws of many are those of few, so that the answer is the same.
    """
    stable = "threefry" in str(jax.random.key_impl(key))
    seen = _draws_seen(estimator)
    if stable and jax.config.jax_threefry_partitionable:
        for size in sorted(n for n in seen if n >= num_samples):
            if size <= 1.25 * num_samples or size * rows <= CHEAP_DRAWS:
                return size
    seen.add(num_samples)
    return num_samples


def _padded(arrays: tuple[Any, ...], chunk: int, sizes: set[int], draws: int) -> Any:
    """Slices of at most `chunk` rows, filled up to a size that is compiled already.

    New sizes are powers of two: 10 and 13 observations run the same program.

    Args:
        arrays: with a leading axis of rows each.
        chunk: rows at most.
        sizes: rows that the program was compiled for; a new one is added.
        draws: of one row, by which filling up is judged cheap.
    """
    total, start = len(arrays[0]), 0
    while start < total:
        left = min(chunk, total - start)
        exact = min(chunk, 1 << (left - 1).bit_length())
        most = min(chunk, max(exact, CHEAP_DRAWS // max(draws, 1)))
        covers = [size for size in sizes if left <= size <= most]
        parts = [size for size in sizes if left // 2 < size <= left]
        size = min(covers, default=max(parts, default=exact))
        sizes.add(size)
        count = min(size, left)
        index = np.minimum(start + np.arange(size), total - 1)
        taken = (
            array if len(array) == size == total else _at(array, index)
            for array in arrays
        )
        yield (*taken, count)
        start += count


@functools.lru_cache(maxsize=64)
def _sampler(estimator: Estimator, num_samples: int) -> Any:
    @jax.jit
    def run(variables: Variables, key: Array, rows: Array, x: Array) -> Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
        z = latent_sample(estimator, variables, keys, x, num_samples)
        return estimator.prior_of(variables.frozen).from_latent(z)

    return run


@functools.lru_cache(maxsize=64)
def _density(estimator: Estimator) -> Any:
    @jax.jit
    def run(variables: Variables, theta: Array, x: Array) -> Array:
        prior = estimator.prior_of(variables.frozen)
        inside = prior.contains(theta)
        middle = prior.from_latent(jnp.zeros(prior.dim, jnp.float32))
        safe = jnp.where(inside[..., None], theta, middle)
        z, log_det = prior.to_latent_and_log_det(safe)
        log_q = latent_log_prob(estimator, variables, z, x)
        return jnp.where(inside, log_q + log_det, -jnp.inf)

    return run


@functools.lru_cache(maxsize=64)
def _context(estimator: Estimator) -> Any:
    @jax.jit
    def run(variables: Variables, x: Array) -> Array:
        features = estimator.features(variables.frozen, x)
        if variables.num_members == 1:
            return estimator.context(variables.params, features)
        told = jax.vmap(lambda own: estimator.context(own, features))(variables.params)
        return jnp.moveaxis(told, 0, 1).reshape(len(x), -1)

    return run


@functools.lru_cache(maxsize=64)
def _maximiser(estimator: Estimator, num_starts: int, num_steps: int) -> Any:
    @jax.jit
    def run(variables: Variables, key: Array, rows: Array, x: Array) -> Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
        return maximise(estimator, variables, keys, x, num_starts, num_steps)

    return run
