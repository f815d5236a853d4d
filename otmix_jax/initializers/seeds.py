"""Starts from K rows drawn as centres: k-means++ and uniform."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from .._numerics import matmul, safe_divide
from .._pytree import replace
from ..families import Gaussian
from ..families.base import Family
from ..mixture import Mixture
from ..problem import Problem
from .assigned import present_rows, start_from_plan

SAMPLE = 32_768
"""Rows that a start looks at, at most: more would not make it better, only slower."""


def kmeans_plus_plus(
    key: PRNGKeyArray,
    problem: Problem,
    *,
    n_components: int,
    family: type[Family] = Gaussian,
    covariance: Any = None,
) -> Mixture:
    """Greedy k-means++ seeds; each row joins its nearest, and the components start from that.

    Distances are taken in units of each column's weighted standard deviation, so columns may have
    any units. A row is drawn with probability proportional to its weight times its squared
    distance to the seeds so far, the best of 2 + log K draws is kept (scikit-learn's rule), and a
    row of weight 0 is never drawn. Of more than `SAMPLE` rows a sample drawn by weight stands for
    all. Pure: `jit` and `vmap` over keys and problems.

    Args:
        key: a typed PRNG key.
        problem: rows [n, d] and their weights.
        n_components: K.
        family: the component family.
        covariance: passed to the family; for `Gaussian` a structure's name, "full" by default.

    Source: Arthur and Vassilvitskii (2007), with greedy trials.
    """
    return _start(key, problem, n_components, family, covariance, _greedy_seeds)


def random_rows(
    key: PRNGKeyArray,
    problem: Problem,
    *,
    n_components: int,
    family: type[Family] = Gaussian,
    covariance: Any = None,
) -> Mixture:
    """K distinct rows, drawn by weight, as centres; otherwise as `kmeans_plus_plus`."""
    return _start(key, problem, n_components, family, covariance, _distinct_seeds)


def _start(
    key: PRNGKeyArray,
    problem: Problem,
    n_components: int,
    family: type[Family],
    covariance: Any,
    draw: Callable[[PRNGKeyArray, Array, Array, int], Array],
) -> Mixture:
    x, row_weight = present_rows(_sample(jax.random.fold_in(key, 0), problem.checked()))
    mean = matmul(row_weight, x)
    deviation = jnp.sqrt(matmul(row_weight, (x - mean) ** 2))
    scaled = safe_divide(x - mean, deviation)
    seeds = scaled[draw(key, scaled, row_weight, n_components)]
    nearest = jnp.argmin(_square_distances(scaled, seeds), axis=1)
    plan = row_weight[:, None] * jax.nn.one_hot(nearest, n_components, dtype=x.dtype)
    return start_from_plan(x, plan, family, covariance)


def _sample(key: PRNGKeyArray, problem: Problem) -> Problem:
    """At most `SAMPLE` rows, evenly spaced in the cumulative weight from a random first one."""
    n = problem.x.shape[0]
    if n <= SAMPLE:
        return problem
    cumulative = jnp.cumsum(problem.row_weight)
    positions = (jnp.arange(SAMPLE) + jax.random.uniform(key)) / SAMPLE
    drawn = jnp.searchsorted(cumulative, positions.astype(cumulative.dtype) * cumulative[-1])
    x = jnp.asarray(problem.x)[jnp.minimum(drawn, n - 1)]
    return replace(problem, x=x, sample_weight=None)


def _square_distances(x: Float[Array, "n d"], points: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """By differences: the expanded square loses the digits that tell near rows apart."""
    return jax.lax.map(lambda point: jnp.sum((x - point) ** 2, axis=1), points).T


def _draw(key: PRNGKeyArray, mass: Float[Array, " n"], count: int) -> Int[Array, " count"]:
    """Indices with probability proportional to mass, by inverting its cumulative sum.

    Inversion makes an absent row invisible: the same key draws the same rows without it.
    """
    cumulative = jnp.cumsum(mass)
    uniform = jax.random.uniform(key, (count,), mass.dtype)
    drawn = jnp.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    # Rounding can carry uniform * total up to the total: the last row with mass is meant.
    last = mass.shape[0] - 1 - jnp.argmax((mass > 0)[::-1])
    return jnp.minimum(drawn, last)


def _greedy_seeds(
    key: PRNGKeyArray, x: Array, row_weight: Array, n_components: int
) -> Int[Array, " k"]:
    trials = 2 + int(math.log(max(n_components, 1)))

    def add(nearest: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        first = jnp.isinf(nearest[0])
        potential = jnp.where(first, 0, row_weight * nearest)
        # At first, or with fewer distinct rows than seeds, any present row will do.
        mass = jnp.where(jnp.any(potential > 0), potential, row_weight)
        candidates = _draw(key, mass, trials)
        closer = jnp.minimum(nearest[:, None], _square_distances(x, x[candidates]))
        best = jnp.where(first, 0, jnp.argmin(matmul(row_weight, closer)))
        return closer[:, best], candidates[best]

    far = jnp.full(x.shape[0], jnp.inf, x.dtype)
    return jax.lax.scan(add, far, jax.random.split(key, n_components))[1]


def _distinct_seeds(
    key: PRNGKeyArray, x: Array, row_weight: Array, n_components: int
) -> Int[Array, " k"]:
    del x

    def add(mass: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        drawn = _draw(key, jnp.where(jnp.any(mass > 0), mass, row_weight), 1)[0]
        return mass.at[drawn].set(0), drawn

    return jax.lax.scan(add, row_weight, jax.random.split(key, n_components))[1]
