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
import functools
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
from flowinv.data.entrance import host_rows, is_host, probe, refuse_all_failed
from flowinv.identity import by_content, identity
from flowinv.methods.amortised import refuse_failures
from flowinv.methods.nle import NLE
from flowinv.methods.nre import NRE
from flowinv.models.entrance import estimator_marks
from flowinv.models.estimator import Estimator
from flowinv.models.registry import NetworkConfig
from flowinv.models.sampled import SampledPosterior, SamplerConfig
from flowinv.priors.latent import Prior
from flowinv.training.checkpoint import Checkpoints, Marks, kept_in
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
            folder: where rows and trainings are kept; an earlier run goes on to the
                same numbers. None keeps none.
            progress: told of every round that ends.
            should_stop: asked after every round; True raises `Interrupted`.

        Raises:
            ValueError: a setting out of range, or simulations that fail.
            Interrupted: if `should_stop` said so.
        """
        self.check()
        x_obs = np.asarray(x_obs, np.float32)
        if len(keys) != len(x_obs):
            fail("keys", f"one for each of {len(x_obs)} observations", len(keys))
        place = None if folder is None else Path(folder).expanduser()
        lane = _Lane(self, estimator, simulator, place, should_stop)
        found = SequentialRounds([], [], [])
        for number, (key, x) in enumerate(zip(keys, x_obs, strict=True)):
            done = lane.run(key, x, number, progress)
            for one, own in zip(found, done, strict=True):
                one.append(own)
        return found


@dataclass(frozen=True)
class _Lane:
    """What the rounds of an observation work with."""

    method: Sequential
    estimator: Estimator
    simulator: Simulator
    folder: Path | None
    should_stop: Callable[[], bool] | None

    def run(
        self, key: Array, x: np.ndarray, number: int, progress: Progress | None
    ) -> tuple[SampledPosterior, Dataset, list[float]]:
        """Posterior, rows and validation losses of one observation.

        Rows that are kept are not simulated again, and their trainings are restored.
        """
        method, estimator = self.method, self.estimator
        propose, losses = estimator.prior.sample, []
        count = method.num_simulations
        place = self.folder and self.folder / f"lane-{number + 1}"
        with kept_in(place, functools.partial(self._marks, key, x)) as store:
            parts = self._restored(store)
            for index in range(method.num_rounds):
                own = jax.random.fold_in(key, index)
                if index == len(parts):
                    theta = propose(jax.random.fold_in(own, PROPOSE), count)
                    parts.append(_simulated(own, self.simulator, theta, index))
                    if store is not None:
                        store.save(index + 1, parts)
                # Those of the prior are no draws of an answer.
                if index or method.num_rounds == 1:
                    refuse_failures(parts[index])
                done = parts[: index + 1]
                every = Dataset(*(jnp.concatenate(c) for c in zip(*done, strict=True)))
                trained = method.fitting.fit(
                    jax.random.fold_in(own, FIT),
                    estimator,
                    _to_be_filled(every, method.num_rounds * count + 1),
                    folder=place and place.with_name(f"{place.name}-fit-{index + 1}"),
                    should_stop=self.should_stop,
                )
                propose = _around(trained.posterior, x)
                # Of several candidates the first round's is kept.
                estimator = estimator.with_flow(trained.fit.estimator.flow)
                losses.append(float(trained.fit.validation_loss))
                if progress is not None:
                    progress(number, index, losses[-1])
                if self.should_stop is not None and self.should_stop():
                    raise Interrupted
        return trained.posterior, every, losses

    def _marks(self, key: Array, x: np.ndarray) -> Marks:
        """What kept rows must share with the rounds that go on with them."""
        return {
            "method": identity(self.method)[0],
            "key": identity(key)[0],
            "x_obs": identity(x)[0],
            "simulator": probe(self.simulator, self.estimator.prior),
            **estimator_marks(self.estimator),
        }

    def _restored(self, store: Checkpoints | None) -> list[Dataset]:
        """Rows of the rounds that have been simulated."""
        if store is None or store.latest() is None:
            return []
        count = self.method.num_simulations
        like = Dataset(
            theta=np.zeros((count, self.estimator.prior.dim), np.float32),
            x=np.zeros((count, *self.simulator.x_shape), np.float32),
            valid=np.zeros(count, bool),
            round=np.zeros(count, np.int32),
        )
        return store.restore([like] * store.latest())


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
    refuse_all_failed(rows.valid, "simulations of the first round")
    order = np.where(is_there, np.arange(total), is_there.argmax())
    own = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[order]), rows)
    rounds = np.where(is_there, 0, EMPTY).astype(np.int32)
    return own._replace(valid=jnp.asarray(is_there), round=jnp.asarray(rounds))


@by_content(maxsize=8)
def _rows(simulator: Simulator) -> Callable[[Array, Array], Array]:
    """One program for all rounds."""
    return jax.jit(jax.vmap(simulator.simulate))
