"""Ctrl-C and SIGTERM as a question the work asks at safe moments, and a deadline."""

import os
import signal
import sys
import threading
import types
from typing import Self

__all__ = ["StopRequest"]


class StopRequest:
    """Context in which SIGINT and SIGTERM set a flag instead of breaking off.

    `stop()` says whether one came; `exit_code` is then 130 or 143. A second signal of
    either kind breaks off at once, as it would without this context.

    Work that does not get to ask in time, because one compiled program or one fit takes
    longer, is ended with the process: files are written whole or not at all, so that
    what was done before is there.
    """

    def __init__(self, words: str = "", seconds: float | None = None) -> None:
        """Start without a request.

        Args:
            words: what is said on stderr when time is up.
            seconds: that the work has to ask and to save; None waits for ever.
        """
        self.exit_code, self._words, self._seconds = 0, words, seconds
        self._done = threading.Event()
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        if self._seconds is not None:
            self._watch()
        return self

    def __exit__(self, *_: object) -> None:
        """Put the old handlers back; the deadline is off."""
        self._done.set()
        if self._seconds is not None:
            signal.set_wakeup_fd(self._old_pipe)
            os.close(self._pipe)
        self._restore()

    def __call__(self) -> bool:
        """Return whether a signal asked to stop."""
        return self.exit_code != 0

    def _note(self, number: int, _: types.FrameType | None) -> None:
        self.exit_code = 128 + number
        self._restore()

    def _watch(self) -> None:
        """Start the thread that counts the seconds.

        Python runs a handler when the main thread is back from compiled code, which may
        be in minutes. The system writes a signal's number to a pipe at once.
        """
        read, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        self._old_pipe = signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
        threading.Thread(target=self._count, args=(read,), daemon=True).start()

    def _count(self, read: int) -> None:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if number[0] in self._before:
                    break
            else:
                return  # the context is over
        if not self._done.wait(self._seconds):
            print(self._words, file=sys.stderr, flush=True)
            os._exit(128 + number[0])

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
