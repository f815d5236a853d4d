"""Mixtures of any family as an estimator."""

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import fitting
from ..core.buckets import bucket, on_host, padded
from ..core.status import Status
from ..families import Description, Family, describe
from ..fitting import Goal, Starts
from ..model import Mixture, Solution
from ..priors import Dirichlet, NormalMean, Prior, Ridge
from ..solvers import Limits, Solver
from ..transport.couplings import Coupling, SemiRelaxed
from .base import SOLVERS, SoftAssignments, checked_weights, solver_of, wide

LARGEST_SEED = np.iinfo(np.int32).max


class MixtureModel(SoftAssignments, DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A mixture of any family, fitted by `otmix_jax.fit`.

    Rows are a table [n, d], or for families of mixed columns (`Product`, regressions) a data frame
    or a dict of columns.

    Args:
        n_components: K.
        family: a name such as "student_t" or "poisson", a `families.Family`, or a description such
            as `families.Product.of(...)`.
        covariance: of Gaussians: "full", "tied", "diagonal", "spherical", or mclust's names.
        n_init: starts, each run to its end; None is a race of many (docs/answers.md).
        tol: stop once a step wins no more than this, in nats per row; None is the default of
            `solvers.Limits`.
        max_iter: steps at most.
        solver: "em", "squarem", "quasi_newton", or a `solvers.Solver`.
        epsilon: entropy >= 0; None is 1, maximum likelihood.
        coupling: see `couplings`; None leaves the sizes free.
        prior: a `priors.Prior` or a part of one.
        ridge: of covariances, relative to the spread of the rows; see `Goal`.
        missing: "ignore" takes NaN for missing at random.
        random_state: of the starts and of `sample`.

    Attributes:
        mixture_: the `Mixture`, with NumPy arrays.
        solution_: the `Solution`, with NumPy arrays.
        weights_: [k] proportions.
        n_parameters_: free parameters.
        labels_: [n] the most probable component of each row that was fitted.
        converged_: whether the status is CONVERGED.
        n_iter_: steps taken; after a race, those of the last run.
        lower_bound_: minus the value that was reached: by default the mean log-likelihood.
        n_features_in_: columns.
        feature_names_in_: their names, if all are strings.

    Example:
        >>> import numpy as np
        >>> from otmix_jax.sklearn import MixtureModel
        >>> counts = np.array([[1], [0], [2], [1], [9], [12], [10], [11]])
        >>> MixtureModel(2, family="poisson", random_state=0).fit_predict(counts)
        array([0, 0, 0, 0, 1, 1, 1, 1])
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "family": [str, type, Family, Description],
        "covariance": [str, type, None],
        "n_init": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "solver": [StrOptions(set(SOLVERS)), Solver],
        "epsilon": [Interval(Real, 0, None, closed="left"), None],
        "coupling": [Coupling, None],
        "prior": [Prior, Ridge, NormalMean, Dirichlet, dict, None],
        "ridge": [Interval(Real, 0, None, closed="left"), None],
        "missing": [StrOptions({"ignore"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        family: Any = "gaussian",
        covariance: Any = None,
        n_init: int | None = None,
        tol: float | None = None,
        max_iter: int = 2000,
        solver: Any = "squarem",
        epsilon: float | None = None,
        coupling: Any = None,
        prior: Any = None,
        ridge: float | None = None,
        missing: str | None = None,
        random_state: Any = None,
    ):
        self.n_components = n_components
        self.family = family
        self.covariance = covariance
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.epsilon = epsilon
        self.coupling = coupling
        self.prior = prior
        self.ridge = ridge
        self.missing = missing
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MixtureModel":
        """Fits the mixture.

        Args:
            X: the rows; float32 is fitted in float32, all else in float64.
            y: ignored.
            sample_weight: [n] weights >= 0; 0 leaves a row out, 2 counts it twice.

        Raises:
            ValueError: for what cannot be fitted; the message names the argument and the row.
            otmix_jax.FitError: where no start led to a regular mixture.

        Warns:
            ConvergenceWarning: of scikit-learn, for a status other than CONVERGED.
        """
        del y
        rows = self._rows(X, reset=True)
        weights = checked_weights(sample_weight, length_of(rows))
        coupling = self._coupling()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            solution, self.n_parameters_ = _fitted(self, rows, weights, coupling, self._seed())
        for warning in caught:
            ours = issubclass(warning.category, fitting.ConvergenceWarning)
            kind = ConvergenceWarning if ours else warning.category
            warnings.warn(str(warning.message), kind, stacklevel=2)
        self.solution_, self.mixture_ = solution, solution.mixture
        self.weights_ = np.exp(solution.mixture.log_weights)
        self.converged_ = int(solution.status) == Status.CONVERGED
        self.n_iter_, self.lower_bound_ = int(solution.n_steps), -float(solution.value)
        self._assign(rows, weights, coupling)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """`labels_` [n] of the rows that are fitted; see `fit`."""
        return self.fit(X, y, sample_weight).labels_

    def predict(self, X: Any) -> np.ndarray:
        """The most probable component of each row [n]."""
        return np.argmax(self.predict_proba(X), axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The responsibilities [n, k]."""
        return self._ask("responsibilities", X)

    def score_samples(self, X: Any) -> np.ndarray:
        """The log-density of each row [n], in nats."""
        return self._ask("log_prob", X)

    def sample(self, n_samples: int = 1, given: Any = None) -> tuple[Any, np.ndarray]:
        """Rows drawn from the mixture, shaped as the family's, and their components [n].

        Args:
            n_samples: how many.
            given: rows of what a conditional family conditions on.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be >= 1, not {n_samples}")
        size = bucket(n_samples) if given is None else n_samples
        drawn = _drawn(self.mixture_, self._seed(), size, given)
        return jax.tree.map(lambda leaf: leaf[:n_samples], drawn)

    def aic(self, X: Any) -> float:
        """Akaike's information criterion of the rows; lower is better."""
        return self._deviance(X) + 2 * self.n_parameters_

    def bic(self, X: Any) -> float:
        """The Bayesian information criterion of the rows; lower is better."""
        return self._deviance(X) + self.n_parameters_ * np.log(length_of(X))

    def icl(self, X: Any) -> float:
        """BIC, and what rows between components cost: -2 sum_i log max_j P(j | x_i).

        Source: Biernacki, Celeux and Govaert (2000), IEEE Trans. PAMI 22.
        """
        return self.bic(X) - 2 * float(np.sum(np.log(self.predict_proba(X).max(axis=1))))

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn is told: whether NaN is a missing cell."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "ignore"
        return tags

    def _deviance(self, X: Any) -> float:
        return -2 * float(np.sum(self.score_samples(X)))

    def _ask(self, question: str, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return _asked(self.mixture_, question, self._rows(X, reset=False))

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(LARGEST_SEED))

    def _coupling(self) -> Coupling:
        """What is asked of the sizes."""
        return SemiRelaxed() if self.coupling is None else self.coupling

    def _assign(self, rows: Any, weights: np.ndarray | None, coupling: Coupling) -> None:
        """Attributes that are of the rows which were fitted."""
        del weights, coupling
        self.labels_ = _asked(self.mixture_, "predict", rows)

    def _rows(self, X: Any, reset: bool) -> Any:
        """A table as scikit-learn checks it; columns with names as they are."""
        if describe(self.family, self.covariance).table and not _is_columns(X):
            finite = True if self.missing is None else "allow-nan"
            told = {"dtype": [np.float64, np.float32], "ensure_all_finite": finite}
            return validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1, **told)
        if reset:
            names = list(getattr(X, "columns", X))
            self.n_features_in_ = len(names)
            if all(isinstance(name, str) for name in names):
                self.feature_names_in_ = np.asarray(names, object)
        return X


def _is_columns(X: Any) -> bool:
    """Whether these are columns by their names; some sparse matrices are dicts too."""
    return isinstance(X, dict) and not issparse(X)


def length_of(X: Any) -> int:
    """The number of rows."""
    return len(jax.tree.leaves(X)[0]) if _is_columns(X) else len(X)


def padded_rows(rows: Any, weights: np.ndarray | None) -> tuple[Any, Any]:
    """Rows up to their bucket, where they are arrays."""
    return padded(rows, weights) if on_host(rows) else (rows, weights)


@wide
def _fitted(
    model: MixtureModel, rows: Any, weights: np.ndarray | None, coupling: Coupling, seed: int
) -> tuple[Solution, int]:
    if model.n_init is not None or not coupling.free:
        rows, weights = padded_rows(rows, weights)  # a race fills them by itself
    solution = fitting.fit(
        rows,
        model.n_components,
        key=seed,
        family=model.family,
        covariance=model.covariance,
        sample_weight=weights,
        missing=model.missing,
        goal=Goal(model.epsilon, coupling, model.prior, model.ridge),
        starts=Starts(model.n_init),
        limits=Limits(model.tol, model.max_iter),
        solver=solver_of(model.solver),
    )
    return solution, solution.n_parameters


def on_device(mixture: Mixture) -> Mixture:
    """The mixture with JAX arrays."""
    return jax.tree.map(jnp.asarray, mixture)


@wide
def _asked(mixture: Mixture, question: str, rows: Any) -> Any:
    return getattr(on_device(mixture), question)(rows)


@wide
def _drawn(mixture: Mixture, seed: int, size: int, given: Any) -> tuple[Any, np.ndarray]:
    return on_device(mixture).sample(jax.random.key(seed), size, given, labels=True)
