"""Many short runs, of which the best go on: the starts of a fit, on the host.

A start is a plan of rows. Few steps of each tell most of the losers from the winners (Biernacki,
Celeux and Govaert, 2003); those that are left run on; and components of the best are merged and
split as long as that helps (Ueda et al., 2000).
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree

from ..core.compiling import Quick
from ..core.status import Status
from ..core.tree import cast, index, replace
from ..engine import Engine
from ..families.coordinates import Frame
from ..initializers.portfolio import portfolio
from ..initializers.surgery import exchanged, responsibilities
from ..model import Mixture, Problem, Solution
from ..solvers import Limits, Solver
from .course import Course, padded, rung
from .edge import Goal
from .programs import Program, framed, with_guard

SHARE = 0.02
"""Of each start's plan that is spread over all components: no group is so small that it is flat."""
SAME = 0.05
"""Nats of the total log-likelihood within which two answers count as one."""
ROUGH = 0.05
"""Nats that runs of a race may leave; the answer stops by its own limits."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """How much is tried.

    Attributes:
        starts: how many are drawn.
        heats: steps of each of the first heats, and how many go on after it.
        hits: how many of them are to end at the best, or as many starts are drawn once more.
        draws: how often, at most.
        rounds: how often components are exchanged, as long as that helps.
        moves: how many exchanges are tried in a round.
        finish: distinct answers that run to the very end.
    """

    starts: int = 64
    heats: tuple[tuple[int, int], ...] = ((8, 32), (12, 16))
    hits: int = 3
    draws: int = 3
    rounds: int = 4
    moves: int = 16
    finish: int = 2


def first(solutions: Solution, count: int, n_rows: float) -> np.ndarray:
    """Places of the best, distinct ones first: healthy, then low."""
    grade = np.maximum(solutions.status, int(Status.STALLED))
    objective = np.nan_to_num(solutions.objective, nan=np.inf)
    order = np.lexsort((objective, grade))
    kept: list[int] = []
    for place in order:
        apart = (abs(objective[place] - objective[other]) * n_rows > SAME for other in kept)
        if all(apart):
            kept.append(int(place))
    rest = [int(place) for place in order if place not in kept]
    return np.array((kept + rest)[:count])


class Race:
    """The starts of one number of components on one course."""

    def __init__(
        self,
        course: Course,
        z: Float[np.ndarray, "n e"],
        weight: Float[np.ndarray, " n"],
        n_components: int,
        rng: np.random.Generator,
        policy: Policy,
    ):
        self.course, self.z, self.weight = course, z, weight
        self.count, self.rng, self.policy = n_components, rng, policy
        self.n_rows = float(weight.sum() ** 2 / (weight**2).sum())

    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Plans of the portfolio, and which start from their own shapes."""
        present = self.weight > 0
        labels, own = portfolio(
            self.z[present], self.weight[present], self.count, self.policy.starts, self.rng
        )
        plans = np.zeros((len(labels), len(self.z), self.count))
        plans[:, present] = labels[..., None] == np.arange(self.count)
        return plans, own

    def mixtures(self, plans: np.ndarray, own: np.ndarray) -> Mixture:
        """Mixtures of K_max components from plans of fewer."""
        spread = (1 - SHARE) * plans + SHARE / self.count
        absent = self.course.n_components - self.count
        return self.course.draw(np.pad(spread, ((0, 0), (0, 0), (0, absent))), own)

    def go(self, starts: Mixture, steps: int, gap: float) -> Solution:
        """Runs of at most so many steps."""
        limits = self.course.limits
        steps = min(steps, int(limits.max_steps))
        if limits.tolerance is None:
            limits = replace(limits, gap=max(gap, float(limits.gap)) if gap else 0.0)
        counts = np.full(len(starts.log_weights), self.count)
        return self.course.run(starts, counts, replace(limits, max_steps=steps))

    def heat(self, plans: np.ndarray, own: np.ndarray, keep: int) -> Solution:
        """Short runs from plans; the best of them to the end of the race."""
        mixtures = self.mixtures(plans, own)
        for steps, most in self.policy.heats:
            short = self.go(mixtures, steps, 0.0)
            mixtures = index(short, first(short, min(most, keep), self.n_rows)).mixture
        return self.go(mixtures, int(self.course.limits.max_steps), ROUGH)

    def exchanges(self, best: Mixture) -> np.ndarray:
        """Plans out of the best mixture."""
        cost = self.course.costs(best)[:, : self.count]
        share = responsibilities(np.asarray(best.log_weights)[: self.count], cost)
        share[self.weight == 0] = 0
        made = exchanged(self.z, share, cost, self.weight, self.policy.moves, self.rng)
        return np.array(made)

    def finalists(self) -> Solution:
        """The best few distinct answers, the first of all first; not polished yet."""
        pool = self.heat(*self.drawn(), 64)
        for _ in range(self.policy.draws - 1):
            best = pool.objective[first(pool, 1, self.n_rows)[0]]
            met = (abs(pool.objective - best) * self.n_rows < SAME) & (pool.status < 3)
            if self.count == 1 or met.sum() >= self.policy.hits:
                break
            pool = _both(pool, self.heat(*self.drawn(), 64))
        for _ in range(self.policy.rounds if self.count > 1 else 0):
            order = first(pool, 1 + self.policy.finish, self.n_rows)
            pool, before = index(pool, order), float(pool.objective[order[0]])
            plans = self.exchanges(index(pool.mixture, 0))
            more = self.heat(plans, np.ones(len(plans), bool), 3)
            pool = _both(pool, more)
            lowest = first(pool, 1, self.n_rows)[0]
            if (before - pool.objective[lowest]) * self.n_rows < SAME:
                break
        return index(pool, first(pool, self.policy.finish, self.n_rows))

    def winner(self, finalists: Solution) -> Solution:
        """The best of them at the very end, one that stands alone."""
        limits = self.course.limits
        ends = self.go(finalists.mixture, int(limits.max_steps), float(limits.gap))
        return index(ends, first(ends, 1, self.n_rows)[0])


