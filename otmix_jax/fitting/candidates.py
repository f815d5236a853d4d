"""All numbers of components of one family as lanes of one computation.

Every lane holds K_max components. Those beyond a candidate's K have log-weight -inf: they are
absent, exactly, and cost arithmetic but no second compilation.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.status import Status
from ..core.tree import index, pytree, replace
from ..engine import Engine, Reference, Rows, Tiled
from ..engine.engine import tile_size
from ..families.coordinates import Frame
from ..initializers.seeds import present_rows, sample_rows, start_from_plan
from ..model import Mixture, Problem, Solution
from ..solvers import Limits, Solver
from .control import Watch
from .course import between
from .lanes import Lanes, run_lanes
from .many import STRIDE, block_size, given, stated
from .options import Goal
from .programs import SIDE_BY_SIDE, Program, best_start, first_mixture

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
def about_same_rows(
    program: Program, goal: Goal, strength: Any, x: PyTree, weights: Array, frame: Frame
) -> Problem:
    """Problems with leading axis p, by their weights [p, n], without the rows that they share."""

    def one(weights: Array) -> Problem:
        return replace(stated(program, goal, strength, x, weights, frame), x=None)

    return jax.lax.map(one, weights)


def in_turn(x: PyTree) -> bool:
    """Whether rows are so many that one run fills the machine, and its memory, by itself."""
    return sum(leaf.size for leaf in jax.tree.leaves(x)) > SIDE_BY_SIDE


@functools.partial(jax.jit, static_argnums=0)
def nested_starts(
    program: Program, x: PyTree, problems: Problem, keys: Array, counts: Int[Array, " c"]
) -> Mixture:
    """Starts [p, c, n_init] of K_max components each, of which the first `counts` are present.

    The program's initialiser draws K_max components; the first K of them claim the rows, each row
    going to the one that explains it best. k-means++ draws its seeds one after another, so its
    first K are seeds for K. Of many rows a sample is claimed, as it is by the initialisers.
    """
    one_by_one = in_turn(x)

    def each(function: Callable[..., Any], *over: Any) -> Any:
        if one_by_one:
            return jax.lax.map(lambda own: function(*own), over)
        return jax.vmap(function)(*over)

    def of_problem(problem: Problem, keys: Array) -> Mixture:
        problem = replace(problem, x=x)
        few = sample_rows(0.5, problem, program.n_components)
        rows, weight = present_rows(few, program.family)

        def of_key(key: Array) -> Mixture:
            components = first_mixture(program, key, problem).components
            tiles = Tiled(tile_size(Reference, components, weight.dtype))
            claim = Partial(_claims, components.prepared_cost(), counts)
            claims = tiles.map(claim, Rows(rows, weight))

            def of_count(claimed: Array) -> Mixture:
                chosen = jax.nn.one_hot(claimed, program.n_components, dtype=weight.dtype)
                return start_from_plan(rows, weight[:, None] * chosen, program.family)

            return each(of_count, claims.T)

        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), each(of_key, keys))

    return each(of_problem, problems, keys)


def _claims(cost: Any, counts: Array, x: PyTree, weight: Array) -> Int[Array, "t c"]:
    """For each number of components, the first of so many that explain a row best."""
    del weight
    values = cost(x)
    lowest = jax.lax.cummin(values, axis=1)
    before = jnp.pad(lowest[:, :-1], ((0, 0), (1, 0)), constant_values=jnp.inf)
    leader = jnp.where(values < before, jnp.arange(values.shape[1]), 0)
    return jax.lax.cummax(leader, axis=1)[:, counts - 1]


def fit_counts(
    program: Program,
    x: PyTree,
    problems: Problem,
    counts: np.ndarray,
    key: PRNGKeyArray,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
    initial: dict[int, Mixture],
    watch: Watch,
) -> Fits:
    """Fits every number of components to every problem (leading axis p).

    Args:
        program: the family, and how starts are drawn.
        x: the rows.
        problems: about the rows, whole and without each fold; see `about_same_rows`.
        counts: the numbers K.
        key: of the draws.
        solver: see `fit`.
        limits: see `fit`.
        engine: see `fit`.
        initial: for a K, the mixture that takes the place of its first start.
        watch: who may stop it.
    """
    n_problems, size = jax.tree.leaves(problems.sample_weight)[0].shape
    shape = (n_problems, len(counts), program.n_init)
    keys = jax.random.split(key, (n_problems, program.n_init))
    starts = nested_starts(program, x, problems, keys, jnp.asarray(counts))
    for position, count in enumerate(counts):
        if count in initial:
            own = widened(initial[count], program.n_components)
            starts = jax.tree.map(
                lambda all_, one, p=position: all_.at[:, p, 0].set(one), starts, own
            )
    seeds = jax.tree.map(lambda leaf: leaf.reshape(math.prod(shape), *leaf.shape[3:]), starts)
    n_lanes = math.prod(shape)
    which = jnp.repeat(jnp.arange(n_problems), len(counts) * program.n_init)
    carry, solutions, _ = run_lanes(
        given,
        Lanes(problems, which, jnp.asarray(n_lanes), engine, x),
        seeds,
        solver,
        limits,
        stride=STRIDE,
        block=1 if in_turn(x) else block_size(size, n_lanes),
        on_round=watch.lanes(n_lanes),
    )
    # without what the solver says of its answer: components beyond K are empty on purpose
    solutions = replace(solutions, status=carry.status)
    return _kept(shape, program.guard == "ridge", solutions, jnp.asarray(counts))


def widened(mixture: Mixture, n_components: int) -> Mixture:
    """The mixture with absent components behind its own, up to a number of them."""
    count = mixture.n_components
    # absent places repeat the last component: they only need a shape
    which = np.minimum(np.arange(n_components), count - 1)
    absent = jnp.arange(n_components) >= count
    log_weights = jnp.where(absent, -jnp.inf, jnp.asarray(mixture.log_weights)[which])
    return Mixture(log_weights, mixture.components.take(which))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _kept(shape: tuple[int, ...], has_ridge: bool, solutions: Solution, counts: Array) -> Fits:
    def one(solutions: Solution, count: Array) -> tuple[Solution, Array, Array]:
        weights = solutions.mixture.weights
        meant = jnp.arange(weights.shape[-1]) < count
        least = jnp.min(jnp.where(meant, weights, 1), axis=-1)
        empty = least < jnp.finfo(weights.dtype).eps
        grade = jnp.where(empty, int(Status.EMPTY_COMPONENT), int(Status.CONVERGED))
        spike = (solutions.objective - solutions.value > SPIKE * least) & has_ridge
        spike |= jnp.any(solutions.certificate.spurious & meant, axis=-1)
        grade = jnp.where(spike, int(Status.COLLAPSED), grade)
        solutions = replace(solutions, status=jnp.maximum(solutions.status, grade))
        kept = index(solutions, best_start(solutions))
        return kept, solutions.objective, jnp.sum(solutions.n_steps)

    grouped = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), solutions)
    solution, values, steps = jax.vmap(jax.vmap(one), (0, None))(grouped, counts)
    return Fits(solution, values, steps)


@functools.partial(jax.jit, static_argnums=0)
def apart(
    count: int, solutions: Solution, number: Array | int, frame: Frame, prior: Any
) -> Solution:
    """One number of components on all rows, by itself and in their units.

    One program for each: operation by operation, dozens would be compiled.
    """
    solution = jax.tree.map(lambda leaf: leaf[0, number], solutions)
    # the absent components come last
    mixture, run = solution.mixture.take(np.arange(count)), solution.certificate
    run = replace(run, spurious=run.spurious[:count])
    solution = replace(solution, mixture=mixture, certificate=run)
    return solution.out_of(frame, index(prior, 0))


@jax.jit
def overlaps(mixtures: Mixture, x: PyTree, row_weight: Float[Array, " n"]) -> Float[Array, " c"]:
    """`between` of each mixture [c]: 0 where no row lies between."""
    return jax.lax.map(functools.partial(between, Rows(x, row_weight)), mixtures)


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
