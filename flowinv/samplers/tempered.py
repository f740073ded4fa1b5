"""Exact posteriors of any likelihood without gradients: tempered particles.

Particles are drawn from the prior and led to the posterior through p(theta) L^beta,
beta from 0 to 1 in steps that leave half of them effective. At each step they are
resampled and moved by Metropolis steps whose proposals come from the particles
themselves: Gaussians of their covariance, and differences of two others, which jump
between modes. Several runs side by side, which share nothing, tell whether they agree.

References: Del Moral, Doucet & Jasra 2006, doi:10.1111/j.1467-9868.2006.00553.x
(sequential Monte Carlo samplers); ter Braak & Vrugt 2008,
doi:10.1007/s11222-008-9104-9 (differential evolution).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, check_shape, fail
from flowinv.identity import by_content
from flowinv.priors.latent import Prior

__all__ = ["Effort", "Particles", "TemperedResult", "tempered", "tempered_posterior"]

RUNS, LEAST_PARTICLES = 4, 1_000
MOST_STAGES, MOST_R_HAT, LEAST_ESS = 200, 1.01, 0.2
HALVINGS = 40
JUMP = 0.2  # share of differences that are taken whole: from mode to mode
ACCEPTED, GAIN = 0.25, 1.0


class Effort(NamedTuple):
    """How hard runs try to agree.

    Attributes:
        times: particles, in times of the draws asked for.
        effective: share of the particles that a step of beta leaves.
        moves: Metropolis steps of every particle at a temperature.
        last: and at the last one.
    """

    times: int
    effective: float
    moves: int
    last: int


# Narrow places that few draws of the prior hit want slow cooling and many particles.
EFFORTS = (Effort(1, 0.5, 10, 60), Effort(2, 0.9, 20, 60), Effort(8, 0.9, 20, 100))


class TemperedResult(NamedTuple):
    """Draws, and whether the runs agree.

    Attributes:
        draws: posterior draws, runs one after the other, float32 `[n, D]`.
        r_hat: split potential scale reduction over runs of each parameter, `[D]`.
        ess: effective number of draws of each parameter, `[D]`: particles that come
            from one are neighbours, and count as a chain's.
        num_stages: temperatures of each run, `[4]`.
        log_evidence: of each run, `[4]`.
    """

    draws: np.ndarray
    r_hat: np.ndarray
    ess: np.ndarray
    num_stages: np.ndarray
    log_evidence: np.ndarray


def tempered_posterior(
    simulator: Any, prior: Prior, x: ArrayLike, num_samples: int, key: Array
) -> TemperedResult:
    """Draw from p(theta | x) with tempered particles.

    Args:
        simulator: with `log_prob(theta, x)` for one theta `[D]`; NaN counts as -inf.
        prior: prior over the simulator's parameters.
        x: one observation with the simulator's `x_shape`.
        num_samples: draws n; at least 4,000 particles are led there, and n returned.
            Where runs disagree all is done again with more particles, twice at most.
        key: typed key.

    Raises:
        ValueError: for wrong shapes, a simulator without a likelihood, or an x that
            no draw of the prior can give.
    """
    check_at_least("num_samples", num_samples, 1)
    if not hasattr(simulator, "log_prob"):
        fail("simulator", "with log_prob(theta, x)", type(simulator).__name__)
    x = jnp.asarray(x)
    check_shape("x", x.shape, simulator.x_shape)
    for effort in EFFORTS:
        found = _drawn(simulator, prior, x, num_samples, key, effort)
        enough = found.ess > LEAST_ESS * num_samples
        if (enough & (found.r_hat < MOST_R_HAT)).all():
            break
    return found


def _drawn(
    simulator: Any, prior: Prior, x: Array, num_samples: int, key: Array, effort: Effort
) -> TemperedResult:
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    count = effort.times * max(LEAST_PARTICLES, -(-num_samples // RUNS))
    count += count % 2  # two halves
    ended = _program(simulator, prior, count, effort)(jax.random.split(key, RUNS), x)
    if not np.isfinite(np.asarray(ended.log_like)).all():
        fail("x", "that a draw of the prior can give", "likelihood 0 for all")
    theta = np.asarray(prior.from_latent(ended.z))
    order = np.random.default_rng(0).permutation(RUNS * count)[:num_samples]
    return TemperedResult(
        draws=theta.reshape(-1, theta.shape[-1])[np.sort(order)],
        r_hat=np.asarray(split_gelman_rubin(theta)),
        ess=np.asarray(effective_sample_size(theta)),
        num_stages=np.asarray(ended.stage),
        log_evidence=np.asarray(ended.log_evidence),
    )


class Particles(NamedTuple):
    """State of one run.

    Attributes:
        z: places in the prior's latent, `[P, D]`.
        log_like: log-likelihood there, `[P]`.
        beta: inverse temperature.
        scale: of the Gaussian steps.
        stage: number of temperatures so far.
        log_evidence: log of the mean likelihood, so far.
    """

    z: Array
    log_like: Array
    beta: Array
    scale: Array
    stage: Array
    log_evidence: Array


@by_content(maxsize=8)
def _program(
    simulator: Any, prior: Prior, count: int, effort: Effort
) -> Callable[[Array, Array], Particles]:
    """One program for all observations and runs."""

    def run(key: Array, x: Array) -> Particles:
        def log_like(z: Array) -> Array:
            own = jax.vmap(lambda z: simulator.log_prob(prior.from_latent(z), x))(z)
            return jnp.where(jnp.isnan(own), -jnp.inf, own)

        return tempered(key, log_like, prior, count, effort)

    return jax.jit(jax.vmap(run, (0, None)))


def tempered(
    key: Array,
    log_like: Callable[[Array], Array],
    prior: Prior,
    count: int,
    effort: Effort,
) -> Particles:
    """Lead `count` prior draws to the posterior of one run; pure, jit- and vmap-able.

    Args:
        key: typed key.
        log_like: log-likelihood of latents `[P, D]`, `[P]`; -inf where it is 0.
        prior: prior of theta.
        count: particles P, an even number.
        effort: how hard.
    """
    z = prior.sample_latent(jax.random.fold_in(key, MOST_STAGES), count)
    zero = jnp.zeros((), z.dtype)
    scale = jnp.full((), 2.38 / math.sqrt(z.shape[-1]), z.dtype)
    state = Particles(z, log_like(z), zero, scale, jnp.int32(0), zero)

    def goes_on(state: Particles) -> Array:
        possible = (state.log_like > -jnp.inf).any()
        return possible & (state.beta < 1.0) & (state.stage < MOST_STAGES)

    def stage(state: Particles) -> Particles:
        own = jax.random.fold_in(key, state.stage)
        state = _resampled(jax.random.fold_in(own, 0), state, effort.effective)
        return _moved(own, state, log_like, prior, effort.moves, GAIN)

    state = jax.lax.while_loop(goes_on, stage, state)
    last = jax.random.fold_in(key, MOST_STAGES + 1)
    return _moved(last, state, log_like, prior, effort.last, 0.0)


def _resampled(key: Array, state: Particles, effective: float) -> Particles:
    """Take the next temperature, and particles by their weights (systematically)."""
    count, alive = len(state.z), state.log_like > -jnp.inf
    least = effective * alive.sum()

    def raised(step: Array) -> Array:
        return jnp.where(alive, step * jnp.where(alive, state.log_like, 0.0), -jnp.inf)

    def enough(step: Array) -> Array:
        return 1 / (jax.nn.softmax(raised(step)) ** 2).sum() >= least

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        good = enough(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    rest = 1 - state.beta
    low, _ = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(rest), rest))
    step = jnp.where(enough(rest), rest, low)
    beta = jnp.where(enough(rest), 1.0, state.beta + low)
    gained = jax.nn.logsumexp(raised(step)) - math.log(count)
    edges = jnp.cumsum(jax.nn.softmax(raised(step)))
    at = (jnp.arange(count) + jax.random.uniform(key)) / count
    taken = jnp.minimum(jnp.searchsorted(edges / edges[-1], at), count - 1)
    return state._replace(
        z=state.z[taken],
        log_like=state.log_like[taken],
        beta=beta.astype(state.beta.dtype),
        stage=state.stage + 1,
        log_evidence=state.log_evidence + gained,
    )


def _moved(
    key: Array,
    state: Particles,
    log_like: Callable[[Array], Array],
    prior: Prior,
    count: int,
    gain: float,
) -> Particles:
    """Metropolis steps of all particles: one half by the other, then vice versa.

    The size of steps is learned with `gain` a step; 0 keeps it, and the target exact.
    """
    half, dim = len(state.z) // 2, state.z.shape[-1]
    ridge = 1e-10 * jnp.eye(dim, dtype=state.z.dtype)
    covariance = jnp.cov(state.z.T).reshape(dim, dim)
    factor = jnp.linalg.cholesky(covariance + ridge * jnp.trace(covariance))

    def target(z: Array, log_like: Array) -> Array:
        return state.beta * log_like + jax.vmap(prior.latent_log_prob)(z)

    def step(carry: tuple[Array, Array, Array], key: Array) -> tuple[Any, None]:
        z, own, scale = carry
        keys = jax.random.split(key, 7)
        first, second = z[:half], z[half:]
        gaussian = jax.random.normal(keys[0], first.shape, z.dtype) @ factor.T
        # Of two others of the other half: some whole, some of the best size.
        pairs = jax.random.randint(keys[1], (2, half), 0, half)
        whole = jax.random.bernoulli(keys[2], JUMP, (half, 1))
        size = jnp.where(whole, 1.0, scale * math.sqrt(0.5))
        little = 1e-3 * jax.random.normal(keys[3], first.shape, z.dtype) @ factor.T
        across = size * (second[pairs[0]] - second[pairs[1]]) + little
        plain = jax.random.bernoulli(keys[4], 0.5, (half, 1))
        new = first + jnp.where(plain, scale * gaussian, across)
        new_like = log_like(new)
        ratio = target(new, new_like) - target(first, own[:half])
        taken = jnp.log(jax.random.uniform(keys[5], (half,), z.dtype)) < ratio
        first = jnp.where(taken[:, None], new, first)
        like = jnp.where(taken, new_like, own[:half])
        ours = (plain | ~whole)[:, 0]
        share = (taken & ours).sum() / jnp.maximum(ours.sum(), 1)
        scale = scale * jnp.exp(gain * (share - ACCEPTED))
        # The halves change places.
        moved = jnp.concatenate([second, first]), jnp.concatenate([own[half:], like])
        return (*moved, scale.astype(z.dtype)), None

    start = state.z, state.log_like, state.scale
    keys = jax.random.split(key, 2 * count)
    (z, own, scale), _ = jax.lax.scan(step, start, keys)
    return state._replace(z=z, log_like=own, scale=scale)
