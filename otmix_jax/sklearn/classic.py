"""The course of a fit as scikit-learn's mixtures have it: their starts, our steps."""

import dataclasses
import functools
import inspect
import warnings
from typing import Any

import jax
import numpy as np
from scipy.linalg import solve_triangular
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from ..families import Covariance, Diagonal, Full, Spherical, Tied
from ..solvers import Limits, Solver
from ..solvers.loop import Carry, advance, running, start
from .base import SoftAssignments, checked_weights

STRUCTURES: dict[str, type[Covariance]] = {
    "full": Full, "tied": Tied, "diag": Diagonal, "spherical": Spherical
}  # fmt: skip
"""Covariance structures by scikit-learn's names."""
SINGULAR = (
    "Fitting the mixture model failed because some components have ill-defined empirical "
    "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
    "number of components, increase reg_covar, or scale the input data."
)
UNFINISHED = (
    "Best performing initialization did not converge. Try different init parameters, or increase "
    "max_iter, tol, or check for degenerate data."
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One start, run to its end.

    Attributes:
        parameters: as `_set_parameters` takes them.
        bounds: the lower bound before each M-step.
        converged: whether the last change was below `tol`.
    """

    parameters: tuple
    bounds: np.ndarray
    converged: bool

    @property
    def lower_bound(self) -> Any:
        """The last one."""
        return self.bounds[-1] if len(self.bounds) else -np.inf


def stepped(objective: Any, solver: Solver, first: Any, limits: Limits) -> Carry:
    """The loop's carry at the end; its candidate is one M-step beyond what was evaluated last."""
    step = functools.partial(advance, objective, solver, limits)
    carry = start(objective, solver, first, limits)
    return jax.lax.while_loop(functools.partial(running, limits), step, carry)


def turned(factor: np.ndarray, covariance_type: str, lower: bool) -> np.ndarray:
    """U of the precision U U^T from the factor L of the covariance L L^T, or L from U."""
    if covariance_type in ("diag", "spherical"):
        return 1 / factor
    stack = factor.reshape(-1, *factor.shape[-2:])
    eye = np.eye(factor.shape[-1], dtype=factor.dtype)
    found = [solve_triangular(one, eye, lower=lower).T for one in stack]
    return np.stack(found).reshape(factor.shape)


class ClassicMixture(SoftAssignments):
    """A mixture of scikit-learn's whose steps are ours; `_run` says how they are taken.

    What the parameters are, where a start comes from, what is predicted and drawn is inherited, so
    it is the same by construction.
    """

    def fit(self: Any, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fits the mixture to rows X [n, d].

        Args:
            X: [n, d] rows; float32 is fitted in float32, all else in float64.
            y: ignored.
            sample_weight: [n] weights >= 0; 0 leaves a row out, 2 counts it twice. Starts are
                drawn from the rows that have weight, all alike.

        Raises:
            ValueError: for rows, weights or parameters that cannot be fitted, and where a
                covariance became singular.

        Warns:
            ConvergenceWarning: of scikit-learn, where `max_iter` steps were not enough.
        """
        self.fit_predict(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_predict(self: Any, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """The components [n] of the rows that are fitted; see `fit`."""
        del y
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        weights = checked_weights(sample_weight, len(X))
        rows = X if weights is None else X[weights > 0]
        if len(rows) < self.n_components:
            raise ValueError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, "
                f"n_samples = {len(rows)}"
            )
        # from 1.8 on it asks for the array library
        named = "xp" in inspect.signature(self._check_parameters).parameters
        self._check_parameters(rows, **({"xp": np} if named else {}))
        self._set_run(self._best_run(rows, None if weights is None else weights[weights > 0]))
        return np.argmax(self._estimate_weighted_log_prob(X), axis=1)

    def _best_run(self: Any, rows: np.ndarray, weights: np.ndarray | None) -> Run:
        """Of several starts that with the highest bound; the last one where no step is taken."""
        fresh = not (self.warm_start and hasattr(self, "converged_"))
        before = -np.inf if fresh else self.lower_bound_
        random_state, best = check_random_state(self.random_state), None
        for number in range(self.n_init if fresh else 1):
            self._print_verbose_msg_init_beg(number)
            if fresh:
                self._initialize_parameters(rows, random_state)
            if self.max_iter == 0:
                best = Run(self._get_parameters(), np.empty(0), False)
                continue
            run = self._run(rows, weights, float(before))
            self._print_run(run)
            if best is None or run.lower_bound > best.lower_bound:
                best = run
        return best  # type: ignore[return-value]

    def _set_run(self: Any, run: Run) -> None:
        if not run.converged and self.max_iter > 0:
            warnings.warn(UNFINISHED, ConvergenceWarning, stacklevel=4)
        self._set_parameters(run.parameters)
        self.weights_ = self.weights_.astype(self.means_.dtype, copy=False)
        self.converged_, self.n_iter_ = run.converged, len(run.bounds)
        self.lower_bound_, self.lower_bounds_ = run.lower_bound, list(run.bounds)

    def _print_run(self: Any, run: Run) -> None:
        """The lines of a run that is over: it is one program, which prints nothing."""
        if self.verbose:
            for number, change in enumerate(np.diff(run.bounds, prepend=-np.inf)):
                self._print_verbose_msg_iter_end(number + 1, change)
            self._print_verbose_msg_init_end(run.lower_bound, run.converged)

    def _run(self: Any, rows: np.ndarray, weights: np.ndarray | None, before: float) -> Run:
        """Steps from the start that the attributes hold.

        Args:
            rows: [n, d].
            weights: [n] > 0, or None.
            before: the lower bound that an earlier fit ended with.
        """
        raise NotImplementedError

    def _estimate_weighted_log_prob(self: Any, X: Any, **told: Any) -> np.ndarray:
        """In the precision of rows and parameters, which constants of float64 would raise."""
        found = super()._estimate_weighted_log_prob(X, **told)  # type: ignore[misc]
        return found.astype(np.result_type(X, self.means_), copy=False)

    def _limits(self: Any) -> Limits:
        """One evaluation less than `max_iter`: each run ends with an M-step."""
        capacity = max(128, 1 << (self.max_iter - 1).bit_length())
        return Limits(self.tol, self.max_iter - 1, capacity)
