"""Count distributions by inversion of one uniform each: no rejection, no loops.

JAX's own Poisson, binomial and multinomial samplers reject in data-dependent loops,
which is slow under vmap on a CPU (microseconds per number). Here each count is
a monotone function of one uniform, computed with a fixed number of operations:

- mean below `SWITCH_MEAN`: exact inversion, by the recurrence of the probabilities;
- above: the Cornish-Fisher expansion of the quantile to third order with Sheppard's
  continuity correction (for the Poisson it is the expansion of Giles 2016, "Algorithm
  955", doi:10.1145/2699466), rounded down.

The largest total-variation distance to the exact law is 6e-4, reached just above
the switch; it falls with the mean (measured in `tests/simulators/test_counts.py`).
All functions are elementwise, float32, jit- and vmap-able, and not differentiable.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

__all__ = [
    "SWITCH_MEAN",
    "binomial_quantile",
    "multinomial_quantile",
    "num_splits",
    "open_uniforms",
    "poisson_quantile",
]

SWITCH_MEAN = 10.0  # counts; the expansion's error is proportional to 1 / mean
NUM_TERMS = 30  # P(Poisson(10) > 30) = 8e-8, one step of a 23-bit uniform
NUM_BLOCKS = 16  # a full vector register of float32
LEAST_TERM = 1e-8  # below the spacing of uniforms: round-off must not add counts


def open_uniforms(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw float32 uniforms strictly inside (0, 1), on odd multiples of 2^-24.

    Both ends are exactly representable, so that no quantile is infinite.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    return (bits >> 9).astype(jnp.float32) * 2.0**-23 + 2.0**-24


def _recurrence(uniform: Array, first: Array, ratio: tuple[Array, Array]) -> Array:
    """Invert a distribution with p(k+1) / p(k) = (c0 - c1 k) / (k + 1)."""
    start, slope = ratio
    term, total = first, first
    count = jnp.zeros_like(first)
    for step in range(NUM_TERMS):
        term = term * jnp.maximum(start - slope * step, 0.0) * (1.0 / (step + 1))
        above = (uniform > total) & (term > LEAST_TERM)
        count = count + above.astype(first.dtype)
        total = total + term
    return count


def _expansion(uniform: Array, mean: Array, variance: Array, skew: Array) -> Array:
    """Round down the third-order Cornish-Fisher quantile of a lattice count.

    `skew` is q - p: the third cumulant is skew * variance, and the fourth
    variance * (1 - 6 p q) = variance * (1.5 skew^2 - 0.5).
    """
    normal = 2.0**0.5 * jax.lax.erf_inv(2.0 * uniform - 1.0)
    square = normal * normal
    scale = jnp.sqrt(variance)
    fourth = (1.5 * skew * skew - 0.5) * (square - 3.0) / 24.0
    third = skew * skew * (2.0 * square - 5.0) / 36.0
    correction = normal * (fourth - third - 1.0 / 24.0) / scale
    quantile = mean + scale * normal + 0.5 + skew * (square - 1.0) / 6.0 + correction
    return jnp.floor(jnp.maximum(quantile, 0.0))


@jax.jit  # traced once, however many programs hold it
def poisson_quantile(uniform: ArrayLike, mean: ArrayLike) -> Array:
    """Return the Poisson count whose distribution function covers `uniform`.

    Args:
        uniform: numbers in (0, 1), float32.
        mean: expected counts, at least 0, of a shape that broadcasts.

    Returns:
        Whole numbers as float32, with the broadcast shape.
    """
    uniform, mean = jnp.broadcast_arrays(uniform, jnp.asarray(mean, jnp.float32))
    small = jnp.minimum(mean, SWITCH_MEAN)
    exact = _recurrence(uniform, jnp.exp(-small), (small, jnp.float32(0.0)))
    large = jnp.maximum(mean, SWITCH_MEAN)
    one = jnp.ones_like(large)
    return jnp.where(mean < SWITCH_MEAN, exact, _expansion(uniform, large, large, one))


def binomial_quantile(uniform: ArrayLike, trials: ArrayLike, rate: ArrayLike) -> Array:
    """Return the binomial count whose distribution function covers `uniform`.

    Args:
        uniform: numbers in (0, 1), float32.
        trials: number of trials, whole numbers as float32.
        rate: success probability in [0, 1].

    Returns:
        Whole numbers in [0, trials] as float32, with the broadcast shape. For rates
        above 1/2 the failures are drawn.
    """
    uniform, trials, rate = jnp.broadcast_arrays(uniform, trials, rate)
    folded = rate > 0.5
    rate = jnp.where(folded, 1.0 - rate, rate)
    mean = trials * rate
    is_small = mean < SWITCH_MEAN
    # Outside its branch each formula gets harmless numbers, never infinities.
    few = jnp.where(is_small, trials, SWITCH_MEAN)
    odds = rate / (1.0 - rate)
    none = jnp.exp(few * jnp.log1p(-rate))
    exact = _recurrence(uniform, none, (few * odds, odds))
    large = jnp.maximum(mean, SWITCH_MEAN)
    variance = large * (1.0 - rate)
    expanded = _expansion(uniform, large, variance, 1.0 - 2.0 * rate)
    count = jnp.minimum(jnp.where(is_small, exact, expanded), trials)
    return jnp.where(folded, trials - count, count)


def num_splits(num_cells: int) -> int:
    """Number of uniforms that `multinomial_quantile` needs for `num_cells` cells."""
    return NUM_BLOCKS * (1 + -(-num_cells // NUM_BLOCKS))


def _share_out(trials: Array, uniforms: Array, weights: Array) -> Array:
    """Split `trials` over axis 0 of `weights`, one conditional binomial at a time."""
    rest = jax.lax.cumsum(weights, axis=0, reverse=True)
    share = jnp.minimum(weights / jnp.where(rest > 0, rest, 1.0), 1.0)

    def step(left: Array, cell: tuple[Array, Array]) -> tuple[Array, Array]:
        count = binomial_quantile(cell[0], left, cell[1])
        return left - count, count

    return jax.lax.scan(step, trials, (uniforms, share))[1]


@jax.jit
def multinomial_quantile(uniforms: Array, trials: ArrayLike, weights: Array) -> Array:
    """Draw a multinomial by conditional binomials, first over blocks, then within.

    Cell i belongs to block i mod 16. The total is shared out over the 16 blocks one
    after the other, then within all blocks side by side: 16 + K / 16 steps, as many
    binomials as cells, and one compiled binomial per scan. (A binary tree needs 8
    steps, but takes 1 to 8 times as long on a CPU and 4 times as long to compile.)
    Exact but for the error of `binomial_quantile`.

    Args:
        uniforms: numbers in (0, 1), shape `[num_splits(K)]`.
        trials: total count, a whole number as float32.
        weights: cell weights, at least 0, not necessarily normalised, shape `[K]`.

    Returns:
        Counts, shape `[K]`, float32, that add up to `trials` exactly if any weight is
        above 0.
    """
    num_cells = weights.shape[0]
    blocks = jnp.pad(weights, (0, -num_cells % NUM_BLOCKS)).reshape(-1, NUM_BLOCKS)
    trials = jnp.asarray(trials, jnp.float32)
    totals = _share_out(trials, uniforms[:NUM_BLOCKS], blocks.sum(axis=0))
    within = uniforms[NUM_BLOCKS:].reshape(blocks.shape)
    return _share_out(totals, within, blocks).reshape(-1)[:num_cells]
