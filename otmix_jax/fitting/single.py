"""One fit: validates, frames the rows, races starts or runs those asked for, keeps the best."""

import functools
import warnings
from typing import Any

import jax
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray, PyTree

from ..core.status import Status
from ..core.tree import cast, index
from ..engine import Engine
from ..families.coordinates import Frame
from ..initializers import kmeans
from ..model import Mixture, Objective, Problem, Solution
from ..solvers import Limits, Solver, Squarem
from ..solvers.loop import run
from ..transport.couplings import Coupling
from . import edge
from .directions import SAMPLE, left_out, sample_of
from .options import Goal, Starts
from .programs import (
    SIDE_BY_SIDE,
    Program,
    Task,
    best_start,
    first_mixture,
    frame_of,
    framed,
    guard,
    start_keys,
    with_guard,
)
from .raced import raced


class ConvergenceWarning(UserWarning):
    """The fit came back with a status other than CONVERGED; the text says what to do."""


class FitError(RuntimeError):
    """No start led to a regular mixture. `solution` holds the last finite parameters."""

    def __init__(self, message: str, solution: Any):
        super().__init__(message)
        self.solution = solution


def fit(
    x: Any,
    n_components: int,
    *,
    key: PRNGKeyArray | int,
    family: Any = None,
    covariance: Any = None,
    sample_weight: Any = None,
    missing: str | None = None,
    goal: Goal = Goal(),
    starts: Starts = Starts(),
    limits: Limits = Limits(),
    solver: Solver = Squarem(),
    engine: Engine | None = None,
) -> Solution:
    """Fits a mixture: many starts race, and the best answer is kept.

    By default dozens of starts of several kinds run a few steps each, the best go on, components
    are merged and split, and draws and exchanges alternate until several of them have won nothing
    (docs/answers.md). Of many rows, a sample stands for all until the last runs. Components come
    in the order in which rows first meet them.

    Args:
        x: [n, d] rows: anything that NumPy reads as a table of real numbers, or for a family of
            mixed columns a dict of them, or a data frame. float32 is fitted in float32; all else
            in float64 if JAX has it enabled.
        n_components: K, at most the number of rows with weight.
        key: a typed PRNG key, or an integer seed.
        family: what the components are: a name, a family, or a description such as
            `families.StudentT.of("tied", degrees=4)`; None is `Gaussian`.
        covariance: the shorthand for `Gaussian.of(covariance)`: "full" (the default), "tied",
            "diagonal" or "spherical".
        sample_weight: [n] weights >= 0; 0 leaves a row out, whatever it holds, 2 counts it twice.
        missing: "ignore" takes NaN, None and masked cells for missing at random, and integrates
            them out (docs/missing.md). None refuses them, but in the parts of a `Product`.
        goal: what is minimised: entropy, coupling, prior, ridge; see `Goal`.
        starts: how many, from where; see `Starts`. By default a race; `Starts(n_init=8)` runs 8
            from k-means, each to its end.
        limits: when to stop; see `solvers.Limits`. By default once all further steps together are
            estimated to win less than .001 nats of the total log-likelihood.
        solver: `EM()`, `Squarem()`, `Gradient(optimizer)`, ...
        engine: how a pass over the rows is made; None chooses by shape (see `explain`).

    Returns:
        The `Solution` with the lowest objective among the healthy answers, in the coordinates and
        units of `x`. After a race, its steps and history are those of the last run.

    Raises:
        ValueError: for input that cannot be fitted; the message names the argument and the row.
        TypeError: for a traced `x`, and for a prior that the family has no use for.
        FitError: if every start ended NON_FINITE, or COLLAPSED where `goal.ridge` is given, or the
            answer is IMPRECISE.

    Warns:
        ConvergenceWarning: for any other status than CONVERGED, with its remedy.

    Example:
        >>> import otmix_jax as om
        >>> solution = om.fit(om.datasets.old_faithful().x, 2, key=0)
        >>> sorted(solution.mixture.weights.round(2).tolist())
        [0.36, 0.64]
    """
    initial, n_init = starts.initial, edge.check_starts(starts, goal)
    described = edge.check_family(family, covariance, initial, n_components, missing)
    described = edge.of_units(described, x)
    rows, weights = edge.check_data(x, sample_weight, described, initial=initial)
    described = edge.settled(described, rows, weights)
    count = edge.check_components(n_components, weights, len(jax.tree.leaves(rows)[0]))
    edge.check_solver(solver)
    limits, rng = edge.check_limits(limits), edge.check_generator(key)
    goal, strength = edge.check_goal(goal, count, described)
    directions = left_out(rows, weights, goal, described, names=getattr(x, "columns", None))
    if directions is not None:
        rows, goal, initial = directions.of(rows), directions.goal(goal), directions.starts(initial)
    frame = frame_of(rows, weights, described)
    program = Program(described, starts.initializer or kmeans, count, n_init or 1, guard(strength))
    if n_init is None:
        task = Task(program, goal, strength, solver, limits, engine)
        solution = raced(rows, weights, frame, rng, task)
    else:
        problem, seed = framed(rows, weights, goal, frame).checked(), edge.check_key(key)
        if initial is not None:
            # it is in the units of the rows, the fit in those of the frame
            initial = initial.out_of(frame.inverse)
        told = problem, seed, strength, solver, limits, engine, initial, frame
        solution = _best_of_starts(program, *told)
    solution = solution if directions is None else directions.spread(solution)
    _report(solution, program, goal.coupling, rows, weights)
    return solution


