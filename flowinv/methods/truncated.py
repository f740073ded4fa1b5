"""Truncated proposals: each round draws from the prior, cut to the last posterior.

Rows inside the region of a round are distributed as the prior there, so the loss stays
plain maximum likelihood, and failed simulations may be left out. A region is a box of
the prior's latent, whose own latent is built anew (nothing is rejected), or the last
posterior's highest-density region.

Reference: Deistler et al. 2022, TSNPE, arXiv:2210.04815.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_known, check_positive, fail
from flowinv.flows.density import standard_normal_log_prob
from flowinv.losses.npe import Loss, npe_loss
from flowinv.models.placing import AnyPrior
from flowinv.priors.cut import WHOLE, Box, CutPrior, check_cuttable
from flowinv.priors.latent import Prior
from flowinv.sequential.boxes import (
    balanced,
    box_at,
    next_box,
    start_boxes,
    with_box,
)
from flowinv.sequential.method import Fitted, Plan, Proposal, Region, RoundsMethod
from flowinv.sequential.proposals import (
    box_distance,
    from_box,
    from_prior,
    prior_distance,
    resampled,
)
from flowinv.sequential.state import RoundsState
from flowinv.sequential.wide import Ball, WideFlow, ball_radius
from flowinv.types import EMPTY

__all__ = ["REGIONS", "Cut", "Truncated"]

REGIONS = ("auto", "box", "hdr")
# Candidates per row of a highest-density region.
CANDIDATES = 16
# Nats beyond which "auto" cuts a box to the highest-density region: two modes.
MOST_WASTE = math.log(2.0)


class Cut(NamedTuple):
    """Where the next round draws the prior.

    Attributes:
        boxes: boxes of all rounds, or None.
        level: log density of the last posterior, in its latent, below which the prior
            is cut; -inf where it is not; or None.
    """

    boxes: Box | None
    level: Array | None


@dataclass(frozen=True)
class Truncated(RoundsMethod):
    """Truncated proposals (TSNPE).

    Attributes:
        region: "box" cuts the latent prior to a box and rebuilds the latent; "hdr" cuts
            it to the posterior's highest-density region; "auto" cuts to a box, and
            that to the highest-density region where the posterior is curved or has
            several modes, so that a box would be mostly empty.
        epsilon: posterior mass that a region may leave out.
        margin: a region is widened on each side by this share of its width.
    """

    region: str = "auto"
    epsilon: float = 1e-4
    margin: float = 0.15

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        self.check_shared()
        check_known("region", self.region, REGIONS)
        check_positive("epsilon", self.epsilon)
        check_positive("margin", self.margin)
        if self.epsilon > 0.1:
            fail("epsilon", "of at most 0.1", self.epsilon)

    @property
    def selects(self) -> bool:
        """Every round after the first does."""
        return True

    @property
    def _boxed(self) -> bool:
        return self.region != "hdr"

    @property
    def _levelled(self) -> bool:
        return self.region != "box"

    def check_prior(self, prior: Prior) -> None:
        """A box needs a latent that is exactly N(0, I)."""
        if self._boxed:
            check_cuttable(prior)

    def start_region(self, dim: int) -> Cut:
        """Boxes of all rounds that cut nothing, and no level."""
        boxes = start_boxes(self.num_rounds, dim) if self._boxed else None
        level = jnp.asarray(-jnp.inf, jnp.float32) if self._levelled else None
        return Cut(boxes, level)

    def latent_box(self, region: Cut, index: Array) -> Box | None:
        """The network lives in the box that its rows came from."""
        return box_at(region.boxes, index) if self._boxed else None

    def propose(
        self, plan: Plan, key: Array, state: RoundsState, x_obs: Array
    ) -> Proposal:
        """Draw from the prior inside the region."""
        if not self._levelled:
            return from_box(plan, key, box_at(state.region.boxes, state.index))
        if self._boxed:
            whole = jnp.isneginf(state.region.level)
            box = box_at(state.region.boxes, state.index)
            plainly = functools.partial(from_box, plan, key, box)
        else:
            whole = state.index == 0
            plainly = functools.partial(from_prior, plan, key)
        return jax.lax.cond(
            whole, plainly, lambda: _from_region(plan, key, state, x_obs)
        )

    def proposal_distance(
        self, plan: Plan, state: RoundsState, x_obs: Array, theta: Array
    ) -> Array:
        """In a box, and in round 0; a highest-density region has no base."""
        del x_obs
        if self._boxed:
            box = box_at(state.region.boxes, state.index)
            distance = box_distance(plan, box, theta)
        else:
            distance = prior_distance(plan, theta)
        if not self._levelled:
            return distance
        return jnp.where(jnp.isneginf(state.region.level), distance, 0.0)

    def weights(self, plan: Plan, state: RoundsState, x_obs: Array) -> Array:
        """Weights that make the rows inside this round's region the prior there.

        Of a box by the balance heuristic. Highest-density regions count as nested; they
        differ where the posterior has a mass of about epsilon.
        """
        region = state.region
        if not self._levelled:
            return balanced(state, region.boxes)
        ratio = _log_ratio(plan, state)
        masses = _log_masses(plan, ratio)
        # Rows of one region differ by the chance that they were taken with.
        weights = jnp.exp(ratio - masses[state.round])
        if self._boxed:
            weights = weights * balanced(state, region.boxes, masses)
        score = _score(plan, state, state.z, x_obs)
        own = jnp.where(state.round == state.index, score, jnp.inf)
        # Rows of this round reach below the level where candidates were few.
        inside = score >= jnp.minimum(region.level, own.min())
        return jnp.where(inside, weights, 0.0)

    def loss(self, prior: AnyPrior, index: Array) -> Loss:
        """Plain maximum likelihood in every round."""
        del prior, index
        return npe_loss

    def keeps_network(self, index: Array) -> Array | None:
        """Never: a new region has a new latent, or a new problem."""
        del index

    def radius(self, dim: int) -> float:
        """Of the ball in a Gaussian posterior's base that is its widened region."""
        return (1.0 + 2.0 * self.margin) * ball_radius(dim, self.epsilon)

    def _level(self, log_q: Array) -> Array:
        """Log density below which a region ends, from draws' `log_q` `[K]`, `[]`.

        Around a normal it is a ball; its width grows by the margin on each side, and
        depths go with the width squared. A mode that a rough posterior has put a little
        beside its place would be cut away otherwise, and never come back.
        """
        top, level = log_q.max(), jnp.quantile(log_q, self.epsilon)
        return top - (1.0 + 2.0 * self.margin) ** 2 * (top - level)

    def next_region(
        self, plan: Plan, state: RoundsState, fitted: Fitted, x_obs: Array
    ) -> Region:
        """Cut the prior to all but epsilon of the new posterior."""
        last, prior = state.region, plan.estimator.prior
        outside, boxes, level = jnp.zeros((), jnp.float32), None, None
        if self._boxed:
            box = box_at(last.boxes, state.index)
            found = next_box(prior, box, fitted.theta, self.epsilon, self.margin)
            more = state.index + 1 < self.num_rounds
            kept = jax.tree.map(lambda a, b: jnp.where(more, a, b), found.box, box)
            boxes, outside = with_box(last.boxes, state.index + 1, kept), found.pressed
        if self._levelled:
            level = self._level(fitted.log_q)
            if self._boxed:
                level = jnp.where(fitted.waste() > MOST_WASTE, level, -jnp.inf)
            score = _score(plan, state, prior.to_latent(fitted.theta), x_obs)
            outside = jnp.maximum(outside, (score < last.level).mean())
        return Region(Cut(boxes, level), outside)


