"""Several flows to choose from: each is trained, and the held-out rows say which stays.

What trains one of them is handed in: this module knows no data and no loss.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowinv.checks import InputError
from flowinv.models.estimator import Estimator
from flowinv.training.loop import Progress
from flowinv.training.update import surely_better

if TYPE_CHECKING:
    from flowinv.training.fit import Fit

__all__ = ["NeverFinite", "Tell", "preferred"]

Tell = Callable[[Progress], None]
"""What is told how far a training has come."""


class NeverFinite(InputError):
    """A training without a single finite validation loss."""


def preferred(
    train: "Callable[..., Fit]",
    candidates: tuple[Estimator, ...],
    folder: str | Path | None,
    progress: Tell | None,
) -> "Fit":
    """Train every candidate and keep one.

    Args:
        train: `(estimator, folder=, progress=)` to a `Fit`, on the same rows each time.
        candidates: an estimator for each flow.
        folder: where checkpoints go, those of each in a folder of its own; or None.
        progress: told of all candidates as of one training; or None.

    Returns:
        The first candidate's fit, unless another is surely better on the validation
        rows. One that was never finite is none, which the message says.

    Raises:
        NeverFinite: the first one's, if no candidate had a finite loss.
    """
    said: list[str] = []
    failed: list[NeverFinite] = []
    kept, best = 0, None
    for number, one in enumerate(candidates):
        own = None if folder is None else Path(folder) / f"candidate_{number}"
        tell = None
        if progress is not None:
            tell = _part(progress, number, len(candidates))
        try:
            fit = train(one, folder=own, progress=tell)
        except NeverFinite as error:
            failed.append(error)
            said.append(f"{_kind(one.flow)} never finite")
            continue
        said.append(f"{_kind(one.flow)} {fit.validation_loss:.3f}")
        if best is None or surely_better(fit.validation_losses, best.validation_losses):
            kept, best = number + 1, fit
    if best is None:
        raise failed[0]
    end = f"Candidate {kept} is kept; validation losses: {', '.join(said)}."
    return best._replace(message=f"{best.message} {end}")


def _part(progress: Tell, number: int, count: int) -> Tell:
    """What tells of a training that is the `number`-th of `count` equal ones."""

    def tell(own: Progress) -> None:
        step, total = own.step + number * own.total_steps, own.total_steps
        progress(own._replace(step=step, total_steps=count * total))

    return tell


def _kind(flow: Any) -> str:
    """What tells candidates apart in a sentence."""
    univariate = getattr(flow, "univariate", None)
    own = "" if univariate is None else f"({type(univariate).__name__})"
    return f"{type(flow).__name__}{own}"
