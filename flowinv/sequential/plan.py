"""What is static about rounds, and the questions every stage asks a posterior."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.models.estimator import Estimator, Variables
from flowinv.models.latent_density import latent_log_prob, latent_sample
from flowinv.sequential.method import Fitted, RoundsMethod
from flowinv.sequential.state import RoundsState

__all__ = ["ANSWER", "NUM_DRAWS", "PROPOSE", "SIMULATE", "TRAIN", "Plan"]

# Streams of a round's key.
PROPOSE, SIMULATE, TRAIN, ANSWER = range(4)
# Draws that stand for the last posterior between two rounds. A box leaves out a share
# of 1e-4 of them on all faces together: about their extremes.
NUM_DRAWS = 4_096


@dataclass(frozen=True)
class Plan:
    """Estimator and method of rounds.

    Attributes:
        estimator: what is trained, with its input scaling resolved.
        method: what rounds do.
    """

    estimator: Estimator
    method: RoundsMethod

    @property
    def num_rows(self) -> int:
        """Rows of all rounds together."""
        return self.method.num_rounds * self.method.num_simulations

    def round_key(self, state: RoundsState, stream: int) -> Array:
        """Key of one stream of the next round."""
        return jax.random.fold_in(jax.random.fold_in(state.key, state.index), stream)

    def draws(
        self, key: Array, variables: Variables, x_obs: Array, count: int
    ) -> Array:
        """Latent draws of the posterior at x_obs, `[count, D]`."""
        return latent_sample(self.estimator, variables, key[None], x_obs[None], count)[
            0
        ]

    def log_q(self, variables: Variables, w: Array, x_obs: Array) -> Array:
        """Log density of latent `w` `[n, D]` under the posterior at x_obs, `[n]`."""
        return latent_log_prob(self.estimator, variables, w[None], x_obs[None])[0]

    def mass_unseen(
        self, state: RoundsState, fitted: Fitted, x_obs: Array, epsilon: float
    ) -> Array:
        """Share of the new posterior where the last one had all but epsilon, `[]`."""
        last = state.variables
        own = self.draws(self.round_key(state, ANSWER), last, x_obs, NUM_DRAWS)
        level = jnp.quantile(self.log_q(last, own, x_obs), epsilon)
        w = self.estimator.prior_of(last.frozen).to_latent(fitted.theta)
        return (self.log_q(last, w, x_obs) < level).mean()
