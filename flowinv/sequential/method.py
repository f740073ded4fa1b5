"""What rounds ask of a method, what all methods share, and what is static of both.

A method is a frozen dataclass in `flowinv.methods`: its own fields with its own
defaults, and the answers below. The engine hands it the `Plan` (estimator and method,
with the questions that any posterior answers) and the state of a lane, and never asks
which method it holds. What it keeps between rounds is its own pytree, `state.region`.
"""

import abc
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from flowinv.checks import check_at_least, fail
from flowinv.losses.npe import Loss
from flowinv.models.estimator import Estimator, Variables
from flowinv.models.latent_density import latent_log_prob, latent_sample
from flowinv.models.placing import AnyPrior
from flowinv.models.registry import NORMALIZING, NetworkConfig
from flowinv.priors.cut import Box
from flowinv.priors.latent import Prior
from flowinv.sequential.state import ANSWER, NUM_DRAWS, RoundsState
from flowinv.training.config import TrainConfig
from flowinv.types import EMPTY

__all__ = ["Fitted", "Plan", "Proposal", "Region", "RoundsMethod"]

# Rounds are short: few rows, a placed start, a narrow problem.
ROUND_TRAINING = TrainConfig(
    max_epochs=20,
    learning_rate=2e-3,
    warmup_steps=20,
    patience=0,
    steps_per_epoch=50,
    num_members=1,
)
# A round has a thousand rows and a problem of unit scale: small layers suffice.
ROUND_NETWORK = NetworkConfig(num_layers=5, hidden=(50, 50), head_hidden=(64, 64))


class Proposal(NamedTuple):
    """Rows of a round before they are simulated.

    Attributes:
        theta: parameters, `[N, D]`.
        log_prob: log density of the proposal in theta, `[N]`.
    """

    theta: Array
    log_prob: Array


class Fitted(NamedTuple):
    """The posterior that a round has just learned, with draws of it.

    Attributes:
        variables: its networks.
        w: draws in the networks' latent, `[K, D]`.
        theta: the same draws in the parameters' units, `[K, D]`.
        log_q: their log density in the latent, `[K]`.
    """

    variables: Variables
    w: Array
    theta: Array
    log_q: Array

    def waste(self) -> Array:
        """Nats by which the posterior is smaller than the Gaussian around it, `[]`.

        Its negentropy: 0 for a Gaussian, log 2 for two equal ones far apart, more for
        thin and curved ones. What a box around it simulates in vain grows with it.
        """
        dim = self.w.shape[-1]
        covariance = jnp.cov(self.w.T).reshape(dim, dim)
        log_det = jnp.linalg.slogdet(covariance)[1]
        gaussian = 0.5 * (dim * (1.0 + math.log(2.0 * math.pi)) + log_det)
        return gaussian + self.log_q.mean()


class Region(NamedTuple):
    """Where the next round may look, and what of the posterior lies elsewhere.

    Attributes:
        region: the method's own pytree, with the structure of `start_region`.
        mass_outside: share of the posterior's mass outside the last region, `[]`.
    """

    region: Any
    mass_outside: Array


