"""What is shown of a run, on request: a bar, a line on the error stream, or the user's function."""

import sys
from collections.abc import Callable
from typing import Any

APART = 10.0
"""Seconds between two lines where the error stream is a file: those of a terminal replace one
another."""


class Silent:
    """Nothing is shown."""

    def show(self, text: str, unit: str, done: int, total: int | None, seconds: float) -> None:
        """At a return to the host.

        Args:
            text: what runs, and what it is worth.
            unit: what is counted, as a plural.
            done: runs that are over.
            total: runs in all, where that is known.
            seconds: since the beginning.
        """

    def close(self) -> None:
        """Once, at the end."""


class Told(Silent):
    """The user's own function of two numbers."""

    def __init__(self, function: Callable[[int, int], Any]):
        self._function = function

    def show(self, text: str, unit: str, done: int, total: int | None, seconds: float) -> None:
        """Calls it."""
        self._function(done, done if total is None else total)


class Line(Silent):
    """A line that replaces itself on a terminal; elsewhere few lines, no control characters."""

    def __init__(self) -> None:
        self._terminal, self._width, self._next, self._last = sys.stderr.isatty(), 0, 0.0, ""

    def show(self, text: str, unit: str, done: int, total: int | None, seconds: float) -> None:
        """Writes it, or keeps it for the end."""
        self._last = f"{text}: {done}{'' if total is None else f' of {total}'} {unit} done"
        if self._terminal:
            sys.stderr.write(f"\r{self._last:<{self._width}}")
            self._width = len(self._last)
            sys.stderr.flush()
        elif seconds >= self._next:
            sys.stderr.write(f"{self._last}\n")
            self._last, self._next = "", seconds + APART

    def close(self) -> None:
        """Ends the line."""
        if self._terminal or self._last:
            sys.stderr.write("\n" if self._terminal else f"{self._last}\n")


class Bar(Silent):
    """A bar of tqdm's, in a terminal or a notebook."""

    def __init__(self, tqdm: Any):
        self._tqdm, self._bar = tqdm, None

    def show(self, text: str, unit: str, done: int, total: int | None, seconds: float) -> None:
        """Moves it; tqdm itself draws no more often than ten times a second."""
        if self._bar is None:
            self._bar = self._tqdm(unit=f" {unit}", total=total)
        self._bar.total = total
        self._bar.set_description_str(text, refresh=False)
        # of another stage it may be less than before
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Ends it as it stands."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()


def shown(request: bool | Callable[[int, int], Any]) -> Silent:
    """From what the user asked for: True, False, or a function of (done, total)."""
    if callable(request):
        return Told(request)
    if not request:
        return Silent()
    if not (_notebook() or sys.stderr.isatty()):
        return Line()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Line()
    return Bar(tqdm)


def _notebook() -> bool:
    """Whether the error stream is a notebook's: no terminal, and it shows bars all the same."""
    return type(sys.stderr).__module__.startswith("ipykernel")
