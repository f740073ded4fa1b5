"""Boxes of the prior's latent: around a posterior, grown where it presses on them.

Rows of all rounds are used in every later box. The density that rounds 0 to r have
drawn from is known: the mean of the prior's densities in their boxes. Weights of prior
over mixture (the balance heuristic, Veach and Guibas 1995) make the rows inside any box
the prior there, whether boxes are nested or not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.priors.cut import WHOLE, Box, CutPrior, whole_box
from flowinv.priors.latent import Prior
from flowinv.sequential.state import RoundsState

__all__ = ["NextBox", "balanced", "box_at", "next_box", "start_boxes", "with_box"]

# Outer share of a box, on each side, in which a posterior that is not cut has hardly
# any mass; and the share of draws there from which a face counts as pressed. Of a
# normal cut at 3 sd 0.06 % lie in the last 2 % of the box, at 4 sd 0.001 %.
RIM, PRESSED = 0.02, 1e-3
# A face that cuts moves out by so many sds of the draws: three are missing where a
# normal is cut at 1 sd, and a box that is filled evenly grows by its own width.
GROWTH = 4.0
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


def balanced(state: RoundsState, boxes: Box, log_mass: Array | None = None) -> Array:
    """Weights of the rows inside this round's box, `[B]`, 1 at most; 0 outside.

    Prior over the density that all rounds so far have drawn from, up to a factor.

    Args:
        state: state of a lane.
        boxes: of all rounds, `[R + 1, D]` per edge.
        log_mass: log of the prior's mass that each round drew from, `[R + 1]`, where
            that is less than its box.
    """
    if log_mass is None:
        log_mass = jax.vmap(Box.log_mass)(boxes)
    rounds = jnp.arange(len(boxes.low), dtype=jnp.int32)
    held = jax.vmap(lambda z: boxes.contains(z))(state.z)
    # A row at the rim of its own box may come back from theta outside of it.
    held |= state.round[:, None] == rounds
    held &= rounds <= state.index
    log_mixture = jax.nn.logsumexp(jnp.where(held, -log_mass, -jnp.inf), -1)
    inside = box_at(boxes, state.index).contains(state.z)
    least = jnp.where(inside, log_mixture, jnp.inf).min()
    return jnp.where(inside, jnp.exp(least - log_mixture), 0.0)


def next_box(
    prior: Prior, box: Box, theta: Array, epsilon: float, margin: float
) -> NextBox:
    """Return a box around draws of the last posterior.

    Faces move inwards to the epsilon quantiles and a margin. A face that the posterior
    presses against cut mass: it moves out by four sds of the draws.

    Args:
        prior: the whole prior.
        box: the last posterior's box, `[D]` per edge.
        theta: posterior draws, `[K, D]`.
        epsilon: posterior mass left out, over all faces.
        margin: share of the width that is added on each side.
    """
    cut = CutPrior(prior, box)
    scaled = cut.to_scaled(theta)
    tail = 0.5 * epsilon / scaled.shape[-1]
    low, high = jnp.quantile(
        scaled, jnp.asarray([tail, 1.0 - tail], scaled.dtype), axis=0
    )
    sd = scaled.std(0)
    pad = margin * jnp.maximum(high - low, LEAST_WIDTH)
    # The prior's own faces are no cuts.
    rim_low = jnp.where(box.low > -WHOLE, (scaled < 2.0 * RIM - 1.0).mean(0), 0.0)
    rim_high = jnp.where(box.high < WHOLE, (scaled > 1.0 - 2.0 * RIM).mean(0), 0.0)
    new_low = _moved(prior, cut, _Faces(box.low, low - pad, rim_low, sd))
    # The upper faces are lower ones, seen from the other side.
    upper = _Faces(-box.high, -(high + pad), rim_high, sd)
    new_high = -_moved(prior, cut, upper, flip=True)
    return NextBox(Box(new_low, new_high), jnp.maximum(rim_low, rim_high).max())


class _Faces(NamedTuple):
    """The lower faces of a box; upper ones are given negated.

    Attributes:
        old: where they are, in z, `[D]`.
        wanted: where they want to be, scaled to (-1, 1) between the old ones, `[D]`.
        rim: share of the draws pressed against them, `[D]`.
        sd: of the draws, scaled alike, `[D]`.
    """

    old: Array
    wanted: Array
    rim: Array
    sd: Array


def _moved(prior: Prior, cut: CutPrior, faces: _Faces, flip: bool = False) -> Array:
    """New lower faces in z; with `flip` they are upper ones, negated."""
    sign = -1.0 if flip else 1.0
    inside = sign * jnp.clip(faces.wanted, -1.0, 1.0)
    moved = sign * prior.to_latent(cut.from_scaled(inside))
    # Never outwards by rounding.
    moved = jnp.maximum(moved, faces.old)
    grown = sign * (-1.0 - GROWTH * faces.sd)
    back = sign * prior.to_latent(cut.from_scaled(grown))
    back = jnp.minimum(back, faces.old)
    moved = jnp.where(faces.rim > PRESSED, back, moved)
    # NaN outside the prior is the prior's own edge.
    return jnp.where(moved >= -SNAP, moved, -WHOLE)
