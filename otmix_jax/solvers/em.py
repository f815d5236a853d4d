"""Expectation-maximisation as the note has it: block-coordinate descent on transport."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool

from .._numerics import all_finite, normalize, safe_log
from .._pytree import pytree, replace
from ..mixture import Mixture
from ..oracle import Evaluation, Oracle
from ..status import Status
from .base import Progress, Solver, no_progress


@pytree
class EMState:
    """A mixture, its own plan (block 1, already done), and the account of the last step.

    Until the start is evaluated, `started` is false and the plan is blank.
    """

    current: Mixture
    plan: Evaluation
    progress: Progress
    started: Bool[Array, ""]


@pytree
class EM(Solver):
    """Minimises over the plan, the proportions, the parameters, in this order, again and again.

    One step is one sweep: blocks 2 and 3 use the plan of the current mixture, and the plan of the
    new one gives its value, so `value` always belongs to the mixture it stands beside. The
    objective never increases beyond rounding. With a `Balanced` coupling this is Sinkhorn-EM.

    Source: Vayer and Lasalle, arXiv 2501.12005, section 3: the plan (3.2), the proportions, then
    the means (3.5) before the covariances (3.4), and (3.4) without its printed factor 1/n.
    """

    def init(self, oracle: Oracle, mixture: Mixture) -> EMState:
        """A blank plan.

        Raises:
            ValueError: at trace time, if proportions are to be learned under prescribed sizes.
        """
        if oracle.problem.coupling.fixes_weights and oracle.problem.weights_are_learned:
            raise ValueError(
                "EM cannot learn the proportions under a Balanced coupling: the plan's sizes are "
                "the proportions, so the blocks (plan, proportions) are stuck where they start. "
                "Use SemiRelaxed() or Penalized(rho), or leave learn_weights=None."
            )
        learned = oracle.problem.weights_are_learned
        if learned and oracle.prior_on_weights and not oracle.is_likelihood:
            raise ValueError(
                "EM learns proportions under a Dirichlet prior only in maximum likelihood "
                "(epsilon=None, SemiRelaxed()): use the Gradient solver"
            )
        shapes = jax.eval_shape(oracle.evaluate, mixture)
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return EMState(mixture, blank, no_progress(mixture, blank.mass), jnp.asarray(False))

    def step(self, oracle: Oracle, state: EMState) -> EMState:
        """Proportions, parameters, then the plan of the new mixture."""
        return self.move(oracle, state, self.proposal(oracle, state))

    def move(self, oracle: Oracle, state: EMState, new: Mixture) -> EMState:
        """The state at `new`, but at the start while that is not evaluated yet."""
        mixture, before, started = state.current, state.progress, state.started
        new = optax.tree.where(started, new, mixture)
        plan = oracle.evaluate(new, start=state.plan.g)
        objective = plan.value + oracle.penalty(new)
        sound = all_finite((plan.statistics, plan.g)) & jnp.isfinite(objective)
        sound &= all_finite(new.components) | ~started
        decrease = _decrease(before.objective, objective, mixture, new)
        after = Progress(
            plan.value,
            objective,
            jnp.where(started, decrease, before.decrease),
            plan.mass,
            jnp.where(sound, before.status, Status.NON_FINITE.code),
        )
        failed = replace(before, status=jnp.full_like(before.status, Status.COLLAPSED.code))
        yes = jnp.ones_like(started)
        return optax.tree.where(
            sound | ~started, EMState(new, plan, after, yes), replace(state, progress=failed)
        )

    def proposal(self, oracle: Oracle, state: EMState) -> Mixture:
        """Blocks 2 and 3, for the plan at hand: where the next step goes."""
        mixture, plan = state.current, state.plan
        components = mixture.components.maximize(plan.statistics, plan.mass, oracle.problem.prior)
        if not oracle.problem.weights_are_learned:
            return Mixture(mixture.log_weights, components)
        return Mixture(safe_log(normalize(oracle.proportions(plan.mass))), components)

    def mixture(self, state: EMState) -> Mixture:
        """The current mixture."""
        return state.current

    def progress(self, state: EMState) -> Progress:
        """The objective's decrease in the last step."""
        return state.progress


def _decrease(before: Array, after: Array, old: Mixture, new: Mixture) -> Array:
    """The objective's decrease; where rounding hides it, half the squared step instead.

    In coordinates whose complete-data information is of order one the two agree within a small
    factor, and the square of a step keeps the digits that a difference of objectives loses.
    """
    difference = before - after
    rounding = 4 * jnp.finfo(after.dtype).eps * jnp.maximum(1, jnp.abs(after))
    # About the new mixture, whose factors the pass inverts anyway.
    half_square = 0.5 * jnp.sum(ravel_pytree(old.unconstrained(new))[0] ** 2)
    return jnp.where(jnp.abs(difference) > rounding, difference, half_square)
