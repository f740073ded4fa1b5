"""Regressions that place and scale a posterior before training, without tuning.

A posterior a thousand times narrower than the prior is mostly *located* by a linear
problem. Solving it exactly leaves the network the part that is not linear.

Each output has its own regression, and each term of it its own penalty, which the
evidence chooses (automatic relevance determination). Evidence alone keeps every term
whose coefficient exceeds its own error; a term must say more than by chance, as by
Schwarz's criterion, or it goes: a thousand rows then place a posterior in ten
dimensions without adding their noise to it. The log sd is regressed in the same way on
the log squared residuals (E log chi^2_1 = -1.27, variance pi^2 / 2), and the mean again
with weights 1 / sd^2, so that rows with narrow posteriors are not blurred by wide ones.
Unless held-out rows are clearly better off with an sd that varies, it is one number.

References:
    MacKay 1992, Bayesian interpolation, Neural Computation 4, 415.
    Schwarz 1978, Estimating the dimension of a model, Annals of Statistics 6, 461.
    Tipping 2001, Sparse Bayesian learning, JMLR 1, 211.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

__all__ = ["Ridge", "solve_ridge"]

# Steps of the evidence's fixed point for a first regression, and for one that begins
# with the penalties of the last. In the last few, terms that say too little go.
FIRST_STEPS, MORE_STEPS, PRUNING_STEPS = 25, 8, 4
NUM_REFINEMENTS = 3
# Penalties in units of a term's own power per row. The floor keeps float32 solves of
# nearly collinear terms apart; at the ceiling a term is gone.
LEAST_PENALTY, MOST_PENALTY = 1e-7, 1e6
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


class Ridge(NamedTuple):
    """Linear mean and log sd: mean = f @ mean_kernel + mean_bias, and so on.

    Attributes:
        mean_kernel: shape `[F, D]`.
        mean_bias: shape `[D]`.
        scale_kernel: shape `[F, D]`, of the natural log of the sd.
        scale_bias: shape `[D]`.
    """

    mean_kernel: Array
    mean_bias: Array
    scale_kernel: Array
    scale_bias: Array

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and log sd, `[..., D]` each, from features `[..., F]`."""
        mean = _product(features, self.mean_kernel)
        log_sd = _product(features, self.scale_kernel)
        return mean + self.mean_bias, log_sd + self.scale_bias


class _Rows(NamedTuple):
    """Design `[N, F + 1]` with the constant last, and who trains and who is held."""

    design: Array
    train: Array
    held: Array

    @property
    def count(self) -> Array:
        """Number of training rows."""
        return self.train.sum()

    def gram(self, weights: Array | None = None) -> Array:
        """Products of the training rows, per row."""
        use = self.train if weights is None else self.train * weights
        rows = self.design * use[:, None]
        return _product(rows.T, self.design) / self.count

    def predict(self, kernel: Array) -> Array:
        """Values of a regression, `[N]`."""
        return _product(self.design, kernel)


class _Problem(NamedTuple):
    """What one regression is to explain.

    Attributes:
        target: values, `[N]`.
        weights: weights of the rows, of mean 1 over those that train, `[N]`.
        gram: `rows.gram(weights)`, `[F + 1, F + 1]`.
        noise: variance of the noise, None where it is to be found as well.
    """

    target: Array
    weights: Array
    gram: Array
    noise: float | None = None


class _Line(NamedTuple):
    """A regression of one output.

    Attributes:
        kernel: coefficients, the constant last, `[F + 1]`.
        penalty: penalties, `[F + 1]`.
        num_terms: how many coefficients the rows determine, `[]`.
    """

    kernel: Array
    penalty: Array
    num_terms: Array


class _Answer(NamedTuple):
    """Coefficients of mean and log sd of one output, `[F + 1]` each."""

    mean: Array
    scale: Array


def solve_ridge(
    features: Array,
    targets: Array,
    train: Array,
    held: Array,
    may_vary: ArrayLike = True,
) -> Ridge:
    """Solve the regressions; pure, jit- and vmap-able.

    Args:
        features: rows of about unit scale, `[N, F]`; all finite, used or not.
        targets: shape `[N, D]`.
        train: True, or a weight, for rows that are fitted, `[N]`; at least one.
        held: the same for other rows, which say whether the sd varies; at least one.
        may_vary: False for one sd whatever they say; may be traced.

    Returns:
        Mean and log-sd regressions. Where features say nothing they are constant.
    """
    use = ((train > 0) | (held > 0))[:, None]
    # Rows of uneven weights say as much as their effective number.
    weight = train.astype(features.dtype)
    weight = weight * weight.sum() / (weight**2).sum()
    centre = (weight[:, None] * features).sum(0) / weight.sum()
    design = jnp.concatenate([features - centre, jnp.ones_like(features[:, :1])], -1)
    rows = _Rows(design, weight, held.astype(features.dtype))
    # A floor at float32's resolution keeps the logs finite for an exact regression.
    floors = 1e-7 * jnp.maximum(targets.std(0, where=use), 1e-12)
    gram = rows.gram()
    # One column after the other: a compiled loop is small, and there are few columns.
    plain, varying, better = jax.lax.map(
        lambda own: _column(rows, gram, *own), (targets.T, floors)
    )
    better = (better & may_vary)[:, None]
    mean, scale = jax.tree.map(lambda a, b: jnp.where(better, a, b), varying, plain)
    return Ridge(
        mean[:, :-1].T,
        mean[:, -1] - _product(mean[:, :-1], centre),
        scale[:, :-1].T,
        scale[:, -1] - _product(scale[:, :-1], centre),
    )


