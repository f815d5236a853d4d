"""How many passes over the rows a solver needs to be within 1e-8 nats per row of where it ends."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from sklearn import datasets

import otmix_jax as om
from otmix_jax.solvers import EM, QuasiNewton, Solver, Squarem

SOLVERS: dict[str, Solver] = {"EM": EM(), "Squarem": Squarem(), "QuasiNewton": QuasiNewton()}
STEPS, NEAR = 3000, 1e-8


def _standard(x: Any) -> np.ndarray:
    x = np.asarray(x, float)
    return (x - x.mean(axis=0)) / x.std(axis=0)


def _apart(n: int, centres: Any, seed: int) -> np.ndarray:
    """Groups of n standard normal rows about centres."""
    rng = np.random.default_rng(seed)
    centres = np.asarray(centres, float)
    return np.concatenate([rng.normal(size=(n, centres.shape[1])) + c for c in centres])


def real() -> Iterator[tuple[str, Any, int, Any, int]]:
    """Problems of real rows: name, rows, K, what of, seed of a k-means++ start."""
    faithful = _standard(om.datasets.old_faithful().x)
    for key in (6, 7, 15):
        yield "Old Faithful", faithful, 3, "tied", key
    for k, kind in ((2, "full"), (3, "full"), (4, "diagonal"), (4, "spherical"), (5, "diagonal")):
        yield "Old Faithful", faithful, k, kind, 0
    galaxies = om.datasets.galaxies().x / 1000
    for k, key in ((3, 0), (4, 1), (5, 0)):
        yield "galaxies", galaxies, k, "full", key
    iris = datasets.load_iris().data
    for k, kind in ((2, "full"), (3, "full"), (3, "diagonal"), (4, "tied")):
        yield "iris", iris, k, kind, 0
    wine = _standard(datasets.load_wine().data)
    for k, kind in ((3, "diagonal"), (3, "tied"), (4, "spherical")):
        yield "wine", wine, k, kind, 0
    cancer = _standard(datasets.load_breast_cancer().data[:, :10])
    for k, kind in ((2, "full"), (4, "tied")):
        yield "breast cancer", cancer, k, kind, 0
    diabetes = _standard(datasets.load_diabetes().data[:, [0, 2, 3, 8, 9]])
    for k, kind in ((2, "full"), (3, "tied")):
        yield "diabetes", diabetes, k, kind, 0


def made() -> Iterator[tuple[str, Any, int, Any, int]]:
    """Problems of rows that are drawn."""
    for gap in (1.8, 2.2, 3.0, 5.0):
        yield f"two groups, {gap} apart", _apart(1000, [[0, 0], [gap, 0]], 0), 2, "full", 0
    for gap in (2.2, 3.0):
        centres = [[0, 0], [gap, 0], [0, gap]]
        yield f"three groups, {gap} apart", _apart(700, centres, 1), 3, "tied", 0
    rng = np.random.default_rng(2)
    yield "eight groups in 8 columns", _apart(2000, 6 * rng.normal(size=(8, 8)), 2), 8, "full", 0
    yield "six groups in 4 columns", _apart(400, 1.3 * rng.normal(size=(6, 4)), 3), 6, "full", 0
    yield (
        "ten groups in 20 columns",
        _apart(1000, 1.2 * rng.normal(size=(10, 20)), 4),
        10,
        "full",
        0,
    )
    counts = rng.poisson(np.where(rng.random((600, 1)) < 0.4, [[2.0, 5.0]], [[4.0, 7.0]]))
    yield "counts", counts, 2, om.families.Poisson.of(), 0
    yield "counts", counts, 3, om.families.Poisson.of(), 0
    likely = np.where(rng.random((800, 1)) < 0.4, 0.7, 0.35) * np.ones(8)
    answers = (rng.random((800, 8)) < likely).astype(int)
    yield "yes and no", answers, 2, om.families.Bernoulli.of(), 0
    heavy = _apart(500, [[0, 0], [3, 0]], 5) / np.sqrt(rng.chisquare(4, (1000, 1)) / 4)
    yield "heavy tails", heavy, 2, om.families.StudentT.of("full", degrees=4), 0


def table(quick: bool) -> list[dict]:
    """Passes of each solver, and by how much its end differs from the lowest."""
    rows = []
    problems = list(real())[:5] if quick else [*real(), *made()]
    for name, x, k, kind, key in problems:
        problem = om.Problem(x)
        family = {"covariance": kind} if isinstance(kind, str) else {"family": kind}
        start = om.initializers.kmeans_plus_plus(
            jax.random.key(key), problem, n_components=k, **family
        )
        row = {"problem": f"{name}, K = {k}, {kind}, key {key}"}
        ends = {}
        for solver_name, solver in SOLVERS.items():
            run = om.solve(problem, start, solver, tolerance=1e-16, max_steps=STEPS)
            values = np.asarray(run.history)
            ends[solver_name] = float(run.value)
            row[solver_name] = int(np.argmax(values <= ends[solver_name] + NEAR))
        best = min(row["EM"], row["Squarem"])
        row["of the better"] = round(row["QuasiNewton"] / max(best, 1), 2)
        row["above the lowest"] = float(f"{ends['QuasiNewton'] - min(ends.values()):.1e}")
        rows.append(row)
    return rows
