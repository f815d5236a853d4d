"""A fit by a race: many rows are stood for by some, and the last runs are on all."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax import Array
from jaxtyping import PyTree

from ..core.buckets import MOST, padded
from ..core.compiling import Quick
from ..core.tree import cast, index, replace, shape_of
from ..families import Description
from ..families.coordinates import Frame
from ..model import Problem, Solution
from .course import Course, rung
from .options import Goal
from .programs import Task, framed, with_guard
from .race import Policy, Race

SAMPLE, PER_COMPONENT = 4000, 64
"""Rows of a sample, or so many per component if that is more. Up to twice as many are raced as they
are; of more, the finalists run on all."""


def raced(
    rows: PyTree, weights: np.ndarray | None, frame: Frame, rng: np.random.Generator, task: Task
) -> Solution:
    """The answer of a race, in the units of the rows."""
    count, n = task.program.n_components, len(jax.tree.leaves(rows)[0])
    most, width = sizes(n, count, task.goal, task.program.family)
    sampled = n > 2 * most
    few = sample(rows, weights, most, rng) if sampled else (rows, weights)
    prior = task.goal.prior and task.goal.prior.into(frame)
    task.watch.stage("race", offset=float(frame.log_volume))
    course, z, a = course_of(*few, frame, width, task)
    race = Race(course, z, a, rng, Policy.of_work(course.work(count)))
    pool = race.pool([count])
    whole = whole_course(course, rows, weights, frame, task) if sampled else None
    task.watch.stage("finish", offset=float(frame.log_volume))
    answer = index(race.winners(pool, whole).solutions, 0)
    order = race.order(answer.mixture, count)
    return left(answer, order, frame, prior)


def sizes(n: int, n_components: int, goal: Goal, family: Description) -> tuple[int, int]:
    """The rows of a sample, which stands for more than twice as many, and K_max."""
    most = max(SAMPLE, PER_COMPONENT * n_components)
    # a prior on the proportions would be asked about components that are not there
    exact = goal.prior is not None or n > most or not family.exchangeable
    return most, n_components if exact else rung(n_components)


def course_of(
    rows: PyTree, weights: np.ndarray | None, frame: Frame, width: int, task: Task
) -> tuple[Course, np.ndarray, np.ndarray]:
    """The course for rows of the host, these as columns, and their weights."""
    x, a = jax.tree.map(np.asarray, rows), weights
    if len(jax.tree.leaves(x)[0]) <= MOST:
        x, a = padded(x, a)
    # framed in float64, then rounded: the other way round a large offset costs digits
    x = jax.tree.map(lambda new, old: np.asarray(new, old.dtype), frame.into(x), x)
    goal, family = task.goal, task.program.family
    prior = goal.prior and goal.prior.into(frame)
    problem = Problem(x, a, goal.epsilon, goal.coupling, prior, goal.learn_weights)
    problem = with_guard(task.program, problem.checked(), task.strength)
    told = task.solver, task.limits, task.engine
    course = Course(family, problem, width, *told, watch=task.watch)
    z = np.asarray(family.embed(problem.x), float)
    return course, z, np.ones(len(z)) if a is None else a


def whole_course(
    course: Course, rows: PyTree, weights: np.ndarray | None, frame: Frame, task: Task
) -> Course:
    """The course of all rows, which are read in the frame where they are."""
    problem = framed(rows, weights, task.goal, frame).checked()
    return dataclasses.replace(course, problem=with_guard(task.program, problem, task.strength))


def sample(
    rows: PyTree, weights: np.ndarray | None, most: int, rng: np.random.Generator
) -> tuple[PyTree, None]:
    """Some rows, drawn by weight, which then count alike."""
    n = len(jax.tree.leaves(rows)[0])
    if weights is None:
        drawn = rng.choice(n, most, replace=False)
    else:
        below = np.cumsum(weights)
        drawn = np.searchsorted(below, (np.arange(most) + rng.random()) / most * below[-1])
        drawn = np.minimum(drawn, n - 1)
    return jax.tree.map(lambda leaf: leaf[np.sort(drawn)], rows), None


def left(solution: Solution, order: np.ndarray, frame: Frame, prior: Any) -> Solution:
    """A solution of K_max components out of its frame, with those that are meant, on the device.

    Args:
        solution: the race's.
        order: [k] the components that are meant, as they are to follow one another.
        frame: where the rows were fitted.
        prior: the problem's.
    """
    count, whole = len(order), len(solution.mixture.log_weights)
    others = np.setdiff1d(np.arange(whole), order)
    solution = jax.device_get(_left(True, solution, np.append(order, others), frame, prior))
    leaves, structure = jax.tree.flatten(solution.mixture)
    shapes = _shapes(structure, tuple((leaf.shape, leaf.dtype.name) for leaf in leaves), count)
    # slices by hand: taken on the device, each number of components would be a program
    leaves = [leaf[tuple(map(slice, shape))] for leaf, shape in zip(leaves, shapes, strict=True)]
    # put first: what is made of host arrays is no solution yet
    mixture, spurious = jax.device_put(
        (jax.tree.unflatten(structure, leaves), solution.certificate.spurious[:count])
    )
    solution = jax.device_put(solution)
    run = replace(solution.certificate, spurious=spurious)
    return replace(solution, mixture=mixture, certificate=run)


@functools.lru_cache(maxsize=1024)
def _shapes(structure: Any, kinds: tuple, count: int) -> tuple[tuple[int, ...], ...]:
    """Of a mixture's leaves when only the first components are there."""
    whole = jax.tree.unflatten(structure, [shape_of(*kind) for kind in kinds])
    some = jax.eval_shape(lambda mixture: mixture.take(np.arange(count)), whole)
    return tuple(leaf.shape for leaf in jax.tree.leaves(some))


def _out_of(solution: Solution, order: Array, frame: Frame, prior: Any) -> Solution:
    run = solution.certificate
    run = replace(run, spurious=run.spurious[order])
    solution = replace(solution, mixture=solution.mixture.take(order), certificate=run)
    return solution.out_of(cast(frame, solution.value.dtype), prior)


_left = Quick(_out_of, level=0)
