"""What is static about rounds, and the questions every stage asks a posterior."""

from dataclasses import dataclass

import jax
from jax import Array

from flowinv.flows.estimator import Estimator, Variables
from flowinv.posteriors.latent_density import latent_log_prob, latent_sample
from flowinv.priors.cut import Box
from flowinv.sequential.config import APT, RoundsConfig, Truncated
from flowinv.sequential.state import RoundsState

__all__ = ["ANSWER", "NUM_DRAWS", "PROPOSE", "SIMULATE", "TRAIN", "Plan"]

# Streams of a round's key.
PROPOSE, SIMULATE, TRAIN, ANSWER = range(4)
# Draws that stand for the last posterior between two rounds. A box leaves out a share
# of 1e-4 of them on all faces together: about their extremes.
NUM_DRAWS = 4_096


@dataclass(frozen=True)
class Plan:
    """Estimator and config of rounds.

    Attributes:
        estimator: what is trained, with its input scaling resolved.
        config: `APT` or `Truncated`.
    """

    estimator: Estimator
    config: RoundsConfig

    @property
    def num_boxed(self) -> int:
        """First rounds that draw from a box of the prior, the last one included."""
        config = self.config
        if isinstance(config, Truncated):
            return config.num_rounds if config.region == "box" else 0
        return config.truncated_rounds if isinstance(config, APT) else 0

    @property
    def is_cut(self) -> bool:
        """Whether networks live in the latent of a cut prior."""
        return self.num_boxed > 0

    @property
    def num_rows(self) -> int:
        """Rows of all rounds together."""
        return self.config.num_rounds * self.config.num_simulations

    def round_key(self, state: RoundsState, stream: int) -> Array:
        """Key of one stream of the next round."""
        return jax.random.fold_in(jax.random.fold_in(state.key, state.index), stream)

    def box(self, state: RoundsState, index: Array) -> Box:
        """Box that the round `index` draws from."""
        return jax.tree.map(lambda edges: edges[index], state.boxes)

    def draws(
        self, key: Array, variables: Variables, x_obs: Array, count: int
    ) -> Array:
        """Latent draws of the posterior at x_obs, `[count, D]`."""
        members = self.config.train.num_members
        rows = latent_sample(
            self.estimator, variables, key[None], x_obs[None], count, members
        )
        return rows[0]

    def log_q(self, variables: Variables, w: Array, x_obs: Array) -> Array:
        """Log density of latent `w` `[n, D]` under the posterior at x_obs, `[n]`."""
        members = self.config.train.num_members
        rows = latent_log_prob(self.estimator, variables, w[None], x_obs[None], members)
        return rows[0]
