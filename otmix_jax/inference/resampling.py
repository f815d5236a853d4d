"""Standard errors by the bootstrap, of any family."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray, PyTree

from ..core.buckets import bucket, padded
from ..core.reading import numbers
from ..core.status import Status
from ..core.tree import is_float, pytree
from ..fitting import Report
from ..fitting.control import Watch
from ..fitting.edge import check_key, check_solver
from ..model import Mixture, Solution
from ..model.mixtures import rows_for
from ..solvers import Solver, Squarem
from .errors import Errors, quantities
from .replications import Drawn, Reweighted, Task, limits, report, run

KINDS = ("resample", "weighted", "jackknife", "parametric")


@pytree
class Bootstrap(Errors):
    """`Errors` from replications, and these.

    Attributes:
        replications: the fits, leaves [b, ...].
        healthy: [b] which of them count: those that ended as a proper mixture.
    """

    replications: Solution
    healthy: Array


def bootstrap(
    solution: Solution,
    x: PyTree,
    sample_weight: Any = None,
    *,
    kind: str = "resample",
    n_replications: int = 999,
    key: PRNGKeyArray | int = 0,
    solver: Solver = Squarem(),
    tolerance: Array | float | None = None,
    max_steps: Array | int = 2000,
    progress: bool | Callable[[int, int], Any] = False,
    time_limit: float | None = None,
    callback: Callable[[Report], Any] | None = None,
) -> Bootstrap:
    """Standard errors of all parameters, in their own units, from fits to replications of the data.

    Each replication starts at the estimate, so that components keep their places.

    - "resample": n rows are drawn from the rows, with replacement (Efron).
    - "weighted": rows have independent exponential weights (Newton and Raftery, 1994); smoother,
      as no row is ever left out. mclust's "wlbs".
    - "jackknife": each row is left out once; the variance is (n - 1) / n times the sum of squares.
    - "parametric": n rows are drawn from the mixture; it believes the model, the others do not.

    Args:
        solution: what `fit` or `solve` returned for these rows.
        x: [n, d] rows, or what the family wants.
        sample_weight: [n] counts, as in the fit; None for one each.
        kind: one of the four.
        n_replications: how many; the jackknife has as many as rows.
        key: a typed PRNG key, or an integer seed.
        solver: how each is fitted.
        tolerance: see `parametric_bootstrap`.
        max_steps: see `solve`.
        progress: see `fit_batch`.
        time_limit: see `parametric_bootstrap`. A jackknife that was stopped knows the first rows
            alone, and takes the others to be like them.
        callback: see `fit`.

    Raises:
        ValueError: for a kind that is none, and for rows that are not the mixture's.

    Warns:
        ConvergenceWarning: where it was stopped.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> solution = om.fit(x, 2, key=0)
        >>> errors = om.inference.bootstrap(solution, x, kind="jackknife")
        >>> sorted(round(float(e), 4) for e in errors.means[:, 0])
        [0.0289, 0.0321]

    Source: Efron and Tibshirani (1993), chapters 6 and 11; O'Hagan, Murphy, Scrucca and Gormley
    (2019), Computational Statistics 34.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, not {kind!r}")
    check_solver(solver)
    mixture = solution.mixture
    rows, count = _present(mixture, x, sample_weight)
    n = round(float(count.sum()))
    jackknife = kind == "jackknife"
    if kind == "parametric":
        draw, size = Drawn(), bucket(n)
    else:
        rows, padding = padded(rows, count)
        draw, size = Reweighted(rows, jnp.asarray(padding), kind), bucket(max(n, len(count)))
    task = Task(
        check_key(key), mixture, n, solver, limits(tolerance, max_steps), size, draw,
        solution.learns_weights,
    )  # fmt: skip
    total = len(count) if jackknife else n_replications
    with Watch(progress, time_limit, callback) as watch:
        fits = run(task, total, watch)
    healthy = np.asarray(fits.status) <= Status.STALLED
    report(watch, len(healthy), total)
    return _spread(fits, healthy, count[: len(healthy)] if jackknife else None, n)


def _present(mixture: Mixture, x: PyTree, sample_weight: Any) -> tuple[PyTree, np.ndarray]:
    """The rows that are there, on the host, and how often each was seen."""
    x = jax.tree.map(np.asarray, rows_for(mixture, x, sample_weight))
    n = len(jax.tree.leaves(x)[0])
    if sample_weight is None:
        return x, np.ones(n)
    count = np.asarray(numbers(sample_weight, "sample_weight"), float)
    if count.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), not {count.shape}")
    return jax.tree.map(lambda leaf: leaf[count > 0], x), count[count > 0]


def _spread(fits: Solution, healthy: np.ndarray, count: np.ndarray | None, n: int) -> Bootstrap:
    weight = healthy.astype(float) if count is None else healthy * count
    total = weight.sum()
    # of a variance, or of the jackknife's; replications that do not count are as the others
    scale = (1 if count is None else (n - 1) * (total - 1) / max(total, 1)) / max(total - 1, 1)

    def deviation(leaf: Any) -> Any:
        if leaf is None or not is_float(leaf):
            return leaf
        values = np.where(healthy.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0)
        # of an absent component log pi is -inf in all of them
        values = np.where(np.isfinite(values), values, np.nan)
        centred = values - np.tensordot(weight, values, 1) / max(total, 1)
        return jnp.asarray(np.sqrt(scale * np.tensordot(weight, centred**2, 1)), leaf.dtype)

    errors = jax.tree.map(deviation, quantities(fits.mixture))
    return Bootstrap(**errors, replications=fits, healthy=jnp.asarray(healthy))
