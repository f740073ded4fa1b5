"""Neural posterior estimation: one network for all observations.

Simulations come from the joint p(theta) p(x | theta); the mean of -log q(theta | x)
over them is smallest where q(. | x) is the posterior of every x.

References:
    Papamakarios and Murray 2016, arXiv:1605.06376.
    Greenberg et al. 2019, Automatic Posterior Transformation, arXiv:1905.07488.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from flowinv.checks import check_positive, fail
from flowinv.losses.npe import Loss, npe_loss
from flowinv.models.registry import NetworkConfig
from flowinv.training.config import TrainConfig

__all__ = ["FRESH", "NPE"]

FRESH = "fresh"


@dataclass(frozen=True)
class NPE:
    """Amortised posterior estimation by maximum likelihood.

    Attributes:
        num_simulations: a number (a fixed set), kept as a text, or "fresh" for new
            simulations in every step.
        train: how to train.
    """

    num_simulations: str = FRESH
    train: TrainConfig = field(default_factory=TrainConfig)

    amortised: ClassVar[bool] = True
    network: ClassVar[NetworkConfig] = NetworkConfig()
    loss: ClassVar[Loss] = staticmethod(npe_loss)

    def __post_init__(self) -> None:
        count = self.num_simulations
        if isinstance(count, (int, np.integer)) and not isinstance(count, bool):
            object.__setattr__(self, "num_simulations", str(count))

    @property
    def fresh(self) -> bool:
        """Whether every step draws new simulations."""
        return self.num_simulations == FRESH

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
