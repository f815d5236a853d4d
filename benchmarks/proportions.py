"""Proportions on a fixed dictionary: scale mixtures of normals, as mixsqp's own benchmark."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from otmix_jax.core.status import Status
from otmix_jax.infinite import optimal_weights

from .harness import seconds

SIZES = [(100_000, 100), (100_000, 300), (100_000, 1000)]
QUICK = [(5_000, 100)]
CONIC_UP_TO = 2_000_000
"""Likelihoods beyond which the conic solver is left out: it needs minutes."""
SPENT = 60
"""Passes that the first-order methods are given."""


def scale_mixture(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Log-likelihoods [n, k] of rows with noise of deviation 1, relative to each row's largest.

    A half of the effects is 0, the others are of t and normal laws; the grid of deviations is that
    of mixsqp's `simulatemixdata`: 0, then a geometric one from .1 to 2 sqrt(max x^2 - 1).
    """
    rng = np.random.default_rng(seed)
    quarter = n // 4
    parts = rng.normal(size=n - 2 * quarter), 3 * rng.standard_t(4, quarter)
    x = np.concatenate([*parts, 5 * rng.normal(size=quarter)])
    grid = np.geomspace(0.1, 2 * np.sqrt(np.max(x**2) - 1), k - 1)
    variance = 1 + np.append(0, grid) ** 2
    table = -0.5 * (x[:, None] ** 2 / variance + np.log(variance))
    return table - table.max(axis=1, keepdims=True)


@jax.jit
def _em(likelihood: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A step of EM, and log max D before it: one pass."""
    multipliers = jnp.mean(likelihood / (likelihood @ w)[:, None], axis=0)
    return w * multipliers, jnp.log(jnp.max(multipliers))


def em(likelihood: jax.Array, w: jax.Array) -> tuple[jax.Array, int]:
    """Two steps."""
    return _em(likelihood, _em(likelihood, w)[0])[0], 2


def squarem(likelihood: jax.Array, w: jax.Array) -> tuple[jax.Array, int]:
    """Varadhan and Roland's S3 in three passes, clipped to the simplex."""
    one = _em(likelihood, w)[0]
    two = _em(likelihood, one)[0]
    step, bend = one - w, two - 2 * one + w
    length = jnp.maximum(1, jnp.linalg.norm(step) / jnp.maximum(jnp.linalg.norm(bend), 1e-300))
    leap = jnp.maximum(w + 2 * length * step + length**2 * bend, 1e-300)
    return _em(likelihood, leap / jnp.sum(leap))[0], 3


def first_order(table: np.ndarray, step: Callable) -> dict[str, float]:
    """Seconds, passes and gap of a method that is given `SPENT` passes."""
    likelihood = jnp.exp(jnp.asarray(table))
    w, passes = jnp.full(table.shape[1], 1 / table.shape[1]), 0
    jax.block_until_ready(step(likelihood, w))
    begin = time.perf_counter()
    while passes < SPENT:
        w, spent = step(likelihood, w)
        passes += spent
    gap = float(_em(likelihood, w)[1])
    return {"s": time.perf_counter() - begin, "gap": gap}


def conic(table: np.ndarray) -> dict[str, float]:
    """CVXPY with Clarabel."""
    import cvxpy  # noqa: PLC0415

    likelihood = np.exp(table)
    w = cvxpy.Variable(table.shape[1], nonneg=True)
    value = -cvxpy.sum(cvxpy.log(likelihood @ w)) / len(table)
    problem = cvxpy.Problem(cvxpy.Minimize(value), [cvxpy.sum(w) == 1])
    begin = time.perf_counter()
    problem.solve(solver="CLARABEL")
    spent = time.perf_counter() - begin
    found = np.maximum(w.value, 0)
    found /= found.sum()
    multipliers = np.mean(likelihood / (likelihood @ found)[:, None], axis=0)
    return {"s": spent, "gap": float(np.log(multipliers.max()))}


def table(quick: bool) -> list[dict]:
    """All sizes: ours to 1e-9 nats per row, what others reach."""
    rows = []
    for n, k in QUICK if quick else SIZES:
        logs = scale_mixture(n, k)
        given, a = jnp.asarray(logs), jnp.full(n, 1 / n)
        run = jax.jit(optimal_weights)
        first, ours = seconds(lambda run=run, given=given, a=a: run(given, a), 3)
        found = run(given, a)
        row = {
            "n x K": f"{n} x {k}",
            "otmix s": ours,
            "passes": int(found.n_passes),
            "gap": float(found.gap),
            "status": Status(int(found.status)).name,
            "compile s": first - ours,
        }
        others = {"EM": em, "SQUAREM": squarem}
        answers = {name: first_order(logs, step) for name, step in others.items()}
        if n * k <= CONIC_UP_TO:
            answers["Clarabel"] = conic(logs)
        for name, answer in answers.items():
            row |= {f"{name} {what}": value for what, value in answer.items()}
        rows.append(row)
    return rows
