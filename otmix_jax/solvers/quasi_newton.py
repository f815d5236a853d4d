"""A few steps of EM, then quasi-Newton steps in the metric of the complete data."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from ..core.numerics import safe_divide
from ..core.status import Status
from ..core.tree import pytree, replace, select, static
from ..model import Mixture, Objective
from ..model.optimality import Optimality
from .em import EM, EMState
from .loop import Outlook, Progress, Solver

EARLY = 3
"""Steps of EM before the first quasi-Newton step: there L-BFGS alone is lost."""
FAR = 1.5
"""The coordinate beyond which a chart is left for one about the current mixture."""
LONGEST = 1.0
"""The largest step in a coordinate that is tried at first."""
FLAT, BENT = 1e-4, 0.2
"""Along a step with less curvature than `FLAT` times the metric's, `BENT` times it is put in its
place: on a plateau, or past it, steps are up to fifty of EM's."""


@pytree
class Curvature:
    """What the last steps say of the objective's Hessian: L-BFGS.

    Attributes:
        steps: [m, p] of the coordinates, the last one last; zeros where there is none.
        changes: [m, p] of the gradient along them.
    """

    steps: Array
    changes: Array

    @classmethod
    def none(cls, memory: int, like: Float[Array, " p"]) -> "Curvature":
        """Before anything is known."""
        zeros = jnp.zeros((memory, *like.shape), like.dtype)
        return cls(zeros, zeros)

    def after(
        self, step: Float[Array, " p"], change: Float[Array, " p"], metric: Float[Array, " p"]
    ) -> "Curvature":
        """With one step more, damped where the objective is not convex along it.

        Source: Powell (1978), for the damping: Nocedal and Wright (2006), procedure 18.2.
        """
        bend, size = jnp.sum(step * change), jnp.sum(metric * step**2)
        own = jnp.where(bend < FLAT * size, safe_divide((1 - BENT) * size, size - bend), 1)
        change = own * change + (1 - own) * metric * step
        new = (
            jnp.concatenate([kept[1:], last[None]])
            for kept, last in ((self.steps, step), (self.changes, change))
        )
        return select(jnp.sum(step * change) > 0, Curvature(*new), self)

    def inverse(self, v: Float[Array, " p"], metric: Float[Array, " p"]) -> Float[Array, " p"]:
        """The inverse Hessian times v; the metric's where no step has been.

        Source: Nocedal and Wright (2006), algorithm 7.4.
        """
        weight = safe_divide(jnp.ones(()), jnp.sum(self.steps * self.changes, axis=1))

        def back(v: Array, pair: tuple) -> tuple[Array, Array]:
            step, change, weight = pair
            share = weight * jnp.sum(step * v)
            return v - share * change, share

        def on(v: Array, pair: tuple) -> tuple[Array, None]:
            step, change, weight, share = pair
            return v + (share - weight * jnp.sum(change * v)) * step, None

        pairs = self.steps, self.changes, weight
        v, shares = jax.lax.scan(back, v, pairs, reverse=True)
        return jax.lax.scan(on, v / metric, (*pairs, shares))[0]

    def slowness(self, metric: Float[Array, " p"]) -> Float[Array, ""]:
        """1 / (1 - r) of EM along the slowest of the steps, r its rate there."""
        sizes = jnp.sum(metric * self.steps**2, axis=1)
        return jnp.max(safe_divide(sizes, jnp.sum(self.steps * self.changes, axis=1)))


@pytree
class Survey:
    """What is known at a mixture.

    Attributes:
        origin: the origin of the chart.
        place: [p] the mixture in it.
        gradient: [p] of the objective there.
        curvature: of the steps in this chart.
    """

    origin: Mixture
    place: Float[Array, " p"]
    gradient: Float[Array, " p"]
    curvature: Curvature


@pytree
class QuasiNewtonState:
    """EM's state, and what is known of the objective about it.

    Attributes:
        em: the current mixture.
        next: where EM's step goes from it.
        survey: gradient and curvature there.
        bold: whether the candidate is a quasi-Newton step.
        taken: how many steps were taken, up to `EARLY`.
        reach: how far a quasi-Newton step may go in a coordinate, adapted to what served.
        outlook: what further steps may win.
    """

    em: EMState
    next: Mixture
    survey: Survey
    bold: Bool[Array, ""]
    taken: Int[Array, ""]
    reach: Float[Array, ""]
    outlook: Outlook


