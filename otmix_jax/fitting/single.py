"""One fit: validates, frames the rows, starts several times, keeps the best, warns or raises."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Int, Key, PRNGKeyArray, PyTree

from ..core.numerics import einsum
from ..core.status import Status
from ..core.tree import cast, index, is_float, replace
from ..engine import Engine, Rows, Tiled
from ..families import Description
from ..families.coordinates import Frame
from ..initializers import kmeans
from ..model import Mixture, Objective, Problem, Solution
from ..solvers import EM, Limits, Solver
from ..solvers.loop import run
from ..transport.couplings import Coupling
from . import edge
from .directions import WIDEST, Directions, informative
from .edge import Goal, Starts


class ConvergenceWarning(UserWarning):
    """The fit came back with a status other than CONVERGED; the text says what to do."""


class FitError(RuntimeError):
    """No start led to a regular mixture. `solution` holds the last finite parameters."""

    def __init__(self, message: str, solution: Solution):
        super().__init__(message)
        self.solution = solution


SIDE_BY_SIDE = 100_000
"""Numbers in the rows up to which the starts of a fit run side by side."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What decides the compiled program of a fit; hashable."""

    family: Description
    initializer: Callable[..., Mixture]
    n_components: int
    n_init: int
    # a word beside the number: that there is one changes the program, how strong it is does not
    guard: str


def fit(
    x: Any,
    n_components: int,
    *,
    key: PRNGKeyArray | int,
    family: Any = None,
    covariance: Any = None,
    sample_weight: Any = None,
    goal: Goal = Goal(),
    starts: Starts = Starts(),
    limits: Limits = Limits(),
    solver: Solver = EM(),
    engine: Engine | None = None,
) -> Solution:
    """Fits a mixture: several starts as one computation, the best of which is kept.

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
        goal: what is minimised: entropy, coupling, prior, ridge; see `Goal`.
        starts: how many, from where; see `Starts`. By default k-means, 8 times.
        limits: tolerance and steps; see `solvers.Limits`.
        solver: `EM()`, `Squarem()`, `Gradient(optimizer)`, ...
        engine: how a pass over the rows is made; None chooses by shape (see `explain`).

    Returns:
        The `Solution` with the lowest objective among the healthy starts, in the coordinates and
        units of `x`.

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
    initial, n_init = starts.initial, starts.n_init
    n_init = 1 if initial is not None else edge.check_count(n_init, "n_init")
    described = edge.check_family(family, covariance, initial, n_components)
    rows, weights = edge.check_data(x, sample_weight, described, initial=initial)
    count = edge.check_components(n_components, weights, len(jax.tree.leaves(rows)[0]))
    edge.check_solver(solver)
    limits, seed = edge.check_limits(limits), edge.check_key(key)
    goal, strength = edge.check_goal(goal, count, described)
    directions = left_out(rows, weights, goal, described, names=getattr(x, "columns", None))
    if directions is not None:
        rows, goal, initial = directions.of(rows), directions.goal(goal), directions.starts(initial)
    frame = frame_of(rows, weights, described)
    initializer = starts.initializer or kmeans
    program = Program(described, initializer, count, n_init, guard(strength))
    problem = framed(rows, weights, goal, frame)
    if initial is not None:
        # it is in the units of the rows, the fit in those of the frame
        initial = initial.out_of(frame.inverse)
    arguments = problem.checked(), seed, strength, solver, limits, engine, initial, frame
    solution = _best_of_starts(program, *arguments)
    solution = solution if directions is None else directions.spread(solution)
    _report(solution, program, goal.coupling, rows, weights)
    return solution


def framed(rows: PyTree, weights: np.ndarray | None, goal: Goal, frame: Frame) -> Problem:
    """The problem in the frame: read so by the engine, or made so where a cast copies anyway.

    Centred before the cast: what a shift costs in digits is lost in x, not here.
    """
    prior = goal.prior and goal.prior.into(frame)
    problem = Problem(rows, weights, goal.epsilon, goal.coupling, prior, goal.learn_weights)
    real = [leaf for leaf in jax.tree.leaves(rows) if is_float(leaf)]
    if all(jax.dtypes.canonicalize_dtype(leaf.dtype) == leaf.dtype for leaf in real):
        return replace(problem, frame=frame)
    return replace(problem, x=frame.into(rows))


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


def frame_of(rows: PyTree, weights: np.ndarray | None, family: Description) -> Frame:
    """The frame of rows whose extent floating point holds.

    Raises:
        ValueError: for others.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        frame = family.frame(rows, weights)
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(frame)):
        raise ValueError(
            "x spans more than its precision holds (float32 up to 1e38, float64 up to 1e308): "
            "rescale its columns"
        )
    return frame


SAMPLE = 8192
"""Rows that are looked at for columns that say nothing; what they suggest is checked on all."""


