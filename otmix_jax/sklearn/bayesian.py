"""scikit-learn's BayesianGaussianMixture, run by the descent of this library's bound."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import sklearn.mixture
from jax import Array

from ..core.buckets import padded
from ..core.compiling import Quick
from ..core.numerics import all_finite
from ..core.status import Status
from ..core.tree import pytree, replace
from ..families import Gaussian
from ..fitting.programs import SIDE_BY_SIDE
from ..model import Evaluation, Problem
from ..solvers import Limits
from ..variational import (
    Belief,
    Bound,
    DirichletPrior,
    DirichletWeights,
    NormalWishart,
    NormalWishartPrior,
    StickBreaking,
    StickBreakingPrior,
    VariationalEM,
)
from ..variational.descent import DescentState
from ..variational.solving import prior_belief
from .base import of_dtype, wide
from .classic import SINGULAR, STRUCTURES, ClassicMixture, Run, stepped, turned
from .loading import loaded

PRIORS = {"dirichlet_process": StickBreakingPrior, "dirichlet_distribution": DirichletPrior}
"""Priors of the proportions by scikit-learn's names."""


class BayesianGaussianMixture(  # type: ignore[misc]
    ClassicMixture, sklearn.mixture.BayesianGaussianMixture
):
    """scikit-learn's `BayesianGaussianMixture`: the same parameters, attributes and answers.

    The mathematics is in docs/variational.md. `fit`, `fit_predict` and `score` take a
    `sample_weight`, which counts rows: all weights doubled are twice the rows.

    Example:
        >>> import numpy as np
        >>> from otmix_jax.sklearn import BayesianGaussianMixture
        >>> X = np.array([[1, 2], [1, 4], [1, 0], [4, 2], [12, 4], [10, 7]])
        >>> BayesianGaussianMixture(n_components=2, random_state=42).fit(X).means_.round(2)
        array([[2.5 , 2.29],
               [8.46, 4.52]])
    """

    def _run(self, rows: np.ndarray, weights: np.ndarray | None, before: float) -> Run:
        count = float(len(rows) if weights is None else np.sum(weights))
        if weights is not None:
            self._weigh_priors(rows, weights, count)
        prior = NormalWishartPrior(
            self.mean_prior_,
            self.mean_precision_prior_,
            self.degrees_of_freedom_prior_,
            _regular(np.asarray(self.covariance_prior_, rows.dtype)),
        )
        proportions = PRIORS[self.weight_concentration_prior_type](self.weight_concentration_prior_)
        first, priors = of_dtype((self._first(), (proportions, prior)), rows.dtype)
        descent = LoadedDescent(self.reg_covar, before)
        told = Problem(*padded(rows, weights)), first, priors, count, descent, self._limits()
        quick, structure = rows.size <= SIDE_BY_SIDE, STRUCTURES[self.covariance_type]
        found, history, n_steps, status = wide(_program)(quick, structure, *told)
        if status > Status.STALLED:
            raise ValueError(SINGULAR)
        bounds = history[: n_steps + 1]
        return Run(self._parameters(found), bounds, status == Status.CONVERGED)

    def _weigh_priors(self, rows: np.ndarray, weights: np.ndarray, count: float) -> None:
        """What is left to the rows is taken from them by weight."""
        mean = np.average(rows, axis=0, weights=weights)
        if self.mean_prior is None:
            self.mean_prior_ = mean.astype(rows.dtype)
        if self.covariance_prior is None:
            spread = (weights * (rows - mean).T) @ (rows - mean) / (count - 1)
            of_kind = {"diag": np.diag, "spherical": lambda spread: np.diag(spread).mean()}
            self.covariance_prior_ = of_kind.get(self.covariance_type, lambda spread: spread)(
                spread
            )

    def _first(self) -> tuple:
        """Of the posterior that the attributes hold: proportions, and a `NormalWishart`."""
        stick = self.weight_concentration_prior_type == "dirichlet_process"
        concentration = (
            tuple(self.weight_concentration_) if stick else (self.weight_concentration_,)
        )
        factor = turned(self.precisions_cholesky_, self.covariance_type, False)
        degrees = np.broadcast_to(self.degrees_of_freedom_, (self.n_components,))
        return concentration, self.means_, factor, self.mean_precision_, degrees

    def _parameters(self, found: Belief) -> tuple:
        kind, law = self.covariance_type, found.components
        factor, weights = law.covariance.factor, found.weights
        stick = isinstance(weights, StickBreaking)
        concentration = (weights.taken, weights.passed) if stick else weights.concentration
        covariances = (
            factor @ np.swapaxes(factor, -1, -2) if kind in ("full", "tied") else factor**2
        )
        degrees = law.degrees[0] if kind == "tied" else law.degrees
        cholesky = turned(factor, kind, True)
        return concentration, law.precision, law.mean, degrees, covariances, cholesky


