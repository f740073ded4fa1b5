"""The one engine of an epoch, for fixed sets, fresh simulations and rounds.

What differs between them is where rows come from (`Source`), the loss, and how many
epochs there are; the step, the validation and the optimizer are built here.
"""

from typing import Any

import jax
import optax
from jax import Array

from flowinv.losses.npe import Batch, Loss
from flowinv.models.estimator import Estimator
from flowinv.training.config import TrainConfig, make_optimizer
from flowinv.training.epoch import EpochParts
from flowinv.training.source import Source
from flowinv.training.state import Schedule
from flowinv.training.update import make_update, make_validate

__all__ = ["is_wide", "make_parts"]

# Weights above which a network counts as wide: its arrays stay separate in the
# optimizer, and on a CPU one jitted step beats a scanned epoch.
WIDE = 400_000


def is_wide(params: Any) -> bool:
    """Whether trained numbers (or their shapes) are those of a wide network."""
    return sum(leaf.size for leaf in jax.tree.leaves(params)) > WIDE


def make_parts(
    estimator: Estimator,
    loss: Loss,
    config: TrainConfig,
    source: Source,
    schedule: Schedule,
) -> tuple[EpochParts, optax.GradientTransformation]:
    """Return the parts of an epoch, and the optimizer that its states begin with.

    Args:
        estimator: what is trained.
        loss: a method's loss.
        config: how to train.
        source: rows.
        schedule: epochs at most, epochs to wait, and whether the network is wide.
    """

    def apply(params: Any, z: Array, features: Any) -> Array:
        return estimator.apply_flow("log_prob", params, z, features)

    def bound(params: Any, batch: Batch, key: Array) -> Array:
        return loss(apply, params, batch, key)

    def out_of_range(params: Any, batch: Batch) -> Array:
        return estimator.apply_flow("out_of_range", params, batch.z, batch.features)

    optimizer = make_optimizer(config, source.steps * schedule.max_epochs)
    if not schedule.wide:
        # Element-wise work on one vector compiles to a handful of kernels instead of a
        # hundred; of a wide network every step would copy the vector.
        optimizer = optax.flatten(optimizer)
    parts = EpochParts(
        source,
        make_update(bound, optimizer, config.ema_decay),
        make_validate(bound, out_of_range),
        schedule,
    )
    return parts, optimizer
