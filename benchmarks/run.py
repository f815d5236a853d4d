"""Seconds per EM iteration against scikit-learn, and EM against the gradient path.

`python -m benchmarks.run [--quick]` prints tables and writes benchmarks/results.json. Both sides
start from the same mixture and take the same number of iterations; compilation is timed apart.
Compare ratios within one run: machines differ, and shared ones wobble.
"""

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import otmix_jax as om

PROBLEMS = [(20_000, 2, 3), (100_000, 8, 8), (100_000, 16, 16)]
QUICK = [(2_000, 2, 3), (5_000, 8, 8)]
SKLEARN = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def seconds(run: Callable[[], Any], repeats: int = 3) -> tuple[float, float]:
    """First call, and the median of the calls after it."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return times[0], statistics.median(times[1:])


def groups(n: int, d: int, k: int) -> np.ndarray:
    """Overlapping groups."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)) + 2 * rng.normal(size=(k, d))[rng.integers(k, size=n)]


def sklearn_model(initial: om.Mixture, covariance: str, steps: int) -> GaussianMixture:
    """The peer at the same start."""
    precisions = np.linalg.inv(initial.components.covariance.matrices())
    shaped = {
        "full": precisions,
        "tied": precisions[0],
        "diagonal": np.diagonal(precisions, axis1=1, axis2=2),
        "spherical": precisions[:, 0, 0],
    }[covariance]
    return GaussianMixture(
        len(precisions), covariance_type=SKLEARN[covariance], tol=0, reg_covar=0, max_iter=steps,
        weights_init=np.asarray(initial.weights), means_init=np.asarray(initial.components.mean),
        precisions_init=shaped, init_params="random_from_data",
    )  # fmt: skip


def per_iteration(n: int, d: int, k: int, covariance: str, steps: int = 10) -> dict:
    """Seconds per EM iteration, both sides from the same start."""
    x = groups(n, d, k)
    problem = om.Problem(jnp.asarray(x))
    initial = om.initializers.kmeans_plus_plus(
        jax.random.key(0), problem, n_components=k, covariance=covariance
    )
    first, ours = seconds(lambda: om.solve(problem, initial, tolerance=0.0, max_steps=steps).value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = sklearn_model(initial, covariance, steps)
        _, theirs = seconds(lambda: model.fit(x).lower_bound_, repeats=1)
    return {
        "problem": f"{covariance} ({n}, {d}, {k})",
        "otmix ms": 1e3 * ours / steps,
        "scikit-learn ms": 1e3 * theirs / steps,
        "ratio": theirs / ours,
        "compile s": first - ours,
    }


def solvers(n: int, d: int, k: int) -> list[dict]:
    """To the same tolerance from the same start: steps, seconds, value."""
    problem = om.Problem(jnp.asarray(groups(n, d, k)))
    initial = om.initializers.kmeans_plus_plus(jax.random.key(1), problem, n_components=k)
    rows = []
    for name, solver in {
        "EM": om.solvers.EM(),
        "lbfgs": om.solvers.Gradient(optax.lbfgs()),
        "adam 0.01": om.solvers.Gradient(optax.adam(1e-2)),
    }.items():

        def run(solver: om.solvers.Solver = solver) -> om.Solution:
            return om.solve(problem, initial, solver, tolerance=1e-8)

        first, again = seconds(run)
        solution = run()
        rows.append(
            {
                "solver": f"{name} ({n}, {d}, {k})",
                "steps": int(solution.n_steps),
                "seconds": again,
                "compile s": first - again,
                "value": float(solution.value),
            }
        )
    return rows


def print_table(rows: list[dict]) -> None:
    """Aligned columns."""
    cells = [list(rows[0])] + [
        [f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    print()


def main() -> None:
    """Runs, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    sizes = QUICK if quick else PROBLEMS
    iterations = [per_iteration(*size, covariance) for size in sizes for covariance in SKLEARN]
    print_table(iterations)
    paths = solvers(*sizes[0])
    print_table(paths)
    record = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
        "versions": {
            "otmix_jax": om.__version__,
            "jax": jax.__version__,
            "sklearn": sklearn.__version__,
        },
        "per_iteration": iterations,
        "solvers": paths,
    }
    path = Path(__file__).parent / "results.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
