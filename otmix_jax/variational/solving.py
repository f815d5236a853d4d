"""The pure entry point: jit, vmap and grad go through it, and values never make it raise."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ..core.numerics import safe_divide
from ..core.tree import cast
from ..engine import Engine
from ..families import Bernoulli, Categorical, Description, Family, Gaussian, Poisson, describe
from ..initializers.seeds import present_rows
from ..model import Evaluation, Mixture, Problem
from ..solvers import Limits
from .belief import Belief, Bound
from .counted import BetaPrior, GammaPrior, LevelsPrior
from .descent import run_implicit, run_scanned
from .law import ConjugatePrior
from .normal_wishart import NormalWishartPrior
from .proportions import DirichletPrior, StickBreakingPrior
from .solution import VariationalSolution

PRIORS: dict[type[Family], type[ConjugatePrior]] = {
    Gaussian: NormalWishartPrior,
    Poisson: GammaPrior,
    Bernoulli: BetaPrior,
    Categorical: LevelsPrior,
}
"""The conjugate prior of each family that has one."""
WEIGHTS = {"dirichlet": DirichletPrior, "dirichlet_process": StickBreakingPrior}
"""Priors of proportions by name."""


def settled_priors(described: Description, weights: Any, prior: Any) -> tuple[Any, Any]:
    """The priors of proportions and of components that were meant.

    Raises:
        ValueError: for a name that is no prior of proportions.
        TypeError: for a family without a conjugate law, and a prior that is not its.
    """
    kind = PRIORS.get(described.family)
    if kind is None:
        names = ", ".join(family.__name__ for family in PRIORS)
        raise TypeError(
            f"{described.family.__name__} has no conjugate law here: {names} have, the rows' cells "
            "all known for Gaussian"
        )
    if prior is not None and not isinstance(prior, kind):
        raise TypeError(f"prior must be a {kind.__name__}, not {type(prior).__name__}")
    if isinstance(weights, str) and weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}")
    settled = WEIGHTS[weights]() if isinstance(weights, str) else weights
    if not isinstance(settled, DirichletPrior | StickBreakingPrior):
        raise TypeError(f"weights must be a name or a prior of proportions, not {weights!r}")
    return settled, kind() if prior is None else prior


def prior_belief(
    problem: Problem,
    n_components: int,
    described: Description,
    weights: Any,
    prior: Any,
    count: Any,
) -> Belief:
    """The prior, with what it leaves to the rows taken from them."""
    x, row_weight = present_rows(problem, described)
    components = prior.law(x, row_weight, count, described)
    return Belief(weights.law(n_components, problem.dtype), components)


def first_belief(bound: Bound, initial: Any) -> Belief:
    """The posterior at the responsibilities of a mixture, or at given ones.

    Args:
        bound: what is raised.
        initial: a `Mixture`, or a pair of responsibilities and the family's description.
    """
    if isinstance(initial, Belief):
        return initial
    if isinstance(initial, Mixture):
        return bound.prior.updated(initial, bound.objective.evaluate(initial), bound.count)
    problem, responsibilities, described = initial
    x, row_weight = present_rows(problem, described)
    plan = row_weight[:, None] * responsibilities
    # rows of which nothing is claimed are left out of the start
    plan = safe_divide(plan, jnp.sum(plan))
    pivot = Mixture(jnp.zeros_like(plan[0]), described.initial(x, plan))
    statistics = pivot.components.statistics(x, plan)
    mass = jnp.sum(plan, axis=0)
    evaluation = Evaluation(jnp.zeros_like(mass[0]), mass, statistics, jnp.zeros_like(mass))
    return bound.prior.updated(pivot, evaluation, bound.count)


def total_weight(problem: Problem) -> Array | float:
    """How many rows there are: weights count them, so that their unit matters."""
    if problem.sample_weight is None:
        return float(problem.n_rows)
    return jnp.sum(jnp.asarray(problem.sample_weight))


def solve(
    problem: Problem,
    initial: Any,
    *,
    family: Any = None,
    covariance: Any = None,
    weights: Any = "dirichlet_process",
    prior: ConjugatePrior | None = None,
    tolerance: Array | float = 1e-8,
    max_steps: Array | int = 2000,
    history_size: int = 2001,
    unrolled: int | None = None,
    engine: Engine | None = None,
) -> VariationalSolution:
    """Raises the evidence lower bound from a start; under `jit`, `vmap` and `grad` too.

    Args:
        problem: rows, and weights that count them: 2 is a row twice. Entropy, coupling and prior
            are those of maximum likelihood.
        initial: a `Mixture`, whose responsibilities give the first posterior; or responsibilities
            [n, k] themselves; or a `Belief`, to go on from.
        family: what the components are, unless `initial` is a mixture: "gaussian" (None),
            "poisson", "bernoulli" or "categorical".
        covariance: the shorthand for `Gaussian.of(covariance)`: "full", "tied", "diagonal" or
            "spherical".
        weights: "dirichlet", "dirichlet_process", or a `DirichletPrior` or `StickBreakingPrior`.
        prior: the components'; None leaves all to the rows.
        tolerance: stop once a step wins no more than this, in nats per row. May be traced.
        max_steps: steps at most. May be traced.
        history_size: static capacity of `VariationalSolution.history`.
        unrolled: None: derivatives of the answer are those of the fixed point, that of the start is
            0, and history has none; they mean something where the run has converged. A number:
            through that many steps at most.
        engine: how a pass over the rows is made; None chooses by shape.

    Raises:
        ValueError: at trace time, where shapes do not fit together.
        TypeError: for a family or structure without a conjugate law, or a prior of another.
    """
    described = initial.components.described() if isinstance(initial, Mixture) else None
    described = describe(family, covariance) if described is None else described
    settled = settled_priors(described, weights, prior)
    count = total_weight(problem)
    rows = problem.checked(initial if isinstance(initial, Mixture) else None)
    if not isinstance(initial, Belief | Mixture):
        initial = _responsibilities(initial, rows)
    limits = Limits(tolerance, max_steps, history_size, gap=0.0)
    initial = cast(initial, rows.dtype)
    count, settled = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf, rows.dtype), t) for t in (count, settled)
    )
    return _solve(described, rows, initial, settled, count, limits, unrolled, engine)


def _responsibilities(given: Any, rows: Problem) -> Float[Array, "n k"]:
    found = jnp.asarray(given)
    if found.ndim != 2 or found.shape[0] != rows.n_rows:
        raise ValueError(
            f"initial must be a Mixture, a Belief or responsibilities of shape ({rows.n_rows}, "
            f"n_components), not of shape {found.shape}"
        )
    return found


@functools.partial(jax.jit, static_argnums=(0, 6))
def _solve(
    described: Description,
    problem: Problem,
    initial: Any,
    priors: tuple[Any, Any],
    count: Array,
    limits: Limits,
    unrolled: int | None,
    engine: Engine | None,
) -> VariationalSolution:
    k = n_components_of(initial)
    believed = prior_belief(problem, k, described, *priors, count)
    bound = Bound.on(problem, believed, count, engine)
    given = initial if isinstance(initial, Belief | Mixture) else (problem, initial, described)
    first = first_belief(bound, given)
    if unrolled is None:
        return run_implicit(bound, first, limits)
    return run_scanned(bound, first, limits, unrolled)


def n_components_of(initial: PyTree) -> int:
    """K of what a run starts from."""
    if isinstance(initial, Belief):
        return initial.weights.expected_log().shape[-1]
    return initial.n_components if isinstance(initial, Mixture) else initial.shape[1]
