"""Progress on standard error: bars with rate, loss and time left, and notes."""

import sys
from collections.abc import Callable
from typing import Any, Self

from flowinv.training.fit import Interrupted, Progress

__all__ = ["Bar", "Watch"]


class Watch:
    """Shows what is going on, or nothing when quiet, and is the one way to stop.

    Every note and every move of a bar asks `should_stop`, and raises `Interrupted`
    when it says so; work that saves before it breaks off asks it itself.
    """

    def __init__(
        self, quiet: bool = True, should_stop: Callable[[], bool] | None = None
    ) -> None:
        """Show progress unless `quiet`."""
        self.quiet = quiet
        self.should_stop = should_stop or (lambda: False)

    def check(self) -> None:
        """Break off if asked to."""
        if self.should_stop():
            raise Interrupted

    def bar(self, label: str, total: int | None = None) -> "Bar":
        """Return a bar to use as a context; without a total it learns it later."""
        return Bar(label, total, self.quiet, self.check)

    def note(self, text: str) -> None:
        """Say in one line what begins now."""
        self.check()
        if not self.quiet:
            print(f"flowinv: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Flush what was said."""
        sys.stderr.flush()


class Bar:
    """One tqdm bar."""

    def __init__(
        self, label: str, total: int | None, quiet: bool, stop: Callable[[], None]
    ) -> None:
        """Prepare the bar; it appears when the context begins."""
        self._stop = stop
        self._settings: dict[str, Any] = {
            "desc": label,
            "total": total,
            "disable": quiet,
            "dynamic_ncols": True,
            "mininterval": 0.2,
        }

    def __enter__(self) -> Self:
        """Show the bar."""
        from tqdm import tqdm

        self._bar = tqdm(**self._settings)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def to(self, done: int) -> None:
        """Move to `done` units."""
        self._bar.update(done - self._bar.n)
        self._stop()

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        if not self._settings["disable"]:
            self._bar.write(f"flowinv: {text}", file=sys.stderr)

    def step(self, label: str) -> None:
        """Move on by one, naming what is being worked on."""
        self._stop()
        self._bar.set_postfix_str(label, refresh=False)
        self._bar.update(1)

    def training(self, progress: Progress) -> None:
        """Show a training chunk: steps, losses, rate, time left."""
        self._bar.total = progress.total_steps
        losses = (
            f"loss {progress.train_loss:.3f}, validation "
            f"{progress.validation_loss:.3f}, best {progress.best_loss:.3f}"
        )
        self._bar.set_postfix_str(losses if progress.step else "compiling", False)
        # No stop here: the trainer asks by itself, and saves before it breaks off.
        self._bar.update(progress.step - self._bar.n)
        self._bar.refresh()
