"""EM with squared extrapolation: the same optimum in fewer passes over the rows."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float

from .._numerics import safe_divide
from .._pytree import pytree, replace
from ..mixture import Mixture
from ..oracle import Oracle
from ..status import Status
from .base import Progress, Solver
from .em import EM, EMState

STRETCH = 4
"""By how much leaps may grow when one of full length served, and shrink when one did not."""


@pytree
class SquaremState:
    """EM's state, the mixture before its last step, and the leap from the two.

    Attributes:
        em: the current mixture and its plan.
        before: the mixture before it.
        due: whether the next step is a leap.
        longest: the length that a leap may have, adapted to what lowered the objective.
    """

    em: EMState
    before: Mixture
    due: Bool[Array, ""]
    longest: Float[Array, ""]


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

    def init(self, oracle: Oracle, mixture: Mixture) -> SquaremState:
        """EM's; no leap is due."""
        longest = jnp.full_like(mixture.log_weights[0], STRETCH)
        return SquaremState(self.inner.init(oracle, mixture), mixture, jnp.asarray(False), longest)

    def step(self, oracle: Oracle, state: SquaremState) -> SquaremState:
        """A step of EM, or the leap that is due."""
        em, due = state.em, state.due
        next_ = self.inner.proposal(oracle, em)
        leap, length = _leap(state.before, em.current, next_, state.longest)
        new = self.inner.move(oracle, em, optax.tree.where(due, leap, next_))
        healthy = new.progress.status == Status.CONVERGED.code
        lower = healthy & (new.progress.objective <= em.progress.objective)
        # The account of a leap: its values, and what the step of EM before it won.
        landed = replace(new, progress=replace(new.progress, decrease=em.progress.decrease))
        after_leap = optax.tree.where(lower, landed, em)
        longest = jnp.where(length < state.longest, state.longest, STRETCH * length)
        longest = jnp.where(lower, longest, jnp.fmax(length / STRETCH, 1))  # 1 for NaN
        return SquaremState(
            optax.tree.where(due, after_leap, new),
            em.current,
            ~due & em.started,
            jnp.where(due, longest, state.longest),
        )

    def mixture(self, state: SquaremState) -> Mixture:
        """The current mixture."""
        return self.inner.mixture(state.em)

    def progress(self, state: SquaremState) -> Progress:
        """That of EM; the decrease is that of the last step of EM."""
        return self.inner.progress(state.em)


def _leap(first: Mixture, second: Mixture, third: Mixture, longest: Array) -> tuple[Mixture, Array]:
    """Where the path leads: first + 2 a r + a^2 v, a = |r| / |v|, in coordinates about `second`.

    r is the step from first to second, v the step after it less r. A length of 1 is `third`.
    """
    back, unravel = ravel_pytree(first.unconstrained(second))
    on = ravel_pytree(third.unconstrained(second))[0]
    r, v = -back, on + back
    ratio = safe_divide(jnp.sum(r**2), jnp.sum(v**2))
    length = jnp.clip(jnp.sqrt(jax.lax.stop_gradient(ratio)), 1, longest)
    return second.constrain(unravel(back + 2 * length * r + length**2 * v)), length
