"""Many short runs, of which the best go on: the starts of a fit, on the host.

A start is a plan of rows. Few steps of each tell most of the losers from the winners (Biernacki,
Celeux and Govaert, 2003); those that are left run on; and components of the best are merged and
split as long as that helps (Ueda et al., 2000). Several numbers of components race at once, and
lend one another their answers, with one component more or less.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ..core.status import Status
from ..core.tree import index, replace
from ..initializers.portfolio import portfolio
from ..initializers.seeds import SHARE
from ..initializers.surgery import exchanged, grown, responsibilities, shrunk
from ..model import Mixture, Solution
from .control import Watch
from .course import Course

SAME = 0.05
"""Nats of the total log-likelihood within which two answers count as one."""
ROUGH = 0.05
"""Nats that runs of a race may leave; the answer stops by its own limits."""


TRIAL = 8
"""Steps on all rows, after which the better finalist alone goes on."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """How much is tried for each number of components.

    Attributes:
        starts: how many are drawn at a time.
        moves: how many exchanges of components are tried at a time.
        sprint: steps after which most are left behind.
        keep: how many starts go on then; of exchanges half as many.
        patience: draws and exchanges, in turn, are tried until so many of them won nothing.
        passes: how often numbers of components lend one another their answers.
        finish: answers that run to the very end at a time.
    """

    starts: int = 32
    moves: int = 12
    sprint: int = 8
    keep: int = 8
    patience: int = 4
    passes: int = 0
    finish: int = 2

    @classmethod
    def of_work(cls, work: float) -> "Policy":
        """Less where a step costs more: rows x components x parameters of a component."""
        if work < 1e5:
            return cls()
        return cls(starts=24, patience=2) if work < 5e5 else cls(starts=16, keep=4, patience=1)


OF_MANY = Policy(starts=12, moves=6, keep=4, patience=1, passes=3)
"""Where many numbers of components race: each has its neighbours' answers for starts."""


@dataclasses.dataclass(frozen=True)
class Start:
    """A plan of rows [n, k], and whether each component starts from the shape of its own rows."""

    plan: np.ndarray
    own: bool = True


@dataclasses.dataclass(frozen=True)
class Pool:
    """Solutions [s] of K_max components, and how many of those are meant [s]."""

    solutions: Solution
    counts: np.ndarray

    def take(self, which: np.ndarray | list) -> "Pool":
        """Some of them."""
        which = np.asarray(which, int)
        return Pool(index(self.solutions, which), self.counts[which])

    def join(self, other: "Pool") -> "Pool":
        """Both."""
        pairs = self.solutions, other.solutions
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pairs)
        return Pool(joined, np.concatenate([self.counts, other.counts]))


