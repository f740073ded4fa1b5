"""Truncated proposals: each round draws from the prior, cut to the last posterior.

Rows inside the region of a round are distributed as the prior there, so the loss stays
plain maximum likelihood, and failed simulations may be left out. A region is a box of
the prior's latent, whose own latent is built anew (nothing is rejected), or the last
posterior's highest-density region.

Reference: Deistler et al. 2022, TSNPE, arXiv:2210.04815.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_known, check_positive, fail
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
)
from flowinv.sequential.state import RoundsState

__all__ = ["REGIONS", "Truncated"]

REGIONS = ("box", "hdr")
# Candidates per row of a highest-density region.
CANDIDATES = 8


@dataclass(frozen=True)
class Truncated(RoundsMethod):
    """Truncated proposals (TSNPE).

    Attributes:
        region: "box" cuts the latent prior to a box and rebuilds the latent; "hdr" cuts
            it to the posterior's highest-density region by resampling candidates.
        epsilon: posterior mass that a region may leave out.
        margin: a box is widened on each side by this share of its width.
    """

    region: str = "box"
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
    def _boxed(self) -> bool:
        return self.region == "box"

    def check_prior(self, prior: Prior) -> None:
        """A box needs a latent that is exactly N(0, I)."""
        if self._boxed:
            check_cuttable(prior)

    def start_region(self, dim: int) -> Any:
        """Boxes of all rounds, or log q in z below which a posterior is cut."""
        if self._boxed:
            return start_boxes(self.num_rounds, dim)
        return jnp.asarray(-jnp.inf, jnp.float32)

    def latent_box(self, region: Any, index: Array) -> Box | None:
        """The network lives in the box that its rows came from."""
        return box_at(region, index) if self._boxed else None

    def propose(
        self, plan: Plan, key: Array, state: RoundsState, x_obs: Array
    ) -> Proposal:
        """Draw from the prior inside the region."""
        if self._boxed:
            return from_box(plan, key, box_at(state.region, state.index))
        first, later = from_prior(plan, key), _from_region(plan, key, state, x_obs)
        is_first = state.index == 0
        return jax.tree.map(lambda a, b: jnp.where(is_first, a, b), first, later)

    def proposal_distance(
        self, plan: Plan, state: RoundsState, x_obs: Array, theta: Array
    ) -> Array:
        """In a box, and in round 0; a highest-density region has no base."""
        del x_obs
        if self._boxed:
            return box_distance(plan, box_at(state.region, state.index), theta)
        return jnp.where(state.index == 0, prior_distance(plan, theta), 0.0)

    def weights(self, plan: Plan, state: RoundsState, x_obs: Array) -> Array:
        """Weights that make the rows inside this round's region the prior there.

        Of a box by the balance heuristic. Highest-density regions count as nested; they
        differ where the posterior has a mass of about epsilon.
        """
        if self._boxed:
            return balanced(state, state.region)
        inside = plan.log_q(state.variables, state.z, x_obs) >= state.region
        return inside.astype(jnp.float32)

    def loss(self, prior: AnyPrior, index: Array) -> Loss:
        """Plain maximum likelihood in every round."""
        del prior, index
        return npe_loss

    def keeps_network(self, index: Array) -> Array | None:
        """Never: a new region has a new latent, or a new problem."""
        del index

    def next_region(
        self, plan: Plan, state: RoundsState, fitted: Fitted, x_obs: Array
    ) -> Region:
        """Cut the prior to all but epsilon of the new posterior."""
        if self._boxed:
            prior, index = plan.estimator.prior, state.index
            box = box_at(state.region, index)
            found = next_box(prior, box, fitted.theta, self.epsilon, self.margin)
            boxes = with_box(state.region, index + 1, self._last(state, found.box))
            return Region(boxes, found.pressed)
        log_q = plan.log_q(fitted.variables, fitted.w, x_obs)
        unseen = plan.mass_unseen(state, fitted, x_obs, self.epsilon)
        return Region(jnp.quantile(log_q, self.epsilon), unseen)

    def _last(self, state: RoundsState, box: Box) -> Box:
        """The box of the next round; after the last round that of the last."""
        more = state.index + 1 < self.num_rounds
        old = box_at(state.region, state.index)
        return Box(
            jnp.where(more, box.low, old.low), jnp.where(more, box.high, old.high)
        )


def _from_region(plan: Plan, key: Array, state: RoundsState, x_obs: Array) -> Proposal:
    """Prior draws inside the highest-density region of the last posterior.

    Candidates come from the prior cut to a box around the region, and those inside it
    are taken, in turn again if they are fewer than the rows asked for. (Candidates from
    the posterior would need weights of up to 1e5 at the region's edge.)
    """
    count, prior = plan.method.num_simulations, plan.estimator.prior
    box = _box_around(prior.to_latent(state.draws), state.index)
    cut = CutPrior(prior, box)
    w = cut.sample_latent(key, CANDIDATES * count)
    theta = cut.from_latent(w)
    log_q = plan.log_q(state.variables, prior.to_latent(theta), x_obs)
    inside = log_q >= state.region
    order = jnp.argsort(~inside, stable=True)
    taken = jnp.clip(inside.sum(), 1, count)
    theta = theta[order[jnp.arange(count) % taken]]
    log_share = jnp.log(jnp.maximum(inside.mean(), 1.0 / len(inside)))
    return Proposal(theta, prior.log_prob(theta) - box.log_mass() - log_share)


def _box_around(z: Array, index: Array) -> Box:
    """Range of posterior draws and a tenth on each side; everything in round 0."""
    low, high = z.min(0), z.max(0)
    pad = 0.1 * (high - low)
    first = index == 0
    low = jnp.where(first, -WHOLE, jnp.maximum(low - pad, -WHOLE))
    return Box(low, jnp.where(first, WHOLE, jnp.minimum(high + pad, WHOLE)))
