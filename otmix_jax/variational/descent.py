"""Block-coordinate descent on the bound: rows, then proportions and parameters."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from ..core.numerics import all_finite
from ..core.status import Status
from ..core.tree import pytree, replace, select
from ..model import Evaluation
from ..solvers.em import decrease_between
from ..solvers.loop import (
    Carry,
    Limits,
    Outlook,
    Progress,
    Solver,
    advance,
    no_progress,
    running,
    start,
)
from .belief import Belief, Bound
from .solution import VariationalSolution


@pytree
class DescentState:
    """The current belief and its account.

    Attributes:
        current: the belief.
        progress: its bound, and what the step to it won.
        outlook: what further steps may win.
        previous: the belief before it.
        before: minus the bound of that, over the rows.
    """

    current: Belief
    progress: Progress
    outlook: Outlook
    previous: Belief
    before: Array


@pytree
class VariationalEM(Solver):
    """One sweep a step; every update is the exact optimum of its block, so the bound never falls.

    Source: Bishop (2006), section 10.2; Attias (2000), A variational Bayesian framework.
    """

    question = staticmethod(Bound.evaluate)  # type: ignore[assignment]

    def init(  # type: ignore[override]
        self, objective: Bound, mixture: Belief
    ) -> tuple[DescentState, tuple, Progress]:
        """See `Solver.init`."""
        expected = mixture.expected()
        progress = no_progress(expected, jnp.zeros_like(expected.log_weights), foresees=True)
        outlook = Outlook.none(progress.value)
        state = DescentState(mixture, progress, outlook, mixture, progress.value)
        return state, (mixture,), progress

    def update(  # type: ignore[override]
        self, objective: Bound, state: DescentState, candidate: tuple, evaluation: Evaluation
    ) -> tuple[DescentState, tuple, Progress]:
        """See `Solver.update`."""
        (belief,) = candidate
        before, first = state.progress, jnp.isinf(state.progress.objective)
        total = evaluation.value + objective.penalty(belief)
        sound = all_finite((belief, evaluation.statistics)) & jnp.isfinite(total)
        old, new = state.current.expected(), belief.expected()
        decrease = decrease_between(before.objective, total, old, new)
        decrease = jnp.where(first, jnp.inf, decrease)
        # no derivative: it only decides when to stop, and infinity over infinity has none
        ratio = jax.lax.stop_gradient(decrease) / jax.lax.stop_gradient(before.decrease)
        slowness = jnp.where((ratio > 0) & (ratio < 1), 1 / (1 - ratio), jnp.inf)
        outlook, remaining = state.outlook.after(decrease, slowness)
        status = jnp.where(sound, before.status, int(Status.NON_FINITE)).astype(jnp.int32)
        after = Progress(total, total, decrease, evaluation.mass, status, remaining)
        taken = DescentState(belief, after, outlook, state.current, before.objective)
        collapsed = jnp.full_like(before.status, int(Status.COLLAPSED))
        failed = replace(state, progress=replace(before, status=collapsed))
        kept = select(sound | first, taken, failed)
        return kept, (objective.updated(belief, evaluation),), kept.progress

    def mixture(self, state: DescentState) -> Belief:  # type: ignore[override]
        """The current belief."""
        return state.current


def run(bound: Bound, initial: Belief, limits: Limits) -> VariationalSolution:
    """`lax.while_loop`: stops by itself, has no reverse mode."""
    step = functools.partial(advance, bound, VariationalEM(), limits)
    carry = start(bound, VariationalEM(), initial, limits)
    return _finished(bound, jax.lax.while_loop(functools.partial(running, limits), step, carry))


def run_scanned(bound: Bound, initial: Belief, limits: Limits, length: int) -> VariationalSolution:
    """`lax.scan` over `length` steps and the start, those after the stop idle; see `run_scanned`
    of the loop: reverse mode goes through.
    """

    @jax.checkpoint
    def body(carry: Carry, _: None) -> tuple[Carry, None]:
        step = functools.partial(advance, bound, VariationalEM(), limits)
        return jax.lax.cond(running(limits, carry), step, lambda c: c, carry), None

    carry = start(bound, VariationalEM(), initial, limits)
    return _finished(bound, jax.lax.scan(body, carry, None, length=length + 1)[0])


def _finished(bound: Bound, carry: Carry) -> VariationalSolution:
    state, progress = carry.state, carry.progress
    # the update is the optimum of its block: it wins how far the belief moved
    moved = state.previous.divergence(state.current)
    after_update = jnp.where(carry.n_steps > 0, moved - bound.count * state.before, jnp.nan)
    return VariationalSolution(
        state.current,
        bound.prior,
        -bound.count * progress.objective,
        after_update,
        bound.count * progress.mass,  # type: ignore[operator]
        carry.status,
        carry.n_steps,
        -bound.count * carry.history,
    )


def run_implicit(bound: Bound, initial: Belief, limits: Limits) -> VariationalSolution:
    """`run`, whose answer has the derivative of the descent's fixed point."""
    still = jax.lax.stop_gradient((bound, initial, limits))
    found = run(*still)
    posterior, lower_bound = _attach(bound, found.posterior, found.lower_bound)
    return replace(found, posterior=posterior, prior=bound.prior, lower_bound=lower_bound)


@jax.custom_jvp
def _attach(bound: Bound, belief: Belief, value: Array) -> tuple[Belief, Array]:
    """The answer as it is, with the derivative of the fixed point of `stepped`."""
    del bound
    return belief, value


@_attach.defjvp
def _attach_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    (bound, *_), (bound_dot, *_) = primals, tangents
    belief, value = _attach(*primals)  # attached again, for derivatives of higher order
    flat, unravel = ravel_pytree(belief)

    def stepped(bound: Bound, z: Array) -> Array:
        return ravel_pytree(bound.stepped(unravel(z)))[0]

    def product(v: Array) -> Array:
        return v - jax.jvp(functools.partial(stepped, bound), (flat,), (v,))[1]

    _, pushed = jax.jvp(lambda b: stepped(b, flat), (bound,), (bound_dot,))
    moved = jax.lax.custom_linear_solve(product, pushed, _solved, transpose_solve=_solved)
    # the belief is the bound's optimum: its own move wins nothing
    _, value_dot = jax.jvp(lambda b: b.lower_bound(belief), (bound,), (bound_dot,))
    return (belief, value), (unravel(moved), value_dot)


def _solved(product: Any, right: Float[Array, " p"]) -> Float[Array, " p"]:
    """By BiCGSTAB: the map is self-adjoint in the metric of the posterior, not in these numbers.

    NaN where that does not converge: the fixed point is none, or no isolated one.
    """
    eps = float(jnp.finfo(right.dtype).eps)
    found = jax.scipy.sparse.linalg.bicgstab(product, right, tol=eps**0.75, atol=0.0)[0]
    missed = jnp.linalg.norm(product(found) - right)
    return jnp.where(missed <= eps**0.375 * jnp.linalg.norm(right), found, jnp.nan)
