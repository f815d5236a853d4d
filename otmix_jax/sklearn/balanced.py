"""Mixtures whose components have given sizes, as an estimator."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from ..core.numerics import normalize_log
from ..core.tree import index, replace
from ..model import Mixture, plan
from ..transport.couplings import Balanced, Coupling, Penalized, SemiRelaxed
from .base import wide
from .models import MixtureModel, length_of, on_device, padded_rows


class BalancedMixture(MixtureModel):
    """A mixture whose components are to have given sizes: clusters of equal, or prescribed, sizes.

    The rows are transported to the components, whose shares are prescribed (`rho=inf`: entropic
    transport, Sinkhorn-EM) or drawn to a target at a price of `rho` nats times their divergence
    from it. Rows are assigned by that plan, new ones by its potentials.

    Args:
        n_components: K.
        sizes: [k] target sizes > 0 of any sum; None is equal ones.
        rho: how strongly sizes are drawn to the target, in [0, inf].
        family: see `MixtureModel`, as for all that follow.
        covariance: of Gaussians.
        n_init: starts; None is 8.
        tol: stop once a step wins no more than this.
        max_iter: steps at most.
        solver: by name, or a `solvers.Solver`.
        epsilon: entropy of the plan, > 0; None is 1. Small ones assign nearly hard.
        prior: on the components.
        ridge: of covariances.
        random_state: of the starts and of `sample`.

    Attributes:
        sizes_: [k] the shares of the rows that the plan gives to the components.
        potentials_: [k] the plan's potentials, in nats.
        labels_: [n] where the plan takes most of each row.

    The others are those of `MixtureModel`; `weights_` are the proportions of `mixture_`, which
    prescribed sizes are.

    Example:
        >>> import numpy as np
        >>> from otmix_jax.sklearn import BalancedMixture
        >>> X = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [5.0]])
        >>> model = BalancedMixture(2, covariance="spherical", ridge=1e-2, random_state=0).fit(X)
        >>> model.sizes_.round(3)
        array([0.5, 0.5])

    Source: Mena, Nejatbakhsh, Varol and Niles-Weed (2020), arXiv 2006.16548: Sinkhorn EM.
    """

    _parameter_constraints: ClassVar[dict] = {
        **{
            name: constraint
            for name, constraint in MixtureModel._parameter_constraints.items()
            if name not in ("coupling", "missing")
        },
        "sizes": ["array-like", None],
        "rho": [Interval(Real, 0, None, closed="both"), Interval(Real, 0, None, closed="left")],
    }
    coupling = None
    missing = None

    def __init__(
        self,
        n_components: int = 1,
        *,
        sizes: Any = None,
        rho: float = float("inf"),
        family: Any = "gaussian",
        covariance: Any = None,
        n_init: int | None = None,
        tol: float | None = None,
        max_iter: int = 2000,
        solver: Any = "squarem",
        epsilon: float | None = None,
        prior: Any = None,
        ridge: float | None = None,
        random_state: Any = None,
    ):
        self.n_components = n_components
        self.sizes = sizes
        self.rho = rho
        self.family = family
        self.covariance = covariance
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.solver = solver
        self.epsilon = epsilon
        self.prior = prior
        self.ridge = ridge
        self.random_state = random_state

    def predict_proba(self, X: Any) -> np.ndarray:
        """[n, k] where the plan's potentials send each row."""
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        return _shares(self.mixture_, rows, self.potentials_, self.epsilon)

    def _coupling(self) -> Coupling:
        if self.n_components == 1:
            return SemiRelaxed()  # it has all rows anyway, and there is nothing to solve
        equal = np.ones(self.n_components)
        sizes = equal if self.sizes is None else np.asarray(self.sizes, float)
        return Balanced(sizes) if self.rho == np.inf else Penalized(self.rho, sizes)

    def _assign(self, rows: Any, weights: np.ndarray | None, coupling: Coupling) -> None:
        told = *padded_rows(rows, weights), coupling, self.epsilon
        self.sizes_, self.potentials_ = _planned(self.mixture_, *told)
        shares = _shares(self.mixture_, rows, self.potentials_, self.epsilon)
        self.labels_ = np.argmax(shares, axis=1)


@wide
def _planned(
    mixture: Mixture, rows: Any, weights: Any, coupling: Coupling, epsilon: float | None
) -> tuple[Any, Any]:
    found = plan(
        on_device(mixture), rows, sample_weight=weights, coupling=coupling, epsilon=epsilon
    )
    return found.column_marginal, found.g


@wide
def _shares(mixture: Mixture, rows: Any, g: np.ndarray, epsilon: float | None) -> Any:
    """softmax_j(log pi_j + (g_j - C_ij) / epsilon): the plan of a mixture of other proportions."""
    mixture = on_device(mixture)
    tilted = replace(mixture, log_weights=normalize_log(mixture.log_weights + g / (epsilon or 1.0)))
    if epsilon is None:
        return tilted.responsibilities(rows)
    n, (rows, _) = length_of(rows), padded_rows(rows, None)
    matrix = plan(tilted, rows, epsilon=epsilon).matrix
    return index(matrix * len(matrix), slice(n))
