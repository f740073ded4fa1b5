"""Weighted ridge regressions that place and scale a posterior before training.

A posterior a thousand times narrower than the prior is mostly *located* by a linear
problem. Solving it exactly leaves the network the part that is not linear.

Three passes: mean from all rows; log sd from the log squared residuals (E log chi^2_1 =
-1.27); the mean again with weights 1 / sd^2, so that the rows with narrow posteriors
are not blurred by the wide ones.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Ridge", "solve_ridge"]

# Penalties tried, relative to the number of rows; the held-out rows choose.
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Log sds span at most 4 and weights e^8: a row predicted too narrow by chance never
# takes over.
WEIGHT_RANGE = 4.0
NUM_PASSES = 3
MEAN_LOG_CHI2 = -1.27036


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
        mean = jnp.matmul(features, self.mean_kernel, precision="highest")
        log_sd = jnp.matmul(features, self.scale_kernel, precision="highest")
        return mean + self.mean_bias, log_sd + self.scale_bias


class _Rows(NamedTuple):
    """Design `[N, F + 1]` with the constant last, and who trains and who is held."""

    design: Array
    train: Array
    held: Array

    def gram(self) -> Array:
        """Products of the training rows, per row."""
        rows = self.design * self.train[:, None]
        return jnp.matmul(rows.T, self.design, precision="highest") / self.train.sum()


def solve_ridge(features: Array, targets: Array, train: Array, held: Array) -> Ridge:
    """Solve the regressions; pure, jit- and vmap-able.

    Args:
        features: rows of about unit scale, `[N, F]`; all finite, used or not.
        targets: shape `[N, D]`.
        train: True for rows that are fitted, `[N]`; at least one.
        held: True for other rows, which choose the penalties and calibrate the sd;
            at least one.

    Returns:
        Mean and log-sd regressions. Where features say nothing they are constant.
    """
    use = (train | held)[:, None]
    weight = train.astype(features.dtype)
    centre = (weight[:, None] * features).sum(0) / weight.sum()
    design = jnp.concatenate([features - centre, jnp.ones_like(features[:, :1])], -1)
    rows = _Rows(design, weight, held.astype(features.dtype))
    # A floor at float32's resolution keeps the logs finite for an exact regression.
    floor = 1e-7 * jnp.maximum(targets.std(0, where=use), 1e-12)
    gram = rows.gram()  # of all unweighted regressions

    def refine(weights: Array, _: None) -> tuple[Array, tuple[Array, ...]]:
        mean = _weighted(rows, targets, weights)
        residual = targets - jnp.matmul(design, mean, precision="highest")
        logs = jnp.log(jnp.abs(residual) + floor) - 0.5 * MEAN_LOG_CHI2
        scale = _ridge(rows, logs, gram)
        log_sd = jnp.matmul(design, scale, precision="highest")
        middle = _median(log_sd, train)
        spread = jnp.clip(log_sd - middle, -WEIGHT_RANGE / 2, WEIGHT_RANGE / 2)
        return jnp.exp(-2.0 * spread), (mean, scale, residual, log_sd)

    first = jnp.ones_like(targets)
    passes = jax.lax.scan(refine, first, None, length=NUM_PASSES)[1]
    mean, scale, residual, log_sd = jax.tree.map(lambda leaf: leaf[-1], passes)
    pull = _median(jnp.abs(residual) * jnp.exp(-log_sd), held)
    # Median |normal| = 0.6745: a calibration that outliers cannot spoil.
    scale = scale.at[-1].add(jnp.log(jnp.maximum(pull, 1e-6) / 0.6745))
    return Ridge(
        mean[:-1],
        mean[-1] - jnp.matmul(centre, mean[:-1], precision="highest"),
        scale[:-1],
        scale[-1] - jnp.matmul(centre, scale[:-1], precision="highest"),
    )


def _median(values: Array, mask: Array) -> Array:
    """Median of the masked rows of `values` `[N, D]`, shape `[D]`."""
    ordered = jnp.sort(jnp.where(mask[:, None], values, jnp.inf), 0)
    count = mask.sum()
    return 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])


def _ridge(rows: _Rows, targets: Array, gram: Array) -> Array:
    """Ridge of `targets` `[N, D]`; the last design column is the free constant.

    Held-out rows choose each column's penalty.
    """
    design, train, held = rows
    ridge = jnp.ones(design.shape[1], design.dtype).at[-1].set(0.0)
    fitted = design * train[:, None]
    moment = jnp.matmul(fitted.T, targets, precision="highest") / train.sum()

    def solve(penalty: Array) -> tuple[Array, Array]:
        kernel = jnp.linalg.solve(gram + jnp.diag(penalty * ridge + 1e-9), moment)
        error = targets - jnp.matmul(design, kernel, precision="highest")
        return kernel, (held[:, None] * error**2).sum(0)

    kernels, scores = jax.lax.map(solve, jnp.asarray(PENALTIES, design.dtype))
    scores = jnp.where(jnp.isfinite(scores), scores, jnp.inf)
    best = jnp.argmin(scores, 0)
    return jnp.take_along_axis(kernels, best[None, None], 0)[0]


def _weighted(rows: _Rows, targets: Array, weights: Array) -> Array:
    """One ridge per column with the column's own row weights."""

    def column(pair: tuple[Array, Array]) -> Array:
        target, weight = pair
        mean = (weight * rows.train).sum() / rows.train.sum()
        root = jnp.sqrt(weight / mean)[:, None]
        own = rows._replace(design=root * rows.design)
        return _ridge(own, root * target[:, None], own.gram())[:, 0]

    # One column after the other: a compiled loop is small, and there are few columns.
    return jax.lax.map(column, (targets.T, weights.T)).T
