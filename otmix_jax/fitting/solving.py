"""The pure entry point: jit, vmap and grad go through it, and values never make it raise."""

import jax
from jax import Array

from ..adjoints import Adjoint, Implicit
from ..core.tree import cast
from ..engine import Engine
from ..model import Mixture, Objective, Problem, Solution
from ..solvers import EM, Limits, Solver
from .edge import check_solver


def solve(
    problem: Problem,
    initial: Mixture,
    solver: Solver = EM(),
    *,
    tolerance: Array | float = 1e-8,
    max_steps: Array | int = 2000,
    history_size: int = 2001,
    adjoint: Adjoint = Implicit(),
    engine: Engine | None = None,
) -> Solution:
    """Minimises the problem's objective from a start.

    Args:
        problem: rows, weights, prior.
        initial: the start; its structure is the answer's, whose dtype is that of x.
        solver: `EM()`, `Squarem()`, `Gradient(optimizer)`, ...
        tolerance: stop once a step wins no more than this, in nats per row. May be traced.
        max_steps: steps at most. May be traced.
        history_size: static capacity of `Solution.history`.
        adjoint: how derivatives of the answer are taken: `Implicit()`, `Unrolled(length)`,
            `OneStep()` or `Stop()`; see docs/differentiation.md.
        engine: how a pass over the rows is made; None chooses by shape (see `explain`).

    Returns:
        A `Solution` with a `Status`: CONVERGED, MAX_STEPS, STALLED (rounding hid progress before
        the tolerance), EMPTY_COMPONENT, COLLAPSED (a covariance became singular), NON_FINITE (NaN
        in the data or the start). The mixture is the last finite one, if the start was finite.

    Raises:
        ValueError: at trace time, for rows that are not the start's (see `Mixture.log_prob`), and
            where shapes do not fit together.
        TypeError: at trace time, for a prior that the family has no use for, and a solver's class.

    Example:
        >>> import jax, otmix_jax as om
        >>> problem = om.Problem(om.datasets.old_faithful().x)
        >>> initial = om.initializers.kmeans_plus_plus(jax.random.key(0), problem, n_components=2)
        >>> om.Status(int(om.solve(problem, initial, om.solvers.EM()).status)).name
        'CONVERGED'
    """
    # outside jit: precision is settled before it decides which program runs
    check_solver(solver)
    problem = problem.checked(initial)
    initial = cast(initial, problem.dtype)
    return _solve(problem, initial, solver, tolerance, max_steps, adjoint, engine, history_size)


def _run(
    problem: Problem,
    initial: Mixture,
    solver: Solver,
    tolerance: Array | float,
    max_steps: Array | int,
    adjoint: Adjoint,
    engine: Engine | None,
    history_size: int,
) -> Solution:
    limits = Limits(tolerance, max_steps, history_size, gap=0.0)
    return adjoint.run(Objective.of(problem, engine), solver, initial, limits)


_solve = jax.jit(_run, static_argnums=7)
