"""Sequential likelihood and ratio estimation: each round simulates the last posterior.

A likelihood does not depend on where theta was drawn, so all rows of all rounds teach
it (SNLE); a ratio does only by a factor of x, so that at one x the posterior is the
same (SNRE). Nothing is corrected, cut or weighed.

References:
    Papamakarios et al. 2019, Sequential neural likelihood, arXiv:1805.07226.
    Durkan et al. 2020, On contrastive learning, arXiv:2002.03712 (ratios in rounds).
"""

import abc
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from flowinv.checks import check_at_least, fail
from flowinv.data.entrance import host_rows, is_host
from flowinv.identity import by_content
from flowinv.methods.amortised import refuse_failures
from flowinv.methods.nle import NLE
from flowinv.methods.nre import NRE
from flowinv.models.estimator import Estimator
from flowinv.models.registry import NetworkConfig
from flowinv.models.sampled import SampledPosterior, SamplerConfig
from flowinv.priors.latent import Prior
from flowinv.training.config import TrainConfig
from flowinv.training.fit import Interrupted
from flowinv.types import EMPTY, Dataset, Simulator

__all__ = ["SNLE", "SNRE", "Sequential", "SequentialRounds"]

PROPOSE, SIMULATE, FIT = range(3)
# Told of the observation's number, the round and its validation loss.
Progress = Callable[[int, int, float], None]


class SequentialRounds(NamedTuple):
    """What rounds give, for each observation.

    Attributes:
        posteriors: of the last round.
        rows: simulations of all rounds, with their round.
        validation_loss: of every round, `[R]`.
    """

    posteriors: list[SampledPosterior]
    rows: list[Dataset]
    validation_loss: list[np.ndarray]


