"""Starts from K rows drawn as centres: k-means++ and uniform."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.numerics import matmul, normalize, safe_divide, safe_log
from ..core.tree import along, index, replace
from ..engine import finite_rows, read
from ..families import Description, describe
from ..model import Mixture, Problem

SHARE = 0.02
"""Of a start's plan that is spread over all components: no group is so small that it is flat."""
SAMPLE, SAMPLE_PER_COMPONENT = 8_192, 64
"""Rows that a start looks at, at most: more would not make it better, only slower."""


def kmeans_plus_plus(
    key: PRNGKeyArray,
    problem: Problem,
    *,
    n_components: int,
    family: Any = None,
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
        problem: rows and their weights.
        n_components: K.
        family: a family, its name or its description; None is `Gaussian`.
        covariance: the shorthand for `Gaussian.of(covariance)`: "full" by default.

    Source: Arthur and Vassilvitskii (2007), with greedy trials.
    """
    trials = _greedy_trials(n_components)
    described = describe(family, covariance)
    return _start(key, problem, n_components, described, _greedy_seeds, trials)


def kmeans(
    key: PRNGKeyArray,
    problem: Problem,
    *,
    n_components: int,
    family: Any = None,
    covariance: Any = None,
    rounds: int = 10,
) -> Mixture:
    """The seeds of `kmeans_plus_plus`, moved by a few rounds of Lloyd's k-means first.

    Args:
        key: a typed PRNG key.
        problem: rows and their weights.
        n_components: K.
        family: a family, its name or its description; None is `Gaussian`.
        covariance: the shorthand for `Gaussian.of(covariance)`: "full" by default.
        rounds: how often each centre moves to the mean of the rows that are nearest to it.
    """
    trials = _greedy_trials(n_components)
    described = describe(family, covariance)
    return _start(key, problem, n_components, described, _greedy_seeds, trials, rounds)


def random_rows(
    key: PRNGKeyArray,
    problem: Problem,
    *,
    n_components: int,
    family: Any = None,
    covariance: Any = None,
) -> Mixture:
    """K distinct rows, drawn by weight, as centres; otherwise as `kmeans_plus_plus`."""
    described = describe(family, covariance)
    return _start(key, problem, n_components, described, _distinct_seeds, 1)


def _start(
    key: PRNGKeyArray,
    problem: Problem,
    n_components: int,
    family: Description,
    draw: Callable[[Array, Array, Array], Array],
    trials: int,
    rounds: int = 0,
) -> Mixture:
    # One draw of all numbers: each call to a generator would be compiled anew.
    seats = family.seats(n_components)
    uniform = jax.random.uniform(key, (1 + len(seats) * trials,), problem.dtype)
    x, row_weight = present_rows(sample_rows(uniform[0], problem, n_components), family)
    embedded = family.embed(x).astype(row_weight.dtype)
    mean = matmul(row_weight, embedded)
    deviation = jnp.sqrt(matmul(row_weight, (embedded - mean) ** 2))
    columns = safe_divide(embedded - mean, deviation).T
    seeds = columns[:, draw(uniform[1:].reshape(-1, trials), columns, row_weight)].T
    centres = jax.lax.fori_loop(0, rounds, lambda _, c: _moved(c, columns, row_weight), seeds)
    plan = _nearest(centres, columns, row_weight).T
    if len(seats) < n_components:
        all_of = jnp.broadcast_to(row_weight[:, None] / n_components, (len(plan), n_components))
        seated = jnp.zeros_like(all_of).at[:, jnp.asarray(seats)].set(plan)
        plan = (1 - SHARE) * seated + SHARE * all_of
    return start_from_plan(x, plan, family)


def present_rows(
    problem: Problem, family: Description | None = None
) -> tuple[PyTree, Float[Array, " n"]]:
    """Rows and weights with every row that is not finite taken out, so that a start is finite.

    Args:
        problem: the rows.
        family: what they are fitted with, which may do without some cells.
    """
    rows = problem.checked().rows()
    x = read(rows, rows.x, rows.weight)
    known = x if family is None else family.without_missing(x)
    readable = finite_rows(known) & jnp.isfinite(rows.weight)
    x = jax.tree.map(lambda leaf: jnp.where(along(readable, leaf), leaf, 0), x)
    return x, normalize(jnp.where(readable, rows.weight, 0))


def start_from_plan(x: PyTree, plan: Float[Array, "n k"], family: Description) -> Mixture:
    """Proportions and safe starting parameters for a plan of total mass 1."""
    weights = normalize(jnp.sum(plan, axis=0))
    return Mixture(safe_log(weights), family.initial(x, plan))


def _nearest(
    centres: Float[Array, "k d"], columns: Float[Array, "d n"], row_weight: Float[Array, " n"]
) -> Float[Array, "k n"]:
    """The plan that gives each row to its nearest centre, to the first of equals."""
    # the row's own square is the same for every centre: left out, it cannot swallow digits
    score = matmul(centres, columns) - 0.5 * jnp.sum(centres**2, axis=1)[:, None]
    chosen = jnp.argmax(score, axis=0) == jnp.arange(centres.shape[0])[:, None]
    return row_weight * chosen


def _moved(centres: Array, columns: Array, row_weight: Array) -> Float[Array, "k d"]:
    """One round of Lloyd: each centre moves to the mean of its rows, if it has any."""
    plan = _nearest(centres, columns, row_weight)
    mass = jnp.sum(plan, axis=1)[:, None]
    return jnp.where(mass > 0, safe_divide(matmul(plan, columns.T), mass), centres)


def sample_rows(uniform: Float[Array, ""] | float, problem: Problem, n_components: int) -> Problem:
    """Some rows, evenly spaced in the cumulative weight from a random first one."""
    n, most = problem.n_rows, max(SAMPLE, SAMPLE_PER_COMPONENT * n_components)
    if n <= most:
        return problem
    positions = (jnp.arange(most) + uniform) / most
    if problem.sample_weight is None:
        drawn = (positions * n).astype(jnp.int32)
    else:
        cumulative = jnp.cumsum(problem.row_weight)
        # times the last sum, which rounding leaves a little off 1
        drawn = jnp.searchsorted(cumulative, positions.astype(cumulative.dtype) * cumulative[-1])
    # rounding can carry the last position to n
    x = index(jax.tree.map(jnp.asarray, problem.x), jnp.minimum(drawn, n - 1))
    return replace(problem, x=x, sample_weight=None)


def _square_distances(
    columns: Float[Array, "d n"], points: Float[Array, "d m"]
) -> Float[Array, "m n"]:
    """By differences: the expanded square loses the digits that tell near rows apart."""
    return jnp.sum((columns - points.T[:, :, None]) ** 2, axis=1)


def _draw(uniform: Float[Array, " trials"], mass: Float[Array, " n"]) -> Int[Array, " trials"]:
    """Indices with probability proportional to mass, by inverting its cumulative sum.

    Inversion makes an absent row invisible: the same numbers draw the same rows without it.
    """
    rows, present, cumulative = jnp.arange(mass.shape[0]), mass > 0, jnp.cumsum(mass)
    reached = present & (cumulative > (uniform * cumulative[-1])[:, None])
    # Rounding can carry uniform * total up to the total: the last row with mass is meant.
    last = jnp.max(jnp.where(present, rows, 0))
    return jnp.min(jnp.where(reached, rows, last), axis=1)


def _greedy_trials(n_components: int) -> int:
    """A group that is still missed attracts a share of the draws that shrinks as 1 / K."""
    return min(2 + n_components // 2, 16)


def _greedy_seeds(
    uniform: Float[Array, "k trials"], columns: Array, row_weight: Array
) -> Int[Array, " k"]:
    def add(nearest: Array, uniform: Array) -> tuple[Array, Array]:
        first = jnp.isinf(nearest[0])
        # before the first seed every distance is inf, and inf * 0 is NaN
        potential = jnp.where(first, 0, row_weight * nearest)
        # At first, or with fewer distinct rows than seeds, any present row will do.
        mass = jnp.where(jnp.any(potential > 0), potential, row_weight)
        candidates = _draw(uniform, mass)
        closer = jnp.minimum(nearest, _square_distances(columns, columns[:, candidates]))
        # the first seed is one plain draw: the best of several would lie in the middle
        best = jnp.where(first, 0, jnp.argmin(matmul(closer, row_weight)))
        return closer[best], candidates[best]

    far = jnp.full_like(row_weight, jnp.inf)
    return jax.lax.scan(add, far, uniform)[1]


def _distinct_seeds(
    uniform: Float[Array, "k 1"], columns: Array, row_weight: Array
) -> Int[Array, " k"]:
    del columns

    def add(mass: Array, uniform: Array) -> tuple[Array, Array]:
        drawn = _draw(uniform, jnp.where(jnp.any(mass > 0), mass, row_weight))[0]
        return mass.at[drawn].set(0), drawn

    return jax.lax.scan(add, row_weight, uniform)[1]
