"""How many components, and of which shape: every candidate fitted, one criterion."""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray, PyTree

from ..core.status import Status
from ..core.tree import cast, replace
from ..engine import Engine
from ..families import Description, describe
from ..initializers import kmeans_plus_plus
from ..model import Mixture
from ..priors import Prior
from ..solvers import Limits, Solver, Squarem
from . import edge
from .candidates import Fits, about_same_rows, apart, fit_counts, held_out, overlaps
from .cells import check_missing
from .choices import CRITERIA, Candidate, Choice, candidate, unfitted
from .contest import Contest, in_one_program
from .control import Report, Watch
from .directions import left_out
from .given import check_starts, check_strengths
from .one_column import distinct, repeated
from .options import Goal, Starts
from .programs import Program, Task, frame_of, guard
from .single import ConvergenceWarning, FitError

COVARIANCES = ("full", "tied", "diagonal", "spherical")


def select(
    x: Any,
    n_components: Iterable[int] = range(1, 11),
    *,
    key: PRNGKeyArray | int,
    family: Any = None,
    covariance: Sequence[Any] | str | None = None,
    sample_weight: Any = None,
    missing: str | None = None,
    criterion: str = "bic",
    n_folds: int = 5,
    goal: Goal = Goal(),
    starts: Starts = Starts(),
    limits: Limits = Limits(),
    solver: Solver = Squarem(),
    engine: Engine | None = None,
    progress: bool = False,
    time_limit: float | None = None,
    callback: Callable[[Report], Any] | None = None,
) -> Choice:
    """Fits every K of every family and ranks them; lower criteria are better.

    Starts of all K race in one program of the largest K, in which the components beyond a
    candidate's K are absent; the best of each K, with a component more or less, are starts for its
    neighbours. On small data of up to 8 columns
    several Gaussian structures share that program too, unless there is a prior or a ridge.

    Args:
        x: rows, see `fit`.
        n_components: the numbers of components to try.
        key: a typed PRNG key, or an integer seed.
        family: a family or several, see `fit`; None is `Gaussian` of every covariance structure.
        covariance: the Gaussian's structures to try, by our names or mclust's; None is "full",
            "tied", "diagonal" and "spherical". In one column a variance is common or own: there
            None is "full" and "tied", and others, if they are asked for, repeat one of these.
        sample_weight: [n] weights; their sum is the n of the criteria.
        missing: see `fit`.
        criterion: "bic", "aic", "icl", or "cross_validation": the mean negative log-likelihood of
            held-out rows. The last also fits `n_folds` times; the others cost nothing more.
        n_folds: folds of the cross-validation.
        goal: see `Goal`. A start with a spurious component, or one that a ridge alone keeps from
            collapse, counts as COLLAPSED: such spikes would win every criterion.
        starts: see `Starts`; by default a race. With `n_init` or an initialiser, so many draws of
            the largest K, whose first K components start a candidate, each run to its end; by
            default k-means++ seeds, which are nested.
        limits: see `solvers.Limits`.
        solver: see `fit`.
        engine: see `fit`.
        progress: see `fit`.
        time_limit: see `fit`. Stopped, candidates whose search was not over are INTERRUPTED; those
            that nobody came to, and criteria that were not reached, are NaN and never chosen.
        callback: see `fit`.

    Returns:
        A `Choice`. Candidates that failed are marked by their status and never chosen.

    Raises:
        ValueError: for input that cannot be fitted, or an unknown criterion.
        FitError: if every candidate failed, or none had its criterion before a stop.

    Warns:
        ConvergenceWarning: where it was stopped.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> choice = om.select(x, range(1, 4), covariance=("tied",), key=0)
        >>> choice.best_candidate.n_components, round(choice.best_candidate.bic, 2)
        (3, 2314.3)

    Source: Schwarz (1978), BIC; Akaike (1974), AIC; Biernacki, Celeux and Govaert (2000), ICL.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, not {criterion!r}")
    families = [check_missing(missing, one) for one in _families(family, covariance)]
    families = [edge.of_units(one, x) for one in families]
    every_structure = family is None and covariance is None
    rows, weights = edge.check_data(x, sample_weight, *families)
    families = [edge.settled(one, rows, weights) for one in families]
    n = len(jax.tree.leaves(rows)[0])
    edge.check_solver(solver)
    counts = np.array([edge.check_components(k, weights, n) for k in n_components])
    if not len(counts):
        raise ValueError("n_components is empty: give at least one number to try")
    if starts.initial is not None:
        check_starts(starts.initial, counts.tolist(), families, rows)
    goal = replace(goal, prior=goal.prior and check_strengths(Prior.of(goal.prior)))
    # one entry: the histories of all lanes would be most of the memory
    limits, rng = replace(edge.check_limits(limits), history_size=1), edge.check_generator(key)
    n_init = edge.check_starts(dataclasses.replace(starts, initial=None), goal)
    directions = left_out(rows, weights, goal, *families, names=getattr(x, "columns", None))
    initial = starts.initial
    if directions is not None:
        rows, goal, initial = directions.of(rows), directions.goal(goal), directions.starts(initial)
    if every_structure and np.shape(rows)[1:] == (1,):
        families = families[:2]
    held = _folds(key, weights, n, n_folds if criterion == "cross_validation" else 0)
    total = float(n if sample_weight is None else np.sum(np.asarray(sample_weight)))
    for described in families:
        described.check(rows)
    largest, initializer = int(counts.max()), starts.initializer or kmeans_plus_plus
    one_column = np.shape(rows)[1:] == (1,)
    tasks, watch = [], Watch(progress, time_limit, callback)
    for described in distinct(families) if one_column else families:
        checked, strength = edge.check_goal(goal, largest, described)
        program = Program(described, initializer, largest, n_init or 1, guard(strength))
        tasks.append(Task(program, checked, strength, solver, limits, engine, watch))
    told = rows, weights, held, total, counts
    with watch:
        if n_init is None:
            candidates = Contest(*told, rng, tasks, initial).candidates()
        else:
            candidates = [one for task in tasks for one in _tabled(task, told, key, initial)]
    candidates = repeated(candidates, families) if one_column else candidates
    if directions is not None:
        candidates = [
            dataclasses.replace(one, solution=directions.spread(one.solution)) for one in candidates
        ]
    choice = Choice(tuple(candidates), criterion)
    if watch.cut:
        _report(choice, watch)
    if not choice.best_candidate.healthy:
        status = min(one.status for one in candidates)
        raise FitError(f"{status.name} in every candidate. {status.remedy}", choice.best)
    return choice


def _report(choice: Choice, watch: Watch) -> None:
    """Says what a stop left undone."""
    by, remedy = f"INTERRUPTED by {watch.reason}", Status.INTERRUPTED.remedy
    reached = [one for one in choice.candidates if math.isfinite(choice.score(one))]
    if not reached:
        raise FitError(f"{by} before any candidate had its {choice.criterion}.", choice.best)
    stopped = sum(one.status == Status.INTERRUPTED for one in reached)
    message = (
        f"{by}: of {len(choice.candidates)} candidates {len(choice.candidates) - len(reached)} "
        f"have no {choice.criterion}, and the search of {stopped} was not over. {remedy}"
    )
    # 3: the warning names the line that called `select`
    warnings.warn(message, ConvergenceWarning, stacklevel=3)


def _families(family: Any, covariance: Any) -> list[Description]:
    if family is None or covariance is not None:
        names = COVARIANCES if covariance is None else covariance
        names = (names,) if isinstance(names, str) or not isinstance(names, Sequence) else names
        return [describe(family, name) for name in names]
    several = isinstance(family, Sequence) and not isinstance(family, str)
    return [describe(one) for one in (family if several else (family,))]


def _tabled(task: Task, told: Any, key: Any, initial: Any) -> list[Candidate]:
    """The candidates of a family, each start run to its end."""
    rows, weights, held, total, counts = told
    found = []
    for alike in in_one_program(counts, task.program.family):
        if task.watch.n_steps and task.watch.stops():
            found += [unfitted(task.program.family, rows, int(k), total) for k in alike]
            continue
        program = dataclasses.replace(task.program, n_components=int(alike.max()))
        table = _Table(rows, weights, held, total, alike, program)
        found += table.candidates(task, edge.check_key(key), table.initial(initial))
    return found


def _folds(key: Any, weights: np.ndarray | None, n: int, n_folds: int) -> np.ndarray:
    """[f, n] the weights of the rows that each fold holds out."""
    if n_folds == 0:
        return np.zeros((0, n))
    count = edge.check_count(n_folds, "n_folds", least=2)
    present = np.ones(n) if weights is None else weights
    rows = np.flatnonzero(present)
    if count > len(rows):
        raise ValueError(f"n_folds={count} exceeds the {len(rows)} rows with positive weight")
    # A key of its own, so that the starts are those of the other criteria.
    seed = jax.random.fold_in(edge.check_key(key), 0)
    order = np.asarray(jax.random.permutation(seed, len(rows)))
    fold = np.full(n, -1)
    fold[rows[order]] = np.arange(len(rows)) % count
    return np.where(fold == np.arange(count)[:, None], present, 0)


class _Table:
    """The rows in a family's frame, as its candidates see them."""

    def __init__(
        self,
        rows: PyTree,
        weights: np.ndarray | None,
        held: np.ndarray,
        total: float,
        counts: np.ndarray,
        program: Program,
    ):
        self.program, self.counts, self.total = program, counts, total
        frame = frame_of(rows, weights, program.family)
        real = [leaf.dtype for leaf in jax.tree.leaves(rows) if leaf.dtype.kind == "f"]
        dtype = jax.dtypes.canonicalize_dtype(np.result_type(*real) if real else float)
        # narrow before the device has it, and no copy beyond that
        x = jax.tree.map(lambda new, old: new.astype(old.dtype, copy=False), frame.into(rows), rows)
        self.x = cast(x, dtype)
        n = len(jax.tree.leaves(rows)[0])
        whole = np.ones(n) if weights is None else weights
        self.weights = jnp.asarray(np.concatenate([whole[None], whole - held]), dtype)
        self.held, self.frame = jnp.asarray(held, dtype), cast(frame, dtype)

    def initial(self, given: Any) -> dict[int, Mixture]:
        """The given mixtures of this family by their size, in the frame."""
        mixtures = [] if given is None else given if isinstance(given, Sequence) else [given]
        # by structure alone: it tells families and covariances apart, and computes nothing
        like = jax.eval_shape(
            lambda: self.program.family.initial(
                self.x,
                jnp.ones((len(self.weights[0]), self.program.n_components), self.weights.dtype),
            )
        )
        mine = [m for m in mixtures if jax.tree.structure(m.components) == jax.tree.structure(like)]
        return {m.n_components: m.out_of(self.frame.inverse) for m in mine}

    def candidates(self, task: Task, key: Array, initial: dict[int, Mixture]) -> list[Candidate]:
        """One for each number of components."""
        begin, program, x = time.perf_counter(), self.program, self.x
        rows = x, self.weights, self.frame
        problems = about_same_rows(program, task.goal, task.strength, *rows)
        how = task.solver, task.limits, task.engine
        task.watch.stage(str(program.family), len(self.weights) * len(self.counts) * program.n_init)
        fits = fit_counts(program, x, problems, self.counts, key, *how, initial, task.watch)
        whole = jax.tree.map(lambda leaf: leaf[0], fits.solution)
        row_weight = self.weights[0] / jnp.sum(self.weights[0])
        overlap = np.asarray(overlaps(whole.mixture, self.x, row_weight))
        held = np.where(task.watch.cut, np.nan, self._held_out(fits))
        seconds = time.perf_counter() - begin
        steps = np.sum(np.asarray(fits.n_steps), axis=0)
        share = seconds * steps / max(steps.sum(), 1)
        return [
            self._candidate(fits, number, *own, problems.prior, task.watch)
            for number, own in enumerate(zip(overlap, held, share, strict=True))
        ]

    def _held_out(self, fits: Fits) -> np.ndarray:
        if not len(self.held):
            return np.full(len(self.counts), np.nan)
        folds = jax.tree.map(lambda leaf: leaf[1:], fits.solution)
        value = np.asarray(held_out(folds.mixture, self.x, self.held))
        failed = np.any(np.asarray(folds.status) >= int(Status.COLLAPSED), axis=0)
        return np.where(failed, np.nan, value + float(self.frame.log_volume))

    def _candidate(
        self,
        fits: Fits,
        number: int,
        overlap: Any,
        held: Any,
        seconds: Any,
        prior: Any,
        watch: Watch,
    ) -> Candidate:
        count = int(self.counts[number])
        solution = apart(count, fits.solution, number, self.frame, prior)
        solution = replace(solution, status=watch.told(solution.status))
        values = np.asarray(fits.start_values)[0, number] + float(self.frame.log_volume)
        return candidate(
            self.program.family,
            solution,
            self.total,
            float(overlap),
            float(held),
            float(seconds),
            values.tolist(),
        )
