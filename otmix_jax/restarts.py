"""What one start of a fit is, and which of several is kept."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Key, PRNGKeyArray

from ._numerics import matmul
from ._pytree import replace
from .engine import Rows, Tiled
from .families.base import Family
from .mixture import Mixture
from .priors import split
from .problem import Problem
from .solution import Solution
from .status import Status


@dataclasses.dataclass(frozen=True)
class Program:
    """What decides the compiled program of a fit; hashable."""

    family: type[Family]
    covariance: Any
    initializer: Callable[..., Mixture]
    n_components: int
    n_init: int
    has_prior: bool

    def with_prior(self, problem: Problem, strength: Array | float) -> Problem:
        """The problem with the family's weak prior, scaled by its rows."""
        prior = split(problem.prior)
        if not self.has_prior or prior.covariance is not None:
            return problem
        strength = jnp.asarray(strength, problem.x.dtype)
        weak = self.family.weak_prior(_variance(problem.rows()), strength)
        given = problem.prior is not None
        return replace(problem, prior=replace(prior, covariance=weak) if given else weak)

    def __call__(self, key: PRNGKeyArray, problem: Problem) -> Mixture:
        """The first mixture of one start."""
        return self.initializer(
            key,
            problem,
            n_components=self.n_components,
            family=self.family,
            covariance=self.covariance,
        )


def start_keys(key: PRNGKeyArray, n_init: int) -> Key[Array, " n_init"]:
    """One key for each start of a fit; a single start keeps the fit's own."""
    return jax.random.split(key, n_init) if n_init > 1 else key[None]


def _variance(rows: Rows) -> Float[Array, " d"]:
    """The columns' weighted variance, tile by tile: no second array as long as the data."""
    tiles = Tiled(16_384)
    mean = tiles.sum(lambda x, weight: matmul(weight, x), rows)
    return tiles.sum(lambda x, weight: matmul(weight, (x - mean) ** 2), rows)


def best_start(solutions: Solution) -> Int[Array, ""]:
    """Index of the lowest objective among the least bad: healthy, then empty, then the rest.

    Objectives that differ by rounding alone count as equal, and the first of them is taken, so
    that two programs that compute the same runs choose the same one.
    """
    grade = jnp.maximum(solutions.status, Status.STALLED.code)
    objective = jnp.where(jnp.isnan(solutions.objective), jnp.inf, solutions.objective)
    objective = jnp.where(grade == jnp.min(grade), objective, jnp.inf)
    lowest = jnp.min(objective)
    rounding = 64 * jnp.finfo(objective.dtype).eps * jnp.maximum(1, jnp.abs(lowest))
    # Where every start is lost, lowest is inf and so is the bound: the first is as good as any.
    return jnp.argmax(objective <= lowest + rounding)
