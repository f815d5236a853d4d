"""All numbers of components of one family as lanes of one computation.

Every lane holds K_max components. Those beyond a candidate's K have log-weight -inf: they are
absent, exactly, and cost arithmetic but no second compilation.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.status import Status
from ..core.tree import index, pytree, replace
from ..engine import Engine
from ..initializers.seeds import present_rows, start_from_plan
from ..model import Mixture, Problem, Solution
from ..solvers import Limits, Solver
from .lanes import Lanes, run_lanes
from .many import STRIDE, block_size, given
from .single import Program, best_start, first_mixture

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
        whole = first_mixture(program, key, problem)
        present = jnp.arange(program.n_components) < count
        cost = jnp.where(present, whole.components.cost(x), jnp.inf)
        chosen = jax.nn.one_hot(
            jnp.argmin(cost, axis=1), program.n_components, dtype=row_weight.dtype
        )
        plan = row_weight[:, None] * chosen
        return start_from_plan(x, plan, program.family)

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
    engine: Engine | None,
    initial: dict[int, Mixture],
) -> Fits:
    """Fits every number of components to every problem (leading axis p).

    Args:
        program: the family, and how starts are drawn.
        problems: the rows, whole and without each fold.
        counts: the numbers K.
        key: of the draws.
        solver: see `fit`.
        limits: see `fit`.
        engine: see `fit`.
        initial: for a K, the mixture that takes the place of its first start.
    """
    n_problems, size = jax.tree.leaves(problems.sample_weight)[0].shape
    shape = (n_problems, len(counts), program.n_init)
    keys = jax.random.split(key, (n_problems, program.n_init))
    starts = nested_starts(program, problems, keys, jnp.asarray(counts))
    for position, count in enumerate(counts):
        if count in initial:
            own = widened(initial[count], program.n_components)
            starts = jax.tree.map(
                lambda all_, one, p=position: all_.at[:, p, 0].set(one), starts, own
            )
    seeds = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), starts)
    n_lanes = math.prod(shape)
    which = jnp.repeat(jnp.arange(n_problems), len(counts) * program.n_init)
    carry, solutions, _ = run_lanes(
        given,
        Lanes(problems, which, jnp.asarray(n_lanes), engine),
        seeds,
        solver,
        limits,
        stride=STRIDE,
        block=block_size(size, n_lanes),
    )
    # without what the solver says of its answer: components beyond K are empty on purpose
    solutions = replace(solutions, status=carry.status)
    return _kept(shape, program.has_weak_prior, solutions, jnp.asarray(counts))


def widened(mixture: Mixture, n_components: int) -> Mixture:
    """The mixture with absent components behind its own, up to a number of them."""
    count = mixture.n_components
    # absent places repeat the last component: they only need a shape
    which = np.minimum(np.arange(n_components), count - 1)
    absent = jnp.arange(n_components) >= count
    log_weights = jnp.where(absent, -jnp.inf, jnp.asarray(mixture.log_weights)[which])
    return Mixture(log_weights, mixture.components.take(which))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _kept(shape: tuple[int, ...], has_weak_prior: bool, solutions: Solution, counts: Array) -> Fits:
    def one(solutions: Solution, count: Array) -> tuple[Solution, Array, Array]:
        weights = solutions.mixture.weights
        meant = jnp.arange(weights.shape[-1]) < count
        least = jnp.min(jnp.where(meant, weights, 1), axis=-1)
        empty = least < jnp.finfo(weights.dtype).eps
        grade = jnp.where(empty, int(Status.EMPTY_COMPONENT), int(Status.CONVERGED))
        spike = solutions.objective - solutions.value > SPIKE * least
        grade = jnp.where(spike & has_weak_prior, int(Status.COLLAPSED), grade)
        solutions = replace(solutions, status=jnp.maximum(solutions.status, grade))
        kept = index(solutions, best_start(solutions))
        return kept, solutions.objective, jnp.sum(solutions.n_steps)

    grouped = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), solutions)
    solution, values, steps = jax.vmap(jax.vmap(one), (0, None))(grouped, counts)
    return Fits(solution, values, steps)


@jax.jit
def between(mixtures: Mixture, x: PyTree, row_weight: Float[Array, " n"]) -> Float[Array, " c"]:
    """sum_i a_i log max_j P(j | x_i) of each mixture [c]: 0 where no row lies between."""

    def one(mixture: Mixture) -> Array:
        largest = jnp.max(mixture.responsibilities(x), axis=1)
        return jnp.sum(row_weight * jnp.log(largest))

    # one by one: plans [n, k] of all mixtures at once would be too large
    return jax.lax.map(one, mixtures)


@jax.jit
def held_out(mixtures: Mixture, x: PyTree, weights: Float[Array, "p n"]) -> Float[Array, " c"]:
    """Mean negative log-likelihood under mixtures [p, c] of the rows weighted by each of p."""

    def one(mixture: Mixture, weight: Array) -> Array:
        # a row that is not held out may be off the support: 0 * inf is NaN
        return -jnp.sum(jnp.where(weight > 0, weight * mixture.log_prob(x), 0))

    total = jax.lax.map(
        lambda fold: jax.lax.map(lambda m: one(m, fold[1]), fold[0]), (mixtures, weights)
    )
    return jnp.sum(total, axis=0) / jnp.sum(weights)
