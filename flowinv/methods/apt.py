"""Automatic posterior transformation with atomic proposals.

First rounds draw from a box of the prior, with the plain loss. Then the proposal of a
round is the last posterior itself, a little widened; the atomic loss (see
`flowinv.losses.apt`) asks which of A parameters produced x, whose answer no proposal
bends. The atoms live in the last box, and begin at the Gaussian that its rows give.

References:
    Greenberg et al. 2019, arXiv:1905.07488.
    Durkan et al. 2020, arXiv:2002.03712 (the combined loss).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_at_least, fail
from flowinv.losses.apt import make_apt_loss
from flowinv.losses.npe import Batch, Loss, npe_loss
from flowinv.models.placing import AnyPrior
from flowinv.priors.cut import Box, check_cuttable
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
    from_posterior,
    from_prior,
    posterior_distance,
    prior_distance,
)
from flowinv.sequential.state import RoundsState

__all__ = ["APT"]


MOST_WIDENING = 10


@dataclass(frozen=True)
class APT(RoundsMethod):
    """Automatic posterior transformation (APT, SNPE-C) with atomic proposals.

    Attributes:
        num_atoms: atoms of the loss, or "all" rows of the batch.
        combined: add the plain loss on rows of the prior, or of boxes of it.
        truncated_rounds: first rounds that draw from a box of the prior instead, with
            the plain loss; the atoms then live in the last box, where no mass can leak
            (without one, draws of a beam's width were four times as wide as exact).
            "auto" takes half of all where the prior can be cut, else none.
        keep_prior_rows: train on the first round's rows in later rounds too.
        warm_start: atomic rounds go on with the last network's weights around a
            Gaussian solved anew; otherwise each draws new ones.
        widening: the proposal is the last posterior with its base widened to so many
            times the volume; 1 is the posterior itself. In a posterior's own draws x
            says little of its width: that is what is left when the proposal's is
            taken out again. In one dimension variances scatter by 0.7 % with 2, by 7 %
            with 1; in many one volume is hardly wider, and more would leave nothing
            that is hard to tell apart.
        epsilon: posterior mass that a box may leave out.
        margin: a box is widened on each side by this share of its width.
        last_training: see `RoundsMethod`. Atoms say nothing of where no proposal was:
            longer training lets mass leak there (1.33 times as wide as exact with 4,
            1.02 with 2, where the prior is 10,000 times as wide as the posterior).
    """

    num_atoms: int | str = 10
    combined: bool = True
    truncated_rounds: int | str = "auto"
    keep_prior_rows: bool = True
    warm_start: bool = False
    widening: float = 2.0
    epsilon: float = 1e-4
    margin: float = 0.15
    last_training: int = 2

    # Atoms of others: without them these would be compared with another proposal.
    keeps_failed: ClassVar[bool] = True

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        self.check_shared()
        if isinstance(self.num_atoms, str):
            if self.num_atoms != "all":
                fail("num_atoms", "to be a number or 'all'", repr(self.num_atoms))
        else:
            check_at_least("num_atoms", self.num_atoms, 2)
            if self.num_atoms > self.batch_rows:
                fail(
                    "num_atoms",
                    f"of at most the batch's {self.batch_rows} rows",
                    self.num_atoms,
                )
        first, most = self.truncated_rounds, self.num_rounds - 1
        if first != "auto" and not (isinstance(first, int) and 0 <= first <= most):
            fail("truncated_rounds", f"from 0 to {most}, or 'auto'", repr(first))
        if not 0 < self.epsilon <= 0.1:
            fail("epsilon", "above 0, of at most 0.1", self.epsilon)
        if not self.margin > 0:
            fail("margin", "above 0", self.margin)
        if not 1 <= self.widening <= MOST_WIDENING:
            fail("widening", f"from 1 to {MOST_WIDENING}", self.widening)

    def suited(self, prior: Prior) -> "APT":
        """Half of the rounds from boxes, where nothing else is asked for."""
        if self.truncated_rounds != "auto":
            return self
        half = min((self.num_rounds + 1) // 2, self.num_rounds - 1)
        first = half if prior.has_normal_latent else 0
        return dataclasses.replace(self, truncated_rounds=first)

    @property
    def selects(self) -> bool:
        """The boxed rounds do."""
        return self._boxed

    @property
    def _boxed(self) -> bool:
        """Whether some rounds draw from boxes; known once `suited`."""
        return int(self.truncated_rounds) > 0

    @property
    def _num_plain(self) -> int:
        """First rounds whose rows come from the prior, or from boxes of it."""
        return max(int(self.truncated_rounds), 1)

    def _scale(self, dim: int) -> float:
        """Of the base of a proposal, in each of `dim` dimensions."""
        return self.widening ** (1.0 / dim)

    def check_prior(self, prior: Prior) -> None:
        """A box needs a latent that is exactly N(0, I)."""
        if self.truncated_rounds != "auto" and self._boxed:
            check_cuttable(prior)

    def start_region(self, dim: int) -> Any:
        """Boxes of all rounds; nothing where all draw from the posterior."""
        return start_boxes(self.num_rounds, dim) if self._boxed else ()

    def latent_box(self, region: Any, index: Array) -> Box | None:
        """The box of the last boxed round holds for the atomic ones too."""
        return box_at(region, index) if self._boxed else None

    def propose(
        self, plan: Plan, key: Array, state: RoundsState, x_obs: Array
    ) -> Proposal:
        """Draw from the prior first, or from boxes of it, then from the posterior."""
        if self._boxed:
            early = from_box(plan, key, box_at(state.region, state.index))
        else:
            early = from_prior(plan, key)
        scale = self._scale(plan.estimator.prior.dim)
        later = from_posterior(plan, key, state, x_obs, scale)
        is_early = state.index < self._num_plain
        return jax.tree.map(lambda a, b: jnp.where(is_early, a, b), early, later)

    def proposal_distance(
        self, plan: Plan, state: RoundsState, x_obs: Array, theta: Array
    ) -> Array:
        """From the base of the prior, the box or the flow."""
        if self._boxed:
            early = box_distance(plan, box_at(state.region, state.index), theta)
        else:
            early = prior_distance(plan, theta)
        scale = self._scale(theta.shape[-1])
        later = posterior_distance(plan, state, x_obs, theta, scale)
        return jnp.where(state.index < self._num_plain, early, later)

    def weights(self, plan: Plan, state: RoundsState, x_obs: Array) -> Array:
        """The same for all rows in the box: no proposal bends the atomic loss.

        The plain loss of the first rounds takes them by the balance heuristic.
        """
        del plan, x_obs
        weights = jnp.ones(len(state.theta), jnp.float32)
        if self._boxed:
            inside = box_at(state.region, state.index).contains(state.z)
            plain, atomic = balanced(state, state.region), inside.astype(jnp.float32)
            weights = jnp.where(state.index < self._num_plain, plain, atomic)
        if not self.keep_prior_rows:
            used = (state.round > 0) | (state.index == 0)
            weights = jnp.where(used, weights, 0.0)
        return weights

    def from_prior(self, state: RoundsState) -> Array:
        """Of boxed rounds those whose box holds the last one, where it is."""
        if not self._boxed:
            return state.round == 0
        box, boxes = box_at(state.region, state.index), state.region
        holds = boxes.holds(box)[state.round] & (state.round < self._num_plain)
        return holds & (state.round >= 0) & box.contains(state.z)

    def placing_weights(self, plan: Plan, state: RoundsState, weights: Array) -> Array:
        """Of boxed rounds only: rows of a posterior would bend the solved Gaussian."""
        del plan
        if not self._boxed:
            return weights
        plain = balanced(state, state.region) * (state.round < self._num_plain)
        return weights * plain

    def loss(self, prior: AnyPrior, index: Array) -> Loss:
        """Plain maximum likelihood for prior rows, atoms where a posterior proposed."""
        atomic = make_apt_loss(self.num_atoms, prior.latent_log_prob, self.combined)

        def loss(apply: Any, params: Any, batch: Batch, key: Array) -> Array:
            # Until a row comes from a posterior the plain loss is exact, and sharper.
            return jax.lax.cond(
                index < self._num_plain,
                lambda: npe_loss(apply, params, batch, key),
                lambda: atomic(apply, params, batch, key),
            )

        return loss

    def keeps_network(self, index: Array) -> Array | None:
        """A warm start keeps it where the latent stays."""
        return index >= self._num_plain if self.warm_start else None

    def next_region(
        self, plan: Plan, state: RoundsState, fitted: Fitted, x_obs: Array
    ) -> Region:
        """Boxes move until the atoms begin; the posterior itself is the region then."""
        unseen = plan.mass_unseen(state, fitted, x_obs, self.epsilon)
        if not self._boxed:
            return Region((), unseen)
        index, boxes = state.index, state.region
        prior, old = plan.estimator.prior, box_at(boxes, index)
        found = next_box(prior, old, fitted.theta, self.epsilon, self.margin)
        more = index + 1 < self.truncated_rounds
        box = jax.tree.map(lambda a, b: jnp.where(more, a, b), found.box, old)
        boxes = with_box(boxes, index + 1, box)
        return Region(boxes, jnp.maximum(found.pressed, unseen))
