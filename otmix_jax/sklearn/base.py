"""What all estimators share: NumPy in and out, in 64 bits within their own scope."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from ..fitting import edge
from ..solvers import EM, QuasiNewton, Solver, Squarem

SOLVERS: dict[str, Solver] = {"em": EM(), "squarem": Squarem(), "quasi_newton": QuasiNewton()}
"""Solvers by name."""


def wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same with float64 enabled while it runs, and what it returns as NumPy arrays.

    JAX keeps the switch by thread and by context: what runs beside it sees none of this.
    """

    @functools.wraps(function)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with jax.enable_x64(True):
            return jax.device_get(function(*args, **kwargs))

    return scoped


def checked_weights(sample_weight: Any, n: int) -> np.ndarray | None:
    """Weights as float64 [n], in the unit that they were given in, or None.

    Raises:
        ValueError: unless there are n finite weights >= 0, one of them > 0.
    """
    if sample_weight is None:
        return None
    edge.check_sample_weight(sample_weight, n)
    return np.asarray(sample_weight, np.float64)


def of_dtype(tree: PyTree, dtype: Any) -> PyTree:
    """The tree as NumPy arrays of one precision: on a device, each cast would be a program."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), tree)


def solver_of(solver: Any) -> Solver:
    """A solver, by its name or as it is."""
    return SOLVERS[solver] if isinstance(solver, str) else solver


class SoftAssignments(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """What an estimator with `predict_proba` and `score_samples` answers beside them.

    `transform` gives the responsibilities, so that a mixture may stand within a pipeline, and
    `set_output` makes them a data frame.
    """

    def transform(self: Any, X: Any) -> np.ndarray:
        """The responsibilities [n, k], as `predict_proba`."""
        return self.predict_proba(X)

    def score(self: Any, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The mean log-density of the rows, in nats; weighted if `sample_weight` [n] is given."""
        del y
        return float(np.average(self.score_samples(X), weights=sample_weight))

    @property
    def _n_features_out(self: Any) -> int:
        """How many columns `transform` gives."""
        return len(self.weights_)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn is told: float32 is kept."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = False
        return tags
