"""Many data sets, each with several starts, as a few vmapped computations."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray

from .._pytree import replace
from ..families import Gaussian
from ..families.base import Family
from ..fit import ConvergenceWarning, check_coupling
from ..initializers import kmeans
from ..mixture import Mixture
from ..oracle import Oracle
from ..priors import Prior, split
from ..problem import Problem
from ..restarts import Program, best_start, start_keys
from ..solution import Solution
from ..solvers import EM, Solver
from ..solvers.driver import Limits, run
from ..status import Status
from ..transport.couplings import Coupling, SemiRelaxed
from ..validation import check_count, check_epsilon, check_number
from .lanes import Lanes, run_lanes
from .progress import Progress
from .ragged import Ragged, buckets, ladder, pad, read
from .result import Batch, Starts

STRIDE = 8  # steps between two looks of the host


def fit_batch(
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
    slice_lanes: int = 4096,
    progress: bool | Callable[[int, int], Any] = False,
) -> Batch:
    """Fits a mixture to each of many data sets, as `fit` does one, all of them at once.

    Data sets are padded with absent rows into a few sizes. All starts of all data sets of a size
    are lanes of one computation, and lanes that are done are left out of it. Problem b draws its
    starts from `jax.random.fold_in(key, b)`: `fit(x[b], ..., key=jax.random.fold_in(key, b))` is
    the same fit. What cannot be fitted gets a status and NaN, and disturbs no other.

    Args:
        x: a sequence of b tables [n, d] of any lengths, or one array [b, n, d].
        n_components: K, of all.
        key: a typed PRNG key, or an integer seed.
        family: see `fit`.
        covariance: see `fit`.
        sample_weight: a sequence of b weights [n], or one array [b, n]; a row of weight 0 is
            absent and may hold anything.
        epsilon: see `fit`.
        coupling: see `fit`.
        n_init: starts of each problem.
        solver: see `fit`.
        initializer: see `fit`.
        tolerance: see `solve`.
        max_steps: see `solve`.
        ridge: see `fit`.
        prior: see `fit`; the same on every problem, its strengths relative to that one's mass.
        initial: mixtures with leading axis b to start from, such as `batch.mixture`, in the units
            of x; then there is one start each, and no draw.
        learn_weights: see `fit`.
        slice_lanes: at most so many starts are in memory at once, per thread.
        progress: True for a line on the standard error stream, or a function that is called with
            the number of starts that are done, and of all.

    Returns:
        A `Batch`. `Solution.history` has one entry, the value of the start.

    Raises:
        ValueError: for shapes, types and options that fit no data set.
        TypeError: for a traced `x`.

    Warns:
        ConvergenceWarning: once, where a problem has another status than CONVERGED.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> batch = om.fit_batch([x, x[:150], x[150:]], 2, key=0, n_init=2)
        >>> [round(float(value), 3) for value in batch.value]
        [4.155, 4.177, 4.081]
    """
    count = check_count(n_components, "n_components")
    starts = 1 if initial is not None else check_count(n_init, "n_init")
    strength = check_number(ridge, "ridge")
    lanes = check_count(slice_lanes, "slice_lanes")
    limits = Limits(
        check_number(tolerance, "tolerance"),
        check_count(max_steps, "max_steps", least=0),
        history_size=1,
    )
    entropy, coupling = check_epsilon(epsilon), check_coupling(coupling, count)
    if entropy == 0 and not coupling.free:
        raise ValueError("epsilon=0 goes with SemiRelaxed() alone: use a small epsilon")
    seed = jax.random.key(key) if isinstance(key, int | np.integer) else key
    program = Program(family, covariance, initializer, count, starts, strength > 0)
    ragged = read(x, sample_weight, n_components=count, standardise=family.equivariant)
    template = Problem(
        np.zeros((), ragged.rows.dtype),
        None,
        entropy,
        coupling,
        prior=prior,
        learn_weights=learn_weights,
    )
    task = _Task(program, template, strength, solver, limits, seed, initial)
    batch = _run(task, ragged, lanes, Progress.of(progress, len(ragged.position) * starts))
    _report(batch)
    return batch


@dataclasses.dataclass(frozen=True)
class _Task:
    """What all slices of a batch share."""

    program: Program
    template: Problem
    strength: float
    solver: Solver
    limits: Limits
    key: PRNGKeyArray
    initial: Mixture | None


def _run(task: _Task, ragged: Ragged, slice_lanes: int, progress: Progress) -> Batch:
    slices = _slices(ragged.sizes, task.program.n_init, slice_lanes)
    # JAX keeps this switch per thread.
    wide = jax.dtypes.canonicalize_dtype(np.float64) == np.float64

    def work(one: tuple[np.ndarray, int, int]) -> tuple[Any, int]:
        with jax.enable_x64(wide):
            return _solve_slice(task, ragged, *one, progress)

    with ThreadPoolExecutor(_threads(task.template.coupling)) as pool:
        try:
            parts = list(pool.map(work, slices))
        except BaseException:  # an interrupt, or the user's own function: the other threads end too
            progress.stop()
            raise
    progress.close()
    n_sets = len(ragged.status)
    like = parts[0][0] if parts else _shapes(task, ragged)
    answer = jax.tree.map(lambda s: _empty((n_sets, *s.shape[1:]), s.dtype), like)
    for (members, *_), (part, _) in zip(slices, parts, strict=True):
        for whole, leaf in zip(jax.tree.leaves(answer), jax.tree.leaves(part), strict=True):
            whole[ragged.position[members]] = leaf[: len(members)]
    solution, starts = jax.tree.map(jnp.asarray, answer)
    # What could not be fitted says why; the rest of it stays NaN.
    solution = replace(solution, status=jnp.maximum(solution.status, ragged.status))
    starts = replace(starts, status=jnp.maximum(starts.status, ragged.status[:, None]))
    return Batch(solution, starts, jnp.asarray(float(sum(spent for _, spent in parts))))


def _threads(coupling: Coupling) -> int:
    """Twice the cores: programs of this size leave gaps between them. An accelerator has none.

    The inner solve of other couplings calls LAPACK, and two batched calls at a time can block each
    other (see `families.triangular`).
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
    task: _Task,
    ragged: Ragged,
    members: np.ndarray,
    size: int,
    places: int,
    progress: Progress,
) -> tuple[tuple[Solution, Starts], int]:
    x, weights = pad(ragged, members, size, places)
    n_init = task.program.n_init
    scale, centre = np.ones(places), np.zeros((places, x.shape[2]))
    scale[: len(members)], centre[: len(members)] = ragged.scale[members], ragged.centre[members]
    position = np.zeros(places, np.int32)
    position[: len(members)] = ragged.position[members]
    shift = scale.astype(x.dtype), centre.astype(x.dtype)
    problems = stacked(task.program, task.template, x, weights, task.strength, *shift)
    which = jnp.repeat(jnp.arange(places), n_init)
    lanes = Lanes(problems, which, jnp.asarray(len(members) * n_init))
    seeds = _seeds(task, position, shift)
    make = task.program if task.initial is None else given
    _, solutions, computed = run_lanes(
        make,
        lanes,
        seeds,
        task.solver,
        task.limits,
        stride=STRIDE,
        block=block_size(size, len(members) * n_init),
        on_round=progress.slice(len(members) * n_init),
    )
    return jax.device_get(_choose(task.program, task.template, solutions, *shift)), computed


