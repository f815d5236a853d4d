"""`make demo`: Old Faithful by EM and by gradient, checked and drawn in front of you."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
import optax

import otmix_jax as om

from .. import plot
from ..core import cache

K = 3


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = jax.block_until_ready(run())
    return result, time.perf_counter() - begin


def _largest_difference(a: om.Mixture, b: om.Mixture) -> float:
    """Over weights, means and covariance matrices."""

    def numbers(m: om.Mixture) -> tuple:
        return m.weights, m.components.mean, m.components.matrices()

    return max(float(abs(p - q).max()) for p, q in zip(numbers(a), numbers(b), strict=True))


def _fit_all(x: np.ndarray) -> dict[str, tuple[om.Solution, float, float]]:
    """Each solver from the same start: solution, seconds to compile and run, seconds to run."""
    problem = om.Problem(x)
    initial = om.initializers.kmeans_plus_plus(
        jax.random.key(0), problem, n_components=K, covariance="tied"
    )
    solvers = {
        "EM": om.solvers.EM(),
        "gradient, lbfgs": om.solvers.Gradient(optax.lbfgs()),
        "gradient, adam": om.solvers.Gradient(optax.adam(1e-2)),
    }
    fits = {}
    for name, solver in solvers.items():

        def run(solver: om.solvers.Solver = solver) -> om.Solution:
            return om.solve(problem, initial, solver, tolerance=1e-14, max_steps=2000)

        _, first = _timed(run)
        solution, second = _timed(run)
        fits[name] = (solution, first - second, second)
    return fits


def _print_table(fits: dict, n: int) -> None:
    reference = fits["EM"][0].mixture
    header = (
        f"{'solver':16} {'value':>11} {'log-lik.':>11} {'BIC':>10} {'steps':>6} "
        f"{'compile s':>10} {'run s':>8} {'max diff':>9}  status"
    )
    print(header, "-" * len(header), sep="\n")
    for name, (solution, compilation, seconds) in fits.items():
        print(
            f"{name:16} {solution.value:11.7f} {solution.log_likelihood(n):11.4f} "
            f"{solution.bic(n):10.4f} {int(solution.n_steps):6d} {compilation:10.2f} "
            f"{seconds:8.4f} {_largest_difference(reference, solution.mixture):9.1e}  "
            f"{om.Status(int(solution.status)).name}"
        )
    print("value: mean negative log-likelihood, nats per row; max diff: largest parameter")
    print("difference from EM's; BIC: scikit-learn's sign, lower is better.\n")


def _print_identities(mixture: om.Mixture, x: np.ndarray) -> None:
    """The note's eq. (2.6) at the fitted mixture: cost + KL = mean negative log-likelihood."""
    n = len(x)
    plan = mixture.responsibilities(x) / n
    cost = mixture.components.cost(jax.numpy.asarray(x))
    independent = mixture.weights / n * np.ones_like(plan)
    transport = float((plan * cost).sum() + om.transport.kl_divergence(plan, independent))
    likelihood = float(om.negative_log_likelihood(mixture, x))
    rows = float(abs(plan.sum(1) - 1 / n).max())
    columns = float(abs(plan.sum(0) - mixture.weights).max())
    print("the plan P at EM's answer")
    print(f"  rows sum to 1/n                          largest error {rows:.1e}")
    print(f"  columns sum to the proportions (optimum) largest error {columns:.1e}")
    print(f"  <C, P> + KL(P | a pi)      = {transport:.12f}")
    print(f"  mean neg. log-likelihood   = {likelihood:.12f}    (the note's eq. 2.6)")
    if max(rows, abs(transport - likelihood)) > 1e-9 or columns > 1e-5:
        raise SystemExit("the identities do not hold: please report this")


def _draw(fits: dict, data: om.datasets.Dataset, path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    plot.mixture(fits["EM"][0].mixture, data.x, axes=left)
    left.set(
        xlabel=data.feature_names[0],
        ylabel=data.feature_names[1],
        title="Old Faithful, coloured by the plan",
    )
    plot.history({name: fit[0] for name, fit in fits.items()}, axes=right)
    right.set_title("Block-coordinate descent and gradient descent")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def run(path: Path, kept: Path | None) -> None:
    """Fits, prints, checks, draws.

    Args:
        path: of the picture.
        kept: the folder of compiled programs, to name it.
    """
    data = om.datasets.old_faithful()
    print(f"otmix_jax {om.__version__}: Old Faithful, n = {len(data.x)}, K = {K}, tied covariance")
    print(f"one k-means++ start, three solvers, on {jax.devices()[0].device_kind}")
    print(f"compiled programs are kept in: {kept or 'no folder'} ({cache.VARIABLE}=0 keeps none)\n")
    fits = _fit_all(data.x)
    _print_table(fits, len(data.x))
    _print_identities(fits["EM"][0].mixture, data.x)
    _draw(fits, data, path)
    print(f"\npicture: {path}")


def main() -> None:
    """As `make demo` runs it."""
    jax.config.update("jax_enable_x64", True)
    run(Path("demo.png"), cache.from_environment("1"))


if __name__ == "__main__":
    main()
