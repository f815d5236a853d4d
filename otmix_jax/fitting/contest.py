"""All numbers of components of all families in races, and what their answers are worth."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..core.status import Status
from ..core.tree import index, replace
from ..families import Description, Gaussian
from ..families.coordinates import Affine, Frame
from ..families.covariance import Covariance, Projected
from ..families.covariance.projected import KINDS
from ..families.elliptical import structure
from ..model import Solution
from .choices import Candidate, candidate, unfitted
from .course import Course
from .given import starts
from .programs import Program, Task, frame_of
from .race import OF_MANY, Pool, Race, Start
from .raced import course_of, left, sample, sizes, whole_course

NARROW = 8
"""Columns up to which free covariances cost no more than a program for each structure."""
SMALL = 2**20
"""Rows x columns x components up to which they do."""


@dataclasses.dataclass(frozen=True)
class Contest:
    """Rows, and every family that is to be fitted to them; see `select`."""

    rows: PyTree
    weights: np.ndarray | None
    held: np.ndarray
    total: float
    counts: np.ndarray
    rng: np.random.Generator
    tasks: list[Task]
    initial: Any

    def candidates(self) -> list[Candidate]:
        """Of each family, every number of components."""
        found = []
        for task in self.tasks:
            for alike in in_one_program(self.counts, task.program.family):
                if found and task.watch.stops():
                    family = task.program.family, self.rows
                    found += [unfitted(*family, int(count), self.total) for count in alike]
                    continue
                own = dataclasses.replace(self, counts=alike)
                found += _Family(own, task, self._kind(task.program)).candidates()
        return found

    def _kind(self, program: Program) -> type[Covariance] | None:
        """The structure of a program that all structures share, if there is to be one."""
        families = [task.program.family for task in self.tasks]
        gaussian = all(one.family is Gaussian for one in families)
        if len(families) == 1 or not gaussian or self.rows.shape[1] > NARROW:
            return None
        small = self.rows.size * self.counts.max() < SMALL
        plain = all(task.goal.prior is None and task.goal.ridge is None for task in self.tasks)
        kinds = [structure(dict(one.options).get("covariance", "full")) for one in families]  # type: ignore[arg-type]
        own = kinds[families.index(program.family)]
        together = own in KINDS and sum(kind in KINDS for kind in kinds) > 1
        return own if small and plain and together else None


def in_one_program(counts: np.ndarray, family: Description) -> list[np.ndarray]:
    """The numbers of components that a program can hold together; in their order."""
    return [counts] if family.exchangeable else np.split(counts, len(counts))


class _Family:
    """One family's races: on all rows, and without each fold."""

    def __init__(self, contest: Contest, task: Task, kind: type[Covariance] | None):
        self.contest, self.task, self.kind = contest, task, kind
        self.frame = frame_of(contest.rows, contest.weights, task.program.family)
        n, largest = len(jax.tree.leaves(contest.rows)[0]), int(contest.counts.max())
        self.most, self.width = sizes(n, largest, task.goal, task.program.family)
        self.sampled = n > 2 * self.most
        self.watch = task.watch

    def race(self, weights: np.ndarray | None) -> Race:
        """The race on rows of these weights, or on some of them."""
        contest = self.contest
        few = contest.rows, weights
        if self.sampled:
            few = sample(contest.rows, weights, self.most, contest.rng)
        course, z, a = self._course_of(*few)
        return Race(course, z, a, contest.rng, OF_MANY)

    def course(self, weights: np.ndarray) -> Course:
        """All rows, with weights."""
        return self._course_of(self.contest.rows, weights)[0]

    def _course_of(self, rows: PyTree, weights: Any) -> tuple[Course, np.ndarray, np.ndarray]:
        task = self.task
        if self.kind is not None:
            shared = Description(Gaussian, (("covariance", Projected),))
            program = dataclasses.replace(task.program, family=shared)
            task = dataclasses.replace(task, program=program)
        course, z, a = course_of(rows, weights, self.frame, self.width, task)
        return dataclasses.replace(course, kind=self.kind), z, a

    def answers(
        self, race: Race, weights: np.ndarray | None, given: Sequence[Start]
    ) -> tuple[Pool, Pool, Course]:
        """All answers of a race, the best of each number on all rows, and the course of these."""
        pool, told = race.pool(sorted(set(self.contest.counts.tolist())), given), race.course
        if not self.sampled:
            return pool, race.winners(pool), told
        rows = self.contest.rows, weights, self.frame
        whole = whole_course(told, *rows, self.task)
        return pool, race.winners(pool, whole), whole

    def candidates(self) -> list[Candidate]:
        """One for each number of components."""
        begin, contest, family = time.perf_counter(), self.contest, self.task.program.family
        self.watch.stage(str(family), offset=_volume(self.frame))
        race = self.race(contest.weights)
        pool, winners, whole = self.answers(race, contest.weights, self.given(race))
        held = self.held_out(race, winners)
        steps = np.array([pool.solutions.n_steps[pool.counts == k].sum() for k in contest.counts])
        seconds = (time.perf_counter() - begin) * steps / max(steps.sum(), 1)
        made = []
        for number, count in enumerate(contest.counts.tolist()):
            place = winners.counts.tolist().index(count)
            solution = index(winners.solutions, place)
            if self.watch.cut and np.isnan(solution.objective):
                made.append(unfitted(family, contest.rows, count, contest.total))
                continue
            answer = self.leave(solution, race.order(solution.mixture, count))
            made.append(
                candidate(
                    family,
                    replace(answer, status=self.watch.told(answer.status)),
                    contest.total,
                    whole.overlap(solution.mixture),
                    float(held[number]),
                    float(seconds[number]),
                    (pool.solutions.objective[pool.counts == count] + _volume(self.frame)).tolist(),
                )
            )
        return made

    def given(self, race: Race) -> list[Start]:
        """The given mixtures of this family, as starts."""
        initial = self.contest.initial
        several = initial if isinstance(initial, Sequence) else [] if initial is None else [initial]
        return [
            Start(race.shares_of(one.out_of(self.frame.inverse), one.n_components)[0])
            for one in several
            if starts(one.components, self.task.program.family)
        ]

    def held_out(self, race: Race, winners: Pool) -> np.ndarray:
        """Mean negative log-likelihood of held-out rows, for each number; NaN without folds."""
        contest = self.contest
        value = np.full(len(contest.counts), np.nan if not len(contest.held) else 0.0)
        for fold_number, held in enumerate(contest.held):
            if self.watch.stops():
                break
            self.watch.stage(f"{self.task.program.family}, fold {fold_number + 1}")
            whole = np.ones(len(held)) if contest.weights is None else contest.weights
            fold = self.race(whole - held)
            given = [Start(race.shares(winners, place)[0]) for place in range(len(winners.counts))]
            _, ends, _ = self.answers(fold, whole - held, [] if self.sampled else given)
            out = self.course(held)
            for number, count in enumerate(contest.counts.tolist()):
                solution = index(ends.solutions, ends.counts.tolist().index(count))
                lost = out.value(solution.mixture) * held.sum() / contest.held.sum()
                failed = solution.status >= int(Status.COLLAPSED)
                value[number] += np.nan if failed else lost
        # of a fold that was stopped the answers are worse than they would be
        return np.where(self.watch.cut, np.nan, value + _volume(self.frame))

    def leave(self, solution: Solution, order: np.ndarray) -> Solution:
        """In the units of the rows, and of its own structure."""
        frame, prior = self.frame, self.task.goal.prior
        prior = prior and prior.into(frame)
        if self.kind is None:
            return left(solution, order, frame, prior)
        assert isinstance(frame, Affine)
        unit = np.broadcast_to(frame.columns, np.shape(frame.origin))
        solution = left(solution, order, Affine(frame.origin, unit), prior)
        components = solution.mixture.components
        settled = replace(components, covariance=components.covariance.settled(self.kind))
        return replace(solution, mixture=replace(solution.mixture, components=settled))


def _volume(frame: Frame) -> float:
    return float(frame.log_volume)