@dataclass(frozen=True)
class Sequential(abc.ABC):
    """Rounds of a method that any proposal may teach.

    All rounds, observations and seeds share their programs: places of later rounds are
    there from the first one on.

    Attributes:
        num_rounds: rounds R.
        num_simulations: simulations of each.
        train: how to train, anew in every round on the rows of all.
        sampling: how a posterior is drawn from.
    """

    num_rounds: int = 4
    num_simulations: int = 1_000
    train: TrainConfig = field(default_factory=TrainConfig)
    sampling: SamplerConfig = field(default_factory=SamplerConfig)

    amortised: ClassVar[bool] = False
    network: ClassVar[NetworkConfig]
    flows: ClassVar[tuple[str, ...]]

    @property
    @abc.abstractmethod
    def learner(self) -> NLE | NRE:
        """What is learned in a round; its own number of simulations is not used."""

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("num_rounds", self.num_rounds, 1)
        count = self.num_simulations
        check_at_least("num_simulations", count, 100)
        dataclasses.replace(self.fitting, num_simulations=str(count)).check()

    @property
    def fitting(self) -> NLE | NRE:
        """The learner: a batch is half of the first round at most, or as given."""
        train = self.train
        if not train.batch_size:
            half = int((1.0 - train.validation_share) * self.num_simulations) // 2
            rows = min(train.rows(), half)
            train = dataclasses.replace(train, batch_size=rows)
        return dataclasses.replace(self.learner, train=train)

    def check_prior(self, prior: Prior) -> None:
        """Any prior will do."""
        del prior

    def run(
        self,
        keys: Array,
        estimator: Estimator,
        simulator: Simulator,
        x_obs: ArrayLike,
        *,
        folder: str | Path | None = None,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SequentialRounds:
        """Infer theta of each observation, one after the other.

        Args:
            keys: one typed key for each observation, `[L]`.
            estimator: prior, flow, summary and scaling; trained anew in every round.
            simulator: jit-able, or a host simulator with `simulate_batch`.
            x_obs: observations, `[L, *x_shape]`.
            folder: not used; a round is short.
            progress: told of every round that ends.
            should_stop: asked after every round; True raises `Interrupted`.

        Raises:
            ValueError: a setting out of range, or simulations that fail.
            Interrupted: if `should_stop` said so.
        """
        del folder
        self.check()
        x_obs = np.asarray(x_obs, np.float32)
        if len(keys) != len(x_obs):
            fail("keys", f"one for each of {len(x_obs)} observations", len(keys))
        found = SequentialRounds([], [], [])
        for lane, (key, x) in enumerate(zip(keys, x_obs, strict=True)):
            posterior, parts, losses = None, [], []
            for index in range(self.num_rounds):
                own = jax.random.fold_in(key, index)
                if posterior is None:
                    propose = estimator.prior.sample
                else:
                    propose = _around(posterior, x)
                theta = propose(jax.random.fold_in(own, PROPOSE), self.num_simulations)
                parts.append(_simulated(own, simulator, theta, index))
                # Those of the prior are no draws of an answer.
                if index or self.num_rounds == 1:
                    refuse_failures(parts[-1])
                every = Dataset(*(jnp.concatenate(c) for c in zip(*parts, strict=True)))
                trained = self.fitting.fit(
                    jax.random.fold_in(own, FIT),
                    estimator,
                    _to_be_filled(every, self.num_rounds * self.num_simulations + 1),
                    should_stop=should_stop,
                )
                posterior = trained.posterior
                # Of several candidates the first round's is kept.
                estimator = estimator.with_flow(trained.fit.estimator.flow)
                losses.append(float(trained.fit.validation_loss))
                if progress is not None:
                    progress(lane, index, losses[-1])
                if should_stop is not None and should_stop():
                    raise Interrupted
            for one, own in zip(found, (posterior, every, losses), strict=True):
                one.append(own)
        return found


@dataclass(frozen=True)
class SNLE(Sequential):
    """Sequential neural likelihood estimation: rounds of `NLE`."""

    network: ClassVar[NetworkConfig] = NLE.network
    flows: ClassVar[tuple[str, ...]] = NLE.flows

    @property
    def learner(self) -> NLE:
        """A likelihood."""
        return NLE(train=self.train, sampling=self.sampling)


@dataclass(frozen=True)
class SNRE(Sequential):
    """Sequential neural ratio estimation: rounds of `NRE`, whose fields these are.

    Attributes:
        variant: "a", "b" or "c".
        num_atoms: parameters of a comparison.
        gamma: odds of c that the right one is there.
        balance: weight of the balance, 0 for none.
    """

    variant: str = "c"
    num_atoms: int = 10
    gamma: float = 1.0
    balance: float = 0.0

    network: ClassVar[NetworkConfig] = NRE.network
    flows: ClassVar[tuple[str, ...]] = NRE.flows

    @property
    def learner(self) -> NRE:
        """A ratio."""
        own = self.variant, self.num_atoms, self.gamma, self.balance
        names = "variant", "num_atoms", "gamma", "balance"
        fields = dict(zip(names, own, strict=True))
        return NRE(train=self.train, sampling=self.sampling, **fields)


def _around(posterior: SampledPosterior, x: np.ndarray) -> Callable[[Array, int], Any]:
    return lambda key, count: posterior.sample(key, x, count)


def _simulated(key: Array, simulator: Any, theta: Array, index: int) -> Dataset:
    """Rows of a round."""
    key = jax.random.fold_in(key, SIMULATE)
    if is_host(simulator):
        x, valid = host_rows(simulator, key, np.asarray(theta))
    else:
        x = np.asarray(_rows(simulator)(jax.random.split(key, len(theta)), theta))
        valid = np.isfinite(x.reshape(len(x), -1)).all(-1)
    x = jnp.asarray(np.where(np.isfinite(x), x, 0.0), jnp.float32)
    rounds = jnp.full(len(theta), index, jnp.int32)
    return Dataset(jnp.asarray(theta, jnp.float32), x, jnp.asarray(valid), rounds)


def _to_be_filled(rows: Dataset, total: int) -> Dataset:
    """Rows of any proposal, none to be corrected for, and empty places up to `total`.

    Failed rows are empty places too. In those is the first valid row again: numbers
    that all scalings can take. One is left in the last round too, which would be
    another program without any.
    """
    is_there = np.zeros(total, bool)
    is_there[: len(rows.theta)] = rows.valid
    if not is_there.any():
        remedy = "The simulator gives NaN or infinity everywhere: mend it."
        fail("simulations of the first round", "to succeed", "none of all", remedy)
    order = np.where(is_there, np.arange(total), is_there.argmax())
    own = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[order]), rows)
    rounds = np.where(is_there, 0, EMPTY).astype(np.int32)
    return own._replace(valid=jnp.asarray(is_there), round=jnp.asarray(rounds))


@by_content(maxsize=8)
def _rows(simulator: Simulator) -> Callable[[Array, Array], Array]:
    """One program for all rounds."""
    return jax.jit(jax.vmap(simulator.simulate))
