"""Milliseconds per variational step, beside scikit-learn's `BayesianGaussianMixture`.

Both sides start from the same responsibilities, take as many steps, and must end at the same bound.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

import otmix_jax as om

from .harness import groups, seconds
from .peers import SKLEARN

SIZES = [(2_000, 2, 10), (20_000, 8, 16)]
STEPS = 10


class FromStart(BayesianGaussianMixture):
    """scikit-learn's, from given responsibilities."""

    start: np.ndarray

    def _initialize_parameters(self, X, random_state, xp=None):  # noqa: N803
        del random_state, xp
        self._initialize(X, self.start)


def theirs(x: np.ndarray, start: np.ndarray, covariance: str, steps: int) -> FromStart:
    """Fitted by so many steps."""
    model = FromStart(
        n_components=start.shape[1], covariance_type=SKLEARN[covariance], reg_covar=0, tol=0,
        max_iter=steps,
    )  # fmt: skip
    model.start = start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x)


def one(n: int, d: int, k: int, covariance: str) -> dict:
    """One row of the table: the time of `STEPS` steps, less that of none, over their number."""
    x = groups(n, d, k)
    first = om.initializers.kmeans_plus_plus(jax.random.key(0), om.Problem(x), n_components=k)
    start = np.eye(k)[np.asarray(first.predict(x))]
    problem, given = om.Problem(jax.device_put(x)), jnp.asarray(start)

    def ours(steps: int) -> om.variational.VariationalSolution:
        return om.variational.solve(
            problem, given, covariance=covariance, tolerance=0.0, max_steps=steps
        )

    mine = seconds(lambda: ours(STEPS).lower_bound)[1] - seconds(lambda: ours(0).lower_bound)[1]
    # theirs takes one step at least
    other = seconds(lambda: theirs(x, start, covariance, STEPS + 1).means_, 1)[1]
    other -= seconds(lambda: theirs(x, start, covariance, 1).means_, 1)[1]
    bound = float(om.variational.scikit_learn_bound(ours(STEPS)))
    gap = bound - float(np.squeeze(theirs(x, start, covariance, STEPS).lower_bound_))
    return {
        "problem": f"{(n, d, k)} {covariance}",
        "otmix ms": 1e3 * mine / STEPS,
        "scikit-learn ms": 1e3 * other / STEPS,
        "x scikit-learn": other / mine,
        "bounds differ by, relative": abs(gap / bound),
    }


def table(quick: bool) -> list[dict]:
    """Every structure at every size."""
    sizes = SIZES[:1] if quick else SIZES
    return [one(*size, covariance) for size in sizes for covariance in SKLEARN]