def _score(plan: Plan, state: RoundsState, z: Array, x_obs: Array) -> Array:
    """Log density of the last posterior in its latent; inf where it has no say."""
    frozen = state.variables.frozen
    w = plan.estimator.latent_of(frozen, z)
    log_q = plan.log_q(state.variables, w, x_obs)
    if frozen.box is None:
        return log_q
    return jnp.where(frozen.box.contains(z), log_q, jnp.inf)


def _log_ratio(plan: Plan, state: RoundsState) -> Array:
    """Log of prior over proposal of each row, `[B]`; 0 for rows not filled yet."""
    ratio = plan.estimator.prior.log_prob(state.theta) - state.log_proposal
    return jnp.where(state.round == EMPTY, 0.0, ratio)


def _log_masses(plan: Plan, ratio: Array) -> Array:
    """Log of the prior's mass that each round drew from, `[R + 1]`: its mean ratio."""
    count = plan.method.num_simulations
    rounds = ratio.reshape(plan.method.num_rounds, count)
    masses = jax.nn.logsumexp(rounds, -1) - math.log(count)
    return jnp.concatenate([masses, jnp.zeros(1)])


def _from_region(plan: Plan, key: Array, state: RoundsState, x_obs: Array) -> Proposal:
    """Prior draws inside the highest-density region of the last posterior.

    Half of the candidates come from the prior cut to the round's box, or to one around
    the posterior; half from the last flow with its base spread over a ball. (The
    posterior's own draws would need weights of up to 1e5 at the region's edge.) Those
    inside the region are taken by their weights, prior over mixture. Where too few
    are inside, the region is widened to hold as many as are asked for.
    """
    count, prior = plan.method.num_simulations, plan.estimator.prior
    if state.region.boxes is None:
        box = _box_around(prior.to_latent(state.draws), state.index)
    else:
        box = box_at(state.region.boxes, state.index)
    cut, frozen = CutPrior(prior, box), state.variables.frozen
    own = plan.estimator.prior_of(frozen)
    base = Ball(plan.method.radius(prior.dim))
    ball = WideFlow(plan, state.variables, x_obs, base)
    keys, half = jax.random.split(key, 3), CANDIDATES * count // 2
    theta = jnp.concatenate(
        [
            cut.from_latent(cut.sample_latent(keys[0], half)),
            own.from_latent(ball.sample(keys[1], half)),
        ]
    )
    (z, log_dz), (v, log_dv) = (
        latent.to_latent_and_log_det(theta) for latent in (prior, cut)
    )
    w, log_dw = own.to_latent_and_log_det(theta)
    log_q, log_ball = ball.log_probs(w)
    # Outside of the network's box it has no say.
    inside = jnp.isfinite(log_dw)
    log_ball = jnp.where(inside, log_ball + log_dw, -jnp.inf)
    log_box = standard_normal_log_prob(v) + log_dv
    log_prior = prior.latent_log_prob(z) + log_dz
    score = jnp.where(inside, log_q, jnp.inf)
    score = jnp.where(box.contains(z), score, -jnp.inf)
    level = jnp.minimum(state.region.level, jax.lax.top_k(score, count)[0][-1])
    log_w = log_prior - jnp.logaddexp(log_box, log_ball) + math.log(2.0)
    taken, ratio = resampled(keys[2], jnp.where(score >= level, log_w, -jnp.inf), count)
    return Proposal(theta[taken], log_prior[taken] - ratio)


def _box_around(z: Array, index: Array) -> Box:
    """Range of posterior draws and a tenth on each side; everything in round 0."""
    low, high = z.min(0), z.max(0)
    pad = 0.1 * (high - low)
    first = index == 0
    low = jnp.where(first, -WHOLE, jnp.maximum(low - pad, -WHOLE))
    return Box(low, jnp.where(first, WHOLE, jnp.minimum(high + pad, WHOLE)))
