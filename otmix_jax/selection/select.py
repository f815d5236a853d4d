"""How many components, and of which shape: every candidate fitted, one criterion."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray

from .._pytree import replace
from ..batch.fit_batch import stacked
from ..families import Gaussian
from ..families.base import Family
from ..fit import FitError, location
from ..initializers import kmeans_plus_plus
from ..mixture import Mixture
from ..problem import Problem
from ..restarts import Program
from ..solvers import EM, Solver
from ..solvers.driver import Limits
from ..status import Status
from ..validation import (
    check_components,
    check_count,
    check_number,
    check_rows,
    check_sample_weight,
)
from .candidates import Fits, between, fit_counts, held_out, only
from .choice import CRITERIA, Candidate, Choice


def select(
    x: Any,
    n_components: Iterable[int] = range(1, 11),
    *,
    key: PRNGKeyArray | int,
    covariance: Sequence[Any] | str = ("full", "tied", "diagonal", "spherical"),
    criterion: str = "bic",
    n_folds: int = 5,
    family: type[Family] = Gaussian,
    sample_weight: Any = None,
    n_init: int = 8,
    solver: Solver = EM(),
    initializer: Callable[..., Mixture] = kmeans_plus_plus,
    tolerance: float = 1e-8,
    max_steps: int = 2000,
    ridge: float = 1e-6,
) -> Choice:
    """Fits every K under every covariance structure and ranks them; lower criteria are better.

    All K of a structure, all their starts, and all folds are lanes of one computation of the
    largest K, in which the components beyond a candidate's K are absent.

    Args:
        x: [n, d] rows, see `fit`.
        n_components: the numbers of components to try.
        key: a typed PRNG key, or an integer seed.
        covariance: the structures to try; see `fit`.
        criterion: "bic", "aic", "icl", or "cross_validation": the mean negative log-likelihood of
            held-out rows. The last also fits `n_folds` times; the others cost nothing more.
        n_folds: folds of the cross-validation.
        family: see `fit`.
        sample_weight: [n] weights; their sum is the n of the criteria.
        n_init: starts of each candidate.
        solver: see `fit`.
        initializer: see `fit`; draws the largest K, whose first K components start a candidate.
        tolerance: see `solve`.
        max_steps: see `solve`.
        ridge: see `fit`. A start in which it alone keeps a component from collapse counts as
            COLLAPSED: such spikes, on a few repeated values, would win every criterion.

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
    rows = check_rows(x)
    weights = check_sample_weight(sample_weight, len(rows))
    counts = np.array([check_components(k, weights, len(rows)) for k in n_components])
    if not len(counts):
        raise ValueError("n_components is empty: give at least one number to try")
    structures = (covariance,) if isinstance(covariance, str) else tuple(covariance)
    limits = Limits(
        check_number(tolerance, "tolerance"), check_count(max_steps, "max_steps", least=0), 1
    )
    starts, strength = check_count(n_init, "n_init"), check_number(ridge, "ridge")
    seed = jax.random.key(key) if isinstance(key, int | np.integer) else key
    held = _folds(seed, weights, len(rows), n_folds if criterion == "cross_validation" else 0)
    total = float(len(rows) if sample_weight is None else np.sum(np.asarray(sample_weight)))
    table = _Table(rows, weights, held, total, counts, family.equivariant)
    candidates: list[Candidate] = []
    for structure in structures:
        program = Program(family, structure, initializer, int(counts.max()), starts, strength > 0)
        candidates += table.candidates(program, seed, strength, solver, limits)
    choice = Choice(tuple(candidates), criterion)
    if not choice.best_candidate.healthy:
        status = min(one.status for one in candidates)
        raise FitError(f"{status.name} in every candidate. {status.remedy}", choice.best)
    return choice


def _folds(key: Array, weights: np.ndarray | None, n: int, n_folds: int) -> np.ndarray:
    """[f, n] the weights of the rows that each fold holds out."""
    if n_folds == 0:
        return np.zeros((0, n))
    count = check_count(n_folds, "n_folds", least=2)
    if count > n:
        raise ValueError(f"n_folds={count} exceeds the {n} rows")
    # A key of its own, so that the starts are those of the other criteria.
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, 0), n))
    fold = np.empty(n, int)
    fold[order] = np.arange(n) % count
    present = np.ones(n) if weights is None else weights
    return np.where(fold == np.arange(count)[:, None], present, 0)


class _Table:
    """The rows, as the candidates see them."""

    def __init__(
        self,
        rows: np.ndarray,
        weights: np.ndarray | None,
        held: np.ndarray,
        total: float,
        counts: np.ndarray,
        equivariant: bool,
    ):
        self.scale, self.centre = 1.0, np.zeros(rows.shape[1])
        if equivariant:
            self.scale, self.centre = location(rows, weights)
        self.equivariant, self.counts, self.total = equivariant, counts, total
        self.x = jnp.asarray(((rows - self.centre) / self.scale).astype(rows.dtype))
        whole = np.ones(len(rows)) if weights is None else weights
        self.weights = jnp.asarray(np.concatenate([whole[None], whole - held]), self.x.dtype)
        self.held = jnp.asarray(held, self.x.dtype)

    def candidates(
        self, program: Program, key: Array, strength: float, solver: Solver, limits: Limits
    ) -> list[Candidate]:
        """One for each number of components, all under one structure."""
        begin = time.perf_counter()
        x = jnp.broadcast_to(self.x, (len(self.weights), *self.x.shape))
        standard = jnp.ones_like(x[:, 0, 0]), jnp.zeros_like(x[:, 0])
        problems = stacked(program, Problem(self.x[0, 0]), x, self.weights, strength, *standard)
        fits = fit_counts(program, problems, self.counts, key, solver, limits)
        whole = jax.tree.map(lambda leaf: leaf[0], fits.solution)
        row_weight = self.weights[0] / jnp.sum(self.weights[0])
        overlap = np.asarray(between(whole.mixture, self.x, row_weight))
        held = self._held_out(fits)
        seconds = time.perf_counter() - begin
        steps = np.sum(np.asarray(fits.n_steps), axis=0)
        share = seconds * steps / max(steps.sum(), 1)
        return [
            self._candidate(program, fits, index, overlap[index], held[index], share[index])
            for index in range(len(self.counts))
        ]

    def _held_out(self, fits: Fits) -> np.ndarray:
        if not len(self.held):
            return np.full(len(self.counts), np.nan)
        folds = jax.tree.map(lambda leaf: leaf[1:], fits.solution)
        value = np.asarray(held_out(folds.mixture, self.x, self.held))
        failed = np.any(np.asarray(folds.status) >= Status.COLLAPSED.code, axis=0)
        stretch = self.x.shape[1] * np.log(self.scale)
        return np.where(failed, np.nan, value + stretch)

    def _candidate(
        self, program: Program, fits: Fits, index: int, overlap: Any, held: Any, seconds: Any
    ) -> Candidate:
        count = int(self.counts[index])
        solution = jax.tree.map(lambda leaf: leaf[0, index], fits.solution)
        solution = replace(solution, mixture=only(program, solution.mixture, count))
        values = np.asarray(fits.start_values[0, index])
        if self.equivariant:
            scale, centre = (jnp.asarray(a, self.x.dtype) for a in (self.scale, self.centre))
            solution = solution.affine(scale, centre)
            values = values + self.x.shape[1] * np.log(self.scale)
        likelihood = -self.total * float(solution.negative_log_likelihood)
        parameters = solution.mixture.n_parameters
        bic = -2 * likelihood + parameters * np.log(self.total)
        return Candidate(
            program.covariance,
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
