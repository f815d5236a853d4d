"""Starts from an assignment of rows to components."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from .._numerics import normalize, safe_divide, safe_log
from ..families import Gaussian
from ..families.base import Family
from ..mixture import Mixture
from ..problem import Problem


def present_rows(problem: Problem) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Rows and weights with every row that is not finite taken out, so that a start is finite."""
    rows = problem.checked().rows()
    x = rows.read(rows.x, rows.weight)
    readable = jnp.all(jnp.isfinite(x), axis=1) & jnp.isfinite(rows.weight)
    return jnp.where(readable[:, None], x, 0), normalize(jnp.where(readable, rows.weight, 0))


def start_from_plan(x: Array, plan: Array, family: type[Family], covariance: Any = None) -> Mixture:
    """Proportions and safe starting parameters for a plan [n, k] of total mass 1."""
    weights = normalize(jnp.sum(plan, axis=0))
    return Mixture(safe_log(weights), family.initial(x, plan, covariance=covariance))


def from_responsibilities(
    problem: Problem,
    responsibilities: Float[Array, "n k"],
    *,
    family: type[Family] = Gaussian,
    covariance: Any = None,
) -> Mixture:
    """One exact M-step from given responsibilities [n, k], whose rows sum to 1.

    Where that is not regular (a component with too few rows) the components start from their own
    means and the pooled covariance instead.

    Raises:
        ValueError: at trace time, where the shape is not (n, k).
    """
    x, row_weight = present_rows(problem)
    if responsibilities.ndim != 2 or responsibilities.shape[0] != x.shape[0]:
        raise ValueError(
            f"responsibilities must have shape ({x.shape[0]}, n_components), "
            f"not {responsibilities.shape}"
        )
    plan = row_weight[:, None] * responsibilities
    plan = safe_divide(plan, jnp.sum(plan))  # rows that no component claims are left out
    start = start_from_plan(x, plan, family, covariance)
    pivot = start.components
    exact = pivot.maximize(pivot.statistics(x, plan), jnp.sum(plan, axis=0), problem.prior)
    regular = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(exact)]))
    components = jax.tree.map(lambda a, b: jnp.where(regular, a, b), exact, pivot)
    return Mixture(start.log_weights, components)


def from_labels(
    problem: Problem,
    labels: Int[Array, " n"],
    n_components: int,
    *,
    family: type[Family] = Gaussian,
    covariance: Any = None,
) -> Mixture:
    """One exact M-step from labels 0 .. n_components - 1; other labels leave their row out."""
    one_hot = jax.nn.one_hot(labels, n_components, dtype=problem.checked().x.dtype)
    return from_responsibilities(problem, one_hot, family=family, covariance=covariance)
