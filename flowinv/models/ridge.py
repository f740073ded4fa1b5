"""Regressions that place and scale a posterior before training, without tuning.

A posterior a thousand times narrower than the prior is mostly *located* by a linear
problem. Solving it exactly leaves the network the part that is not linear.

Each output has its own regression, whose penalties the evidence chooses (see
`flowinv.models.evidence`): a thousand rows then place a posterior in ten dimensions
without adding their noise to it. The log sd is regressed in the same way on the log
squared residuals (E log chi^2_1 = -1.27, variance pi^2 / 2), and the mean again with
weights 1 / sd^2, so that rows with narrow posteriors are not blurred by wide ones.
Held-out rows decide what is more than that: unless they are clearly better off, an sd
is one number, and products of two features stay out unless all outputs together gain
by them. (Of 230 terms that say nothing two fit a thousand rows by chance, and shift a
posterior by 0.13 of its sds.)
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flowinv.models.evidence import Design, Line, Problem, product, solve_line

__all__ = ["Ridge", "solve_ridges"]

# Steps of the evidence's fixed point for a first regression, and for one that begins
# with the penalties of the last.
FIRST_STEPS, MORE_STEPS = 25, 8
# Log sds span at most 4 and weights e^8: a row predicted too narrow by chance never
# takes over.
WEIGHT_RANGE = 4.0
NUM_PASSES = 2
# Mean of log chi^2_1, and variance of half of it: pi^2 / 8.
MEAN_LOG_CHI2, LOG_NOISE = -1.27036, 1.2337
# Median |normal|; then the mean square of a normal cut at three sds, and N times the
# variance of the log of the sd that it gives for N numbers (.5 without the cut).
MEDIAN_NORMAL, CUT_NORMAL, CUT_SQUARE, SCALE_NOISE = 0.6745, 3.0, 0.9950, 0.51
# A residual has this share of the noise's variance at least.
LEAST_RESIDUAL = 0.05
# Held-out rows further out than so many sds count as so far.
FAR = 5.0
# A log sd is no smaller than that of this share of the rows.
RARE = 0.01
# Errors by which an sd that varies must gain.
SURE = 1.0


class Ridge(NamedTuple):
    """Linear mean and log sd: mean = f @ mean_kernel + mean_bias, and so on.

    A line goes on for ever: far from the rows that it was fitted to, the log sd stays
    above what nearly all of them had.

    Attributes:
        mean_kernel: shape `[F, D]`.
        mean_bias: shape `[D]`.
        scale_kernel: shape `[F, D]`, of the natural log of the sd.
        scale_bias: shape `[D]`.
        least_log_sd: smallest log sd, `[D]`.
    """

    mean_kernel: Array
    mean_bias: Array
    scale_kernel: Array
    scale_bias: Array
    least_log_sd: Array | float = -math.inf

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and log sd, `[..., D]` each, from features `[..., F]`."""
        mean = product(features, self.mean_kernel)
        log_sd = product(features, self.scale_kernel) + self.scale_bias
        return mean + self.mean_bias, jnp.maximum(log_sd, self.least_log_sd)


class _Answer(NamedTuple):
    """Coefficients of mean and log sd of one output, `[F + 1]`; its smallest log sd."""

    mean: Array
    scale: Array
    least: Array


