"""Sequential likelihood and ratio estimation: each round simulates the last posterior.

A likelihood does not depend on where theta was drawn, so all rows of all rounds teach
it (SNLE); a ratio does only by a factor of x, so that at one x the posterior is the
same (SNRE). Nothing is corrected, cut or weighed.

References:
    Papamakarios et al. 2019, Sequential neural likelihood, arXiv:1805.07226.
    Durkan et al. 2020, On contrastive learning, arXiv:2002.03712 (ratios in rounds).
"""

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
from flowinv.methods.nle import NLE
from flowinv.methods.nre import NRE
from flowinv.models.estimator import Estimator
from flowinv.models.registry import NetworkConfig
from flowinv.models.sampled import SampledPosterior
from flowinv.training.fit import Interrupted
from flowinv.types import Dataset, Simulator

__all__ = ["Sequential", "SequentialRounds"]

PROPOSE, SIMULATE, FIT = range(3)


class SequentialRounds(NamedTuple):
    """What rounds give.

    Attributes:
        posteriors: of the last round, one for each observation.
        rows: simulations of all rounds, with their round, for each observation.
    """

    posteriors: list[SampledPosterior]
    rows: list[Dataset]


@dataclass(frozen=True)
class Sequential:
    """Rounds of a method that any proposal may teach.

    Rounds are few: each has more rows than the last, and a program of its own, which
    all observations and seeds share.

    Attributes:
        method: `NLE` or `NRE`; its own number of simulations is not used.
        num_rounds: rounds R.
        num_simulations: simulations of each.
    """

    method: NLE | NRE = field(default_factory=NLE)
    num_rounds: int = 4
    num_simulations: int = 1_000

    amortised: ClassVar[bool] = False

    @property
    def network(self) -> NetworkConfig:
        """The method's own."""
        return self.method.network

    @property
    def flows(self) -> tuple[str, ...]:
        """The method's own."""
        return self.method.flows

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        check_at_least("num_rounds", self.num_rounds, 1)
        check_at_least("num_simulations", self.num_simulations, 100)
        self.method.check()

    def run(
        self,
        keys: Array,
        estimator: Estimator,
        simulator: Simulator,
        x_obs: ArrayLike,
        *,
        folder: str | Path | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> SequentialRounds:
        """Infer theta of each observation, one after the other.

        Args:
            keys: one typed key for each observation, `[L]`.
            estimator: prior, flow, summary and scaling; trained anew in every round.
            simulator: jit-able, or a host simulator with `simulate_batch`.
            x_obs: observations, `[L, *x_shape]`.
            folder: not used; a round is short.
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
        done, rows = [], []
        for key, x in zip(keys, x_obs, strict=True):
            posterior, parts = None, []
            for index in range(self.num_rounds):
                own = jax.random.fold_in(key, index)
                if posterior is None:
                    propose = estimator.prior.sample
                else:
                    propose = _around(posterior, x)
                theta = propose(jax.random.fold_in(own, PROPOSE), self.num_simulations)
                parts.append(_simulated(own, simulator, theta, index))
                every = Dataset(*(jnp.concatenate(c) for c in zip(*parts, strict=True)))
                posterior = self.method.fit(
                    jax.random.fold_in(own, FIT),
                    estimator,
                    # Of any proposal: none is to be corrected for.
                    every._replace(round=jnp.zeros_like(every.round)),
                    should_stop=should_stop,
                ).posterior
                if should_stop is not None and should_stop():
                    raise Interrupted
            done.append(posterior)
            rows.append(every)
        return SequentialRounds(done, rows)


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


@by_content(maxsize=8)
def _rows(simulator: Simulator) -> Callable[[Array, Array], Array]:
    """One program for all rounds."""
    return jax.jit(jax.vmap(simulator.simulate))
