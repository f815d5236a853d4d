"""Time and memory of a gradient through a fit: implicit, unrolled, finite differences.

`python -m benchmarks.derivatives [--quick]` prints two tables: against the number of steps, on a
small problem; and the implicit gradient of a large fit as a multiple of the fit. Compare ratios
within one run: machines differ, and shared ones wobble.
"""

import argparse
import platform
from collections.abc import Callable
from datetime import date

import jax
import jax.numpy as jnp

import otmix_jax as om

from .harness import groups, print_table, seconds

LARGE = (100_000, 8, 8)
QUICK = (5_000, 4, 4)


def downstream(mixture: om.Mixture) -> jax.Array:
    """Something of every parameter."""
    matrices = mixture.components.matrices()
    return jnp.sum(mixture.weights**2) + jnp.sum(mixture.components.mean**2) + jnp.sum(matrices**2)


def fit_of(
    initial: om.Mixture, steps: int, adjoint: om.adjoints.Adjoint
) -> Callable[[jax.Array], jax.Array]:
    """Rows to a number, through exactly `steps` steps of EM."""

    def run(x: jax.Array) -> jax.Array:
        solution = om.solve(
            om.Problem(x), initial, tolerance=0.0, max_steps=steps, adjoint=adjoint, history_size=1
        )
        return downstream(solution.mixture)

    return run


def start(x: jax.Array, k: int) -> om.Mixture:
    """A k-means++ start."""
    return om.initializers.kmeans_plus_plus(jax.random.key(0), om.Problem(x), n_components=k)


def compiled(function: Callable, x: jax.Array) -> tuple[Callable, float]:
    """The program and the bytes that it holds besides its arguments and results."""
    program = jax.jit(function).lower(x).compile()
    return program, program.memory_analysis().temp_size_in_bytes / 2**20


def differences(function: Callable) -> Callable:
    """Central differences in every entry of x, one after the other."""

    def gradient(x: jax.Array) -> jax.Array:
        h = 1e-5

        def entry(i: jax.Array) -> jax.Array:
            step = jnp.zeros(x.size, x.dtype).at[i].set(h).reshape(x.shape)
            return (function(x + step) - function(x - step)) / (2 * h)

        return jax.lax.map(entry, jnp.arange(x.size)).reshape(x.shape)

    return gradient


def against_steps(n: int, d: int, k: int, steps: int) -> dict:
    """One row of the first table."""
    x = jnp.asarray(groups(n, d, k))
    initial = start(x, k)
    implicit = om.adjoints.Implicit(max_error=jnp.inf)
    row = {"steps": steps}
    for name, function in {
        "fit": fit_of(initial, steps, om.adjoints.Stop()),
        "implicit": jax.grad(fit_of(initial, steps, implicit)),
        "unrolled": jax.grad(fit_of(initial, steps, om.adjoints.Unrolled(steps))),
        "differences": differences(fit_of(initial, steps, om.adjoints.Stop())),
    }.items():
        program, megabytes = compiled(function, x)
        row[f"{name} ms"] = 1e3 * seconds(lambda p=program: p(x))[1]
        row[f"{name} MB"] = megabytes
    return row


def large(n: int, d: int, k: int, dtype: str) -> dict:
    """One row of the second table: a fit to the default tolerance, and its gradient."""
    rows = jnp.asarray(groups(n, d, k))
    x, initial = rows.astype(dtype), start(rows, k)

    def run(x: jax.Array, adjoint: om.adjoints.Adjoint) -> tuple[jax.Array, jax.Array]:
        solution = om.solve(om.Problem(x), initial, adjoint=adjoint)
        return downstream(solution.mixture), solution.n_steps

    fit, fit_memory = compiled(lambda x: run(x, om.adjoints.Stop()), x)
    both, memory = compiled(
        jax.value_and_grad(lambda x: run(x, om.adjoints.Implicit()), has_aux=True), x
    )
    alone, together = (seconds(lambda p=p: p(x), repeats=1)[1] for p in (fit, both))
    return {
        "problem": f"{(n, d, k)} {dtype}",
        "steps": int(fit(x)[1]),
        "fit s": alone,
        "fit and gradient s": together,
        "ratio": together / alone,
        "fit MB": fit_memory,
        "gradient MB": memory,
    }


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller problems")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    print(f"{date.today()}, {platform.machine()}, {jax.devices()[0].platform}")
    print_table(
        "Against the steps",
        [against_steps(200, 2, 3, steps) for steps in (10, 100, 1000)[: 2 if quick else 3]],
    )
    print_table(
        "A large fit",
        [large(*(QUICK if quick else LARGE), dtype) for dtype in ("float64", "float32")],
    )


if __name__ == "__main__":
    main()
