"""Many rows: how many passes over them a solver needs, and on how many draws it is sooner."""

import functools
import math

import jax
import numpy as np

import otmix_jax as om
from otmix_jax.solvers import EM, Incremental, OnlineStart, Solver, Squarem

from .harness import groups, seconds

NEAR = (0.1, 0.03, 0.01)
"""Nats per row from the best value that any of the solvers reached."""
PROBLEMS = [(200_000, 8, 16, 60), (1_000_000, 8, 32, 50)]
QUICK = [(20_000, 4, 8, 60)]
"""Rows, columns, components, steps."""
SEEDS = 20
SOLVERS: dict[str, tuple[int, Solver]] = {
    "EM": (0, EM()),
    "Squarem": (0, Squarem()),
    "Incremental": (0, Incremental()),
    "OnlineStart, 2 passes": (2, OnlineStart()),
    "OnlineStart, 4 passes": (4, OnlineStart(passes=4)),
}
"""Passes before the history begins, and the solver."""


def histories(n: int, d: int, k: int, steps: int, seed: int, solvers: dict) -> dict:
    """(passes at the first entry, values after each pass, seconds of the run) by solver.

    All from one start: `random_rows` of 20,000.
    """
    x = jax.device_put(groups(n, d, k, seed=seed))
    sample = om.Problem(x[:20_000])
    start = om.initializers.random_rows(jax.random.key(seed), sample, n_components=k)
    found = {}
    for name, (before, solver) in solvers.items():
        run = functools.partial(
            om.solve, om.Problem(x), start, solver, tolerance=0.0, max_steps=steps
        )
        values = np.asarray(run().history[: steps + 1])
        time = seconds(lambda run=run: run().value, 1)[1] if n < 500_000 else math.nan
        found[name] = before, values, time
    return found


def passes_to(level: float, before: int, values: np.ndarray) -> int | None:
    """Passes until a value is reached, the one that evaluates the start not counted."""
    reached = values <= level
    return before + int(np.argmax(reached)) if reached.any() else None


def table(quick: bool) -> list[dict]:
    """Passes to within `NEAR` of the best."""
    rows = []
    for n, d, k, steps in QUICK if quick else PROBLEMS:
        found = histories(n, d, k, steps, 0, SOLVERS)
        best = min(np.nanmin(values) for _, values, _ in found.values())
        for name, (before, values, time) in found.items():
            row = {"problem": f"full ({n}, {d}, {k})", "solver": name}
            row |= {f"to {near} nats": passes_to(best + near, before, values) for near in NEAR}
            rows.append(row | {"above the best": float(np.nanmin(values) - best), "s": time})
    return rows


def seeds(quick: bool) -> list[dict]:
    """On how many draws a solver is where EM is after 40 passes within 20."""
    sizes = [(20_000, 4, 8)] if quick else [(20_000, 4, 8), (50_000, 8, 16), (20_000, 2, 6)]
    rows = []
    for n, d, k in sizes:
        counts: dict[str, list] = {name: [] for name in SOLVERS if name != "EM"}
        for seed in range(SEEDS):
            found = histories(n, d, k, 40, seed, SOLVERS)
            level = found["EM"][1][-1]
            for name, passes in counts.items():
                passes.append(passes_to(level, *found[name][:2]) or math.inf)
        for name, passes in counts.items():
            rows.append(
                {
                    "problem": f"full ({n}, {d}, {k})",
                    "solver": name,
                    "within 20": f"{sum(p <= 20 for p in passes)} of {SEEDS}",
                    "median passes": float(np.median(passes)),
                    "worst": float(max(passes)),
                }
            )
    return rows
