"""Ctrl-C and SIGTERM as a question the work asks at safe moments."""

import signal
import types
from typing import Self

__all__ = ["StopRequest"]


class StopRequest:
    """Context in which SIGINT and SIGTERM set a flag instead of breaking off.

    `stop()` says whether one came; `exit_code` is then 130 or 143. A second signal of
    either kind breaks off at once, as it would without this context.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.exit_code = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the old handlers back."""
        self._restore()

    def __call__(self) -> bool:
        """Return whether a signal asked to stop."""
        return self.exit_code != 0

    def _note(self, number: int, _: types.FrameType | None) -> None:
        self.exit_code = 128 + number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