@functools.partial(jax.jit, static_argnums=0)
def _best_of_starts(
    program: Program,
    problem: Problem,
    key: PRNGKeyArray,
    strength: Array | float | None,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
    initial: Mixture | None,
    frame: Frame,
) -> Solution:
    """Starts on few rows run side by side; on many, which fill the machine, one by one."""
    given, problem = problem.prior, with_guard(program, problem, strength)
    objective = Objective.of(problem, engine)

    def run_one(start_key: PRNGKeyArray) -> Solution:
        first = first_mixture(program, start_key, problem) if initial is None else initial
        # a start of another precision would change the type of the loop's carry
        return run(objective, solver, cast(first, problem.dtype), limits)

    keys = start_keys(key, program.n_init)
    if program.n_init == 1:
        best = run_one(keys[0])
    else:
        in_turn = sum(leaf.size for leaf in jax.tree.leaves(problem.x)) > SIDE_BY_SIDE
        each = functools.partial(jax.lax.map, run_one) if in_turn else jax.vmap(run_one)
        solutions = each(keys)
        best = index(solutions, best_start(solutions))
    return best.out_of(cast(frame, problem.dtype), given)


def _report(
    solution: Solution, program: Program, coupling: Coupling, rows: PyTree, weights: Any
) -> None:
    status = Status(int(solution.status))
    if status == Status.CONVERGED:
        return
    text = _remedy(status, coupling)
    if Status.EMPTY_COMPONENT <= status <= Status.COLLAPSED:
        few = _too_few(rows, weights, program.n_components)
        text = f"{_named(solution, status)}{few}{text}"
    # on the floor it is finite and says what it is; without one nothing regular was found
    if status > Status.COLLAPSED or (status == Status.COLLAPSED and program.guard != "floor"):
        raise FitError(f"{status.name} in every start. {text}", solution)
    message = f"{status.name} after {int(solution.n_steps)} steps. {text}"
    # 3: the warning names the line that called `fit`
    warnings.warn(message, ConvergenceWarning, stacklevel=3)


def _remedy(status: Status, coupling: Coupling) -> str:
    # rows and start were looked at before anything ran
    if status == Status.NON_FINITE and not coupling.free:
        return (
            "No plan met the prescribed sizes in this precision: groups lie too far apart for "
            "them. Use other sizes, Penalized(rho), or float64."
        )
    if status == Status.NON_FINITE:
        return "A step left the finite numbers: take smaller steps, or other starts."
    return status.remedy


def _named(solution: Solution, status: Status) -> str:
    """Which components are meant."""
    weights = np.asarray(solution.mixture.weights)
    meant = np.asarray(solution.certificate.spurious)
    if status == Status.EMPTY_COMPONENT:
        meant = weights < np.finfo(weights.dtype).eps
    which = [str(number) for number in np.flatnonzero(meant)]
    return f"Component{'s' if len(which) > 1 else ''} {', '.join(which)}. " if which else ""


def _too_few(rows: PyTree, weights: np.ndarray | None, n_components: int) -> str:
    """What is to be said of so few rows, or nothing."""
    if getattr(rows, "ndim", 0) != 2 or len(rows) > SAMPLE:
        return ""
    present = sample_of(rows, weights)
    distinct, d = len(np.unique(present, axis=0)), present.shape[1]
    if distinct < n_components:
        return f"x has {distinct} distinct rows for {n_components} components. "
    if distinct == n_components:
        return f"x has {distinct} distinct rows: one point per component. "
    if len(present) <= d:
        return f"x has {len(present)} rows in {d} columns: take diagonal or spherical covariances. "
    return ""
