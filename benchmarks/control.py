"""What it costs to be stoppable: legs, and progress with a limit of time and a callback.

One program runs all legs, so the steps are the same ones. A job is timed in one go (a leg as long
as the run), in legs as by default, and in legs with a bar, a limit and a callback; the three in
turn, many times, and the least CPU time of each counts: what else the machine does only adds to it.
"""

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np

import otmix_jax as om
from otmix_jax.fitting.control import Watch

from .harness import groups


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _jobs(quick: bool) -> Iterator[tuple[str, Callable[..., Any], int]]:
    """Name, call, and how often."""
    faithful = om.datasets.old_faithful().x
    rows = groups(20_000 if quick else 200_000, 8, 10)
    few = om.Limits(tolerance=1e-30, max_steps=60)
    solution = om.fit(faithful, 2, key=0)
    ran = om.inference.bootstrap

    def job(function: Callable[..., Any], *told: Any, **options: Any) -> Callable[..., Any]:
        return lambda **asked: function(*told, **options, **asked)

    one, eight = om.Starts(n_init=1), om.Starts(n_init=8)
    tables = [faithful[i % 5 :: 2] for i in range(200)]
    yield "fit, a race, 272 rows", job(om.fit, faithful, 3, key=0), 20
    yield "fit, 8 starts, 272 rows", job(om.fit, faithful, 3, key=0, starts=eight), 40
    told = {"key": 0, "starts": one, "limits": few, "solver": om.solvers.EM()}
    yield f"fit, 60 steps, {len(rows)} rows", job(om.fit, rows, 10, **told), 5
    yield "fit_batch, 200 x 136 rows", job(om.fit_batch, tables, 2, key=0), 5
    yield "select, K to 6, 272 rows", job(om.select, faithful, range(1, 7), key=0), 5
    yield "bootstrap, 999 of 272 rows", job(ran, solution, faithful, n_replications=999), 5


@contextlib.contextmanager
def _in_one_go() -> Iterator[None]:
    with mock.patch.object(Watch, "steps", return_value=np.int32(2**30)):
        yield


def _times(run: Callable[..., Any], repeats: int) -> list[float]:
    """The least seconds in one go, in legs, and watched."""
    asked = {"progress": True, "time_limit": 1e6, "callback": lambda report: None}
    ways = [(_in_one_go, {}), (contextlib.nullcontext, {}), (contextlib.nullcontext, asked)]
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats + 1):
        for (context, options), mine in zip(ways, times, strict=True):
            with context(), mock.patch.object(sys, "stderr", _Terminal()):
                begin = time.process_time()
                jax.block_until_ready(jax.tree.leaves(run(**options)))
                mine.append(time.process_time() - begin)
    # the first compiles
    return [min(mine[1:]) for mine in times]


def table(quick: bool) -> list[dict]:
    """A row for each job."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", om.ConvergenceWarning)
        for name, run, repeats in _jobs(quick):
            whole, legs, watched = _times(run, 3 if quick else repeats)
            rows.append(
                {
                    "job": name,
                    "in one go, ms": 1e3 * whole,
                    "legs, ms": 1e3 * legs,
                    "watched, ms": 1e3 * watched,
                    "legs cost": f"{100 * (legs / whole - 1):+.1f} %",
                    "watched cost": f"{100 * (watched / whole - 1):+.1f} %",
                }
            )
    return rows