def solve_ridges(
    features: Array,
    targets: Array,
    train: Array,
    held: Array,
    may_vary: ArrayLike = True,
    num_simple: int | None = None,
) -> tuple[Ridge, ...]:
    """Solve the regressions; pure, jit- and vmap-able.

    Args:
        features: rows of about unit scale, `[N, F]`; all finite, used or not.
        targets: shape `[N, D]`.
        train: True, or a weight, for rows that are fitted, `[N]`; at least one.
        held: the same for other rows, which say whether the sd varies; at least one.
        may_vary: False for one sd whatever they say; may be traced.
        num_simple: so many first features do without the others unless held-out rows
            of all outputs together gain by these; one set of all by default.

    Returns:
        Mean and log-sd regressions, constant where features say nothing; and with
        `num_simple` those of the first features alone.
    """
    use = ((train > 0) | (held > 0))[:, None]
    # Rows of uneven weights say as much as their effective number.
    weight = train.astype(features.dtype)
    weight = weight * weight.sum() / (weight**2).sum()
    centre = (weight[:, None] * features).sum(0) / weight.sum()
    terms = jnp.concatenate([features - centre, jnp.ones_like(features[:, :1])], -1)
    size = jnp.asarray(features.shape[-1], features.dtype)
    rows = Design(terms, weight, held.astype(features.dtype), size)
    # A floor at float32's resolution keeps the logs finite for an exact regression.
    floors = 1e-7 * jnp.maximum(targets.std(0, where=use), 1e-12)
    # One after the other: a compiled loop is small, and there are few columns.
    gram = rows.gram()

    def column(own: tuple[Array, Array], rows: Design, gram: Array) -> _Answer:
        plain, varying = _column(rows, gram, *own)
        gain = _gain(rows, own[0], varying, plain)
        return _either(_gains(rows, gain, SURE) & may_vary, varying, plain)

    def every(some: Array | None = None) -> _Answer:
        own, products = rows, gram
        if some is not None:
            own, products = rows.masked(some), gram * some * some[:, None]
        return jax.lax.map(lambda c: column(c, own, products), (targets.T, floors))

    if num_simple is None:
        return (_uncentred(every(), centre),)
    both = jnp.ones((2, *terms[0].shape), terms.dtype)
    answers = jax.lax.map(every, both.at[0, num_simple:-1].set(0.0))
    simple, full = (jax.tree.map(lambda leaf, i=i: leaf[i], answers) for i in range(2))
    # All outputs together: what one gains is small beside its error.
    gain = jax.vmap(_gain, (None, 1, 0, 0))(rows, targets, full, simple).sum(0)
    best = _either(_gains(rows, gain), full, simple)
    return _uncentred(best, centre), _uncentred(simple, centre)


def _uncentred(answers: _Answer, centre: Array) -> Ridge:
    """Regressions of features as they come, from those of all outputs."""
    mean, scale, least = answers
    return Ridge(
        mean[:, :-1].T,
        mean[:, -1] - product(mean[:, :-1], centre),
        scale[:, :-1].T,
        scale[:, -1] - product(scale[:, :-1], centre),
        least,
    )


def _either(first: Array, one: _Answer, other: _Answer) -> _Answer:
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)


def _column(
    rows: Design, gram: Array, target: Array, floor: Array
) -> tuple[_Answer, _Answer]:
    """One output with one sd, and with an sd that varies."""
    ones = jnp.ones_like(target)

    def once(last: tuple[Line, Line], steps: Array) -> tuple[Any, Any]:
        mean, scale = last

        def weighted() -> tuple[Array, Array]:
            weights = _weights(rows, scale)
            return weights, rows.gram(weights)

        first = steps == FIRST_STEPS
        weights, own = jax.lax.cond(first, lambda: (ones, gram), weighted)
        line = solve_line(rows, Problem(target, weights, own), mean.penalty, steps)
        logs = _log_residual(rows, target, line, floor)
        problem = Problem(logs - 0.5 * MEAN_LOG_CHI2, ones, gram, LOG_NOISE)
        log_sd = solve_line(rows, problem, scale.penalty, steps)
        return (line, log_sd), (line.kernel, log_sd.kernel, logs)

    # One loop: the compiled program holds the regressions once.
    none = jnp.zeros_like(gram[0])
    start = Line(none, none + 1.0 / rows.count, jnp.zeros_like(rows.count))
    steps = jnp.asarray([FIRST_STEPS] + NUM_PASSES * [MORE_STEPS], jnp.int32)
    _, passes = jax.lax.scan(once, (start, start), steps)
    # One sd at the first pass, one that varies at the last: sorted side by side.
    means, scales, logs = (leaf[jnp.asarray([0, -1])] for leaf in passes)
    scales = scales * jnp.asarray([[0.0], [1.0]])
    scales = jax.vmap(lambda *own: _calibrated(rows, *own))(logs, scales)
    least = jax.vmap(lambda scale: _least(rows, scale))(scales)
    plain, varying = (_Answer(means[i], scales[i], least[i]) for i in range(2))
    return plain, varying


