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
_COOLING = 1  # phase between the first look and the last steps


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
    start = Particles(z, jnp.zeros(count, z.dtype), zero, scale, jnp.int32(0), zero)
    moves = jnp.asarray([1, effort.moves, effort.last])

    def phase(number: Array, state: Particles) -> Particles:
        """Once where the particles are, stage by stage, and once at the end."""
        cools = number == _COOLING

        def goes_on(carry: tuple[Array, Particles]) -> Array:
            count, state = carry
            possible = (state.log_like > -jnp.inf).any()
            cooler = possible & (state.beta < 1.0) & (state.stage < MOST_STAGES)
            return jnp.where(cools, cooler, count < 1)

        def stage(carry: tuple[Array, Particles]) -> tuple[Array, Particles]:
            count, state = carry
            own = jax.random.fold_in(jax.random.fold_in(key, number), count)
            cooled = _resampled(jax.random.fold_in(own, 0), state, effort.effective)
            state = jax.tree.map(lambda a, b: jnp.where(cools, a, b), cooled, state)
            steps = _Steps(
                moves[number], jnp.where(cools, GAIN, 0.0), number < _COOLING
            )
            return count + 1, _moved(own, state, log_like, prior, steps)

        return jax.lax.while_loop(goes_on, stage, (jnp.int32(0), state))[1]

    # Loops in a loop: the compiled program holds the likelihood once.
    return jax.lax.fori_loop(0, len(moves), phase, start)


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


class _Steps(NamedTuple):
    """Metropolis steps of a stage.

    Attributes:
        count: of every particle.
        gain: with which the size of steps is learned; 0 keeps it, and the target exact.
        stay: all particles stay, and are asked for their likelihood.
    """

    count: Array
    gain: Array
    stay: Array


def _moved(
    key: Array,
    state: Particles,
    log_like: Callable[[Array], Array],
    prior: Prior,
    steps: _Steps,
) -> Particles:
    """Metropolis steps of all particles: one half by the other, then vice versa."""
    half, dim = len(state.z) // 2, state.z.shape[-1]
    ridge = 1e-10 * jnp.eye(dim, dtype=state.z.dtype)
    covariance = jnp.cov(state.z.T).reshape(dim, dim)
    factor = jnp.linalg.cholesky(covariance + ridge * jnp.trace(covariance))

    def target(z: Array, log_like: Array) -> Array:
        return state.beta * log_like + jax.vmap(prior.latent_log_prob)(z)

    def step(number: Array, carry: tuple[Array, Array, Array]) -> Any:
        z, own, scale = carry
        key_normal, key_uniform = jax.random.split(jax.random.fold_in(key, number))
        # Two draws of all numbers: each is a large part of the compiled program.
        normals = jax.random.normal(key_normal, (2, half, dim), z.dtype) @ factor.T
        uniforms = jax.random.uniform(key_uniform, (5, half), z.dtype)
        first, second = z[:half], z[half:]
        # Of two others of the other half: some whole, some of the best size.
        pairs = jnp.minimum((uniforms[:2] * half).astype(jnp.int32), half - 1)
        whole = (uniforms[2] < JUMP)[:, None]
        size = jnp.where(whole, 1.0, scale * math.sqrt(0.5))
        apart = second[pairs[0]] - second[pairs[1]]
        across = size * apart + 1e-3 * normals[1]
        plain = (uniforms[3] < 0.5)[:, None]
        move = jnp.where(plain, scale * normals[0], across)
        new = first + jnp.where(steps.stay, 0.0, move)
        new_like = log_like(new)
        ratio = target(new, new_like) - target(first, own[:half])
        taken = (jnp.log(uniforms[4]) < ratio) | steps.stay
        first = jnp.where(taken[:, None], new, first)
        like = jnp.where(taken, new_like, own[:half])
        ours = (plain | ~whole)[:, 0]
        share = (taken & ours).sum() / jnp.maximum(ours.sum(), 1)
        scale = scale * jnp.exp(steps.gain * (share - ACCEPTED))
        # The halves change places.
        moved = jnp.concatenate([second, first]), jnp.concatenate([own[half:], like])
        return *moved, scale.astype(z.dtype)

    start = state.z, state.log_like, state.scale
    z, own, scale = jax.lax.fori_loop(0, 2 * steps.count, step, start)
    return state._replace(z=z, log_like=own, scale=scale)
