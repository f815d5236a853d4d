"""Starts from K rows drawn as centres: k-means++ and uniform."""

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

SAMPLE, SAMPLE_PER_COMPONENT = 8_192, 64
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
    distance to the seeds so far, the best of 2 + K / 2 draws, but at most 16, is kept, and a row
    of weight 0 is never drawn. Of more than 8192 or 64 K rows a sample drawn by weight stands for
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


def kmeans(
    key: PRNGKeyArray,
    problem: Problem,
    *,
    n_components: int,
    family: type[Family] = Gaussian,
    covariance: Any = None,
    rounds: int = 10,
) -> Mixture:
    """The seeds of `kmeans_plus_plus`, moved by a few rounds of Lloyd's k-means first.

    Args:
        key: a typed PRNG key.
        problem: rows [n, d] and their weights.
        n_components: K.
        family: the component family.
        covariance: passed to the family; for `Gaussian` a structure's name, "full" by default.
        rounds: how often each centre moves to the mean of the rows that are nearest to it.
    """
    return _start(key, problem, n_components, family, covariance, _greedy_seeds, rounds)


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
    rounds: int = 0,
) -> Mixture:
    x, row_weight = present_rows(
        _sample(jax.random.fold_in(key, 0), problem.checked(), n_components)
    )
    mean = matmul(row_weight, x)
    deviation = jnp.sqrt(matmul(row_weight, (x - mean) ** 2))
    columns = safe_divide(x - mean, deviation).T
    seeds = columns[:, draw(key, columns, row_weight, n_components)].T
    centres = jax.lax.fori_loop(0, rounds, lambda _, c: _moved(c, columns, row_weight), seeds)
    return start_from_plan(x, _nearest(centres, columns, row_weight).T, family, covariance)


def _nearest(
    centres: Float[Array, "k d"], columns: Float[Array, "d n"], row_weight: Float[Array, " n"]
) -> Float[Array, "k n"]:
    """The plan that gives each row to its nearest centre, to the first of equals."""
    score = matmul(centres, columns) - 0.5 * jnp.sum(centres**2, axis=1)[:, None]
    chosen = jnp.argmax(score, axis=0) == jnp.arange(centres.shape[0])[:, None]
    return row_weight * chosen


def _moved(centres: Array, columns: Array, row_weight: Array) -> Float[Array, "k d"]:
    """One round of Lloyd: each centre moves to the mean of its rows, if it has any."""
    plan = _nearest(centres, columns, row_weight)
    mass = jnp.sum(plan, axis=1)[:, None]
    return jnp.where(mass > 0, safe_divide(matmul(plan, columns.T), mass), centres)


def _sample(key: PRNGKeyArray, problem: Problem, n_components: int) -> Problem:
    """Some rows, evenly spaced in the cumulative weight from a random first one."""
    n, most = problem.x.shape[0], max(SAMPLE, SAMPLE_PER_COMPONENT * n_components)
    if n <= most:
        return problem
    positions = (jnp.arange(most) + jax.random.uniform(key)) / most
    if problem.sample_weight is None:
        drawn = (positions * n).astype(jnp.int32)
    else:
        cumulative = jnp.cumsum(problem.row_weight)
        drawn = jnp.searchsorted(cumulative, positions.astype(cumulative.dtype) * cumulative[-1])
    x = jnp.asarray(problem.x)[jnp.minimum(drawn, n - 1)]
    return replace(problem, x=x, sample_weight=None)


def _square_distances(
    columns: Float[Array, "d n"], points: Float[Array, "d m"]
) -> Float[Array, "m n"]:
    """By differences: the expanded square loses the digits that tell near rows apart."""
    return jnp.sum((columns - points.T[:, :, None]) ** 2, axis=1)


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
    key: PRNGKeyArray, columns: Array, row_weight: Array, n_components: int
) -> Int[Array, " k"]:
    # A group that is still missed attracts a share of the draws that shrinks as 1 / K.
    trials = min(2 + n_components // 2, 16)

    def add(nearest: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        first = jnp.isinf(nearest[0])
        potential = jnp.where(first, 0, row_weight * nearest)
        # At first, or with fewer distinct rows than seeds, any present row will do.
        mass = jnp.where(jnp.any(potential > 0), potential, row_weight)
        candidates = _draw(key, mass, trials)
        closer = jnp.minimum(nearest, _square_distances(columns, columns[:, candidates]))
        best = jnp.where(first, 0, jnp.argmin(matmul(closer, row_weight)))
        return closer[best], candidates[best]

    far = jnp.full_like(row_weight, jnp.inf)
    return jax.lax.scan(add, far, jax.random.split(key, n_components))[1]


def _distinct_seeds(
    key: PRNGKeyArray, columns: Array, row_weight: Array, n_components: int
) -> Int[Array, " k"]:
    del columns

    def add(mass: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        drawn = _draw(key, jnp.where(jnp.any(mass > 0), mass, row_weight), 1)[0]
        return mass.at[drawn].set(0), drawn

    return jax.lax.scan(add, row_weight, jax.random.split(key, n_components))[1]
