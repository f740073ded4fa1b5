"""A posterior known up to a factor, drawn from by tempered particles or by NUTS.

p(theta | x) is proportional to p(theta) L(theta, x), L a learned likelihood or ratio.
Particles answer any batch of x in one program: each observation's own population,
led from the prior through p L^beta (see `flowinv.samplers.tempered`), which finds all
modes, asks for no gradient, and knows the evidence on the way.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_known, fail, one_key, whole
from flowinv.models.estimator import Variables
from flowinv.models.likelihood import Likelihood
from flowinv.models.posterior import Posterior
from flowinv.models.ratio import Ratio
from flowinv.models.rows import rows_of_theta, rows_of_x
from flowinv.priors.latent import Prior
from flowinv.samplers.nuts import nuts_posterior
from flowinv.samplers.tempered import Effort, tempered

__all__ = ["SAMPLERS", "AnyPosterior", "SampledPosterior", "SamplerConfig"]

SAMPLERS = ("particles", "nuts")
# Particles in one compiled call: of a CPU, and of an accelerator.
CPU_PARTICLES, PARTICLES = 2**13, 2**18
EVIDENCE_KEY = 77


@dataclass(frozen=True)
class SamplerConfig:
    """How draws are made.

    Attributes:
        sampler: "particles" or "nuts" (four chains of each observation, one after the
            other: for a few of them).
        num_particles: particles of an observation at least; as many as draws are asked
            for where these are more.
        effective: share of the particles that a step of the temperature leaves.
        moves: Metropolis steps of every particle at a temperature.
        last_moves: and at the last one.
    """

    sampler: str = "particles"
    num_particles: int = 500
    effective: float = 0.5
    moves: int = 5
    last_moves: int = 20

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_known("sampler", self.sampler, SAMPLERS)
        check_at_least("num_particles", self.num_particles, 10)
        check_at_least("moves", self.moves, 1)
        check_at_least("last_moves", self.last_moves, 1)
        if not 0 < self.effective < 1:
            fail("effective", "between 0 and 1", self.effective)

    @property
    def effort(self) -> Effort:
        """As the particles take it."""
        return Effort(1, self.effective, self.moves, self.last_moves)


@jax.tree_util.register_pytree_node_class
class SampledPosterior:
    """p(theta | x) of a learned likelihood or ratio; methods as of `Posterior`.

    Row i of a batch uses fold_in(key, i): other rows change none of its draws. Calls of
    another size round otherwise, and Metropolis steps make other draws of the same
    posterior of that. No draw is ever outside the prior.
    """

    def __init__(
        self, learned: Likelihood | Ratio, sampler: SamplerConfig | None = None
    ) -> None:
        """Bind what was learned, and how it is drawn from."""
        self.learned, self.sampler = learned, sampler or SamplerConfig()
        self._evidences: dict[Any, np.ndarray] = {}

    def tree_flatten(self) -> tuple[tuple[Any], SamplerConfig]:
        """Numbers are leaves, the rest is structure."""
        return (self.learned,), self.sampler

    @classmethod
    def tree_unflatten(
        cls, sampler: SamplerConfig, children: tuple
    ) -> "SampledPosterior":
        """Put a posterior together again."""
        return cls(children[0], sampler)

    @property
    def prior(self) -> Prior:
        """Prior of theta."""
        return self.learned.prior

    @property
    def variables(self) -> Variables:
        """Trained numbers."""
        return self.learned.variables

    @property
    def summary(self) -> Any:
        """Summary of x that the network reads, or None."""
        return self.learned.summary

    @property
    def input_scaling(self) -> str:
        """Map of x before standardisation."""
        return self.learned.input_scaling

    def members(self) -> "list[SampledPosterior]":
        """Posteriors of an ensemble's networks, one by one; of one network itself."""
        count = self.variables.num_members
        if count == 1:
            return [self]
        each = (self.learned.member(index) for index in range(count))
        return [SampledPosterior(own, self.sampler) for own in each]

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.learned.x_shape

    def sample(
        self, key: Array, x: ArrayLike, num_samples: int, chunk: int | None = None
    ) -> Array:
        """Draw theta ~ p(. | x), shape `[*batch, num_samples, D]`, float32.

        Args:
            key: typed key.
            x: raw observations, `[*batch, *x_shape]`.
            num_samples: draws per observation, n.
            chunk: observations per compiled call; by default as many as make 8,192
                particles on a CPU, 262,144 elsewhere.

        Raises:
            ValueError: for an x of another shape or not finite, or fewer than one draw.
        """
        key, num_samples = one_key(key), whole("num_samples", num_samples)
        flat, batch = self._flat(x)
        if self.sampler.sampler == "nuts":
            drawn = self._by_nuts(key, flat, num_samples)
        else:
            drawn = self._by_particles(key, flat, num_samples, chunk)[0]
        return drawn.reshape(*batch, num_samples, self.prior.dim)

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        """Return log p(theta | x), -inf outside the prior; normalised by particles.

        The evidence of each x comes from one run of `num_particles` and a key of its
        own: the same for all theta, and good to a few hundredths of a nat.

        Args:
            theta: parameters, `[*batch, D]` or `[*batch, n, D]`.
            x: observations, `[*batch, *x_shape]`.

        Returns:
            Shape `[*batch]` or `[*batch, n]`.

        Raises:
            ValueError: for shapes that do not fit.
        """
        flat, batch = self._flat(x)
        rows, inner = rows_of_theta(theta, batch, self.prior.dim)
        found = self._log_joint(rows, flat) - self.log_evidence(flat)[:, None]
        return found.reshape(*batch, *inner)

    def _log_joint(self, theta: Array, flat: Array) -> Array:
        """Log of prior times L at theta `[N, n, D]` of x `[N, ...]`, `[N, n]`."""
        run, size = _density(self._structure), _chunk(theta.shape[1])
        parts = [
            run(self.learned, theta[i : i + size], flat[i : i + size])
            for i in range(0, len(flat), size)
        ]
        return jnp.concatenate(parts)

    def log_evidence(self, x: ArrayLike) -> Array:
        """Return log of the mean of L over the prior, `[*batch]`.

        Of a likelihood it is log p(x) (in the units of `Likelihood.told`), of a ratio
        what it lacks of being normalised: 0 for the exact one.
        """
        flat, batch = self._flat(x)
        mark = np.asarray(flat).tobytes()
        if mark not in self._evidences:
            key = jax.random.key(EVIDENCE_KEY)
            self._evidences = {mark: self._by_particles(key, flat, 1, None)[1]}
        return jnp.asarray(self._evidences[mark]).reshape(batch)

    def context(self, x: ArrayLike) -> Array:
        """Return what the network is told of x, `[*batch, C]`, float32."""
        flat, batch = self._flat(x)
        return self.learned.told(jnp.asarray(flat)).reshape(*batch, -1)

    def mean(self, key: Array, x: ArrayLike, num_samples: int = 1_000) -> Array:
        """Return the mean of `num_samples` draws, `[*batch, D]`."""
        return self.sample(key, x, num_samples).mean(-2)

    def median(self, key: Array, x: ArrayLike, num_samples: int = 1_000) -> Array:
        """Return each parameter's median over `num_samples` draws, `[*batch, D]`."""
        return jnp.median(self.sample(key, x, num_samples), -2)

    def map(self, key: Array, x: ArrayLike, num_samples: int = 1_000) -> Array:
        """Return the draw of highest density of `num_samples`, `[*batch, D]`."""
        flat, batch = self._flat(x)
        draws = self.sample(key, flat, num_samples)
        best = self._log_joint(draws, flat).argmax(-1)
        best = jnp.take_along_axis(draws, best[:, None, None], 1)[:, 0]
        return best.reshape(*batch, -1)

    def with_sampler(self, sampler: SamplerConfig) -> "SampledPosterior":
        """Return the posterior drawn from in another way."""
        sampler.check()
        return SampledPosterior(self.learned, sampler)

    @property
    def _structure(self) -> Any:
        """What a compiled program depends on beside numbers and shapes."""
        return jax.tree.structure(self.learned)

    def _by_particles(
        self, key: Array, flat: Array, num_samples: int, chunk: int | None
    ) -> tuple[Array, np.ndarray]:
        """Draws `[N, n, D]` and log evidences `[N]`."""
        count = max(num_samples, self.sampler.num_particles)
        count += count % 2
        size = _chunk(count) if chunk is None else whole("chunk", chunk)
        size = min(size, len(flat))
        run = _sampler(self._structure, count, num_samples, self.sampler.effort)
        draws, evidences = [], []
        for start in range(0, len(flat), size):
            # The last chunk runs in full, so that one compilation serves all.
            rows = np.minimum(start + np.arange(size), len(flat) - 1)
            own, evidence = run(self.learned, key, rows, flat[rows])
            left = min(size, len(flat) - start)
            draws.append(own[:left])
            evidences.append(np.asarray(evidence[:left]))
        return jnp.concatenate(draws), np.concatenate(evidences)

    def _by_nuts(self, key: Array, flat: Array, num_samples: int) -> Array:
        drawn = []
        for index, x in enumerate(flat):
            own = jax.random.fold_in(key, index)
            simulator = _Learned(self.learned)
            found = nuts_posterior(simulator, self.prior, x, num_samples, own)
            drawn.append(found.draws)
        return jnp.asarray(np.stack(drawn))

    def _flat(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """Observations as `[N, *x_shape]`, and their batch shape."""
        flat, batch = rows_of_x(x, self.x_shape)
        return jnp.asarray(flat), batch


AnyPosterior = Posterior | SampledPosterior
"""What answers any x."""


class _Learned:
    """A learned likelihood as NUTS takes a simulator's."""

    def __init__(self, learned: Likelihood | Ratio) -> None:
        self.learned, self.x_shape = learned, learned.x_shape

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Array:
        return self.learned.log_prob(x, theta)


def _chunk(count: int) -> int:
    """Observations of one call, with so many particles each."""
    on_cpu = jax.default_backend() == "cpu"
    return max(1, (CPU_PARTICLES if on_cpu else PARTICLES) // count)


@functools.lru_cache(maxsize=32)
def _sampler(
    structure: Any, count: int, num_samples: int, effort: Effort
) -> Callable[..., tuple[Array, Array]]:
    """One program for all observations of a kind of posterior."""
    del structure

    @jax.jit
    def run(
        learned: Likelihood | Ratio, key: Array, rows: Array, x: Array
    ) -> tuple[Array, Array]:
        prior = learned.prior

        def one(row: Array, x: Array) -> tuple[Array, Array]:
            def log_like(z: Array) -> Array:
                found = learned.of_latents(z, x)
                return jnp.where(jnp.isfinite(found), found, -jnp.inf)

            own = jax.random.fold_in(key, row)
            ended = tempered(own, log_like, prior, count, effort)
            # Particles are in halves that moved by each other: any are taken.
            order = jax.random.permutation(jax.random.fold_in(own, count), count)
            return ended.z[order[:num_samples]], ended.log_evidence

        z, evidence = jax.vmap(one)(rows, x)
        return prior.from_latent(z).astype(jnp.float32), evidence

    return run


@functools.lru_cache(maxsize=32)
def _density(structure: Any) -> Callable[..., Array]:
    del structure

    @jax.jit
    def run(learned: Likelihood | Ratio, theta: Array, x: Array) -> Array:
        prior = learned.prior
        inside = prior.contains(theta)
        middle = prior.from_latent(jnp.zeros(prior.dim, jnp.float32))
        safe = jnp.where(inside[..., None], theta, middle)
        z, log_det = prior.to_latent_and_log_det(safe)
        like = jax.vmap(learned.of_latents)(z, x)
        return jnp.where(inside, like + prior.latent_log_prob(z) + log_det, -jnp.inf)

    return run