def _log_residual(rows: Design, target: Array, line: Line, floor: Array) -> Array:
    """Log |residual|, `[N]`, of fitted rows as large as if they had not been fitted.

    A row of weight w pulls the regression towards itself: the variance of its residual
    is (1 + (1 - 2 w) r) times the noise, for the mean leverage r; a new row's 1 + r.
    """
    residual = jnp.abs(target - rows.predict(line.kernel)) + floor
    leverage = jnp.minimum(line.num_terms / rows.count, 1.0)
    left = jnp.maximum(1.0 + (1.0 - 2.0 * rows.train) * leverage, LEAST_RESIDUAL)
    return jnp.log(residual) + 0.5 * jnp.log((1.0 + leverage) / left)


def _weights(rows: Design, log_sd: Line) -> Array:
    """Weights 1 / sd^2 of the rows, of mean 1 over those that train, `[N]`."""
    spread = rows.predict(log_sd.kernel)
    spread = spread - _medians(spread, rows.train[None] > 0)[0]
    spread = jnp.clip(spread, -WEIGHT_RANGE / 2, WEIGHT_RANGE / 2)
    weights = jnp.exp(-2.0 * spread)
    return weights * rows.count / (weights * rows.train).sum()


def _least(rows: Design, scale: Array) -> Array:
    """Log sd that a hundredth of the training rows are below, `[]`."""
    log_sd = rows.predict(scale)
    order = jnp.argsort(log_sd)
    shares = jnp.cumsum(rows.train[order]) / rows.count
    return log_sd[order][jnp.argmax(shares > RARE)]


def _calibrated(rows: Design, logs: Array, scale: Array) -> Array:
    """`scale` with the constant at which the residuals' mean square is a normal's.

    Squares are cut at three sds, which the median tells: outliers do not spoil it, and
    it is nearly three times as exact as the median alone (Huber 1981, Robust
    Statistics, ch. 5). Of few rows those terms are kept that happen to fit them,
    which no leverage knows of, and held-out rows lie further out. By how much is known
    with an error; F of N training rows is taken for the size that it has beforehand, so
    that it counts where terms are as many as rows, and little where they are few.
    """
    rest = logs - rows.predict(scale)
    own, new = rows.train > 0, rows.held > 0
    middle, *each = _log_scales(rest, jnp.stack([own | new, own, new]))
    excess = jnp.maximum(each[1] - each[0], 0.0)
    noise = SCALE_NOISE * (1.0 / own.sum() + 1.0 / new.sum())
    before = (rows.size / own.sum()) ** 2
    pull = middle + excess * before / (before + noise)
    return scale.at[-1].add(pull)


def _log_scales(logs: Array, masks: Array) -> Array:
    """Log sds `[M]` of residuals, from their logs `[N]` under masks `[M, N]`."""
    begin = _medians(logs, masks) - jnp.log(MEDIAN_NORMAL)
    away = jnp.minimum(logs - begin[:, None], jnp.log(CUT_NORMAL))
    square = (masks * jnp.exp(2.0 * away)).sum(-1) / masks.sum(-1)
    return begin + 0.5 * jnp.log(square / CUT_SQUARE)


def _gain(rows: Design, target: Array, new: _Answer, old: _Answer) -> Array:
    """Nats that rows gain by `new`, `[N]`."""

    def surprise(answer: _Answer) -> Array:
        log_sd = jnp.maximum(rows.predict(answer.scale), answer.least)
        pull = (target - rows.predict(answer.mean)) * jnp.exp(-log_sd)
        return log_sd + 0.5 * jnp.clip(pull, -FAR, FAR) ** 2

    return surprise(old) - surprise(new)


def _gains(rows: Design, gain: Array, errors: float = 0.0) -> Array:
    """Whether held-out rows gain more than so many errors of that gain, `[]`."""
    count = rows.held.sum()
    mean = (gain * rows.held).sum() / count
    error = jnp.sqrt((rows.held * (gain - mean) ** 2).sum()) / count
    return (mean > errors * error) & jnp.isfinite(mean)


def _medians(values: Array, masks: Array) -> Array:
    """Medians of the entries of `values` `[N]` under each mask of `[M, N]`, `[M]`."""
    order = jnp.argsort(values)
    counts = jnp.cumsum(masks[:, order], -1, dtype=jnp.int32)
    total = counts[:, -1:]
    middles = (counts > (total - 1) // 2), (counts > total // 2)
    low, high = (values[order][jnp.argmax(middle, -1)] for middle in middles)
    return 0.5 * (low + high)
