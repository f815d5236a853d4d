"""scikit-learn's GaussianMixture, run by the solvers of this library."""

from numbers import Real
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import sklearn.mixture
from jax import Array
from sklearn.utils._param_validation import Interval, StrOptions

from ..core.buckets import padded
from ..core.compiling import Quick
from ..core.numerics import all_finite
from ..core.status import Status
from ..families import Gaussian
from ..fitting import Goal, edge
from ..fitting.programs import SIDE_BY_SIDE
from ..model import Mixture, Objective, Problem
from ..solvers import Limits, Solver
from ..transport.couplings import Coupling, SemiRelaxed
from .base import SOLVERS, of_dtype, solver_of, wide
from .classic import SINGULAR, STRUCTURES, ClassicMixture, Run, stepped, turned
from .loading import LoadedEM, with_loading


class GaussianMixture(ClassicMixture, sklearn.mixture.GaussianMixture):  # type: ignore[misc]
    """scikit-learn's `GaussianMixture`: the same parameters, attributes, starts and answers.

    Its steps run as one compiled program. With the default solver they are scikit-learn's own, so
    the answer agrees to rounding. Beside the parameters of scikit-learn:

    Attributes:
        solver: "em", "squarem", "quasi_newton", or a `solvers.Solver`. `reg_covar` is part of the
            EM within a solver; `Gradient`, which has none, does without it.
        epsilon: entropy >= 0; None is 1, maximum likelihood, and 0 hard assignment.
        coupling: `SemiRelaxed()`, or `Penalized(rho, sizes)` or `Balanced(sizes)` for sizes that
            are drawn to a target; None is the first.

    `fit`, `fit_predict` and `score` take a `sample_weight`; `transform` gives responsibilities.
    `lower_bound_` is minus the transport value, by default the mean log-likelihood.

    Example:
        >>> import numpy as np
        >>> from otmix_jax.sklearn import GaussianMixture
        >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
        >>> gm = GaussianMixture(n_components=2, random_state=0).fit(X)
        >>> gm.means_.round(6)
        array([[10.,  2.],
               [ 1.,  2.]])
        >>> gm.predict([[0, 0], [12, 3]])
        array([1, 0])
    """

    _parameter_constraints: ClassVar[dict] = {  # type: ignore[misc]
        **sklearn.mixture.GaussianMixture._parameter_constraints,
        "solver": [StrOptions(set(SOLVERS)), Solver],
        "epsilon": [Interval(Real, 0, None, closed="left"), None],
        "coupling": [Coupling, None],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        solver: Any = "em",
        epsilon: float | None = None,
        coupling: Any = None,
    ):
        super().__init__(
            n_components,
            covariance_type=covariance_type,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params,
            weights_init=weights_init,
            means_init=means_init,
            precisions_init=precisions_init,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
            verbose_interval=verbose_interval,
        )
        self.solver = solver
        self.epsilon = epsilon
        self.coupling = coupling

    def _run(self, rows: np.ndarray, weights: np.ndarray | None, before: float) -> Run:
        coupling = SemiRelaxed() if self.coupling is None else self.coupling
        structure = STRUCTURES[self.covariance_type]
        told = Goal(self.epsilon, coupling), self.n_components, Gaussian.of(structure)
        goal, _ = edge.check_goal(*told)
        coupling, first = of_dtype((goal.coupling, self._first()), rows.dtype)
        problem = Problem(*padded(rows, weights), goal.epsilon, coupling)
        solver = with_loading(solver_of(self.solver), self.reg_covar, -before)
        quick, given = rows.size <= SIDE_BY_SIDE, (problem, first, solver, self._limits())
        found, history, n_steps, status = wide(_program)(quick, structure, *given)
        if status > Status.STALLED:
            raise ValueError(SINGULAR)
        factor, kind = found.components.covariance.factor, self.covariance_type
        covariances = (
            factor @ np.swapaxes(factor, -1, -2) if kind in ("full", "tied") else factor**2
        )
        parameters = np.exp(found.log_weights), found.components.mean, covariances
        bounds = -history[: n_steps + 1]
        return Run((*parameters, turned(factor, kind, True)), bounds, status == Status.CONVERGED)

    def _first(self) -> tuple:
        """Log proportions, whatever their sum, means and factors that the attributes hold."""
        factor = turned(self.precisions_cholesky_, self.covariance_type, False)
        with np.errstate(divide="ignore"):
            return np.log(self.weights_), self.means_, factor


def _descended(
    structure: Any, problem: Problem, first: tuple, solver: Solver, limits: Limits
) -> tuple[Mixture, Array, Array, Array]:
    """The answer, the values of what was evaluated, how many steps led there, and the status."""
    log_weights, mean, factor = first
    start = Mixture(log_weights, Gaussian(mean, structure(factor)))
    carry = stepped(Objective.of(problem), solver, start, limits)
    # scikit-learn ends with an M-step; another solver's candidate need not be one
    last = isinstance(solver, LoadedEM)
    mixture = carry.candidate[0] if last else solver.mixture(carry.state)
    singular = jnp.where(all_finite(mixture.components), 0, int(Status.COLLAPSED))
    return mixture, carry.history, carry.n_steps, jnp.maximum(carry.status, singular)


_program = Quick(_descended, level=0, static_argnums=0)
