"""Starts from an assignment of rows to components."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ..core.numerics import all_finite, safe_divide
from ..core.tree import select
from ..core.typing import AnyArray
from ..families import Description, describe
from ..model import Mixture, Problem
from ..priors import Prior
from .seeds import present_rows, start_from_plan


def from_responsibilities(
    problem: Problem,
    responsibilities: Float[AnyArray, "n k"],
    *,
    family: Any = None,
    covariance: Any = None,
) -> Mixture:
    """One exact M-step from given responsibilities [n, k], whose rows sum to 1.

    Where that is not regular (a component with too few rows) the components start from their own
    means and the pooled covariance instead.

    Raises:
        ValueError: at trace time, where the shape is not (n, k).
    """
    problem = problem.checked()
    n = problem.n_rows
    if responsibilities.ndim != 2 or responsibilities.shape[0] != n:
        raise ValueError(
            f"responsibilities must have shape ({n}, n_components), not {responsibilities.shape}"
        )
    return started(problem, responsibilities, describe(family, covariance), True)


def started(
    problem: Problem, responsibilities: AnyArray, family: Description, own: Array | bool
) -> Mixture:
    """Means and sizes of groups of rows, and their own shapes where that is regular.

    Args:
        problem: checked.
        responsibilities: [n, k], whose rows sum to 1; or to 0: then they are left out.
        family: what the components are.
        own: whether each component gets the shape of its rows, or all the pooled one.
    """
    x, row_weight = present_rows(problem, family)
    plan = row_weight[:, None] * responsibilities
    plan = safe_divide(plan, jnp.sum(plan))  # rows that no component claims are left out
    start = start_from_plan(x, plan, family)
    pivot = start.components
    # on the instance that is the pivot of the statistics, or the means would be off
    statistics = pivot.statistics(x, plan)
    exact = pivot.maximize(statistics, jnp.sum(plan, axis=0), Prior.of(problem.prior))
    return Mixture(start.log_weights, select(all_finite(exact) & own, exact, pivot))


def from_labels(
    problem: Problem,
    labels: Int[AnyArray, " n"],
    n_components: int,
    *,
    family: Any = None,
    covariance: Any = None,
) -> Mixture:
    """One exact M-step from labels 0 .. n_components - 1; other labels leave their row out.

    Raises:
        ValueError: at trace time, unless there is one label for each row.
    """
    problem = problem.checked()
    if jnp.shape(labels) != (problem.n_rows,):
        raise ValueError(
            f"labels must be one for each of {problem.n_rows} rows, not of shape "
            f"{jnp.shape(labels)}"
        )
    one_hot = jax.nn.one_hot(labels, n_components, dtype=problem.dtype)
    return from_responsibilities(problem, one_hot, family=family, covariance=covariance)
