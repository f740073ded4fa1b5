"""The one engine of an epoch, for fixed sets, fresh simulations and rounds.

What differs between them is where rows come from (`Source`), the loss, and how many
epochs there are; the step, the validation and the optimizer are built here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from flowinv.losses.npe import Batch, Loss
from flowinv.models.estimator import Estimator
from flowinv.training.config import TrainConfig, make_optimizer
from flowinv.training.epoch import EpochParts
from flowinv.training.source import Source
from flowinv.training.state import Schedule
from flowinv.training.update import make_choose, make_update, make_validate

__all__ = ["Form", "form_of", "make_parts"]

# Weights above which a network counts as wide: its arrays stay separate while it is
# trained, and on a CPU one jitted step beats a scanned epoch.
WIDE = 400_000
# Steps of which a wide network's running mean takes one: on a CPU it cost 13 % of each.
WIDE_MEAN = 4


class Form(NamedTuple):
    """Both ways between a parameter tree and what is trained.

    Element-wise work (AdamW, clipping, averaging, best so far) on one vector compiles
    to a handful of kernels instead of a hundred; of a wide network every step would
    copy the vector.

    Attributes:
        ravel: tree to trained form.
        unravel: trained form to tree.
        wide: whether the tree is trained as it is.
    """

    ravel: Callable[[Any], Any]
    unravel: Callable[[Any], Any]
    wide: bool


def form_of(shapes: Any) -> Form:
    """Return the trained form of a parameter tree, given as shapes and dtypes."""
    if sum(leaf.size for leaf in jax.tree.leaves(shapes)) > WIDE:
        return Form(lambda tree: tree, lambda tree: tree, True)
    ways = []

    def ravel(tree: Any) -> Array:
        flat, back = ravel_pytree(tree)
        ways.append(back)
        return flat

    jax.eval_shape(ravel, shapes)  # nothing is computed
    return Form(lambda tree: ravel_pytree(tree)[0], ways[0], False)


def make_parts(
    estimator: Estimator,
    loss: Loss,
    config: TrainConfig,
    source: Source,
    form: Form,
    schedule: Schedule,
) -> tuple[EpochParts, optax.GradientTransformation]:
    """Return the parts of an epoch, and the optimizer that its states begin with.

    Args:
        estimator: what is trained.
        loss: a method's loss.
        config: how to train.
        source: rows.
        form: how the parameters are kept.
        schedule: how long.
    """

    def apply(
        params: Any, value: Any, features: Any, method: str = "log_prob"
    ) -> Array:
        return estimator.apply_flow(method, form.unravel(params), value, features)

    def bound(params: Any, batch: Batch, key: Array) -> Array:
        return loss(apply, params, batch, key)

    def out_of_range(params: Any, batch: Batch) -> Array:
        rest = form.unravel(params), batch.z, batch.features
        return estimator.apply_flow("out_of_range", *rest)

    optimizer = make_optimizer(config, schedule.rate_steps, schedule.longer)
    parts = EpochParts(
        source,
        make_update(bound, optimizer, config.ema_decay, WIDE_MEAN if form.wide else 1),
        make_validate(bound, out_of_range),
        make_choose(bound),
        schedule,
    )
    return parts, optimizer