class Race:
    """All starts on one course."""

    def __init__(
        self,
        course: Course,
        z: Float[np.ndarray, "n e"],
        weight: Float[np.ndarray, " n"],
        rng: np.random.Generator,
        policy: Policy,
    ):
        self.course, self.z, self.weight, self.rng, self.policy = course, z, weight, rng, policy
        self.watch = course.watch
        self.n_rows = float(weight.sum() ** 2 / (weight**2).sum())

    def first(self, pool: Pool, most: int) -> list[int]:
        """Places of the best of each number of components: healthy first, then low, then apart."""
        grade = np.maximum(pool.solutions.status, int(Status.STALLED))
        objective = np.nan_to_num(pool.solutions.objective, nan=np.inf, posinf=np.inf)
        order = np.lexsort((objective, grade)).tolist()
        kept: list[int] = []
        for count in np.unique(pool.counts):
            mine = [place for place in order if pool.counts[place] == count]
            apart: list[int] = []
            for place in mine:
                with np.errstate(invalid="ignore"):  # of two that have none
                    gaps = (objective[place] - objective[apart]) * self.n_rows
                if (np.abs(gaps) > SAME).all():
                    apart.append(place)
            kept += (apart + [place for place in mine if place not in apart])[:most]
        return kept

    def drawn(self, count: int) -> list[Start]:
        """Starts of the portfolio."""
        present, starts = self.weight > 0, self.policy.starts if count > 1 else 1
        z, weight, seats = self.z[present], self.weight[present], self.course.family.seats(count)
        labels, own = portfolio(z, weight, len(seats), starts, self.rng)
        plans = np.zeros((starts, len(self.z), count))
        plans[:, present] = np.asarray(seats)[labels][..., None] == np.arange(count)
        return [Start(plan, bool(shaped)) for plan, shaped in zip(plans, own, strict=True)]

    def go(
        self, mixtures: Mixture, counts: np.ndarray, steps: int, gap: float, on: Any = None
    ) -> Pool:
        """Runs of at most so many steps; on this course, or another."""
        course = on or self.course
        limits = course.limits
        limits = replace(limits, max_steps=min(steps, int(limits.max_steps)), gap=gap)
        return Pool(course.run(mixtures, counts, limits), counts)

    def heat(self, starts: Sequence[Start], most: int) -> Pool:
        """Short runs, of which at most so many of each number of components go on to the end."""
        counts = np.array([start.plan.shape[1] for start in starts])
        width, n = self.course.n_components, len(self.z)
        plans = np.zeros((len(starts), n, width))
        for plan, start in zip(plans, starts, strict=True):
            count = start.plan.shape[1]
            plan[:, :count] = (1 - SHARE) * start.plan + SHARE / count
        mixtures = self.course.draw(plans, np.array([start.own for start in starts]))
        short = self.go(mixtures, counts, self.policy.sprint, 0.0)
        short = short.take(self.first(short, most))
        if self.watch.stops():
            return short
        rough, steps = max(ROUGH, float(self.course.limits.gap)), int(self.course.limits.max_steps)
        return self.go(short.solutions.mixture, short.counts, steps, rough)

    def shares(self, pool: Pool, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Responsibilities and costs [n, k] of one of them; none for absent rows."""
        return self.shares_of(index(pool.solutions.mixture, place), int(pool.counts[place]))

    def shares_of(self, mixture: Mixture, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The same of a mixture in the frame."""
        cost = self.course.costs(mixture)[:, :count]
        share = responsibilities(np.asarray(mixture.log_weights)[:count], cost)
        share[self.weight == 0] = 0
        return share, cost

    def order(self, mixture: Mixture, count: int) -> np.ndarray:
        """The components in the order in which rows meet them first, whatever start found them;
        those of several kinds as they stand.
        """
        if not self.course.family.exchangeable:
            return np.arange(count)
        claimed = self.shares_of(mixture, count)[0][self.weight > 0].argmax(axis=1)
        _, met = np.unique(claimed, return_index=True)
        seen = claimed[np.sort(met)]
        return np.concatenate([seen, np.setdiff1d(np.arange(count), seen)])

    def exchanges(self, pool: Pool, place: int) -> list[Start]:
        """Starts that merge and split components of one of them."""
        share, cost = self.shares(pool, place)
        moves = exchanged(self.z, share, cost, self.weight, self.policy.moves, self.rng)
        return [Start(plan) for plan in moves]

    def neighbours(self, pool: Pool) -> list[Start]:
        """Starts out of the best of each number of components for the next and the last one."""
        counts, made = set(pool.counts.tolist()), []
        for place in self.first(pool, 1):
            count = int(pool.counts[place])
            if not {count - 1, count + 1} & counts:
                continue
            share, _ = self.shares(pool, place)
            if count + 1 in counts:
                made += grown(self.z, share, self.weight, self.rng)
            if count - 1 in counts:
                made += shrunk(share)
        return [Start(plan) for plan in made]

    def lowest(self, pool: Pool) -> dict[int, float]:
        """The objective of the best of each number of components."""
        best = self.first(pool, 1)
        return {int(pool.counts[place]): float(pool.solutions.objective[place]) for place in best}

    def attempt(self, pool: Pool, counts: Sequence[int], draw: bool) -> Pool:
        """The pool after one more draw, or after exchanges, for some numbers of components."""
        if draw:
            starts = [start for count in counts for start in self.drawn(count)]
            return pool.join(self.heat(starts, self.policy.keep))
        places = [place for place in self.first(pool, 1) if pool.counts[place] in counts]
        starts = [start for place in places for start in self.exchanges(pool, place)]
        return pool.join(self.heat(starts, self.policy.keep // 2))

    def pool(self, counts: Sequence[int], given: Sequence[Start] = ()) -> Pool:
        """Answers of every number of components, not polished yet."""
        starts = [start for count in counts for start in self.drawn(count)]
        pool, draw = self.heat([*given, *starts], self.policy.keep), False
        # one component has one optimum
        vain = {count: 0 if count > 1 else self.policy.patience for count in counts}
        while open_ := [count for count in counts if vain[count] < self.policy.patience]:
            if self.watch.stops():
                return pool
            before, pool = self.lowest(pool), self.attempt(pool, open_, draw)
            after, draw = self.lowest(pool), not draw
            for count in open_:
                won = (before[count] - after[count]) * self.n_rows > SAME
                vain[count] = 0 if won else vain[count] + 1
        for _ in range(self.policy.passes):
            starts = self.neighbours(pool)
            if not starts or self.watch.stops():
                break
            before, pool = self.lowest(pool), pool.join(self.heat(starts, 2))
            after = self.lowest(pool)
            if all((before[count] - after[count]) * self.n_rows <= SAME for count in counts):
                break
        return pool

    def winners(self, pool: Pool, on: Course | None = None) -> Pool:
        """The best of each number of components at the very end; healthy ones if there are any.

        Args:
            pool: not polished yet.
            on: another course, of more rows: there only the better of the finalists after a trial
                go on.
        """
        limits, done = self.course.limits, None
        order, most = self.first(pool, 3 * self.policy.finish), self.policy.finish
        waiting = {
            int(count): [place for place in order if pool.counts[place] == count]
            for count in np.unique(pool.counts)
        }
        while batch := [place for places in waiting.values() for place in places[:most]]:
            if self.watch.stops():
                break
            waiting = {count: places[most:] for count, places in waiting.items()}
            ends = pool.take(batch)
            if on is not None:
                ends = self.go(ends.solutions.mixture, ends.counts, TRIAL, 0.0, on)
                ends = ends.take(self.first(ends, 1))
            told = int(limits.max_steps), float(limits.gap), on
            ends = self.go(ends.solutions.mixture, ends.counts, *told)
            done = ends if done is None else done.join(ends)
            for place in self.first(done, 1):
                if done.solutions.status[place] <= int(Status.STALLED):
                    waiting[int(done.counts[place])] = []
        if self.watch.cut:
            # of some numbers nothing may have been run to the end
            ends = self.unpolished(pool, on)
            done = ends if done is None else done.join(ends)
        assert done is not None
        return done.take(self.first(done, 1))

    def unpolished(self, pool: Pool, on: Course | None) -> Pool:
        """The best of each number of components as they are; what they are worth on all rows."""
        ends = pool.take(self.first(pool, 1))
        if on is None:
            return ends
        course = dataclasses.replace(on, watch=Watch())
        return self.go(ends.solutions.mixture, ends.counts, 0, 0.0, course)
