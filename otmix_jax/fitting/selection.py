"""How many components, and of which shape: every candidate fitted, one criterion."""

import time
from collections.abc import Iterable, Sequence
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
from ..solvers import EM, Limits, Solver
from . import edge
from .candidates import Fits, between, fit_counts, held_out
from .choices import CRITERIA, Candidate, Choice
from .edge import Goal, Starts
from .many import stacked
from .single import FitError, Program

COVARIANCES = ("full", "tied", "diagonal", "spherical")


def select(
    x: Any,
    n_components: Iterable[int] = range(1, 11),
    *,
    key: PRNGKeyArray | int,
    family: Any = None,
    covariance: Sequence[Any] | str | None = None,
    sample_weight: Any = None,
    criterion: str = "bic",
    n_folds: int = 5,
    goal: Goal = Goal(),
    starts: Starts = Starts(),
    limits: Limits = Limits(),
    solver: Solver = EM(),
    engine: Engine | None = None,
) -> Choice:
    """Fits every K of every family and ranks them; lower criteria are better.

    All K of a family, all their starts, and all folds are lanes of one computation of the
    largest K, in which the components beyond a candidate's K are absent.

    Args:
        x: rows, see `fit`.
        n_components: the numbers of components to try.
        key: a typed PRNG key, or an integer seed.
        family: a family or several, see `fit`; None is `Gaussian` of every covariance structure.
        covariance: the Gaussian's structures to try; None is all four.
        sample_weight: [n] weights; their sum is the n of the criteria.
        criterion: "bic", "aic", "icl", or "cross_validation": the mean negative log-likelihood of
            held-out rows. The last also fits `n_folds` times; the others cost nothing more.
        n_folds: folds of the cross-validation.
        goal: see `Goal`. A start in which the ridge alone keeps a component from collapse counts
            as COLLAPSED: such spikes, on a few repeated values, would win every criterion.
        starts: see `Starts`; draws the largest K, whose first K components start a candidate. By
            default k-means++ seeds, which are nested.
        limits: see `solvers.Limits`.
        solver: see `fit`.
        engine: see `fit`.

    Returns:
        A `Choice`. Candidates that failed are marked by their status and never chosen.

    Raises:
        ValueError: for input that cannot be fitted, or an unknown criterion.
        FitError: if every candidate failed.

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
    families = _families(family, covariance)
    rows = edge.check_rows(x, families[0])
    n = len(jax.tree.leaves(rows)[0])
    weights = edge.check_sample_weight(sample_weight, n)
    counts = np.array([edge.check_components(k, weights, n) for k in n_components])
    if not len(counts):
        raise ValueError("n_components is empty: give at least one number to try")
    # one entry: the histories of all lanes would be most of the memory
    limits, seed = replace(edge.check_limits(limits), history_size=1), edge.check_key(key)
    n_init = edge.check_count(starts.n_init, "n_init")
    held = _folds(seed, weights, n, n_folds if criterion == "cross_validation" else 0)
    total = float(n if sample_weight is None else np.sum(np.asarray(sample_weight)))
    candidates: list[Candidate] = []
    for described in families:
        described.check(rows)
        checked, strength = edge.check_goal(goal, int(counts.max()), described)
        initializer = starts.initializer or kmeans_plus_plus
        largest = int(counts.max())
        program = Program(described, initializer, largest, n_init, strength > 0)
        table = _Table(rows, weights, held, total, counts, program)
        initial = table.initial(starts.initial)
        candidates += table.candidates(checked, seed, strength, solver, limits, engine, initial)
    choice = Choice(tuple(candidates), criterion)
    if not choice.best_candidate.healthy:
        status = min(one.status for one in candidates)
        raise FitError(f"{status.name} in every candidate. {status.remedy}", choice.best)
    return choice


def _families(family: Any, covariance: Any) -> list[Description]:
    if family is None or covariance is not None:
        names = COVARIANCES if covariance is None else covariance
        names = (names,) if isinstance(names, str) or not isinstance(names, Sequence) else names
        return [describe(family, name) for name in names]
    several = isinstance(family, Sequence) and not isinstance(family, str)
    return [describe(one) for one in (family if several else (family,))]


def _folds(key: Array, weights: np.ndarray | None, n: int, n_folds: int) -> np.ndarray:
    """[f, n] the weights of the rows that each fold holds out."""
    if n_folds == 0:
        return np.zeros((0, n))
    count = edge.check_count(n_folds, "n_folds", least=2)
    if count > n:
        raise ValueError(f"n_folds={count} exceeds the {n} rows")
    # A key of its own, so that the starts are those of the other criteria.
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, 0), n))
    fold = np.empty(n, int)
    fold[order] = np.arange(n) % count
    present = np.ones(n) if weights is None else weights
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
        frame = program.family.frame(rows, weights)
        x = jax.tree.map(lambda new, old: new.astype(old.dtype), frame.into(rows), rows)
        self.x = jax.tree.map(jnp.asarray, x)
        n = len(jax.tree.leaves(rows)[0])
        whole = np.ones(n) if weights is None else weights
        real = [leaf.dtype for leaf in jax.tree.leaves(self.x) if leaf.dtype.kind == "f"]
        dtype = jnp.result_type(*real) if real else jnp.result_type(float)
        self.weights = jnp.asarray(np.concatenate([whole[None], whole - held]), dtype)
        self.held, self.frame = jnp.asarray(held, dtype), cast(frame, dtype)

    def initial(self, given: Any) -> dict[int, Mixture]:
        """The given mixtures of this family by their size, in the frame."""
        mixtures = [] if given is None else given if isinstance(given, Sequence) else [given]
        # by structure alone: it tells families and covariances apart, and computes nothing
        like = jax.eval_shape(
            lambda: self.program.family.initial(
                self.x, jnp.ones((len(self.weights[0]), 1), self.weights.dtype)
            )
        )
        mine = [m for m in mixtures if jax.tree.structure(m.components) == jax.tree.structure(like)]
        return {m.n_components: m.out_of(self.frame.inverse) for m in mine}

    def candidates(
        self,
        goal: Goal,
        key: Array,
        strength: float,
        solver: Solver,
        limits: Limits,
        engine: Engine | None,
        initial: dict[int, Mixture],
    ) -> list[Candidate]:
        """One for each number of components."""
        begin, p = time.perf_counter(), len(self.weights)
        x, frame = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (p, *leaf.shape)), (self.x, self.frame)
        )
        problems = stacked(self.program, goal, x, self.weights, strength, frame)
        fits = fit_counts(self.program, problems, self.counts, key, solver, limits, engine, initial)
        whole = jax.tree.map(lambda leaf: leaf[0], fits.solution)
        row_weight = self.weights[0] / jnp.sum(self.weights[0])
        overlap = np.asarray(between(whole.mixture, self.x, row_weight))
        held = self._held_out(fits)
        seconds = time.perf_counter() - begin
        steps = np.sum(np.asarray(fits.n_steps), axis=0)
        share = seconds * steps / max(steps.sum(), 1)
        prior = jax.tree.map(lambda leaf: leaf[0], problems.prior)
        return [
            self._candidate(fits, number, overlap[number], held[number], share[number], prior)
            for number in range(len(self.counts))
        ]

    def _held_out(self, fits: Fits) -> np.ndarray:
        if not len(self.held):
            return np.full(len(self.counts), np.nan)
        folds = jax.tree.map(lambda leaf: leaf[1:], fits.solution)
        value = np.asarray(held_out(folds.mixture, self.x, self.held))
        failed = np.any(np.asarray(folds.status) >= int(Status.COLLAPSED), axis=0)
        return np.where(failed, np.nan, value + float(self.frame.log_volume))

    def _candidate(
        self, fits: Fits, number: int, overlap: Any, held: Any, seconds: Any, prior: Any
    ) -> Candidate:
        count = int(self.counts[number])
        solution = jax.tree.map(lambda leaf: leaf[0, number], fits.solution)
        # The absent components come last.
        solution = replace(solution, mixture=solution.mixture.take(np.arange(count)))
        solution = solution.out_of(self.frame, prior)
        values = np.asarray(fits.start_values[0, number]) + float(self.frame.log_volume)
        likelihood = -self.total * float(solution.negative_log_likelihood)
        parameters = solution.mixture.n_parameters
        bic = -2 * likelihood + parameters * np.log(self.total)
        return Candidate(
            self.program.family,
            count,
            likelihood,
            parameters,
            -2 * likelihood + 2 * parameters,
            float(bic),
            float(bic - 2 * self.total * overlap),
            float(held),
            Status(int(solution.status)),
            float(seconds),
            tuple(values.tolist()),
            solution,
        )
