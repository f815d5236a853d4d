"""Expectation-maximisation as the note has it: block-coordinate descent on transport."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Int

from ..core.numerics import all_finite, normalize, safe_log
from ..core.status import Status
from ..core.tree import pytree, replace, select
from ..model import Evaluation, Mixture, Objective
from .loop import Outlook, Progress, Solver, no_progress, rounding

HALVINGS = 16
"""How often a step that raised the objective, or left the finite numbers, is halved at most."""


@pytree
class EMState:
    """The current mixture and its account.

    Attributes:
        current: the mixture.
        progress: its value, and what the step to it won.
        g: [k] its column potentials.
        halvings: how often the step from it was halved.
        outlook: what further steps may win.
    """

    current: Mixture
    progress: Progress
    g: Array
    halvings: Int[Array, ""]
    outlook: Outlook


@pytree
class EM(Solver):
    """Minimises over the plan, the proportions, the parameters, in this order, again and again.

    One step is one sweep: the plan of a mixture gives its value, and blocks 2 and 3 the next
    candidate. The objective never increases beyond rounding: where a family's M-step is not exact
    and a step raised it, half the step is tried. With a `Balanced` coupling this is Sinkhorn-EM.

    Source: Vayer and Lasalle, arXiv 2501.12005, section 3: the plan (3.2), the proportions, then
    the means (3.5) before the covariances (3.4), and (3.4) without its printed factor 1/n.
    """

    def init(self, objective: Objective, mixture: Mixture) -> tuple[EMState, tuple, Progress]:
        """See `Solver.init`.

        Raises:
            ValueError: at trace time, if proportions are to be learned under prescribed sizes.
        """
        learned = objective.learns_weights
        if objective.coupling.fixes_weights and learned:
            raise ValueError(
                "EM cannot learn the proportions under a Balanced coupling: the plan's sizes are "
                "the proportions, so the blocks (plan, proportions) are stuck where they start. "
                "Use SemiRelaxed() or Penalized(rho), or leave learn_weights=None."
            )
        prior_on_weights = objective.prior is not None and objective.prior.weights is not None
        if learned and prior_on_weights and not objective.is_likelihood:
            raise ValueError(
                "EM learns proportions under a Dirichlet prior only in maximum likelihood "
                "(epsilon=None, SemiRelaxed()): use the Gradient solver"
            )
        zeros = jnp.zeros_like(mixture.log_weights)
        progress = no_progress(mixture, zeros, foresees=True)
        outlook = Outlook.none(progress.value)
        state = EMState(mixture, progress, zeros, jnp.zeros((), jnp.int32), outlook)
        return state, (mixture, zeros), progress

    def update(
        self, objective: Objective, state: EMState, candidate: tuple, evaluation: Evaluation
    ) -> tuple[EMState, tuple, Progress]:
        """The candidate becomes current, and blocks 2 and 3 say where its step goes."""
        mixture, _ = candidate
        new = self.accept(objective, state, mixture, evaluation)
        following = self.proposal(objective, mixture, evaluation)
        # known when compiling: an exact M-step pays for no halving
        if not mixture.components.exact_m_step:
            before, after = state.progress, new.progress
            # a step beyond the finite numbers is too long as well; the start is what it is
            lost = (after.status != before.status) & jnp.isfinite(before.objective)
            rise = after.objective > before.objective + rounding(after.objective)
            shorter = state.current.constrain(_half(mixture.unconstrained(state.current)))
            tried = replace(state, halvings=state.halvings + 1)
            why = jnp.where(lost, after.status, int(Status.STALLED))
            status = jnp.where(tried.halvings > HALVINGS, why, before.status)
            tried = replace(tried, progress=replace(before, status=status))
            new, following = select(rise | lost, (tried, shorter), (new, following))
        return new, (following, new.g), new.progress

    def accept(
        self, objective: Objective, state: EMState, mixture: Mixture, evaluation: Evaluation
    ) -> EMState:
        """The state at a mixture; the old one, and why, if it is no regular mixture."""
        # inf: the start has not been evaluated yet, see `no_progress`
        before, first = state.progress, jnp.isinf(state.progress.objective)
        total = evaluation.value + objective.penalty(mixture)
        sound = all_finite((evaluation.statistics, evaluation.g)) & jnp.isfinite(total)
        # An absent component of the start may hold anything; one that a step made may not.
        sound &= all_finite(mixture.components) | first
        decrease = decrease_between(before.objective, total, state.current, mixture)
        decrease = jnp.where(first, jnp.inf, decrease)
        # no derivative: it only decides when to stop, and infinity over infinity has none
        ratio = jax.lax.stop_gradient(decrease) / jax.lax.stop_gradient(before.decrease)
        slowness = jnp.where((ratio > 0) & (ratio < 1), 1 / (1 - ratio), jnp.inf)
        outlook, remaining = state.outlook.after(decrease, slowness)
        after = Progress(
            evaluation.value,
            total,
            decrease,
            evaluation.mass,
            jnp.where(sound, before.status, int(Status.NON_FINITE)).astype(jnp.int32),
            remaining,
        )
        # full_like keeps int32, which the carry of a while_loop must
        collapsed = jnp.full_like(before.status, int(Status.COLLAPSED))
        failed = replace(state, progress=replace(before, status=collapsed))
        taken = EMState(mixture, after, evaluation.g, jnp.zeros_like(state.halvings), outlook)
        return select(sound | first, taken, failed)

    def proposal(self, objective: Objective, mixture: Mixture, evaluation: Evaluation) -> Mixture:
        """Blocks 2 and 3, for the plan at hand: where the step goes."""
        components = mixture.components.maximize(
            evaluation.statistics, evaluation.mass, objective.prior
        )
        if not objective.learns_weights:
            return Mixture(mixture.log_weights, components)
        # masses sum to 1 up to rounding, which would add up over the steps
        proportions = normalize(objective.proportions(evaluation.mass))
        return Mixture(safe_log(proportions), components)

    def mixture(self, state: EMState) -> Mixture:
        """The current mixture."""
        return state.current


def _half(coordinates: dict) -> dict:
    flat, unravel = ravel_pytree(coordinates)
    # half of infinity is no shorter; 64 is far in any coordinate without a unit, and comes back
    return unravel(0.5 * jnp.where(jnp.isinf(flat), 64 * jnp.sign(flat), flat))


def decrease_between(before: Array, after: Array, old: Mixture, new: Mixture) -> Array:
    """The objective's decrease; where rounding hides it, half the squared step instead.

    In coordinates whose complete-data information is of order one the two agree within a small
    factor, and the square of a step keeps the digits that a difference of objectives loses.
    """
    difference = before - after
    # About the new mixture, whose factors the pass inverts anyway.
    half_square = 0.5 * jnp.sum(ravel_pytree(old.unconstrained(new))[0] ** 2)
    return jnp.where(jnp.abs(difference) > rounding(after), difference, half_square)
