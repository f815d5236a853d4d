"""`demo` and `bench`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import initializers, solvers
from ..fitting import Starts, fit, solve
from ..model import Problem
from . import demo as old_faithful
from . import reports, sessions
from .errors import Exit, Refusal
from .tables import check_place

STEPS = 20
"""Of EM, timed together."""
APART = 6.0
"""Standard deviations between groups, about: enough for a fit to be easy."""


def demo(told: Any) -> int:
    """Old Faithful, two ways."""
    check_place(told.output)
    old_faithful.run(Path(told.output), sessions.begin(told))
    return Exit.OK


def bench(told: Any) -> int:
    """A step of EM, and a whole fit, on rows of as many groups as components."""
    sessions.begin(told)
    if told.components > told.rows:
        raise Refusal(f"--components {told.components} exceed --rows {told.rows}: ask for fewer")
    rng = np.random.default_rng(told.seed)
    dtype = np.float32 if told.float32 else np.float64
    centres = rng.normal(size=(told.components, told.features)) * APART
    rows = centres[rng.integers(told.components, size=told.rows)]
    rows = (rows + rng.normal(size=rows.shape)).astype(dtype)
    first, again = _timed_twice(lambda: _steps(rows, told))
    fit_first, fit_again = _timed_twice(
        lambda: fit(
            rows,
            told.components,
            covariance=told.covariance,
            key=told.seed,
            starts=Starts(n_init=told.n_init),
        )
    )
    device = jax.devices()[0]
    found = {
        "device": device.device_kind,
        "backend": device.platform,
        "rows": told.rows,
        "features": told.features,
        "components": told.components,
        "covariance": told.covariance,
        "dtype": np.dtype(dtype).name,
        "em_step_seconds": again / STEPS,
        "em_first_call_seconds": first,
        "fit_seconds": fit_again,
        "fit_first_call_seconds": fit_first,
    }
    if told.json:
        reports.print_json(found)
        return Exit.OK
    out = reports.stream()
    shape = f"({told.rows}, {told.features}, {told.components}) {told.covariance}"
    print(f"{shape} {found['dtype']} on {device.device_kind}", file=out)
    print(f"a step of EM  {1e3 * again / STEPS:10.3f} ms, the mean of {STEPS}", file=out)
    print(f"a whole fit   {fit_again:10.3f} s", file=out)
    print(
        f"first calls   {first:10.3f} s and {fit_first:.3f} s, with compiling or its cache",
        file=out,
    )
    return Exit.OK


def _steps(rows: np.ndarray, told: Any) -> Any:
    """EM from a start at random rows; a tolerance below 0 is never reached."""
    problem = Problem(rows)
    start = initializers.random_rows(
        jax.random.key(told.seed),
        problem,
        n_components=told.components,
        covariance=told.covariance,
    )
    return solve(problem, start, solvers.EM(), tolerance=-1.0, max_steps=STEPS)


def _timed_twice(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first call, and of the second."""
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1]