@pytree
class LoadedDescent(VariationalEM):
    """The descent as scikit-learn's BayesianGaussianMixture has it.

    Its bound is that after an update, at the responsibilities which the update was made of. It
    names no constants, and sees `reg_covar` in the posterior alone, so it may fall a little: a
    step's size is what it changed, up or down.

    Attributes:
        reg_covar: what is added to each component's covariance, in squared units of the rows.
        before: the bound before the start, of a warm one; minus infinity of another.
    """

    reg_covar: Array | float
    before: Array | float

    def update(  # type: ignore[override]
        self, objective: Bound, state: DescentState, candidate: tuple, evaluation: Evaluation
    ) -> tuple[DescentState, tuple, Any]:
        """See `Solver.update`; the account's value is scikit-learn's bound."""
        (belief,), before = candidate, state.progress.value
        more = loaded(evaluation, belief.expected().components, self.reg_covar)
        new, (following,), progress = super().update(objective, state, candidate, more)
        bound = _entropy(objective, belief, evaluation) + (
            following.components.log_normalizer() + following.weights.log_normalizer()
        )
        before = jnp.where(jnp.isinf(before), jnp.asarray(self.before, before.dtype), before)
        told = replace(progress, value=bound, decrease=jnp.abs(bound - before))
        return replace(new, progress=told), (following,), told


def _entropy(bound: Bound, belief: Belief, evaluation: Evaluation) -> Array:
    """-sum_ij w_i r_ij log r_ij of the responsibilities that were evaluated, in nats.

    log r_ij = log omega_j - E C_ij - log of the row's sum, whose mean the value is.
    """
    mass, own = evaluation.mass, belief.expected()
    components: Any = own.components
    cost = components.expected_cost(evaluation.statistics, mass, components)
    constant = components.gap + 0.5 * components.n_features * math.log(2 * math.pi)
    per_row = jnp.sum(mass * (constant - own.log_weights)) + cost - evaluation.value
    return bound.count * per_row


def _regular(spread: np.ndarray) -> np.ndarray:
    """The spread; where rows leave it singular, with the rounding of its variances added."""
    whole = spread.ndim == 2
    variance, eps = np.diag(spread) if whole else spread, np.finfo(spread.dtype).eps
    some = np.where(variance > 0, variance, np.mean(variance) or 1)
    least = 64 * eps * len(spread) * some if spread.ndim else 64 * eps * some
    correlation = spread / np.sqrt(np.outer(some, some)) if whole else variance / some
    smallest = np.linalg.eigvalsh(correlation)[0] if whole else np.min(correlation)
    if smallest > 16 * eps * max(spread.shape, default=1):
        return spread
    return spread + (np.diag(least) if whole else least)


def _descended(
    structure: Any,
    problem: Problem,
    first: tuple,
    priors: tuple,
    count: Array,
    descent: LoadedDescent,
    limits: Limits,
) -> tuple[Belief, Array, Array, Array]:
    """The answer, the bounds, how many steps led there, and the status."""
    count = jnp.asarray(count, problem.dtype)
    concentration, mean, factor, precision, degrees = first
    weights: Any = StickBreaking if len(concentration) == 2 else DirichletWeights
    components = NormalWishart(mean, structure(factor), precision, degrees)
    proportions, laws = priors
    family, k = Gaussian.of(structure), mean.shape[0]
    prior = prior_belief(problem, k, family, proportions, laws, count)
    bound = Bound.on(problem, prior, count)
    carry = stepped(bound, descent, Belief(weights(*concentration), components), limits)
    (belief,) = carry.candidate
    singular = jnp.where(all_finite(belief), 0, int(Status.COLLAPSED))
    return belief, carry.history, carry.n_steps, jnp.maximum(carry.status, singular)


_program = Quick(_descended, level=0, static_argnums=0)
