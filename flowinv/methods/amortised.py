"""What amortised methods share: one network, learned from draws of the prior."""

import abc
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jax import Array

from flowinv.checks import check_positive, fail
from flowinv.losses.npe import Loss
from flowinv.models.estimator import Estimator
from flowinv.models.posterior import Posterior
from flowinv.models.registry import NORMALIZING, NetworkConfig
from flowinv.models.sampled import SampledPosterior
from flowinv.priors.latent import Prior
from flowinv.training.config import TrainConfig
from flowinv.training.fit import Fit, train
from flowinv.types import EMPTY, Dataset, Simulator

__all__ = ["FRESH", "Data", "AmortisedMethod", "Trained", "refuse_failures"]

FRESH = "fresh"
Data = Dataset | Simulator


class Trained(NamedTuple):
    """What an amortised method gives.

    Attributes:
        fit: the finished training.
        posterior: that answers any x.
    """

    fit: Fit
    posterior: Posterior | SampledPosterior


# Failed simulations that a likelihood may go without, and what its posterior is then
# off by at most, in total variation.
MOST_FAILED = 0.01


def refuse_failures(data: Dataset) -> None:
    """Raise for failed simulations, where leaving them out would bend the answer.

    What is learned without them is p(x | theta, success); the chance of success s,
    which depends on theta, is missing. The answer is then q instead of q s / E_q[s]:
    their total variation E_q|s - E_q[s]| / (2 E_q[s]) is 1 - E_q[s] at most, the share
    of q's draws that fail. For draws of the posterior of the round before, which
    estimates q, that is the share of failed rows; for rows of the prior it is that
    share on average over x. Hence few of them, up to `MOST_FAILED` of the rows, are
    left out.

    Raises:
        ValueError: for more.
    """
    filled = np.asarray(data.round) != EMPTY
    failed = int((filled & ~np.asarray(data.valid)).sum())
    if failed > MOST_FAILED * filled.sum():
        remedy = "Take npe, fmpe or apt, which are right with failures."
        got = f"{failed} failed ones of {filled.sum():,}"
        fail("simulations", f"of which {MOST_FAILED:.0%} fail at most", got, remedy)


@dataclass(frozen=True)
class AmortisedMethod(abc.ABC):
    """Fields that amortised methods share, and what each must answer.

    Attributes:
        num_simulations: a number (a fixed set), kept as a text, or "fresh" for new
            simulations in every step.
        train: how to train.
    """

    num_simulations: str = FRESH
    train: TrainConfig = field(default_factory=TrainConfig)

    amortised: ClassVar[bool] = True
    network: ClassVar[NetworkConfig] = NetworkConfig()
    flows: ClassVar[tuple[str, ...]] = NORMALIZING
    """Networks that it can train, its own choice first."""

    def __post_init__(self) -> None:
        count = self.num_simulations
        if isinstance(count, (int, np.integer)) and not isinstance(count, bool):
            object.__setattr__(self, "num_simulations", str(count))

    @property
    def fresh(self) -> bool:
        """Whether every step draws new simulations."""
        return self.num_simulations == FRESH

    @abc.abstractmethod
    def loss(self, prior: Prior) -> Loss:
        """Return the loss of a batch, for a prior of theta."""

    def fit(
        self,
        key: Array,
        estimator: Estimator,
        data: Data,
        **options: Any,
    ) -> Trained:
        """Train; `options` are those of `flowinv.training.fit.train`."""
        loss = self.loss(estimator.prior)
        fit = train(key, estimator, data, self.train, loss=loss, **options)
        return Trained(fit, fit.posterior)

    def check(self) -> None:
        """Raise one line for the first field out of its range.

        Raises:
            ValueError: what, expected, got, remedy.
        """
        self.train.check()
        if self.fresh:
            return
        if not self.num_simulations.isdecimal():
            got = repr(self.num_simulations)
            fail("num_simulations", f"to be a whole number or {FRESH!r}", got)
        total, batch = int(self.num_simulations), self.train.rows()
        check_positive("num_simulations", total)
        held = max(2, round(self.train.validation_share * total))
        if total - held < 2 * batch:
            fail(
                "num_simulations",
                f"to leave two batches of {batch} for training",
                f"{total - held} after {held} for validation",
                "Simulate more or lower --batch-size.",
            )
