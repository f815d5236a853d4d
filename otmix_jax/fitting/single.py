"""One fit: validates, frames the rows, races starts or runs those asked for, keeps the best."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray, PyTree

from ..core.status import Status
from ..core.tree import cast, index, replace
from ..engine import Engine
from ..families.coordinates import Frame
from ..initializers import kmeans
from ..model import Mixture, Objective, Problem, Solution
from ..solvers import Limits, Solver, Squarem
from ..transport.couplings import Coupling
from . import edge
from .control import Report, Watch
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
from .relay import (
    Abreast,
    Account,
    Relay,
    abreast,
    abreast_before,
    blank,
    in_relay,
    relay_before,
)


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
    progress: bool = False,
    time_limit: float | None = None,
    callback: Callable[[Report], Any] | None = None,
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
            estimated to win less than 1e-6 nats of the total log-likelihood.
        solver: `EM()`, `Squarem()`, `Gradient(optimizer)`, ...
        engine: how a pass over the rows is made; None chooses by shape (see `explain`).
        progress: True shows how far it is, by tqdm where that is installed.
        time_limit: seconds after which the best so far is returned, INTERRUPTED; looked at about
            every quarter of a second, not while the compiler works (docs/control.md).
        callback: is given a `fitting.Report` then; if it returns True or raises StopIteration, the
            best so far is returned. So it is at Ctrl-C; a second one within 2 seconds aborts.

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
    with Watch(progress, time_limit, callback) as watch:
        task = Task(program, goal, strength, solver, limits, engine, watch)
        if n_init is None:
            solution = raced(rows, weights, frame, rng, task)
        else:
            problem, seed = framed(rows, weights, goal, frame).checked(), edge.check_key(key)
            if initial is not None:
                # it is in the units of the rows, the fit in those of the frame
                initial = initial.out_of(frame.inverse)
            solution = _in_legs(task, problem, seed, initial, frame)
    solution = replace(solution, status=watch.told(solution.status))
    solution = solution if directions is None else directions.spread(solution)
    _report(solution, program, goal.coupling, rows, weights, watch)
    return solution


def _in_legs(task: Task, problem: Problem, key: Any, initial: Any, frame: Frame) -> Solution:
    """Starts that run to their ends, or until they are stopped."""
    how = task.strength, task.solver, task.limits, task.engine
    told = problem, key, *how, initial, frame
    program, watch = task.program, task.watch
    watch.stage("starts", program.n_init, float(frame.log_volume))
    state = blank(_states(program), *told)
    best, _ = watch.drive(
        functools.partial(_best_of_starts, program, *told), state, _work(program, problem)
    )
    return best


def _in_turn(program: Program, problem: Problem) -> bool:
    """Starts on few rows run side by side; on many, which fill the machine, one by one."""
    size = sum(leaf.size for leaf in jax.tree.leaves(problem.x))
    return program.n_init == 1 or size > SIDE_BY_SIDE


def _work(program: Program, problem: Problem) -> float:
    """About what a step costs; see `Course.work`."""
    columns = sum(leaf.size for leaf in jax.tree.leaves(problem.x)) / problem.n_rows
    lanes = 1 if _in_turn(program, problem) else program.n_init
    return lanes * problem.n_rows * program.n_components * (8 + columns)


def _begin(
    program: Program,
    problem: Problem,
    key: PRNGKeyArray,
    strength: Any,
    engine: Engine | None,
    initial: Mixture | None,
) -> tuple[Objective, Callable[[Array], Mixture]]:
    """What is minimised, and where a start begins."""
    problem = with_guard(program, problem, strength)
    keys = start_keys(key, program.n_init)

    def begin(lane: Array) -> Mixture:
        first = first_mixture(program, keys[lane], problem) if initial is None else initial
        # a start of another precision would change the type of the loop's carry
        return cast(first, problem.dtype)

    return Objective.of(problem, engine), begin


@functools.lru_cache(maxsize=256)
def _states(program: Program) -> Callable[..., Relay | Abreast]:
    """The state before a program's first leg, as a function of the others' arguments."""
    return functools.partial(_before, program)


def _before(
    program: Program,
    problem: Problem,
    key: PRNGKeyArray,
    strength: Any,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
    initial: Mixture | None,
    frame: Frame,
) -> Relay | Abreast:
    del frame
    objective, begin = _begin(program, problem, key, strength, engine, initial)
    before = relay_before if _in_turn(program, problem) else abreast_before
    return before(objective, solver, limits, begin(jnp.asarray(0)), program.n_init)


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
    state: Any,
    most: Array,
) -> tuple[Solution, Relay | Abreast, Account]:
    """A leg of all starts, and the best so far, in the units of the rows."""
    objective, begin = _begin(program, problem, key, strength, engine, initial)
    told, n_init = (objective, solver, limits, begin), program.n_init
    if isinstance(state, Relay):
        solutions, state, account = in_relay(*told, _every, n_init, state, most)
    else:
        solutions, state, account = abreast(*told, n_init, state, most)
    best = index(solutions, best_start(solutions))
    return best.out_of(cast(frame, problem.dtype), problem.prior), state, account


def _every(lane: Array) -> bool:
    """All components are meant."""
    del lane
    return True


def _report(
    solution: Solution,
    program: Program,
    coupling: Coupling,
    rows: PyTree,
    weights: Any,
    watch: Watch,
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
    ended, steps = status.name, int(solution.n_steps)
    if status == Status.INTERRUPTED:
        ended, steps = f"{ended} by {watch.reason}", watch.n_steps
    message = f"{ended} after {steps} steps. {text}"
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
