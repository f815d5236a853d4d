"""Should `fit` start balanced? EM against `BalancedStart(EM())`, from the same starts.

`python -m benchmarks.starts [--starts 200]` prints a table and writes benchmarks/starts.json. A
start reaches the best optimum if its objective is within 1e-5 nats per row of the lowest that any
healthy start on these rows came to, whatever its initialiser and solver. "ms" is per start, one
after the other; "ms of 8" eight at a time, as in `fit`, on 24 starts. Compare within one run.
"""

import argparse
import functools
import json
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from sklearn.datasets import load_iris, load_wine

import otmix_jax as om

from .harness import print_table

LANES = 8  # the starts of one `fit`
NEAR = 1e-5
INITIALIZERS = {
    "k-means++": om.initializers.kmeans_plus_plus,
    "k-means": om.initializers.kmeans,
    "rows": om.initializers.random_rows,
}
SOLVERS = {
    "EM": om.solvers.EM(),
    "balanced 5": om.solvers.BalancedStart(om.solvers.EM(), steps=5),
    "balanced 20": om.solvers.BalancedStart(om.solvers.EM(), steps=20),
}


def simulated(seed: int, sizes: list[int]) -> np.ndarray:
    """Gaussian groups in the plane that overlap moderately, each with its own covariance."""
    rng = np.random.default_rng(seed)
    means = 3 * rng.normal(size=(len(sizes), 2))
    shapes = np.eye(2) + 0.4 * rng.normal(size=(len(sizes), 2, 2))
    groups = zip(means, shapes, sizes, strict=True)
    return np.concatenate([m + rng.normal(size=(n, 2)) @ s.T for m, s, n in groups])


def data() -> Iterator[tuple[str, np.ndarray, int, str]]:
    """Name, rows, K, covariance structure."""
    iris, wine = load_iris().data, load_wine().data
    yield "faithful tied 3", om.datasets.old_faithful().x, 3, "tied"
    yield "iris tied 3", iris, 3, "tied"
    yield "iris full 3", iris, 3, "full"
    yield "wine diagonal 3", wine / wine.std(axis=0), 3, "diagonal"
    yield "galaxies tied 4", om.datasets.galaxies().x / 1000, 4, "tied"
    for name, sizes in ("equal", 5 * [100]), ("unequal", [350, 100, 25, 25]):
        for seed in range(2):
            k = len(sizes)
            yield f"{name} {seed} full {k}", simulated(seed, sizes), k, "full"


def problem_of(x: np.ndarray) -> om.Problem:
    """Centred rows under a ridge of 1e-6."""
    rows = om.Problem(jnp.asarray(x - x.mean(axis=0)))
    prior = om.priors.Ridge.of(rows.x, rows.row_weight, 1e-6)
    return om.Problem(rows.x, prior=prior)


@functools.partial(jax.jit, static_argnames="lanes")
def solve_all(
    problem: om.Problem, starts: om.Mixture, solver: om.solvers.Solver, steps: int, lanes: int
) -> om.Solution:
    """`lanes` starts at a time under `vmap`; 0: one after the other, without it."""
    run = functools.partial(om.solve, problem, solver=solver, max_steps=steps, history_size=1)
    return jax.lax.map(run, starts, batch_size=lanes or None)


def timed(
    problem: om.Problem, starts: om.Mixture, solver: om.solvers.Solver, lanes: int = 0
) -> tuple[om.Solution, float]:
    """The solutions, and milliseconds per start; the call without steps compiles."""
    jax.block_until_ready(solve_all(problem, starts, solver, 0, lanes))
    begin = time.perf_counter()
    found = jax.block_until_ready(solve_all(problem, starts, solver, 2000, lanes))
    each = (time.perf_counter() - begin) / len(found.n_steps)
    return jax.tree.map(np.asarray, found), 1e3 * each


def best_of_lanes(gaps: np.ndarray) -> float:
    """Expected lowest of `LANES` draws from `gaps`."""
    left = np.arange(len(gaps), -1, -1) / len(gaps)
    return float(np.sum(np.sort(gaps) * -np.diff(left**LANES)))


def compare(name: str, x: np.ndarray, k: int, covariance: str, count: int) -> list[dict]:
    """All initialisers and solvers on one data set."""
    problem, runs, value = problem_of(x), {}, {}
    for initial, function in INITIALIZERS.items():
        draw = functools.partial(function, problem=problem, n_components=k, covariance=covariance)
        starts = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), count))
        some = jax.tree.map(lambda leaf: leaf[: 3 * LANES], starts)
        for label, solver in SOLVERS.items():
            _, together = timed(problem, some, solver, LANES)
            found, alone = timed(problem, starts, solver)
            runs[initial, label] = found, alone, together
            healthy = found.status <= om.Status.STALLED
            value[initial, label] = np.where(healthy, found.objective, np.inf)
    best = min(runs, key=lambda key: value[key].min())
    lowest, at = value[best].min(), value[best].argmin()
    least, rows = float(len(x) * runs[best][0].mixture.weights[at].min()), []
    for key, (found, alone, together) in runs.items():
        gap, base = value[key] - lowest, value[key[0], "EM"] - lowest
        healthy, reached = gap < np.inf, float(np.mean(gap <= NEAR))
        rows.append(
            {
                "data": name,
                "initializer": key[0],
                "solver": key[1],
                "reach": reached / float(np.mean(healthy)),
                f"best of {LANES}": 1 - (1 - reached) ** LANES,
                "median gap": float(np.median(gap[healthy])),
                f"gap of {LANES}": best_of_lanes(gap[healthy]),
                "better": float(np.mean(gap < base - NEAR)),
                "worse": float(np.mean(gap > base + NEAR)),
                "steps": float(np.median(found.n_steps)),
                "unhealthy": 1 - float(np.mean(healthy)),
                "ms": alone,
                f"ms of {LANES}": together,
                "least rows": least,
            }
        )
    return rows


def main() -> None:
    """Runs, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=200, help="at least 24, per data set")
    count, rows = parser.parse_args().starts, []
    jax.config.update("jax_enable_x64", True)
    for case in data():
        rows += (latest := compare(*case, count))
        print_table(latest[0]["data"], latest)
    versions = {"otmix_jax": om.__version__, "jax": jax.__version__, "sklearn": sklearn.__version__}
    record = {"date": date.today().isoformat(), "versions": versions, "starts": count, "rows": rows}
    path = Path(__file__).parent / "starts.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