@functools.partial(jax.jit, static_argnums=0)
def stacked(
    program: Program,
    template: Problem,
    x: Array,
    weights: Array,
    strength: Array | float,
    scale: Array,
    centre: Array,
) -> Problem:
    """The problems with leading axis p, each with the prior of its own rows and units."""

    def one(x: Array, weights: Array, scale: Array, centre: Array) -> Problem:
        prior = template.prior and template.prior.standardised(scale, centre)
        problem = replace(template, x=x, sample_weight=weights, prior=prior).checked()
        return program.with_prior(problem, strength)

    return jax.vmap(one)(x, weights, scale, centre)


def given(seed: Mixture, problem: Problem) -> Mixture:
    """The start that is the seed itself."""
    return jax.tree.map(lambda leaf: leaf.astype(problem.x.dtype), seed)


def _seeds(task: _Task, position: np.ndarray, shift: tuple[np.ndarray, np.ndarray]) -> Any:
    """What each lane starts from: a key, or the given mixture in standard coordinates."""
    if task.initial is None:
        return _lane_keys(task.key, position, task.program.n_init)
    mine = jax.tree.map(lambda leaf: jnp.asarray(leaf)[position], task.initial)
    if not task.program.family.equivariant:
        return mine
    return jax.vmap(lambda m, scale, centre: m.affine(1 / scale, -centre / scale))(mine, *shift)


