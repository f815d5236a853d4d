"""Many data sets, each with several starts, as a few vmapped computations."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from ..solvers.loop import run
from ..transport.couplings import Coupling
from . import edge
from .batches import Batch, StartsAccount
from .control import Report, Watch
from .directions import spread_batch
from .given import check_leading
from .lanes import Lanes, run_lanes
from .options import Goal, Starts
from .programs import Program, Task, best_start, first_mixture, guard, start_keys, with_guard
from .ragged import Ragged, buckets, ladder, pad, read_batch
from .single import ConvergenceWarning

STRIDE = 8  # steps between two looks of the host


def fit_batch(
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
    slice_lanes: int = 4096,
    progress: bool | Callable[[int, int], Any] = False,
    time_limit: float | None = None,
    callback: Callable[[Report], Any] | None = None,
) -> Batch:
    """Fits a mixture to each of many data sets, all of them at once, from several starts each.

    Data sets are padded with absent rows into a few sizes. All starts of all data sets of a size
    are lanes of one computation, and lanes that are done are left out of it. There is no race:
    each start runs to its end. Problem b draws its starts from `jax.random.fold_in(key, b)`, so
    `fit(x[b], ..., key=jax.random.fold_in(key, b), starts=Starts(n_init=8))` is the same fit, and
    so it is with any starts that are given to both. What cannot be fitted gets a status and NaN,
    and disturbs no other.

    Args:
        x: a sequence of b tables [n, d] (or dicts of columns) of any lengths, or one array
            [b, n, d].
        n_components: K, of all.
        key: a typed PRNG key, or an integer seed.
        family: see `fit`.
        covariance: see `fit`.
        sample_weight: a sequence of b weights [n], or one array [b, n]; a row of weight 0 is
            absent and may hold anything.
        missing: see `fit`; a data set that has nothing in a column is NON_FINITE.
        goal: see `Goal`; the same on every problem, a prior's strengths relative to its mass.
        starts: see `Starts`; 8 starts by default. `initial` has a leading axis b, such as
            `batch.mixture`.
        limits: see `solvers.Limits`; the history has one entry, the value of the start.
        solver: see `fit`.
        engine: see `fit`.
        slice_lanes: at most so many starts are in memory at once, per thread.
        progress: see `fit`, or a function that is called with the number of starts that are
            done, and of all.
        time_limit: see `fit`; looked at after every 8 steps of the starts in memory. A problem of
            which a start was stopped is INTERRUPTED, and NaN if none had begun.
        callback: see `fit`.

    Returns:
        A `Batch`.

    Raises:
        ValueError: for shapes, types and options that fit no data set.
        TypeError: for a traced `x`.

    Warns:
        ConvergenceWarning: once, where a problem has another status than CONVERGED.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> batch = om.fit_batch([x, x[:150], x[150:]], 2, key=0, starts=om.Starts(n_init=2))
        >>> [round(float(value), 3) for value in batch.value]
        [4.155, 4.177, 4.081]
    """
    count = edge.check_count(n_components, "n_components")
    initial, n_init = starts.initial, starts.n_init
    n_init = 8 if n_init is None else edge.check_count(n_init, "n_init")
    n_init = 1 if initial is not None else n_init
    described = edge.check_family(family, covariance, initial, count, missing)
    described = edge.of_units(described, x[0] if isinstance(x, Sequence) and x else x)
    lanes = edge.check_count(slice_lanes, "slice_lanes")
    edge.check_solver(solver)
    # one entry: the histories of all lanes would be most of the memory
    limits, seed = replace(edge.check_limits(limits), history_size=1), edge.check_key(key)
    goal, strength = edge.check_goal(goal, count, described)
    ragged = read_batch(x, sample_weight, n_components=count, family=described, goal=goal)
    described = described.of_rows(ragged.rows)
    program = Program(described, starts.initializer or kmeans, count, n_init, guard(strength))
    if initial is not None:
        check_leading(initial, len(ragged.status), ragged.blank)
    if ragged.directions is not None:
        same = ragged.directions[0]  # as far as columns are concerned
        same.warn()
        goal = same.goal(goal)
        # of each data set by itself: a tied covariance is an average over components alone
        initial = initial if initial is None else jax.vmap(same.start)(initial)
    with Watch(progress, time_limit, callback) as watch:
        watch.stage("batch", len(ragged.position) * n_init)
        task = _Shared(program, goal, strength, solver, limits, engine, watch, seed, initial)
        batch = _run(task, ragged, lanes)
    _report(batch)
    if ragged.directions is None:
        return batch
    spread = spread_batch(ragged.directions, batch.solution, ragged.position)
    return replace(batch, solution=spread)


@dataclasses.dataclass(frozen=True)
class _Shared(Task):
    """What all slices of a batch share."""

    key: PRNGKeyArray
    initial: Mixture | None


def _run(task: _Shared, ragged: Ragged, slice_lanes: int) -> Batch:
    slices = _slices(ragged.sizes, task.program.n_init, slice_lanes)
    # JAX keeps this switch per thread.
    wide = jax.dtypes.canonicalize_dtype(np.float64) == np.float64

    def work(one: tuple[np.ndarray, int, int]) -> tuple[Any, int] | None:
        if task.watch.stops():
            return None
        with jax.enable_x64(wide):
            return _solve_slice(task, ragged, *one)

    with ThreadPoolExecutor(_threads(task.goal.coupling)) as pool:
        try:
            parts = list(pool.map(work, slices))
        except BaseException:  # an interrupt, or the user's own function: the other threads end too
            task.watch.ask("an exception")
            raise
    done = [part for part in parts if part is not None]
    if task.watch.cut and not done:
        raise KeyboardInterrupt
    n_sets, why = len(ragged.status), ragged.status.copy()
    like = done[0][0] if done else _shapes(task, ragged)
    answer = jax.tree.map(lambda s: _empty((n_sets, *s.shape[1:]), s.dtype), like)
    for (members, *_), part in zip(slices, parts, strict=True):
        places = ragged.position[members]
        if part is None:
            why[places] = Status.INTERRUPTED
            continue
        for whole, leaf in zip(jax.tree.leaves(answer), jax.tree.leaves(part[0]), strict=True):
            # places beyond the members are no data sets
            whole[places] = leaf[: len(members)]
    solution, starts = jax.tree.map(jnp.asarray, answer)
    # What could not be fitted says why; the rest of it stays NaN.
    starts = replace(starts, status=jnp.maximum(starts.status, why[:, None]))
    status = _of_starts(jnp.maximum(solution.status, why), starts.status)
    solution = replace(solution, status=status)
    return Batch(solution, starts, jnp.asarray(float(sum(spent for _, spent in done))))


def _of_starts(status: Array, starts: Array) -> Array:
    """A problem is INTERRUPTED where one of its starts is, though the best of them had ended."""
    stopped = jnp.any(starts == int(Status.INTERRUPTED), axis=1)
    stopped &= status <= int(Status.STALLED)
    return jnp.where(stopped, Status.INTERRUPTED.code, status)


def _threads(coupling: Coupling) -> int:
    """Twice the cores: programs of this size leave gaps between them. An accelerator has none.

    The inner solve of other couplings calls LAPACK, and two batched calls at a time can block each
    other (see `core.triangular`).
    """
    alone = jax.default_backend() != "cpu" or not coupling.free
    return 1 if alone else min(8, 2 * (os.cpu_count() or 1))


def block_size(size: int, n_lanes: int) -> int:
    """Lanes that advance together: what stays in a core's cache; on an accelerator, all of them."""
    fits = n_lanes if jax.default_backend() != "cpu" else int(np.clip(8_192 // size, 8, 128))
    return fits if n_lanes > 4 * fits else min(fits, 8)


def _slices(sizes: np.ndarray, n_init: int, slice_lanes: int) -> list[tuple[np.ndarray, int, int]]:
    """(Members, padded size, places) of each slice, the slices of a size having equal places."""
    padded = buckets(sizes, n_init)
    found = []
    for size in np.unique(padded)[::-1]:
        members = np.flatnonzero(padded == size)
        parts = -(-len(members) * n_init // slice_lanes)
        pieces = np.array_split(members, min(parts, len(members)))
        places = int(ladder(np.array([len(pieces[0])]))[0])  # few shapes, few compilations
        found.append([(piece, int(size), places) for piece in pieces])
    # One of each size first, so that two threads do not compile the same program.
    longest = max(map(len, found), default=0)
    return [pieces[i] for i in range(longest) for pieces in found if i < len(pieces)]


def _solve_slice(
    task: _Shared,
    ragged: Ragged,
    members: np.ndarray,
    size: int,
    places: int,
) -> tuple[tuple[Solution, StartsAccount], int]:
    x, weights = pad(ragged, members, size, places)
    n_init = task.program.n_init
    # Places beyond the members repeat the first: they are no lanes, and only need a shape.
    which = np.concatenate([members, np.full(places - len(members), members[0])]).astype(int)
    frame = cast(index(ragged.frame, which), weights.dtype)
    problems = stacked(task.program, task.goal, x, weights, task.strength, frame)
    lane_of = jnp.repeat(jnp.arange(places), n_init)
    lanes = Lanes(problems, lane_of, jnp.asarray(len(members) * n_init), task.engine)
    seeds = _seeds(task, ragged.position[which], frame)
    _, solutions, computed = run_lanes(
        _drawn(task.program) if task.initial is None else given,
        lanes,
        seeds,
        task.solver,
        task.limits,
        stride=STRIDE,
        block=block_size(size, len(members) * n_init),
        on_round=task.watch.lanes(len(members) * n_init),
    )
    # to the host at once: answers of slices would pile up on the device
    return jax.device_get(_choose(task.program, solutions, frame, problems.prior)), computed


@functools.partial(jax.jit, static_argnums=0)
def stacked(
    program: Program, goal: Goal, x: PyTree, weights: Array, strength: Any, frame: Frame
) -> Problem:
    """The problems with leading axis p, each with the prior of its own rows and frame."""
    return jax.vmap(lambda *own: stated(program, goal, strength, *own))(x, weights, frame)


def stated(
    program: Program, goal: Goal, strength: Any, x: PyTree, weights: Array, frame: Frame
) -> Problem:
    """One problem, with the prior of its rows and frame."""
    prior = goal.prior and goal.prior.into(frame)
    problem = Problem(x, weights, goal.epsilon, goal.coupling, prior, goal.learn_weights)
    return with_guard(program, problem.checked(), strength)


@functools.lru_cache(maxsize=64)
def _drawn(program: Program) -> Callable[[Any, Problem], Mixture]:
    """The program's start from a key: one function for each program, or jit would not know it."""
    return functools.partial(first_mixture, program)


def given(seed: Mixture, problem: Problem) -> Mixture:
    """The start that is the seed itself."""
    return cast(seed, problem.dtype)


def _seeds(task: _Shared, position: np.ndarray, frame: Frame) -> Any:
    """What each lane starts from: a key, or the given mixture in the problem's frame."""
    if task.initial is None:
        return _lane_keys(task.key, position.astype(np.int32), task.program.n_init)
    mine = index(jax.tree.map(jnp.asarray, task.initial), position)
    return jax.vmap(lambda mixture, frame: mixture.out_of(frame.inverse))(mine, frame)


@functools.partial(jax.jit, static_argnums=2)
def _lane_keys(key: PRNGKeyArray, position: Array, n_init: int) -> Array:
    own = jax.vmap(lambda number: jax.random.fold_in(key, number))(position)
    return jax.vmap(lambda one: start_keys(one, n_init))(own).reshape(-1)


@functools.partial(jax.jit, static_argnums=0)
def _choose(
    program: Program, solutions: Solution, frame: Frame, prior: Any
) -> tuple[Solution, StartsAccount]:
    """The best start of each problem in the units of its rows, and the account of all starts."""
    # not -1: a leaf may have no entries, such as effects in common
    n_init = program.n_init
    by_problem = jax.tree.map(
        lambda leaf: leaf.reshape(len(leaf) // n_init, n_init, *leaf.shape[1:]), solutions
    )

    def one(solutions: Solution, frame: Frame, prior: Any) -> tuple[Solution, StartsAccount]:
        kept = index(solutions, best_start(solutions)).out_of(frame, prior)
        extra = 0.0 if prior is None else prior.constant(frame, program.n_components)
        starts = StartsAccount(
            solutions.value + frame.log_volume,
            solutions.objective + frame.log_volume + extra,
            solutions.status,
            solutions.n_steps,
        )
        return kept, starts

    return jax.vmap(one)(by_problem, frame, prior)


def _shapes(task: _Shared, ragged: Ragged) -> Any:
    """The shapes of a slice of one problem, where there is none to look at."""
    count = task.program.n_components
    rows = jax.tree.map(lambda leaf: np.zeros((1, count, *leaf.shape[1:]), leaf.dtype), ragged.rows)
    weight, begins = np.ones(count), np.zeros(1, int)
    frame = cast(task.program.family.frame(index(rows, 0), weight, begins), float)

    def one(x: PyTree, weights: Array) -> tuple[Solution, StartsAccount]:
        problems = stacked(task.program, task.goal, x, weights, task.strength, frame)
        problem = index(problems, 0)
        start = first_mixture(task.program, task.key, problem)
        solution = run(Objective.of(problem), task.solver, start, task.limits)
        every = jax.tree.map(lambda leaf: jnp.stack([leaf] * task.program.n_init), solution)
        return _choose(task.program, every, frame, problems.prior)

    return jax.eval_shape(one, rows, weight[None])


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """NaN, or 0 where there is none."""
    return np.full(shape, np.nan if np.issubdtype(dtype, np.inexact) else 0, dtype)


def _report(batch: Batch) -> None:
    status = np.asarray(batch.status)
    bad = np.flatnonzero(status != int(Status.CONVERGED))
    if len(bad):
        names = [Status(int(code)) for code in np.unique(status[bad])]
        counts = ", ".join(f"{np.sum(status == name)} {name.name}" for name in names)
        worst = names[-1]
        message = (
            f"{len(bad)} of {len(status)} problems are not CONVERGED: {counts}; the first is "
            f"problem {bad[0]}. {worst.remedy}"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
