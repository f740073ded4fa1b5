"""Solved starts: ridge regressions that place and scale a flow before training.

A posterior a thousand times narrower than the prior is mostly *located* by a linear
problem. Solving it exactly leaves the network the part that is not linear.

Weighted ridge, three passes: mean from all rows; log sd from the log squared residuals
(E log chi^2_1 = -1.27); the mean again with weights 1 / sd^2, so that the rows with
narrow posteriors are not blurred by the wide ones.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_at_least, check_last_axis

__all__ = ["RidgeStart", "ridge_start", "solve_start"]

# Penalties tried, relative to the number of rows; the validation rows choose.
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Log sds span at most 4 and weights e^8: a row predicted too narrow by chance never
# takes over.
WEIGHT_RANGE = 4.0
NUM_PASSES = 3
MEAN_LOG_CHI2 = -1.27036


class RidgeStart(NamedTuple):
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


def solve_start(features: Array, targets: Array, num_validation: int) -> RidgeStart:
    """Solve the start; pure, jit- and vmap-able.

    Args:
        features: rows of about unit scale, `[N, F]`; the last `num_validation` of them
            choose the penalties and calibrate the sd.
        targets: shape `[N, D]`.
        num_validation: rows held out, at least 1 and fewer than N.

    Returns:
        Mean and log-sd regressions. Where features say nothing they are constant.
    """
    count = features.shape[0] - num_validation
    centre = features[:count].mean(0)
    design = jnp.concatenate([features - centre, jnp.ones_like(features[:, :1])], -1)
    # A floor at float32's resolution keeps the logs finite for an exact regression.
    floor = 1e-7 * jnp.maximum(targets.std(0), 1e-12)

    gram = _gram(design, count)  # of all unweighted regressions

    def refine(weights: Array, _: None) -> tuple[Array, tuple[Array, ...]]:
        mean = _weighted_ridge(design, targets, weights, count)
        residual = targets - jnp.matmul(design, mean, precision="highest")
        logs = jnp.log(jnp.abs(residual) + floor) - 0.5 * MEAN_LOG_CHI2
        scale = _ridge(design, logs, count, gram)
        log_sd = jnp.matmul(design, scale, precision="highest")
        middle = jnp.median(log_sd[:count], 0)
        spread = jnp.clip(log_sd - middle, -WEIGHT_RANGE / 2, WEIGHT_RANGE / 2)
        return jnp.exp(-2.0 * spread), (mean, scale, residual, log_sd)

    first = jnp.ones_like(targets)
    passes = jax.lax.scan(refine, first, None, length=NUM_PASSES)[1]
    mean, scale, residual, log_sd = jax.tree.map(lambda leaf: leaf[-1], passes)
    pull = jnp.abs(residual[count:]) * jnp.exp(-log_sd[count:])
    # Median |normal| = 0.6745: a calibration that outliers cannot spoil.
    scale = scale.at[-1].add(jnp.log(jnp.maximum(jnp.median(pull, 0), 1e-6) / 0.6745))
    return RidgeStart(
        mean[:-1],
        mean[-1] - jnp.matmul(centre, mean[:-1], precision="highest"),
        scale[:-1],
        scale[-1] - jnp.matmul(centre, scale[:-1], precision="highest"),
    )


def _gram(design: Array, count: int) -> Array:
    train = design[:count]
    return jnp.matmul(train.T, train, precision="highest") / count


def _ridge(design: Array, targets: Array, count: int, gram: Array) -> Array:
    """Ridge of `targets` `[N, D]`; the last design column is the free constant.

    The rows from `count` on choose each column's penalty.
    """
    ridge = jnp.ones(design.shape[1]).at[-1].set(0.0)
    moment = jnp.matmul(design[:count].T, targets[:count], precision="highest") / count

    def solve(penalty: Array) -> tuple[Array, Array]:
        kernel = jnp.linalg.solve(gram + jnp.diag(penalty * ridge + 1e-9), moment)
        held = jnp.matmul(design[count:], kernel, precision="highest")
        return kernel, ((targets[count:] - held) ** 2).mean(0)

    kernels, scores = jax.lax.map(solve, jnp.asarray(PENALTIES))
    scores = jnp.where(jnp.isfinite(scores), scores, jnp.inf)
    best = jnp.argmin(scores, 0)
    return jnp.take_along_axis(kernels, best[None, None], 0)[0]


def _weighted_ridge(design: Array, targets: Array, weights: Array, count: int) -> Array:
    """One ridge per column with the column's own row weights."""

    def column(pair: tuple[Array, Array]) -> Array:
        target, weight = pair
        root = jnp.sqrt(weight / weight[:count].mean())[:, None]
        rows = root * design
        return _ridge(rows, root * target[:, None], count, _gram(rows, count))[:, 0]

    # One column after the other: a compiled loop is small, and there are few columns.
    return jax.lax.map(column, (targets.T, weights.T)).T


def ridge_start(
    variables: dict[str, Any], z: Array, context: Array, num_validation: int
) -> dict[str, Any]:
    """Return `variables` of a flow with its head's start solved on (z, context).

    Args:
        variables: what `flow.init` gave.
        z: targets, shape `[N, D]`.
        context: shape `[N, C]`, of about unit scale per entry.
        num_validation: last rows held out to choose the penalties.

    Raises:
        ValueError: if fewer than two rows are left on either side, or the sizes do not
            fit the flow.
    """
    head = variables["start"]["head"]
    check_at_least("num_validation", num_validation, 2)
    check_at_least("rows to solve on", z.shape[0] - num_validation, 2)
    check_last_axis("z", z.shape, head["mean_bias"].shape[-1])
    check_last_axis("context", context.shape, head["mean_kernel"].shape[0])
    start = solve_start(context, z, num_validation)
    return {**variables, "start": {"head": start._asdict()}}