def _column(
    rows: _Rows, gram: Array, target: Array, floor: Array
) -> tuple[_Answer, _Answer, Array]:
    """One output with one sd, with an sd that varies, and whether it clearly does."""
    ones = jnp.ones_like(target)

    def once(last: tuple[_Line, _Line], steps: Array) -> tuple[Any, Any]:
        mean, scale = last

        def weighted() -> tuple[Array, Array]:
            weights = _weights(rows, scale)
            return weights, rows.gram(weights)

        first = steps == FIRST_STEPS
        weights, own = jax.lax.cond(first, lambda: (ones, gram), weighted)
        line = _evidence(rows, _Problem(target, weights, own), mean.penalty, steps)
        logs = _log_residual(rows, target, line, floor)
        problem = _Problem(logs - 0.5 * MEAN_LOG_CHI2, ones, gram, LOG_NOISE)
        log_sd = _evidence(rows, problem, scale.penalty, steps)
        return (line, log_sd), (line.kernel, log_sd.kernel, logs)

    # One loop: the compiled program holds the regressions once.
    none = jnp.zeros_like(gram[0])
    start = _Line(none, none + 1.0 / rows.count, jnp.zeros_like(rows.count))
    steps = jnp.asarray([FIRST_STEPS] + NUM_PASSES * [MORE_STEPS], jnp.int32)
    _, passes = jax.lax.scan(once, (start, start), steps)
    # One sd at the first pass, one that varies at the last: sorted side by side.
    means, scales, logs = (leaf[jnp.asarray([0, -1])] for leaf in passes)
    scales = scales * jnp.asarray([[0.0], [1.0]])
    scales = jax.vmap(lambda *own: _calibrated(rows, *own))(logs, scales)
    plain, varying = (_Answer(means[i], scales[i]) for i in range(2))
    return plain, varying, _clearly_better(rows, target, varying, plain)


def _evidence(rows: _Rows, problem: _Problem, penalty: Array, steps: Array) -> _Line:
    """Regression whose penalties maximise the evidence.

    Args:
        rows: the design.
        problem: what is to be explained.
        penalty: penalties to begin with, `[F + 1]`.
        steps: steps of MacKay's fixed point, `[]`.
    """
    target, weights, gram, noise = problem
    count, use = rows.count, rows.train * weights
    power = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 1e-12))
    # From the left: a product with the transposed design takes ten times as long.
    moment = _product(use * target, rows.design) / count
    gram, moment = gram / (power * power[:, None]), moment / power
    # The constant, last, is free.
    penalised = jnp.ones_like(power).at[-1].set(0.0)

    def solve(penalty: Array) -> tuple[Array, Array, Array]:
        system = gram + jnp.diag(penalty + 1e-9)
        kernel, spread = _solved(system, moment)
        spread = jnp.maximum(spread, 1e-12)
        return kernel, spread, jnp.clip(1.0 - penalty * spread, 1e-6, 1.0)

    # Squared errors of a kernel near that of the first penalties, from the rest which
    # that one leaves: a pass over the rows at each step would take as long as all else.
    first, *_ = solve(penalty * penalised)
    error = target - rows.predict(first / power)
    rest = _product(use * error, rows.design) / (count * power)
    least = (use * error**2).sum() / count
    # An exact regression's rest, which rounding makes zero or negative.
    smallest = 1e-14 * (use * target**2).sum() / count + 1e-30

    def squares(kernel: Array) -> Array:
        off = kernel - first
        curved = _product(gram, off)
        return least + jnp.vdot(off, curved - 2.0 * rest, precision="highest")

    def step(number: Array, last: _Line) -> _Line:
        penalty = last.penalty
        kernel, spread, terms = solve(penalty)
        variance = noise
        if variance is None:
            share = jnp.maximum(1.0 - terms.sum() / count, 1.0 / count)
            variance = jnp.maximum(squares(kernel), smallest) / share
        new = terms * variance / (count * jnp.maximum(kernel**2, 1e-20))
        # A coefficient of t errors before shrinking has t^2 - 1 after it.
        signal = kernel**2 * count / (variance * spread)
        weak = (signal < jnp.log(count) - 1.0) & (number >= steps - PRUNING_STEPS)
        new = jnp.where(weak, MOST_PENALTY, new)
        new = jnp.clip(new, LEAST_PENALTY, MOST_PENALTY) * penalised
        # After the last step the penalties are solved with once more.
        return _Line(kernel, jnp.where(number < steps, new, penalty), terms.sum())

    begin = _Line(jnp.zeros_like(moment), penalty * penalised, jnp.zeros_like(count))
    line = jax.lax.fori_loop(0, steps + 1, step, begin)
    return line._replace(kernel=line.kernel / power)


