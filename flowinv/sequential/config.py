"""How rounds run: frozen configs, one for each method."""

from dataclasses import dataclass, field

from flowinv.checks import check_at_least, check_known, check_positive, fail
from flowinv.training.config import TrainConfig

__all__ = ["APT", "REGIONS", "RoundsConfig", "Truncated"]

REGIONS = ("box", "hdr")

# Rounds are short: few rows, a solved start, a narrow problem.
ROUND_TRAINING = TrainConfig(
    batch_size=128,
    max_epochs=20,
    learning_rate=2e-3,
    warmup_steps=20,
    patience=0,
    steps_per_epoch=50,
    num_members=1,
)


@dataclass(frozen=True)
class RoundsConfig:
    """What all methods share.

    Attributes:
        num_rounds: rounds R at most.
        num_simulations: simulations N of each round.
        train: training of each round. Its `steps_per_epoch` steps lie between two
            validations, `max_epochs` of these at most; batches hold at most a tenth of
            a round's rows.
        warm_start: go on with the last round's network; otherwise each round draws a
            new one, on a start solved anew.
        stop_when_converged: end when the posterior moves by less than this between two
            rounds (see `RoundInfo.distance`); 0 runs all rounds.
    """

    num_rounds: int = 10
    num_simulations: int = 1_000
    train: TrainConfig = field(default=ROUND_TRAINING)
    warm_start: bool = False
    stop_when_converged: float = 0.0

    def check(self) -> None:
        """Raise one line for the first field out of its range.

        Raises:
            ValueError: what, expected, got.
        """
        check_at_least("num_rounds", self.num_rounds, 1)
        check_at_least("num_simulations", self.num_simulations, 100)
        check_at_least("stop_when_converged", self.stop_when_converged, 0)
        self.train.check()
        if self.train.batch_size > self.num_simulations // 2:
            fail(
                "batch_size",
                f"of at most half a round's {self.num_simulations} simulations",
                self.train.batch_size,
            )


@dataclass(frozen=True)
class APT(RoundsConfig):
    """Automatic posterior transformation with atomic proposals.

    The proposal of a round is the last posterior (Greenberg et al. 2019,
    arXiv:1905.07488).

    Attributes:
        num_atoms: atoms of the loss, or "all" rows of the batch.
        combined: add the plain loss on the rows of the first round (Durkan et al. 2020,
            arXiv:2002.03712).
        truncated_rounds: first rounds that draw from the truncated prior instead, with
            the plain loss; the atoms then live in the last box.
        keep_prior_rows: train on the first round's rows in later rounds too.
    """

    num_atoms: int | str = 10
    combined: bool = False
    truncated_rounds: int = 0
    keep_prior_rows: bool = True

    def check(self) -> None:
        """Raise one line for the first field out of its range."""
        super().check()
        if isinstance(self.num_atoms, str):
            if self.num_atoms != "all":
                fail("num_atoms", "to be a number or 'all'", repr(self.num_atoms))
        else:
            check_at_least("num_atoms", self.num_atoms, 2)
            if self.num_atoms > self.train.batch_size:
                fail(
                    "num_atoms",
                    f"of at most the batch's {self.train.batch_size} rows",
                    self.num_atoms,
                )
        if not 0 <= self.truncated_rounds < self.num_rounds:
            fail(
                "truncated_rounds",
                f"from 0 to {self.num_rounds - 1}",
                self.truncated_rounds,
            )
        if self.combined and not self.keep_prior_rows:
            fail("combined", "with keep_prior_rows", "without", "It needs prior rows.")


@dataclass(frozen=True)
class Truncated(RoundsConfig):
    """Truncated proposals: each round draws from the prior, cut to the last posterior.

    The loss stays plain maximum likelihood (Deistler et al. 2022, TSNPE,
    arXiv:2210.04815).

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
        super().check()
        check_known("region", self.region, REGIONS)
        check_positive("epsilon", self.epsilon)
        check_positive("margin", self.margin)
        if self.epsilon > 0.1:
            fail("epsilon", "of at most 0.1", self.epsilon)