@functools.partial(jax.jit, static_argnums=2)
def _lane_keys(key: PRNGKeyArray, position: Array, n_init: int) -> Array:
    own = jax.vmap(lambda number: jax.random.fold_in(key, number))(position)
    return jax.vmap(lambda one: start_keys(one, n_init))(own).reshape(-1)


@functools.partial(jax.jit, static_argnums=0)
def _choose(
    program: Program, template: Problem, solutions: Solution, scale: Array, centre: Array
) -> tuple[Solution, Starts]:
    """The best start of each problem in the units of its rows, and the account of all starts."""
    by_problem = jax.tree.map(
        lambda leaf: leaf.reshape(-1, program.n_init, *leaf.shape[1:]), solutions
    )

    def one(solutions: Solution, scale: Array, centre: Array) -> tuple[Solution, Starts]:
        kept = jax.tree.map(lambda leaf: leaf[best_start(solutions)], solutions)
        stretch = centre.shape[0] * jnp.log(scale)
        extra = split(template.prior).stretch(program.n_components, stretch)
        starts = Starts(
            solutions.value + stretch,
            solutions.objective + stretch + extra,
            solutions.status,
            solutions.n_steps,
        )
        if program.family.equivariant:
            kept = kept.affine(scale, centre)
        return replace(kept, objective=kept.objective + extra), starts

    return jax.vmap(one)(by_problem, scale, centre)


def _shapes(task: _Task, ragged: Ragged) -> Any:
    """The shapes of a slice of one problem, where there is none to look at."""
    rows = np.zeros((1, task.program.n_components, ragged.rows.shape[1]), ragged.rows.dtype)

    def one(x: Array, weights: Array, scale: Array, centre: Array) -> tuple[Solution, Starts]:
        problems = stacked(task.program, task.template, x, weights, task.strength, scale, centre)
        problem = jax.tree.map(lambda leaf: leaf[0], problems)
        start = task.program(task.key, problem)
        solution = run(Oracle(problem), task.solver, start, task.limits)
        every = jax.tree.map(lambda leaf: jnp.stack([leaf] * task.program.n_init), solution)
        return _choose(task.program, task.template, every, scale, centre)

    return jax.eval_shape(one, rows, rows[..., 0], rows[:, 0, 0], rows[:, 0])


def _empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """NaN, or 0 where there is none."""
    return np.full(shape, np.nan if np.issubdtype(dtype, np.inexact) else 0, dtype)


def _report(batch: Batch) -> None:
    status = np.asarray(batch.status)
    bad = np.flatnonzero(status != Status.CONVERGED.code)
    if len(bad):
        names = [Status(int(code)) for code in np.unique(status[bad])]
        counts = ", ".join(f"{np.sum(status == name)} {name.name}" for name in names)
        worst = names[-1]
        message = (
            f"{len(bad)} of {len(status)} problems are not CONVERGED: {counts}; the first is "
            f"problem {bad[0]}. {worst.remedy}"
        )
        warnings.warn(message, ConvergenceWarning, stacklevel=3)