@dataclass(frozen=True)
class RoundsMethod(abc.ABC):
    """Fields that all methods of rounds share, and what each must answer.

    Attributes:
        num_rounds: rounds R at most.
        num_simulations: simulations N of each round.
        train: training of each round. Its `steps_per_epoch` steps lie between two
            validations, `max_epochs` of these at most; batches hold at most half of
            a round's rows, and a quarter where their size is left open (0).
        last_training: the last round, whose network is the answer, trains for so many
            times the epochs of the others.
        stop_when_converged: end when the posterior moves by less than this between two
            rounds (see `RoundInfo.distance`); 0 runs all rounds.
        lanes_per_call: observations in one vmapped program; 0 takes one on a CPU and
            all on an accelerator. Memory grows with it: per lane about 8 bytes for
            every number of x of all rounds, and as much again for the features.
    """

    num_rounds: int = 10
    num_simulations: int = 1_000
    train: TrainConfig = ROUND_TRAINING
    last_training: int = 4
    stop_when_converged: float = 0.0
    # How lanes share a program changes no answer: not part of what a method is.
    lanes_per_call: int = field(default=0, compare=False)

    amortised: ClassVar[bool] = False
    network: ClassVar[NetworkConfig] = ROUND_NETWORK
    flows: ClassVar[tuple[str, ...]] = NORMALIZING
    # Whether parameters whose simulation failed stay in the batches, with the weight 0.
    keeps_failed: ClassVar[bool] = False

    @property
    def selects(self) -> bool:
        """Whether rows are the prior's but for a box or a region of theta."""
        return False

    @property
    def batch_rows(self) -> int:
        """Rows of a training step."""
        open_size = min(self.train.rows(), self.num_simulations // 4)
        return self.train.batch_size or open_size

    def run(
        self, keys: Array, estimator: Estimator, simulator: Any, x: Any, **options: Any
    ) -> Any:
        """Return `run_rounds` of this method; options are its own."""
        from flowinv.sequential.run import run_rounds

        return run_rounds(keys, estimator, simulator, x, self, **options)

    def check_shared(self) -> None:
        """Raise one line for the first shared field out of its range.

        Raises:
            ValueError: what, expected, got.
        """
        check_at_least("num_rounds", self.num_rounds, 1)
        check_at_least("num_simulations", self.num_simulations, 100)
        check_at_least("last_training", self.last_training, 1)
        check_at_least("stop_when_converged", self.stop_when_converged, 0)
        check_at_least("lanes_per_call", self.lanes_per_call, 0)
        self.train.check()
        if self.batch_rows > self.num_simulations // 2:
            fail(
                "batch_size",
                f"of at most half a round's {self.num_simulations} simulations",
                self.batch_rows,
            )

    @abc.abstractmethod
    def check(self) -> None:
        """Raise one line for the first field out of its range."""

    @abc.abstractmethod
    def check_prior(self, prior: Prior) -> None:
        """Raise one line for a prior that the method cannot work with."""

    def suited(self, prior: Prior) -> "RoundsMethod":
        """Return the method with all that depends on the prior settled."""
        del prior
        return self

    @abc.abstractmethod
    def start_region(self, dim: int) -> Any:
        """Return the region before the first round: arrays of fixed shapes."""

    @abc.abstractmethod
    def latent_box(self, region: Any, index: Array) -> Box | None:
        """Return the box that round `index`'s network lives in, None for everything."""

    @abc.abstractmethod
    def propose(
        self, plan: "Plan", key: Array, state: RoundsState, x_obs: Array
    ) -> Proposal:
        """Draw the parameters of the next round with their log density."""

    @abc.abstractmethod
    def proposal_distance(
        self, plan: "Plan", state: RoundsState, x_obs: Array, theta: Array
    ) -> Array:
        """Return how far rows are from the proposal (`proposals.normality`), `[]`.

        0 where the proposal has no base in closed form.
        """

    @abc.abstractmethod
    def weights(self, plan: "Plan", state: RoundsState, x_obs: Array) -> Array:
        """Return how much filled rows count in the next fit without bias, `[B]`.

        Up to a factor; 0 for rows that it may not use.
        """

    def from_prior(self, state: RoundsState) -> Array:
        """Return rows that are the prior's where the latent lives, bool `[B]`."""
        return state.round == 0

    def placing_weights(
        self, plan: "Plan", state: RoundsState, weights: Array
    ) -> Array:
        """Return how much rows count for the Gaussian that training begins at, `[B]`.

        By default as in training, `weights`.
        """
        del plan, state
        return weights

    @abc.abstractmethod
    def loss(self, prior: AnyPrior, index: Array) -> Loss:
        """Return the loss of round `index`; `prior` is that of the flow's latent."""

    @abc.abstractmethod
    def keeps_network(self, index: Array) -> Array | None:
        """Return whether round `index` goes on with the last network; None never."""

    @abc.abstractmethod
    def next_region(
        self, plan: "Plan", state: RoundsState, fitted: Fitted, x_obs: Array
    ) -> Region:
        """Return where the next round looks, from the posterior of this one."""


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

    def start(
        self, key: Array, x_shape: tuple[int, ...], num_draws: int = NUM_DRAWS
    ) -> RoundsState:
        """Return the state before a round: empty rows, the prior as posterior."""
        estimator, method = self.estimator, self.method
        count, dim = self.num_rows, estimator.prior.dim
        region, first = method.start_region(dim), jnp.zeros((), jnp.int32)
        box = method.latent_box(region, first)
        members = method.train.num_members
        frozen = estimator.skeleton(x_shape, is_cut=box is not None).frozen
        frozen = frozen._replace(box=box)
        params = estimator.draw(key, frozen)
        if members > 1:
            params = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), params)
        return RoundsState(
            theta=jnp.zeros((count, dim), jnp.float32),
            z=jnp.zeros((count, dim), jnp.float32),
            x=jnp.zeros((count, *x_shape), jnp.float32),
            valid=jnp.zeros(count, bool),
            round=jnp.full(count, EMPTY, jnp.int32),
            log_proposal=jnp.full(count, jnp.nan, jnp.float32),
            region=region,
            index=first,
            variables=Variables(params, frozen, members),
            draws=estimator.prior.sample(key, num_draws).astype(jnp.float32),
            key=key,
            stopped=jnp.asarray(False),
        )

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
