"""Progress of a batch, on request: a function of two numbers, or a line on the error stream."""

import sys
import threading
from collections.abc import Callable
from typing import Any


def _line(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} starts done")
    sys.stderr.flush()


class Progress:
    """Counts starts over slices that run in several threads."""

    def __init__(self, show: Callable[[int, int], Any] | None, total: int):
        self._show, self._total, self._done = show, total, 0
        self._lock, self._stopped = threading.Lock(), False

    @classmethod
    def of(cls, request: bool | Callable[[int, int], Any], total: int) -> "Progress":
        """From what the user asked for."""
        if callable(request):
            return cls(request, total)
        return cls(_line if request else None, total)

    def slice(self, n_lanes: int) -> Callable[[int], None]:
        """What a slice of `n_lanes` calls with the number of those that still run."""
        before = n_lanes

        def note(live: int) -> None:
            nonlocal before
            # threads cannot be ended from outside: each ends itself at its next round
            if self._stopped:
                raise RuntimeError("the batch was interrupted")
            with self._lock:
                self._done += before - live
                before = live
                if self._show:
                    self._show(self._done, self._total)

        return note

    def stop(self) -> None:
        """Ends every slice at its next round."""
        self._stopped = True

    def close(self) -> None:
        """Ends the line."""
        if self._show is _line:
            sys.stderr.write("\n")
