"""The host edge: validates, standardises, restarts, solves, warns or raises."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray

from ._pytree import replace
from .engine import Engine
from .families import Gaussian
from .families.base import Family
from .initializers import kmeans
from .mixture import Mixture
from .oracle import Oracle
from .priors import Prior
from .problem import Problem
from .restarts import Program, best_start, start_keys
from .solution import Solution
from .solvers import EM, Solver
from .solvers.driver import Limits, run
from .status import Status
from .transport.couplings import Balanced, Coupling, Penalized, SemiRelaxed
from .validation import (
    SLICE,
    check_components,
    check_count,
    check_epsilon,
    check_number,
    check_rows,
    check_sample_weight,
    check_sizes,
)


class ConvergenceWarning(UserWarning):
    """The fit came back with a status other than CONVERGED; the text says what to do."""


class FitError(RuntimeError):
    """No start led to a regular mixture. `solution` holds the last finite parameters."""

    def __init__(self, message: str, solution: Solution):
        super().__init__(message)
        self.solution = solution


SIDE_BY_SIDE = 100_000
"""Numbers in the rows up to which the starts of a fit run side by side."""


def fit(
    x: Any,
    n_components: int,
    *,
    key: PRNGKeyArray | int,
    family: type[Family] = Gaussian,
    covariance: Any = None,
    sample_weight: Any = None,
    epsilon: float | None = None,
    coupling: Coupling = SemiRelaxed(),
    n_init: int = 8,
    solver: Solver = EM(),
    initializer: Callable[..., Mixture] = kmeans,
    tolerance: float = 1e-8,
    max_steps: int = 2000,
    ridge: float = 1e-6,
    prior: Prior | None = None,
    initial: Mixture | None = None,
    learn_weights: bool | None = None,
    engine: Engine | None = None,
) -> Solution:
    """Fits a mixture: `n_init` starts as one vmapped computation, the best of which is kept.

    Args:
        x: [n, d] rows: anything that NumPy reads as a table of real numbers. float32 is fitted in
            float32; all else in float64 if JAX has it enabled.
        n_components: K, at most the number of rows with weight.
        key: a typed PRNG key, or an integer seed.
        family: the component family.
        covariance: for `Gaussian`: "full" (the default), "tied", "diagonal" or "spherical".
        sample_weight: [n] weights >= 0; 0 leaves a row out, 2 counts it twice.
        epsilon: entropy, >= 0; None is 1, maximum likelihood. 0 is hard assignment.
        coupling: `SemiRelaxed()`, `Penalized(rho, sizes)` or `Balanced(sizes)`.
        n_init: number of starts.
        solver: `EM()` or `Gradient(optimizer)`.
        initializer: a function like `initializers.kmeans`.
        tolerance: see `solve`.
        max_steps: see `solve`.
        ridge: strength of the weak prior on covariances (`families.Ridge`), relative to the
            data's own spread, so that units do not matter; 0 for none.
        prior: on proportions, means and covariances, in the units of x (`priors.Prior`).
        initial: a mixture to start from, in the units of x, such as an earlier answer; then there
            is one start and no draw. Its components may be `families.Frozen`.
        learn_weights: False holds the proportions of the start; see `Problem`.
        engine: how a pass over the rows is made; None chooses by shape (see `explain`).

    Returns:
        The `Solution` with the lowest objective among the healthy starts, in the coordinates and
        units of `x`.

    Raises:
        ValueError: for input that cannot be fitted; the message names the argument and the row.
        TypeError: for a traced `x`.
        FitError: if every start ended COLLAPSED or NON_FINITE.

    Warns:
        ConvergenceWarning: for any other status than CONVERGED, with its remedy.

    Example:
        >>> import otmix_jax as om
        >>> solution = om.fit(om.datasets.old_faithful().x, 2, key=0)
        >>> sorted(solution.mixture.weights.round(2).tolist())
        [0.36, 0.64]
    """
    rows = check_rows(x)
    weights = check_sample_weight(sample_weight, len(rows))
    count = check_components(n_components, weights, len(rows))
    starts = 1 if initial is not None else check_count(n_init, "n_init")
    steps = check_count(max_steps, "max_steps", least=0)
    strength = check_number(ridge, "ridge")
    tolerance = check_number(tolerance, "tolerance")
    seed = jax.random.key(key) if isinstance(key, int | np.integer) else key

    program = Program(family, covariance, initializer, count, starts, strength > 0)
    entropy, coupling = check_epsilon(epsilon), check_coupling(coupling, count)
    if entropy == 0 and not coupling.free:
        raise ValueError("epsilon=0 goes with SemiRelaxed() alone: use a small epsilon")
    limits = Limits(tolerance, steps, history_size=2001)
    held = x if isinstance(x, Array) and x.dtype == rows.dtype else rows  # no second copy of it
    problem = Problem(held, weights, entropy, coupling, prior=prior, learn_weights=learn_weights)
    frame = location(rows, weights) if family.equivariant else None
    if frame is not None:
        problem = _standardised(problem, *frame)
        initial = initial and initial.affine(1 / frame[0], -frame[1] / frame[0])
    arguments = problem.checked(), seed, strength, solver, limits, engine, initial, frame
    solution = _best_of_starts(program, *arguments)
    if frame is not None and prior is not None:
        extra = prior.stretch(count, rows.shape[1] * np.log(frame[0]))
        solution = replace(solution, objective=solution.objective + extra)
    _report(solution)
    return solution


def check_coupling(coupling: Coupling, n_components: int) -> Coupling:
    """The coupling with its numbers checked."""
    if isinstance(coupling, Penalized):
        rho = check_number(coupling.rho, "rho")  # inf: Balanced() says what becomes of EM
        return Penalized(rho, check_sizes(coupling.sizes, n_components))
    if isinstance(coupling, Balanced):
        return Balanced(check_sizes(coupling.sizes, n_components))
    return coupling


def location(rows: np.ndarray, weights: np.ndarray | None) -> tuple[float, np.ndarray]:
    """A power of two near the rows' largest deviation (dividing by it is exact), and their mean.

    In slices: no second copy of the rows.
    """
    slices = [slice(i, i + SLICE) for i in range(0, len(rows), SLICE)]
    a = np.broadcast_to(1.0, len(rows)) if weights is None else weights
    total = sum(a[part] @ rows[part].astype(np.float64) for part in slices)
    centre = (total / a.sum()).astype(rows.dtype)
    # The largest deviation, not the root mean square: squares over- or underflow beyond 1e154.
    largest = max(np.abs(rows[part] - centre)[a[part] > 0].max(initial=0) for part in slices)
    return (float(2.0 ** np.round(np.log2(largest))) if largest > 0 else 1.0), centre


def _standardised(problem: Problem, scale: float, centre: np.ndarray) -> Problem:
    """The problem in the frame: read so by the engine, or made so where a cast copies anyway.

    Centred before the cast: what a shift costs in digits is lost in x, not here.
    """
    prior = problem.prior and problem.prior.standardised(scale, centre)
    if jax.dtypes.canonicalize_dtype(problem.x.dtype) == problem.x.dtype:
        return replace(problem, origin=centre, unit=scale, prior=prior)
    return replace(problem, x=(np.asarray(problem.x) - centre) / scale, prior=prior)


@functools.partial(jax.jit, static_argnums=0)
def _best_of_starts(
    program: Program,
    problem: Problem,
    key: PRNGKeyArray,
    ridge: Array | float,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
    initial: Mixture | None,
    frame: tuple[Array | float, Array | np.ndarray] | None,
) -> Solution:
    """Starts on few rows run side by side; on many, which fill the machine, one by one."""
    problem = program.with_prior(problem, ridge)

    def run_one(start_key: PRNGKeyArray) -> Solution:
        first = program(start_key, problem) if initial is None else initial
        first = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(problem.x.dtype), first)
        return run(Oracle(problem, engine), solver, first, limits)

    keys = start_keys(key, program.n_init)
    if program.n_init == 1:
        best = run_one(keys[0])
    else:
        in_turn = problem.x.size > SIDE_BY_SIDE
        each = functools.partial(jax.lax.map, run_one) if in_turn else jax.vmap(run_one)
        solutions = each(keys)
        best = jax.tree.map(lambda leaf: leaf[best_start(solutions)], solutions)
    if frame is None:
        return best
    return best.affine(*(jnp.asarray(part, problem.x.dtype) for part in frame))


def _report(solution: Solution) -> None:
    status = Status(int(solution.status))
    if status >= Status.COLLAPSED:
        raise FitError(f"{status.name} in every start. {status.remedy}", solution)
    if status != Status.CONVERGED:
        message = f"{status.name} after {int(solution.n_steps)} steps. {status.remedy}"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
