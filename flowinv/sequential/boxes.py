"""Boxes of the prior's latent: around a posterior, nested, grown where they press."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.priors.cut import WHOLE, Box, CutPrior, whole_box
from flowinv.priors.latent import Prior
from flowinv.sequential.state import RoundsState

__all__ = ["NextBox", "box_at", "in_box", "next_box", "start_boxes", "with_box"]

# Outer share of a box, on each side, in which a posterior that is not cut has hardly
# any mass; and the share of draws there from which a face counts as pressed. Of a
# normal cut at 3 sd 0.06 % lie in the last 2 % of the box, at 4 sd 0.001 %.
RIM, PRESSED = 0.02, 1e-3
# A face that moves out leaves so much room, in half widths of the old box.
ROOM = 0.2
# In half widths: a posterior of less is taken to be this wide.
LEAST_WIDTH = 1e-3
# Edges beyond so many prior sds stand for the prior's own.
SNAP = 4.5


class NextBox(NamedTuple):
    """A box for the next round.

    Attributes:
        box: the box.
        pressed: largest share of draws in the rim of a face that a cut has made.
    """

    box: Box
    pressed: Array


def start_boxes(num_rounds: int, dim: int) -> Box:
    """Boxes of all rounds that cut nothing, `[R + 1, D]` per edge."""
    return jax.tree.map(
        lambda edge: jnp.broadcast_to(edge, (num_rounds + 1, dim)), whole_box(dim)
    )


def box_at(boxes: Box, index: Array) -> Box:
    """Box that the round `index` draws from."""
    return jax.tree.map(lambda edges: edges[index], boxes)


def with_box(boxes: Box, index: Array, box: Box) -> Box:
    """Boxes with that of the round `index` replaced."""
    return jax.tree.map(lambda edges, edge: edges.at[index].set(edge), boxes, box)


def in_box(state: RoundsState, boxes: Box) -> Array:
    """True for rows that are the prior inside this round's box, `[B]`.

    Those inside it whose own box held all of it.
    """
    box = box_at(boxes, state.index)
    own = box_at(boxes, state.round)
    return box.contains(state.z) & own.holds(box)


def next_box(
    prior: Prior,
    boxes: Box,
    index: Array,
    theta: Array,
    epsilon: float,
    margin: float,
) -> NextBox:
    """Return a box around draws of the last posterior.

    Faces move inwards to the epsilon quantiles and a margin. A face that the posterior
    presses against cut mass: it moves out to the nearest face of an earlier round that
    leaves room, so that the rows of that round count again.

    Args:
        prior: the whole prior.
        boxes: boxes of all rounds, `[R + 1, D]` per edge.
        index: the round that the posterior comes from.
        theta: posterior draws, `[K, D]`.
        epsilon: posterior mass left out, over all faces.
        margin: share of the width that is added on each side.
    """
    box = box_at(boxes, index)
    cut = CutPrior(prior, box)
    scaled = cut.to_scaled(theta)
    tail = 0.5 * epsilon / scaled.shape[-1]
    low, high = jnp.quantile(
        scaled, jnp.asarray([tail, 1.0 - tail], scaled.dtype), axis=0
    )
    pad = margin * jnp.maximum(high - low, LEAST_WIDTH)
    # The prior's own faces are no cuts.
    rim_low = jnp.where(box.low > -WHOLE, (scaled < 2.0 * RIM - 1.0).mean(0), 0.0)
    rim_high = jnp.where(box.high < WHOLE, (scaled > 1.0 - 2.0 * RIM).mean(0), 0.0)
    earlier = (jnp.arange(len(boxes.low)) <= index)[:, None]
    lower = _Faces(box.low, low - pad, rim_low, boxes.low)
    new_low = _moved(prior, cut, lower, earlier)
    # The upper faces are lower ones, seen from the other side.
    upper = _Faces(-box.high, -(high + pad), rim_high, -boxes.high)
    new_high = -_moved(prior, cut, upper, earlier, flip=True)
    return NextBox(Box(new_low, new_high), jnp.maximum(rim_low, rim_high).max())


class _Faces(NamedTuple):
    """The lower faces of a box; upper ones are given negated.

    Attributes:
        old: where they are, in z, `[D]`.
        wanted: where they want to be, scaled to (-1, 1) between the old ones, `[D]`.
        rim: share of the draws pressed against them, `[D]`.
        all: faces of all rounds, in z, `[R + 1, D]`.
    """

    old: Array
    wanted: Array
    rim: Array
    all: Array


def _moved(
    prior: Prior, cut: CutPrior, faces: _Faces, earlier: Array, flip: bool = False
) -> Array:
    """New lower faces in z; with `flip` they are upper ones, negated."""
    sign = -1.0 if flip else 1.0
    inside = sign * jnp.clip(faces.wanted, -1.0, 1.0)
    moved = sign * prior.to_latent(cut.from_scaled(inside))
    moved = jnp.where(moved < -SNAP, -WHOLE, moved)
    # Never outwards by rounding: nested boxes must compare as nested.
    moved = jnp.maximum(moved, faces.old)
    outside = sign * prior.to_latent(cut.from_scaled(sign * jnp.asarray(-1.0 - ROOM)))
    roomy = earlier & (faces.all <= outside)
    back = jnp.where(roomy, faces.all, -WHOLE).max(0)
    return jnp.where(faces.rim > PRESSED, back, moved)