def _both(first: Solution, second: Solution) -> Solution:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), first, second)


SAMPLE, PER_COMPONENT = 4000, 250
"""Rows that a race looks at, at most; the finalists then run on all."""


def raced(
    rows: PyTree,
    weights: np.ndarray | None,
    frame: Frame,
    rng: np.random.Generator,
    program: Program,
    goal: Goal,
    strength: float | None,
    solver: Solver,
    limits: Limits,
    engine: Engine | None,
) -> Solution:
    """The answer of a race, in the units of the rows.

    Many rows are stood for by some of them, drawn by weight; the last runs are on all.
    """
    count, n = program.n_components, len(jax.tree.leaves(rows)[0])
    most = max(SAMPLE, PER_COMPONENT * count)
    sampled = n > 2 * most
    # a prior on the proportions would be asked about components that are not there
    width = count if goal.prior is not None or n > most else rung(count)
    few = _sample(rows, weights, most, rng) if sampled else (rows, weights)
    x, a = padded(jax.tree.map(np.asarray, few[0]), few[1])
    x = _in_frame(x, frame)
    problem = Problem(x, a, goal.epsilon, goal.coupling, None, goal.learn_weights)
    prior = goal.prior and goal.prior.into(frame)
    problem = with_guard(program, replace(problem, prior=prior).checked(), strength)
    course = Course(program.family, problem, width, solver, limits, engine)
    z = np.asarray(program.family.embed(x), float)
    race = Race(course, z, np.ones(len(z)) if a is None else a, count, rng, Policy())
    finalists = race.finalists()
    if sampled:
        whole = with_guard(program, framed(rows, weights, goal, frame).checked(), strength)
        race.course = dataclasses.replace(course, problem=whole)
        race.n_rows = float(n)
    answer = race.winner(finalists)
    return left(answer, count, frame, prior)


def _in_frame(x: PyTree, frame: Frame) -> PyTree:
    # framed in float64, then rounded: the other way round a large offset costs digits
    return jax.tree.map(lambda new, old: np.asarray(new, old.dtype), frame.into(x), x)


def _sample(
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


def left(solution: Solution, count: int, frame: Frame, prior: Any) -> Solution:
    """A solution of K_max components out of its frame, with those that are meant, on the device."""
    solution = jax.device_get(_left(True, solution, frame, prior))
    mixture, run = solution.mixture, solution.certificate
    components = mixture.components.take(np.arange(count))
    mixture = Mixture(mixture.log_weights[:count], components)
    run = replace(run, spurious=run.spurious[:count])
    return jax.device_put(replace(solution, mixture=mixture, certificate=run))


def _out_of(solution: Solution, frame: Frame, prior: Any) -> Solution:
    return solution.out_of(cast(frame, solution.value.dtype), prior)


_left = Quick(_out_of, level=0)
