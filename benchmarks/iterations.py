"""Seconds per EM iteration: the peers, and the floor that no implementation can pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import otmix_jax as om

from .harness import groups, seconds
from .peers import gmmx_fit, ott_fit, pomegranate_fit, sklearn_fit

HIGHEST = jax.lax.Precision.HIGHEST

PROBLEMS = [
    ("full", 100_000, 16, 16, "float64"),
    ("full", 100_000, 16, 16, "float32"),
    ("full", 1_000_000, 8, 8, "float64"),
    ("full", 20_000, 64, 32, "float64"),
    ("full", 100_000, 2, 100, "float64"),
    ("diagonal", 1_000_000, 8, 32, "float64"),
    ("spherical", 1_000_000, 8, 32, "float64"),
    ("tied", 1_000_000, 8, 32, "float64"),
    ("full", 1_000_000, 8, 32, "float64"),
]
QUICK = [
    (structure, 20_000, 8, 8, "float64") for structure in ("full", "tied", "diagonal", "spherical")
]
LARGE = [("full", 10_000_000, 16, 64, "float32"), ("full", 1_000_000, 32, 256, "float32")]
"""For an accelerator: sizes that fill it."""
SLOW_PEERS = {"gmmx": gmmx_fit, "OTT-JAX": ott_fit, "pomegranate": pomegranate_fit}
SLOW_PEERS_UP_TO = 4e7
"""They hold n x K x d numbers and more; beyond this many they are left out on a CPU."""


def start_of(x: np.ndarray, k: int, covariance: str) -> om.Mixture:
    """The common start."""
    problem = om.Problem(x[:20_000])
    return om.initializers.kmeans_plus_plus(
        jax.random.key(0), problem, n_components=k, covariance=covariance
    )


def floor(n: int, features: int, k: int, dtype: str, repeats: int) -> float:
    """Seconds of the two matrix products alone: those of the tile size that serves them best.

    On tiles of features made once, as if features cost nothing.
    """
    sizes = [512, 1024, 4096, 8192, *([] if _on_cpu() else [65_536, 262_144])]
    sizes = sorted({min(n, size) for size in sizes})
    return min(_products(n, features, k, dtype, size, repeats) for size in sizes)


def _products(n: int, features: int, k: int, dtype: str, size: int, repeats: int) -> float:
    t = jnp.asarray(np.random.default_rng(0).normal(size=(size, features)), dtype)
    eta = jnp.asarray(np.random.default_rng(1).normal(size=(k, features)), dtype)

    @jax.jit
    def products(t: jax.Array, eta: jax.Array) -> jax.Array:
        def body(i: int, carry: jax.Array) -> jax.Array:
            # Depends on the carry, so that no product can be taken out of the loop.
            left = jnp.matmul(t, (eta + 1e-30 * carry).T, precision=HIGHEST)
            return carry + jnp.matmul(left.T, t, precision=HIGHEST)

        return jax.lax.fori_loop(0, -(-n // size), body, jnp.zeros_like(eta))

    return seconds(lambda: products(t, eta), repeats)[1] * n / (size * -(-n // size))


def bandwidth(numbers: int = 2**27, times: int = 20) -> float:
    """Bytes per second of adding to a long array, again and again, reading and writing counted."""

    @jax.jit
    def add(x: jax.Array) -> jax.Array:
        # By what the last one left, or all additions would be made one.
        return jax.lax.fori_loop(0, times, lambda i, x: x + 1e-30 * x[0], x)

    x = jnp.ones(numbers, jnp.float32)
    return 2 * x.nbytes * times / seconds(lambda: add(x), 3)[1]


def per_iteration(covariance: str, n: int, d: int, k: int, dtype: str, *, steps: int = 10) -> dict:
    """One row of the table; every side takes `steps` iterations from one start.

    On an accelerator the peers are those that run there, and the rows are also held against the
    memory: an iteration reads them once at least.
    """
    x = groups(n, d, k, dtype)
    start = start_of(x, k, covariance)
    rows = jax.device_put(x)
    problem = om.Problem(rows)
    first, ours = seconds(lambda: om.solve(problem, start, tolerance=0.0, max_steps=steps).value)
    ours /= steps
    form = start.components.linear_form()
    lowest = floor(n, form.natural_parameters.shape[1], k, dtype, 3)
    row = {
        "problem": f"{covariance} ({n}, {d}, {k}) {dtype}",
        "otmix ms": 1e3 * ours,
        "floor ms": 1e3 * lowest,
        "x floor": ours / lowest,
    }
    if not _on_cpu():
        row["of bandwidth"] = rows.nbytes / ours / bandwidth()
    row |= _against(rows, start, covariance, ours, 3 if n * k > 5_000_000 else steps)
    return row | {"compile s": first - ours * steps}


def _on_cpu() -> bool:
    return next(iter(jnp.zeros(1).devices())).platform == "cpu"


def _against(
    rows: jax.Array, start: om.Mixture, covariance: str, ours: float, steps: int
) -> dict[str, float | str]:
    """The peers' milliseconds, and how many times ours that is."""
    cells: dict[str, float | str] = {}
    if _on_cpu():
        small = rows.size * len(start.log_weights) <= SLOW_PEERS_UP_TO
        fits = {"scikit-learn": sklearn_fit, **(SLOW_PEERS if small else {})}
    else:
        fits = {"gmmx": gmmx_fit, "pomegranate": pomegranate_fit}
    for name, fit in fits.items():
        try:
            run = fit(rows, start, covariance, steps)
            if run is None:
                continue
            theirs = seconds(run, 1)[1] / steps
        except RuntimeError as error:
            if "memory" not in str(error).lower():
                raise
            cells[f"{name} ms"] = "out of memory"
        else:
            cells |= {f"{name} ms": 1e3 * theirs, f"x {name}": theirs / ours}
    return cells


def table(quick: bool, device: str) -> list[dict]:
    """All problems."""
    problems = PROBLEMS if device == "cpu" else PROBLEMS[:2] + LARGE
    return [per_iteration(*problem) for problem in (QUICK if quick else problems)]


def growth(quick: bool) -> list[dict]:
    """Doubling n, d and K one at a time: the exponent of the time per iteration.

    The sizes take turns, and the least of each counts: a busy minute would make an exponent.
    """
    base, steps = {"n": 50_000 if quick else 200_000, "d": 8, "k": 16}, 10
    runs, times = {}, {}
    for name in (None, "n", "d", "k"):
        size = {**base, **({name: 2 * base[name]} if name else {})}
        x = groups(**size)
        problem, start = om.Problem(jax.device_put(x)), start_of(x, size["k"], "full")
        runs[name] = functools.partial(om.solve, problem, start, tolerance=0.0, max_steps=steps)
        times[name] = float("inf")
    for name, run in [*runs.items()] * 5:
        times[name] = min(times[name], seconds(lambda run=run: run().value, 1)[1] / steps)
    return [
        {
            "doubled": name or "none",
            "otmix ms": 1e3 * time,
            "exponent": float(np.log2(time / times[None])) if name else "",
        }
        for name, time in times.items()
    ]