@pytree
class QuasiNewton(Solver):
    """L-BFGS in the metric of the complete data, after a few steps of EM and wherever it fails.

    Coordinates have no units (`Mixture.constrain`), and there the information of rows whose
    components are known is nearly the components' mass: that is the metric, and the last steps add
    what the rows leave open. The gradient is that of the expected cost under the plan at hand,
    from the statistics of the sweep, so each step is one pass over the rows, as EM's is. A
    quasi-Newton step that raises the objective is not taken, and EM's follows, which is at hand:
    the objective never increases beyond rounding.

    Attributes:
        inner: the EM whose steps it takes.
        memory: how many steps tell of the curvature.

    Source: Lange (1995), Statistica Sinica 5, A quasi-Newton acceleration of the EM algorithm;
    Jamshidian and Jennrich (1997), J. R. Statist. Soc. B 59; Nocedal and Wright (2006), ch. 7.2.
    """

    inner: EM = EM()
    memory: int = static(default=10)

    def init(
        self, objective: Objective, mixture: Mixture
    ) -> tuple[QuasiNewtonState, tuple, Progress]:
        """EM's; nothing is known."""
        em, candidate, progress = self.inner.init(objective, mixture)
        zeros = Optimality(objective, mixture).zeros
        survey = Survey(mixture, zeros, zeros, Curvature.none(self.memory, zeros))
        far, one = jnp.asarray(False), jnp.full_like(progress.value, LONGEST)
        outlook = Outlook.none(progress.value)
        # the start itself is no step
        count = jnp.full((), -1, jnp.int32)
        return QuasiNewtonState(em, mixture, survey, far, count, one, outlook), candidate, progress

    def update(
        self, objective: Objective, state: QuasiNewtonState, candidate: tuple, evaluation: Any
    ) -> tuple[QuasiNewtonState, tuple, Progress]:
        """A step of EM is taken, a bold one if it lowered the objective; then the next is made."""
        stepped, following = self._answer(objective, state, candidate, evaluation)
        lower = stepped.progress.objective <= state.em.progress.objective
        lower &= stepped.progress.status == int(Status.CONVERGED)
        failed = state.bold & ~lower
        survey, moved_on = self._surveyed(objective, state, candidate[0], evaluation)
        taken = jnp.minimum(state.taken + 1, EARLY)
        reach = jnp.where(state.bold, jnp.minimum(2 * state.reach, LONGEST), state.reach)
        new = replace(state, em=stepped, next=following, survey=survey, taken=taken, reach=reach)
        # what failed tells of the curvature all the same
        told = replace(state.survey, curvature=survey.curvature)
        length = jnp.max(jnp.abs(survey.place - state.survey.place))
        shorter = 0.25 * jnp.where(moved_on, state.reach, jnp.minimum(length, state.reach))
        kept = replace(state, survey=select(moved_on, state.survey, told), reach=shorter)
        return self._onwards(objective, select(failed, kept, new), failed)

    def _answer(
        self, objective: Objective, state: QuasiNewtonState, candidate: tuple, evaluation: Any
    ) -> tuple[EMState, Mixture]:
        """EM's state at the candidate, and where its step goes from there."""
        stepped, (following, _), _ = self.inner.update(objective, state.em, candidate, evaluation)
        if candidate[0].components.exact_m_step:
            return stepped, following
        # only a step of EM is halved where it raised the objective
        bold = self.inner.accept(objective, state.em, candidate[0], evaluation)
        answer = self.inner.proposal(objective, candidate[0], evaluation)
        return select(state.bold, (bold, answer), (stepped, following))

    def _surveyed(
        self, objective: Objective, state: QuasiNewtonState, mixture: Mixture, evaluation: Any
    ) -> tuple[Survey, Array]:
        """What is known at a candidate, and whether that needs another chart."""
        before = state.survey
        place = Optimality(objective, before.origin).coordinates(mixture)
        # an absent component may hold anything
        place = jnp.where(jnp.isfinite(place), place, 0)
        leaves = (state.taken < 0) | (jnp.max(jnp.abs(place), initial=0) > FAR)
        origin = select(leaves, mixture, before.origin)
        place = jnp.where(leaves, 0, place)
        chart = Optimality(objective, origin)
        gradient = jax.grad(lambda z: objective.surrogate(mixture, evaluation, chart.at(z)))(place)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0)
        step, change = place - before.place, gradient - before.gradient
        known = before.curvature.after(step, change, chart.scale)
        none = Curvature.none(self.memory, place)
        return Survey(origin, place, gradient, select(leaves, none, known)), leaves

    def _onwards(
        self, objective: Objective, state: QuasiNewtonState, failed: Array
    ) -> tuple[QuasiNewtonState, tuple, Progress]:
        """The next candidate from a state, and what it may still win."""
        survey = state.survey
        chart = Optimality(objective, survey.origin)
        way = chart.coordinates(state.next) - survey.place
        metric = chart.stiffness(survey.gradient, jnp.where(jnp.isfinite(way), way, 0))
        step = -survey.curvature.inverse(survey.gradient, metric)
        longest = jnp.max(jnp.abs(step), initial=0)
        step *= jnp.minimum(1, state.reach / jnp.maximum(longest, state.reach))
        bold = (state.taken >= EARLY) & ~failed & (jnp.sum(step * survey.gradient) < 0)
        trial = chart.at(survey.place + jnp.where(bold, step, 0))
        # what EM's step would win, to first order
        won = 0.5 * jnp.sum(survey.gradient**2 / metric)
        outlook, remaining = state.outlook.after(won, survey.curvature.slowness(metric))
        progress = replace(state.em.progress, decrease=won, remaining=remaining)
        em = replace(state.em, progress=progress)
        new = replace(state, em=em, bold=bold, outlook=outlook)
        return new, (select(bold, trial, state.next), em.g), progress

    def mixture(self, state: QuasiNewtonState) -> Mixture:
        """The current mixture."""
        return state.em.current
