"""Control of what runs: progress, a limit of time, a callback and Ctrl-C, in one object.

A compiled program cannot be stopped. So what may run for long runs in legs of about a quarter of a
second (see `relay`), and between them the host looks at a `Watch`.
"""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..core.status import Status
from .progress import shown

TARGET = 0.25
"""Seconds of a leg, roughly: a return to the host costs about a thousandth of one."""
SPEED = 2e8
"""Work (see `Course.work`) of a second, before anything was measured."""
AGAIN = 2.0
"""Seconds after a Ctrl-C within which another aborts at once, whatever runs by then."""

clock = time.monotonic


@dataclasses.dataclass(frozen=True)
class Report:
    """What a callback is told at a return to the host.

    Attributes:
        stage: what runs: "race", "finish" (the last runs, on all rows), "starts", "batch",
            "bootstrap", or in `select` a family and its fold.
        n_steps: steps taken by all runs so far.
        value: the lowest value of a healthy mixture in this stage, in nats per row, in the units
            of the rows; NaN where values are of different rows, as in `fit_batch` and bootstraps.
        live: runs of the program in hand that are not over.
        done: runs of this stage that are over.
        total: runs of this stage in all; None where that is not known beforehand.
        seconds: since the call.
    """

    stage: str
    n_steps: int
    value: float
    live: int
    done: int
    total: int | None
    seconds: float


class Watch:
    """Whom to tell how far a run is, and whether it is to stop.

    Within `with`, the first Ctrl-C asks for an end; the second is the usual KeyboardInterrupt.
    By default nothing is told, and nothing but Ctrl-C stops it. Threads may share it.

    Args:
        progress: True for a bar, or a function of (done, total).
        time_limit: seconds, or None.
        callback: is given a `Report`; True or StopIteration asks for an end.

    Attributes:
        reason: who asked for an end: "Ctrl-C", "time_limit", "callback" or nobody, "".
        cut: whether something was left undone for it.
        n_steps: steps taken so far.
    """

    def __init__(
        self,
        progress: bool | Callable[[int, int], Any] = False,
        time_limit: float | None = None,
        callback: Callable[[Report], Any] | None = None,
    ):
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be a function of a Report, not {callback!r}")
        self._limit, self._callback = _seconds(time_limit), callback
        self._bar, self._begun, self._lock = shown(progress), clock(), threading.Lock()
        self._speed, self._before = SPEED, None
        self.reason, self.cut, self.n_steps = "", False, 0
        self.stage("")

    def __enter__(self) -> "Watch":
        main = threading.current_thread() is threading.main_thread()
        # whoever has a handler of their own keeps it
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._release()
        self._bar.close()

    def _release(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _interrupted(self, number: int, frame: Any) -> None:
        global _last
        self._release()
        again, _last = clock() - _last < AGAIN, clock()
        if again:
            signal.default_int_handler(number, frame)
        self.reason = "Ctrl-C"

    def stage(
        self,
        name: str,
        total: int | None = None,
        offset: float = math.nan,
        unit: str = "starts",
    ) -> None:
        """Begins a stage, whose values are told plus an offset, if that is a number."""
        self._stage, self._total, self._offset, self._unit = name, total, offset, unit
        self._done, self._value = 0, math.nan

    def note(self, steps: int = 0, done: int = 0, live: int = 0, value: float = math.nan) -> None:
        """At a return to the host: what happened since the last one.

        Raises:
            Exception: whatever the user's own function raises.
        """
        with self._lock:
            self.n_steps += steps
            self._done += done
            self._value = float(np.fmin(self._value, value + self._offset))
            now = clock() - self._begun
            worth = "" if math.isnan(self._value) else f", {self._value:.6g} nats per row"
            self._bar.show(f"{self._stage}{worth}", self._unit, self._done, self._total, now)
            if self._callback is not None and self._asks(self._callback, live, now):
                self.reason = self.reason or "callback"
            if now >= self._limit:
                self.reason = self.reason or "time_limit"

    def _asks(self, callback: Callable[[Report], Any], live: int, now: float) -> bool:
        told = self._stage, self.n_steps, self._value, live, self._done, self._total, now
        try:
            answer = callback(Report(*told))
        except StopIteration:
            return True
        # no other truth: functions return lengths and the like without meaning it
        return isinstance(answer, bool | np.bool_) and bool(answer)

    def stops(self) -> bool:
        """Whether to leave undone what is left; to be asked only where something is."""
        self.cut |= bool(self.reason)
        return self.cut

    def lanes(self, n_lanes: int) -> Callable[[int, int], bool]:
        """What a computation of so many lanes tells of its rounds (see `run_lanes`)."""
        before, computed = n_lanes, 0

        def on_round(live: int, steps: int) -> bool:
            nonlocal before, computed
            self.note(steps - computed, before - live, live)
            before, computed = live, steps
            return live > 0 and self.stops()

        return on_round

    def ask(self, reason: str) -> None:
        """Asks for an end."""
        self.reason = self.reason or reason

    def steps(self, work: float) -> np.int32:
        """Steps of the next leg, of so much work each."""
        return np.int32(min(max(self._speed * TARGET / work, 1), 2**30))

    def paced(self, work: float, seconds: float) -> None:
        """Learns the speed from a leg."""
        # its first call compiles too, which must not make all others short
        self._speed = max(work / max(seconds, 1e-9), self._speed / 4)

    def drive(self, program: Callable[[Any, Any], Any], state: Any, work: float) -> tuple[Any, Any]:
        """Legs of a relay to its end, or to where it is stopped.

        Args:
            program: (state, steps) to an answer, the next state, and the leg's `Account`.
            state: the first.
            work: of a step.

        Returns:
            The last answer and account.
        """
        over = 0
        while True:
            begun = clock()
            answer, state, account = program(state, self.steps(work))
            account = jax.device_get(account)
            taken, live = int(account.taken), int(account.live)
            self.paced(work * taken, clock() - begun)
            self.note(taken, int(account.over) - over, live, float(account.value))
            over = int(account.over)
            if not live:
                return answer, account
            if self.stops():
                # no steps: what it has come to is made an answer
                return program(state, np.int32(0))[0], account

    def told(self, status: Array) -> Array:
        """The status of an answer: INTERRUPTED if it is healthy, and something was left undone."""
        if self.cut and int(status) <= Status.STALLED:
            return jnp.asarray(Status.INTERRUPTED.code)
        return status


_last = -math.inf
"""When the last Ctrl-C came."""


def _seconds(limit: Any) -> float:
    if limit is None:
        return math.inf
    number = isinstance(limit, int | float | np.number) and not isinstance(limit, bool)
    if not number or not limit > 0:
        raise ValueError(f"time_limit must be a number of seconds > 0, or None; not {limit!r}")
    return float(limit)
