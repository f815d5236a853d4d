"""Many small fits: `fit_batch` against a joblib-parallel loop of scikit-learn.

`python -m benchmarks.batch [--quick]` prints tables and writes benchmarks/batch.json. The peer runs
on a subsample of the data sets, and its time is extrapolated to all of them; both take the same
number of starts. It is timed at the same tolerance as ours and at its own default. Compare
ratios within one run: machines differ, and shared ones wobble.
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np
from joblib import Parallel, delayed
from sklearn.mixture import GaussianMixture

import otmix_jax as om

K, D = 3, 2
SOLVERS = {"EM": om.solvers.EM(), "Squarem": om.solvers.Squarem()}


def data_sets(count: int) -> list[np.ndarray]:
    """Ragged groups of 50 to 500 rows."""
    rng = np.random.default_rng(0)
    found = []
    for size in rng.integers(50, 501, count):
        centres = 3 * rng.normal(size=(K, D))
        found.append(centres[rng.integers(K, size=size)] + rng.normal(size=(size, D)))
    return found


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    answer = jax.block_until_ready(run())
    return time.perf_counter() - begin, answer


def ours(
    x: list[np.ndarray], n_init: int, tolerance: float, solver: str, sample: int
) -> dict[str, Any]:
    """First call, with compilation, and a second; and the mean value of the first `sample`."""

    def run() -> om.Batch:
        return om.fit_batch(
            x,
            K,
            key=0,
            starts=om.Starts(n_init=n_init),
            limits=om.Limits(tolerance=tolerance),
            solver=SOLVERS[solver],
        )

    cold, _ = seconds(run)
    warm, batch = seconds(run)
    steps = np.asarray(batch.starts.n_steps)
    return {
        "solver": solver,
        "n_init": n_init,
        "tolerance": tolerance,
        "cold": cold,
        "warm": warm,
        "per_fit_ms": 1e3 * warm / len(x),
        "steps": float(steps.sum()),
        "longest": int(steps.max()),
        "computed": float(batch.computed_steps),
        "without_compaction": float(steps.size * steps.max()),
        "mean_value": float(np.mean(batch.value[:sample])),
    }


def _fit(x: np.ndarray, n_init: int, tolerance: float) -> tuple[float, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianMixture(K, n_init=n_init, tol=tolerance, max_iter=2000, random_state=0)
        model.fit(x)
        return -float(model.score(x)), model.n_iter_


def peer(x: list[np.ndarray], n_init: int, tolerance: float, total: int) -> dict[str, float]:
    """scikit-learn on `x`, extrapolated to `total` data sets."""
    with Parallel(n_jobs=os.cpu_count()) as pool:
        pool(delayed(_fit)(rows, n_init, 1e-3) for rows in x[: 2 * (os.cpu_count() or 1)])  # wake
        took, fits = seconds(lambda: pool(delayed(_fit)(rows, n_init, tolerance) for rows in x))
    return {
        "tolerance": tolerance,
        "sample": len(x),
        "seconds": took,
        "per_fit_ms": 1e3 * took / len(x),
        "extrapolated": took * total / len(x),
        "mean_value": float(np.mean([value for value, _ in fits])),
        "mean_steps_of_best": float(np.mean([steps for _, steps in fits])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 data sets")
    parser.add_argument("--count", type=int, default=10_000, help="data sets")
    options = parser.parse_args()
    count, sample = (200, 20) if options.quick else (options.count, 200)
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore", om.ConvergenceWarning)
    x = data_sets(count)
    print(
        f"{count} data sets, d = {D}, K = {K}, full; {os.cpu_count()} cores, {platform.machine()}"
    )

    fits, peers = [], []
    for tolerance in (1e-8, 1e-3):
        loop = peer(x[:sample], 4, tolerance, count)
        peers.append(loop)
        print(
            f"tolerance {tolerance:.0e}, 4 starts: scikit-learn {loop['extrapolated']:.0f} s "
            f"(extrapolated from {sample}), mean value of these {loop['mean_value']:.5f}"
        )
        for solver in SOLVERS:
            fit = ours(x, 4, tolerance, solver, sample)
            fits.append(fit)
            print(
                f"  {solver}: {fit['warm']:.1f} s, first {fit['cold']:.1f} s: "
                f"{loop['extrapolated'] / fit['warm']:.0f} x warm, "
                f"{loop['extrapolated'] / fit['cold']:.0f} x cold; "
                f"value {fit['mean_value']:.5f}; lane-steps: useful {fit['steps']:.3g}, "
                f"computed {fit['computed']:.3g}, without compaction "
                f"{fit['without_compaction']:.3g}",
                flush=True,
            )
    few = x[: max(count // 10, 100)]
    starts = [ours(few, n, 1e-6, "EM", sample) for n in (1, 2, 4, 8)]
    for row in starts:
        print(
            f"n_init {row['n_init']}: {row['per_fit_ms']:.3f} ms per fit, {row['steps']:.3g} steps"
        )
    record = {
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "count": count,
        "fits": fits,
        "scikit_learn": peers,
        "starts": starts,
    }
    path = Path(__file__).parent / "batch.json"
    path.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