def left_out(
    rows: Any, weights: np.ndarray | None, goal: Goal, *families: Description, names: Any = None
) -> Directions | None:
    """The columns that say nothing, with a warning that names them; None where all say something.

    None too where something was asked for that keeps covariances regular, or a family needs none.
    """
    if not looks(goal, *families) or rows.shape[1] < 2:
        return None
    sample = sample_of(rows, weights)
    if not suspicious(sample):
        return None
    frame_of(rows, weights, families[0])  # what cannot be fitted at all is refused first
    found = informative(rows, weights, sample)
    if found is not None:
        found.warn(names, stacklevel=4)
    return found


def looks(goal: Goal, *families: Description) -> bool:
    """Whether columns that say nothing are to be looked for."""
    given = goal.ridge is not None or getattr(goal.prior, "covariance", None) is not None
    return not given and all("floor" in family.priors for family in families)


def suspicious(sample: np.ndarray) -> bool:
    """Whether a column may say nothing, so that `directions` are worth a closer look."""
    # relative to the largest: squares of rows may leave the range of floating point
    reach = np.abs(sample).max(axis=0)
    sample = sample / np.where(reach > 0, reach, 1)
    low, high = sample.min(axis=0), sample.max(axis=0)
    ends = ((sample == low) | (sample == high)).all(axis=0)
    flat = ends | (high - low <= 1e-5)
    if flat.any() or sample.shape[1] > WIDEST:
        return bool(flat.any())
    z = (sample - sample.mean(axis=0)) / sample.std(axis=0)
    least = np.linalg.eigvalsh(z.T @ z / len(z))[0]
    return bool(least < 1e-4)


def sample_of(x: Any, weights: np.ndarray | None) -> np.ndarray:
    """Up to `SAMPLE` evenly spaced rows that are present, in float64 on the host."""
    every = slice(None, None, -(-len(x) // SAMPLE))
    rows = np.asarray(x[every], np.float64)
    return rows if weights is None else rows[np.asarray(weights)[every] > 0]


def guard(strength: float | None) -> str:
    """What keeps covariances regular: "ridge", "floor" or nothing."""
    return "floor" if strength is None else "ridge" if strength > 0 else ""


def with_guard(program: Program, problem: Problem, strength: Array | float | None) -> Problem:
    """The problem with the family's ridge, scaled by its rows, or its floor, where it has none."""
    given, weak = problem.prior, None
    if given is not None and given.covariance is not None:
        return problem
    if program.guard == "ridge":
        strength = jnp.asarray(strength, problem.dtype)
        weak = program.family.weak_prior(_variance(problem.rows()), strength)
    elif program.guard == "floor":
        weak = program.family.least(problem.dtype)
    if given is None or weak is None:
        return replace(problem, prior=weak if given is None else given)
    return replace(problem, prior=given.merge(weak))


def _variance(rows: Rows) -> PyTree:
    """The real columns' weighted variance, tile by tile: no second array as long as the data."""
    tiles = Tiled(16_384)
    # two passes: the mean square less the squared mean would cancel
    mean = tiles.reduce(Partial(_weighted_sum, None), rows)
    return tiles.reduce(Partial(_weighted_sum, mean), rows)


def _weighted_sum(mean: PyTree, x: PyTree, weight: Array) -> PyTree:
    """The sum of a leaf, or of its squares about a mean; codes have none, and count as numbers."""
    real = jax.tree.map(lambda leaf: leaf.astype(weight.dtype), x)
    if mean is not None:
        real = jax.tree.map(lambda leaf, m: (leaf - m) ** 2, real, mean)
    return jax.tree.map(lambda leaf: einsum("t,t...->...", weight, leaf), real)


def first_mixture(program: Program, key: PRNGKeyArray, problem: Problem) -> Mixture:
    """The first mixture of one start."""
    return program.initializer(
        key, problem, n_components=program.n_components, family=program.family
    )


def start_keys(key: PRNGKeyArray, n_init: int) -> Key[Array, " n_init"]:
    """One key for each start of a fit; a single start keeps the fit's own."""
    # not split for one: the initialiser draws the same start from this key by hand
    return jax.random.split(key, n_init) if n_init > 1 else key[None]


def best_start(solutions: Solution) -> Int[Array, ""]:
    """Index of the lowest objective among the least bad: healthy, then empty, then the rest.

    Objectives that differ by rounding alone count as equal, and the first of them is taken, so
    that two programs that compute the same runs choose the same one.
    """
    grade = jnp.maximum(solutions.status, int(Status.STALLED))
    objective = jnp.where(jnp.isnan(solutions.objective), jnp.inf, solutions.objective)
    objective = jnp.where(grade == jnp.min(grade), objective, jnp.inf)
    lowest = jnp.min(objective)
    rounding = 64 * jnp.finfo(objective.dtype).eps * jnp.maximum(1, jnp.abs(lowest))
    # Where every start is lost, lowest is inf and so is the bound: the first is as good as any.
    return jnp.argmax(objective <= lowest + rounding)


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
