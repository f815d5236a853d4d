"""What decides the program of a fit, and the problem that it is given."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Int, Key, PRNGKeyArray, PyTree

from ..core.numerics import einsum, safe_divide
from ..core.status import Status
from ..core.tree import is_float, replace
from ..engine import Engine, Rows, Tiled
from ..families import Description
from ..families.coordinates import Frame
from ..model import Mixture, Problem
from ..solvers import Limits, Solver
from .control import Watch
from .options import Goal

SIDE_BY_SIDE = 100_000
"""Numbers in the rows up to which the starts of a fit run side by side."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What decides the compiled program of a fit; hashable."""

    family: Description
    initializer: Callable[..., Mixture]
    n_components: int
    n_init: int
    # a word beside the number: that there is one changes the program, how strong it is does not
    guard: str


@dataclasses.dataclass(frozen=True)
class Task:
    """What a fit is told beside its rows.

    Attributes:
        program: what it is of.
        goal: what is minimised, checked.
        strength: the ridge's, or None.
        solver: how.
        limits: until when.
        engine: how a pass over the rows is made; None chooses by shape.
        watch: who may stop it.
    """

    program: Program
    goal: Goal
    strength: float | None
    solver: Solver
    limits: Limits
    engine: Engine | None
    watch: Watch


def frame_of(rows: PyTree, weights: np.ndarray | None, family: Description) -> Frame:
    """The frame of rows whose extent floating point holds.

    Raises:
        ValueError: for others.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        frame = family.frame(rows, weights)
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(frame)):
        raise ValueError(
            "x spans more than its precision holds (float32 up to 1e38, float64 up to 1e308): "
            "rescale its columns"
        )
    return frame


def framed(rows: PyTree, weights: np.ndarray | None, goal: Goal, frame: Frame) -> Problem:
    """The problem in the frame: read so by the engine, or made so where a cast copies anyway.

    Centred before the cast: what a shift costs in digits is lost in x, not here.
    """
    prior = goal.prior and goal.prior.into(frame)
    problem = Problem(rows, weights, goal.epsilon, goal.coupling, prior, goal.learn_weights)
    real = [leaf for leaf in jax.tree.leaves(rows) if is_float(leaf)]
    if all(jax.dtypes.canonicalize_dtype(leaf.dtype) == leaf.dtype for leaf in real):
        return replace(problem, frame=frame)
    return replace(problem, x=frame.into(rows))


def guard(strength: float | None) -> str:
    """What keeps covariances regular: "ridge", "floor" or nothing."""
    return "floor" if strength is None else "ridge" if strength > 0 else ""


def with_guard(program: Program, problem: Problem, strength: Array | float | None) -> Problem:
    """The problem with the family's ridge, scaled by its rows, or its floor, where it has none."""
    given, weak = problem.prior, None
    if given is not None and given.covariance is not None:
        return problem
    if program.guard == "ridge":
        strength = jnp.asarray(strength, problem.dtype)
        variance = _variance(problem.rows(), program.family)
        weak = program.family.weak_prior(variance, strength)
    elif program.guard == "floor":
        weak = program.family.least(problem.dtype)
    if given is None or weak is None:
        return replace(problem, prior=weak if given is None else given)
    return replace(problem, prior=given.merge(weak))


def _variance(rows: Rows, family: Description) -> PyTree:
    """The real columns' weighted variance, tile by tile: no second array as long as the data."""
    tiles = Tiled(16_384)

    def average(mean: PyTree) -> PyTree:
        total, there = tiles.reduce(Partial(_weighted_sum, mean), rows)
        # rows of weight 1 in all, unless some miss cells
        return jax.tree.map(safe_divide, total, there) if family.missing else total

    # two passes: the mean square less the squared mean would cancel
    return average(average(None))


def _weighted_sum(mean: PyTree, x: PyTree, weight: Array) -> tuple[PyTree, PyTree]:
    """The sum of a leaf's known cells, or of their squares about a mean, and their weight.

    Codes have no mean, and count as numbers.
    """
    real = jax.tree.map(lambda leaf: leaf.astype(weight.dtype), x)
    there = jax.tree.map(lambda leaf: ~jnp.isnan(leaf), real)
    if mean is not None:
        real = jax.tree.map(lambda leaf, m: (leaf - m) ** 2, real, mean)

    def added(leaf: Array) -> Array:
        return einsum("t,t...->...", weight, leaf)

    known = jax.tree.map(lambda cell, leaf: jnp.where(cell, leaf, 0), there, real)
    counted = jax.tree.map(lambda cell: added(cell.astype(weight.dtype)), there)
    return jax.tree.map(added, known), counted


def first_mixture(program: Program, key: PRNGKeyArray, problem: Problem) -> Mixture:
    """The first mixture of one start."""
    return program.initializer(
        key, problem, n_components=program.n_components, family=program.family
    )


def start_keys(key: PRNGKeyArray, n_init: int) -> Key[Array, " n_init"]:
    """One key for each start of a fit; a single start keeps the fit's own."""
    # not split for one: the initialiser draws the same start from this key by hand
    return jax.random.split(key, n_init) if n_init > 1 else key[None]


def best_start(solutions: Any) -> Int[Array, ""]:
    """Index of the lowest objective among the least bad: healthy, then empty, then the rest.

    Objectives that differ by rounding alone count as equal, and the first of them is taken, so
    that two programs that compute the same runs choose the same one.
    """
    grade = jnp.maximum(solutions.status, int(Status.STALLED))
    objective = jnp.where(jnp.isnan(solutions.objective), jnp.inf, solutions.objective)
    objective = jnp.where(grade == jnp.min(grade), objective, jnp.inf)
    lowest = jnp.min(objective)
    rounding = 64 * jnp.finfo(objective.dtype).eps * jnp.maximum(1, jnp.abs(lowest))
    # Where every start is lost, lowest is inf and so is the bound: the first is as good as any.
    return jnp.argmax(objective <= lowest + rounding)
