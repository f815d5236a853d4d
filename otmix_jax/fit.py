"""The host edge: validates, standardises, restarts, solves, warns or raises."""

import dataclasses
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
from .initializers import kmeans_plus_plus
from .mixture import Mixture
from .oracle import Oracle
from .problem import Problem
from .solution import Solution
from .solvers import EM, Solver
from .solvers.driver import Limits, run
from .status import Status
from .transport.couplings import Balanced, Coupling, Penalized, SemiRelaxed
from .validation import (
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
    initializer: Callable[..., Mixture] = kmeans_plus_plus,
    tolerance: float = 1e-8,
    max_steps: int = 2000,
    ridge: float = 1e-6,
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
        initializer: a function like `initializers.kmeans_plus_plus`.
        tolerance: see `solve`.
        max_steps: see `solve`.
        ridge: strength of the weak prior on covariances (`families.Ridge`), relative to the
            data's own spread, so that units do not matter; 0 for none.
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
    starts = check_count(n_init, "n_init")
    steps = check_count(max_steps, "max_steps", least=0)
    strength = check_number(ridge, "ridge")
    tolerance = check_number(tolerance, "tolerance")
    seed = jax.random.key(key) if isinstance(key, int | np.integer) else key

    program = _Program(family, covariance, initializer, count, starts, strength > 0)
    entropy, coupling = check_epsilon(epsilon), _check_coupling(coupling, count)
    if entropy == 0 and not coupling.free:
        raise ValueError("epsilon=0 goes with SemiRelaxed() alone: use a small epsilon")
    problem = Problem(rows, weights, entropy, coupling)
    frame = _frame(rows, weights) if family.equivariant else None
    problem = (problem if frame is None else _standardised(problem, frame)).checked()
    limits = Limits(tolerance, steps, history_size=2001)
    solution = _best_of_starts(program, problem, seed, strength, solver, limits, engine)
    solution = solution if frame is None else _restore(solution, frame)
    _report(solution)
    return solution


def _check_coupling(coupling: Coupling, n_components: int) -> Coupling:
    if isinstance(coupling, Penalized):
        rho = check_number(coupling.rho, "rho")  # inf: Balanced() says what becomes of EM
        return Penalized(rho, check_sizes(coupling.sizes, n_components))
    if isinstance(coupling, Balanced):
        return Balanced(check_sizes(coupling.sizes, n_components))
    return coupling


@dataclasses.dataclass(frozen=True)
class _Program:
    """What decides the compiled program."""

    family: type[Family]
    covariance: Any
    initializer: Callable[..., Mixture]
    n_components: int
    n_init: int
    has_prior: bool


@dataclasses.dataclass(frozen=True)
class _Frame:
    """x = scale * standard + centre."""

    scale: float
    centre: np.ndarray


def _frame(rows: np.ndarray, weights: np.ndarray | None) -> _Frame:
    """A power of two near the rows' largest deviation (dividing by it is exact), and their mean.

    In slices: no second copy of the rows.
    """
    slices = [slice(i, i + 65_536) for i in range(0, len(rows), 65_536)]
    total = len(rows) if weights is None else weights.sum()
    centre = (
        sum(
            rows[part].sum(axis=0, dtype=np.float64)
            if weights is None
            else weights[part] @ rows[part]
            for part in slices
        )
        / total
    )
    centre = np.asarray(centre, rows.dtype)
    # The largest deviation, not the root mean square: squares over- or underflow beyond 1e154.
    largest = max(_largest(rows[part] - centre, weights, part) for part in slices)
    return _Frame(2.0 ** np.round(np.log2(largest)) if largest > 0 else 1.0, centre)


def _largest(centred: np.ndarray, weights: np.ndarray | None, part: slice) -> float:
    centred = centred if weights is None else centred[weights[part] > 0]
    return float(np.abs(centred).max(initial=0))


def _standardised(problem: Problem, frame: _Frame) -> Problem:
    """The problem in the frame: read so by the engine, or made so where a cast copies anyway.

    Centred before the cast: what a shift costs in digits is lost in x, not here.
    """
    x = np.asarray(problem.x)
    if jax.dtypes.canonicalize_dtype(x.dtype) == x.dtype:
        return replace(problem, origin=frame.centre, unit=frame.scale)
    return replace(problem, x=(x - frame.centre) / frame.scale)


@functools.partial(jax.jit, static_argnums=0)
def _best_of_starts(
    program: _Program,
    problem: Problem,
    key: PRNGKeyArray,
    ridge: Array | float,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
) -> Solution:
    """Starts on few rows run side by side; on many, which fill the machine, one by one."""
    if program.has_prior:
        rows = problem.rows()
        standard = rows.read(rows.x, rows.weight)
        strength = jnp.asarray(ridge, problem.x.dtype)
        prior = program.family.weak_prior(standard, rows.weight, strength)
        problem = replace(problem, prior=prior)

    def run_one(start_key: PRNGKeyArray) -> Solution:
        initial = program.initializer(
            start_key,
            problem,
            n_components=program.n_components,
            family=program.family,
            covariance=program.covariance,
        )
        return run(Oracle(problem, engine), solver, initial, limits)

    in_turn = problem.x.size > SIDE_BY_SIDE or program.n_init == 1
    each = functools.partial(jax.lax.map, run_one) if in_turn else jax.vmap(run_one)
    solutions = each(jax.random.split(key, program.n_init))
    return jax.tree.map(lambda leaf: leaf[_best(solutions)], solutions)


def _best(solutions: Solution) -> Array:
    """Index of the lowest objective among the least bad: healthy, then empty, then the rest."""
    grade = jnp.maximum(solutions.status, Status.STALLED.code)
    objective = jnp.where(jnp.isnan(solutions.objective), jnp.inf, solutions.objective)
    return jnp.argmin(jnp.where(grade == jnp.min(grade), objective, jnp.inf))


def _restore(solution: Solution, frame: _Frame) -> Solution:
    """The solution in the coordinates and units of the rows as they were given."""
    mixture = solution.mixture
    dtype = mixture.log_weights.dtype
    scale, centre = jnp.asarray(frame.scale, dtype), jnp.asarray(frame.centre, dtype)
    components = mixture.components.affine(scale, centre)
    stretch = jnp.asarray(len(frame.centre) * np.log(frame.scale), dtype)
    return replace(
        solution,
        mixture=replace(mixture, components=components),
        value=solution.value + stretch,
        negative_log_likelihood=solution.negative_log_likelihood + stretch,
        objective=solution.objective + stretch,
        history=solution.history + stretch,
    )


def _report(solution: Solution) -> None:
    status = Status(int(solution.status))
    if status >= Status.COLLAPSED:
        raise FitError(f"{status.name} in every start. {status.remedy}", solution)
    if status != Status.CONVERGED:
        message = f"{status.name} after {int(solution.n_steps)} steps. {status.remedy}"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