def _solved(matrix: Array, moment: Array) -> tuple[Array, Array]:
    """Solution of a symmetric positive system, and its inverse's diagonal, `[F]` each.

    By Cholesky's factor; where float32 has none, by LU, which takes twice as long.
    """
    one = jnp.eye(len(matrix), dtype=matrix.dtype)
    factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    half = jax.lax.linalg.triangular_solve(factor, one, left_side=True, lower=True)

    def refined(inverse: Callable[[Array], Array]) -> Array:
        """What nearly collinear terms leave is solved too: their inverse is rough."""
        kernel = jnp.zeros_like(moment)
        for _ in range(NUM_REFINEMENTS):
            kernel = kernel + inverse(moment - _product(matrix, kernel))
        return kernel

    def by_factor() -> tuple[Array, Array]:
        solution = refined(lambda rest: _product(_product(half, rest), half))
        return solution, (half**2).sum(0)

    # Without a factor there is not a number anywhere.
    whole = jnp.isfinite(half[0, 0])

    def by_inverse() -> tuple[Array, Array]:
        # It waits for the factor: under vmap both are taken, and two batched calls of
        # LAPACK side by side can wait for each other's threads for ever (jaxlib 0.10).
        inverse = jnp.linalg.inv(jnp.where(whole, one, matrix))
        solution = refined(lambda rest: _product(inverse, rest))
        return solution, jnp.diagonal(inverse)

    return jax.lax.cond(whole, by_factor, by_inverse)


def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision="highest")


def _log_residual(rows: _Rows, target: Array, line: _Line, floor: Array) -> Array:
    """Log |residual|, `[N]`, of fitted rows as large as if they had not been fitted.

    A row of weight w pulls the regression towards itself: the variance of its residual
    is (1 + (1 - 2 w) r) times the noise, for the mean leverage r; a new row's 1 + r.
    """
    residual = jnp.abs(target - rows.predict(line.kernel)) + floor
    leverage = jnp.minimum(line.num_terms / rows.count, 1.0)
    left = jnp.maximum(1.0 + (1.0 - 2.0 * rows.train) * leverage, LEAST_RESIDUAL)
    return jnp.log(residual) + 0.5 * jnp.log((1.0 + leverage) / left)


def _weights(rows: _Rows, log_sd: _Line) -> Array:
    """Weights 1 / sd^2 of the rows, of mean 1 over those that train, `[N]`."""
    spread = rows.predict(log_sd.kernel)
    spread = spread - _medians(spread, rows.train[None] > 0)[0]
    spread = jnp.clip(spread, -WEIGHT_RANGE / 2, WEIGHT_RANGE / 2)
    weights = jnp.exp(-2.0 * spread)
    return weights * rows.count / (weights * rows.train).sum()


def _calibrated(rows: _Rows, logs: Array, scale: Array) -> Array:
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
    before = ((len(scale) - 1) / own.sum()) ** 2
    pull = middle + excess * before / (before + noise)
    return scale.at[-1].add(pull)


def _log_scales(logs: Array, masks: Array) -> Array:
    """Log sds `[M]` of residuals, from their logs `[N]` under masks `[M, N]`."""
    begin = _medians(logs, masks) - jnp.log(MEDIAN_NORMAL)
    away = jnp.minimum(logs - begin[:, None], jnp.log(CUT_NORMAL))
    square = (masks * jnp.exp(2.0 * away)).sum(-1) / masks.sum(-1)
    return begin + 0.5 * jnp.log(square / CUT_SQUARE)


def _clearly_better(rows: _Rows, target: Array, new: _Answer, old: _Answer) -> Array:
    """Whether held-out rows gain more by `new` than the error of that gain, `[]`."""

    def surprise(answer: _Answer) -> Array:
        log_sd = rows.predict(answer.scale)
        pull = (target - rows.predict(answer.mean)) * jnp.exp(-log_sd)
        return log_sd + 0.5 * jnp.clip(pull, -FAR, FAR) ** 2

    gain, count = surprise(old) - surprise(new), rows.held.sum()
    mean = (gain * rows.held).sum() / count
    error = jnp.sqrt((rows.held * (gain - mean) ** 2).sum()) / count
    return (mean > error) & jnp.isfinite(mean)


def _medians(values: Array, masks: Array) -> Array:
    """Medians of the entries of `values` `[N]` under each mask of `[M, N]`, `[M]`."""
    order = jnp.argsort(values)
    counts = jnp.cumsum(masks[:, order], -1, dtype=jnp.int32)
    total = counts[:, -1:]
    middles = (counts > (total - 1) // 2), (counts > total // 2)
    low, high = (values[order][jnp.argmax(middle, -1)] for middle in middles)
    return 0.5 * (low + high)
