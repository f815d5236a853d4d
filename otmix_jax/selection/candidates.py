"""All numbers of components of one covariance structure as lanes of one computation.

Every lane holds K_max components. Those beyond a candidate's K have log-weight -inf: they are
absent, exactly, and cost arithmetic but no second compilation.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from .._pytree import pytree, replace
from ..batch.fit_batch import STRIDE, block_size, given
from ..batch.lanes import Lanes, run_lanes
from ..initializers.assigned import present_rows, start_from_plan
from ..mixture import Mixture
from ..problem import Problem
from ..restarts import Program, best_start
from ..solution import Solution
from ..solvers import Solver
from ..solvers.driver import Limits
from ..status import Status

SPIKE = 0.25
"""What the ridge may cost, in units of the smallest component's mass m.

A direction in which the ridge alone keeps a component from collapse costs m / 2, for strength *
KL(N(0, D) | N(0, Sigma)) there is about strength D / (2 Sigma), and Sigma = strength D / m. Such a
spike on a few repeated values wins any criterion, and says nothing of the number of groups.
"""


@pytree
class Fits:
    """The kept start of every (problem, K).

    Attributes:
        solution: leading axes [p, c] for p problems and c numbers of components.
        start_values: [p, c, n_init] the objective that each start reached.
        n_steps: [p, c] steps of all starts together.
    """

    solution: Solution
    start_values: Array
    n_steps: Array


@functools.partial(jax.jit, static_argnums=0)
def nested_starts(
    program: Program, problems: Problem, keys: Array, counts: Int[Array, " c"]
) -> Mixture:
    """Starts [p, c, n_init] of K_max components each, of which the first `counts` are present.

    The program's initialiser draws K_max components; the first K of them claim the rows, each row
    going to the one that explains it best. k-means++ draws its seeds one after another, so its
    first K are seeds for K.
    """

    def one(problem: Problem, key: Array, count: Array) -> Mixture:
        x, row_weight = present_rows(problem)
        whole = program(key, problem)
        present = jnp.arange(program.n_components) < count
        cost = jnp.where(present, whole.components.cost(x), jnp.inf)
        chosen = jax.nn.one_hot(jnp.argmin(cost, axis=1), program.n_components, dtype=x.dtype)
        plan = row_weight[:, None] * chosen
        return start_from_plan(x, plan, program.family, program.covariance)

    by_key = jax.vmap(one, (None, 0, None))
    by_count = jax.vmap(by_key, (None, None, 0))
    return jax.vmap(by_count, (0, 0, None))(problems, keys, counts)


def fit_counts(
    program: Program,
    problems: Problem,
    counts: np.ndarray,
    key: PRNGKeyArray,
    solver: Solver,
    limits: Limits,
) -> Fits:
    """Fits every number of components to every problem (leading axis p)."""
    n_problems, size = problems.x.shape[:2]
    shape = (n_problems, len(counts), program.n_init)
    keys = jax.random.split(key, (n_problems, program.n_init))
    starts = nested_starts(program, problems, keys, jnp.asarray(counts))
    seeds = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), starts)
    n_lanes = math.prod(shape)
    which = jnp.repeat(jnp.arange(n_problems), len(counts) * program.n_init)
    carry, solutions, _ = run_lanes(
        given,
        Lanes(problems, which, jnp.asarray(n_lanes)),
        seeds,
        solver,
        limits,
        stride=STRIDE,
        block=block_size(size, n_lanes),
    )
    solutions = replace(solutions, status=carry.status)
    return _kept(shape, solutions, jnp.asarray(counts))


@functools.partial(jax.jit, static_argnums=0)
def _kept(shape: tuple[int, ...], solutions: Solution, counts: Array) -> Fits:
    def one(solutions: Solution, count: Array) -> tuple[Solution, Array, Array]:
        weights = solutions.mixture.weights
        meant = jnp.arange(weights.shape[-1]) < count
        least = jnp.min(jnp.where(meant, weights, 1), axis=-1)
        empty = least < jnp.finfo(weights.dtype).eps
        grade = jnp.where(empty, Status.EMPTY_COMPONENT.code, Status.CONVERGED.code)
        spike = solutions.objective - solutions.value > SPIKE * least
        grade = jnp.where(spike, Status.COLLAPSED.code, grade)
        solutions = replace(solutions, status=jnp.maximum(solutions.status, grade))
        kept = jax.tree.map(lambda leaf: leaf[best_start(solutions)], solutions)
        return kept, solutions.objective, jnp.sum(solutions.n_steps)

    grouped = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), solutions)
    solution, values, steps = jax.vmap(jax.vmap(one), (0, None))(grouped, counts)
    return Fits(solution, values, steps)


def only(program: Program, mixture: Mixture, n_components: int) -> Mixture:
    """The mixture without its absent components, which come last."""
    width = mixture.components.n_features
    dtype = mixture.log_weights.dtype
    like = jax.eval_shape(
        lambda x, plan: start_from_plan(x, plan, program.family, program.covariance),
        jax.ShapeDtypeStruct((1, width), dtype),
        jax.ShapeDtypeStruct((1, n_components), dtype),
    )
    leaves = [
        leaf[tuple(slice(length) for length in shape.shape)]
        for leaf, shape in zip(jax.tree.leaves(mixture), jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@jax.jit
def between(
    mixtures: Mixture, x: Float[Array, "n d"], row_weight: Float[Array, " n"]
) -> Float[Array, " c"]:
    """sum_i a_i log max_j P(j | x_i) of each mixture [c]: 0 where no row lies between."""

    def one(mixture: Mixture) -> Array:
        largest = jnp.max(mixture.responsibilities(x), axis=1)
        return jnp.sum(row_weight * jnp.log(largest))

    return jax.lax.map(one, mixtures)


@jax.jit
def held_out(
    mixtures: Mixture, x: Float[Array, "n d"], weights: Float[Array, "p n"]
) -> Float[Array, " c"]:
    """Mean negative log-likelihood under mixtures [p, c] of the rows weighted by each of p."""

    def one(mixture: Mixture, weight: Array) -> Array:
        return -jnp.sum(jnp.where(weight > 0, weight * mixture.log_prob(x), 0))

    total = jax.lax.map(
        lambda fold: jax.lax.map(lambda m: one(m, fold[1]), fold[0]), (mixtures, weights)
    )
    return jnp.sum(total, axis=0) / jnp.sum(weights)
