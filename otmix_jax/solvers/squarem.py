"""EM with squared extrapolation: the same optimum in fewer passes over the rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float

from ..core.numerics import safe_divide
from ..core.status import Status
from ..core.tree import pytree, replace, select
from ..model import Mixture, Objective
from .em import EM, EMState
from .loop import GROWING, Outlook, Progress, Solver

STRETCH = 4
"""By how much leaps may grow when one of full length served, and shrink when one did not."""


@pytree
class SquaremState:
    """EM's state, and the leap that is being tried.

    Attributes:
        em: the current mixture.
        next: where EM's step goes from it, should the leap fail.
        leaping: whether the candidate is a leap.
        length: the leap's length.
        longest: the length that a leap may have, adapted to what lowered the objective.
        outlook: what further steps may win.
    """

    em: EMState
    next: Mixture
    leaping: Bool[Array, ""]
    length: Float[Array, ""]
    longest: Float[Array, ""]
    outlook: Outlook


@pytree
class Squarem(Solver):
    """EM whose every other step leaps along the path of the last two: SQUAREM.

    Where EM creeps, successive steps shrink by nearly the same factor; from two of them the leap
    finds how far they would lead. Each step is one pass over the rows, as EM's is. A leap that
    raises the objective is not taken, so the objective never increases beyond rounding, and the
    tolerance is held against the steps of EM between the leaps: it means what it means for `EM`.
    Leaps are made in unconstrained coordinates (`Mixture.constrain`), whatever the units of x.

    Attributes:
        inner: the EM whose steps it takes.

    Source: Varadhan and Roland (2008), Scandinavian Journal of Statistics 35, scheme S3.
    """

    inner: EM = EM()

    def init(self, objective: Objective, mixture: Mixture) -> tuple[SquaremState, tuple, Progress]:
        """EM's; no leap is due."""
        em, candidate, progress = self.inner.init(objective, mixture)
        one = jnp.ones_like(mixture.log_weights[0])
        return (
            SquaremState(em, mixture, jnp.asarray(False), one, STRETCH * one, Outlook.none(one)),
            candidate,
            progress,
        )

    def update(
        self, objective: Objective, state: SquaremState, candidate: tuple, evaluation: Any
    ) -> tuple[SquaremState, tuple, Progress]:
        """After a step of EM comes a leap, after a leap the step of EM from where it led."""
        stepped, (following, _), _ = self.inner.update(objective, state.em, candidate, evaluation)
        leaped, here = stepped, following
        if not candidate[0].components.exact_m_step:
            # A leap is taken or not; only a step of EM is halved where it raised the objective.
            leaped = self.inner.accept(objective, state.em, candidate[0], evaluation)
            here = self.inner.proposal(objective, candidate[0], evaluation)
        # A leap's account: its values, and what the step of EM before it won.
        before = state.em.progress
        won = replace(leaped.progress, decrease=before.decrease, remaining=before.remaining)
        landed = replace(leaped, progress=won)
        lower = landed.progress.objective <= state.em.progress.objective
        lower &= landed.progress.status == int(Status.CONVERGED)
        after_leap = select(lower, (landed, here), (state.em, state.next))
        em, next_ = select(state.leaping, after_leap, (stepped, following))
        longest = jnp.where(state.length < state.longest, state.longest, STRETCH * state.length)
        longest = jnp.where(lower, longest, jnp.fmax(state.length / STRETCH, 1))  # 1 for NaN
        longest = jnp.where(state.leaping, longest, state.longest)
        leap, length, slowness = _leap(state.em.current, em.current, next_, longest)
        # leaps hide by what factor the steps shrink; their own path shows it, or that they grow
        grew = em.progress.decrease > before.decrease
        slowness = jnp.where(grew, jnp.fmax(slowness, GROWING), slowness)
        outlook, remaining = state.outlook.after(em.progress.decrease, slowness)
        outlook = select(state.leaping, state.outlook, outlook)
        remaining = jnp.where(state.leaping, em.progress.remaining, remaining)  # type: ignore[arg-type]
        em = replace(em, progress=replace(em.progress, remaining=remaining))
        # inf before the start is evaluated: a leap needs two steps behind it
        due = ~state.leaping & jnp.isfinite(state.em.progress.objective)
        new = SquaremState(em, next_, due, length, longest, outlook)
        return new, (select(due, leap, next_), em.g), em.progress

    def mixture(self, state: SquaremState) -> Mixture:
        """The current mixture."""
        return state.em.current


def _leap(
    first: Mixture, second: Mixture, third: Mixture, longest: Array
) -> tuple[Mixture, Array, Array]:
    """Where the path leads: first + 2 a r + a^2 v, a = |r| / |v|, in coordinates about `second`.

    r is the step from first to second, v the step after it less r. A length of 1 is `third`.
    Returns the place, the length that was taken, and a: 1 / (1 - r) of the slowest direction.
    """
    back, unravel = ravel_pytree(first.unconstrained(second))
    on = ravel_pytree(third.unconstrained(second))[0]
    r, v = -back, on + back
    ratio = safe_divide(jnp.sum(r**2), jnp.sum(v**2))
    # no derivative: that of the root is infinite where the path stands still
    slowness = jnp.sqrt(jax.lax.stop_gradient(ratio))
    length = jnp.clip(slowness, 1, longest)
    return second.constrain(unravel(back + 2 * length * r + length**2 * v)), length, slowness
