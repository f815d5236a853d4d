"""The one loop of the package: when to step again."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from .._pytree import pytree, static
from ..mixture import Mixture
from ..oracle import Oracle
from ..solution import RunCertificate, Solution
from ..status import Status
from ..transport import kl_divergence
from ..transport.plan import log_ratio
from .base import Solver


@pytree
class Limits:
    """When to stop.

    Attributes:
        tolerance: stop once a step wins no more of the objective than this, in nats per row; may
            be traced.
        max_steps: steps at most; may be traced.
        history_size: static capacity of the history.
    """

    tolerance: Array | float
    max_steps: Array | int
    history_size: int = static()


@pytree
class Carry:
    """The loop's state: the solver's, and the account of the run."""

    state: Any
    status: Array
    done: Array
    n_steps: Int[Array, ""]
    history: Float[Array, " history_size"]
    decrease_before: Array


def _stopping(limits: Limits, decrease: Array) -> tuple[Array, Array]:
    """Whether to stop, and as what. NaN stops, and is never called converged.

    The floor is the square of a step of a few units in the last place: below it there is nothing
    left to win, only rounding.
    """
    floor = 0.5 * (32 * jnp.finfo(decrease.dtype).eps) ** 2
    converged = (jnp.abs(decrease) <= limits.tolerance) & (limits.tolerance >= floor)
    stop = ~(decrease > jnp.maximum(limits.tolerance, floor))
    return stop, jnp.where(converged, Status.CONVERGED.code, Status.STALLED.code)


def start(oracle: Oracle, solver: Solver, mixture: Mixture, limits: Limits) -> Carry:
    """Before the start is evaluated, which is step 0."""
    state = solver.init(oracle, oracle.admissible(mixture))
    decrease = solver.progress(state).decrease
    return Carry(
        state,
        jnp.asarray(Status.MAX_STEPS.code, jnp.int32),
        jnp.asarray(False),
        jnp.asarray(-1, jnp.int32),
        jnp.full((limits.history_size,), jnp.nan, decrease.dtype),
        jnp.full_like(decrease, jnp.inf),
    )


def advance(oracle: Oracle, solver: Solver, limits: Limits, carry: Carry) -> Carry:
    """One step, and its entry in the account. A step that failed is not counted.

    A start that is not finite ends the run, and so does one that is optimal already, which a
    gradient method sees at once.
    """
    state = solver.step(oracle, carry.state)
    progress = solver.progress(state)
    healthy = progress.status == Status.CONVERGED.code
    stop, ending = _stopping(limits, progress.decrease)
    n_steps = carry.n_steps + healthy
    entry = jnp.where(healthy, progress.value, jnp.nan)
    return Carry(
        state,
        jnp.where(healthy, jnp.where(stop, ending, Status.MAX_STEPS.code), progress.status),
        stop | ~healthy,
        jnp.maximum(n_steps, 0),
        carry.history.at[carry.n_steps + 1].set(entry, mode="drop"),
        solver.progress(carry.state).decrease,
    )


def running(limits: Limits, carry: Carry) -> Array:
    """Whether another step is due."""
    return ~carry.done & (carry.n_steps < limits.max_steps)


def finish(oracle: Oracle, solver: Solver, carry: Carry) -> Solution:
    """The solution; a component without mass outranks the way the loop ended."""
    mixture = solver.mixture(carry.state)
    progress = solver.progress(carry.state)
    threshold = jnp.finfo(mixture.log_weights.dtype).eps
    empty = jnp.where(
        jnp.any(mixture.weights < threshold), Status.EMPTY_COMPONENT.code, Status.CONVERGED.code
    )
    if oracle.is_likelihood and progress.mass is not None:
        likelihood, mass = progress.value, progress.mass
    else:
        free = oracle.likelihood().evaluate(mixture)
        likelihood, mass = free.value, free.mass
    return Solution(
        mixture,
        progress.value,
        likelihood,
        progress.objective,
        _certificate(mixture, mass, carry.decrease_before, progress.decrease),
        jnp.maximum(carry.status, empty),
        carry.n_steps,
        carry.history,
    )


def _certificate(mixture: Mixture, mass: Array, before: Array, last: Array) -> RunCertificate:
    ratio = jnp.abs(last) / jnp.abs(before)
    geometric = (ratio > 0) & (ratio < 1) & jnp.isfinite(before)
    ratio = jnp.where(geometric, ratio, jnp.nan)
    return RunCertificate(
        jnp.max(log_ratio(mass, mixture.log_weights)),
        kl_divergence(mixture.weights, mass),
        # Decreases go with the square of the error.
        jnp.sqrt(ratio),
        jnp.abs(last) * ratio / (1 - ratio),
    )


def run(oracle: Oracle, solver: Solver, mixture: Mixture, limits: Limits) -> Solution:
    """`lax.while_loop`: stops by itself, has no reverse mode."""
    carry = jax.lax.while_loop(
        lambda c: running(limits, c),
        lambda c: advance(oracle, solver, limits, c),
        start(oracle, solver, mixture, limits),
    )
    return finish(oracle, solver, carry)


def run_scanned(
    oracle: Oracle, solver: Solver, mixture: Mixture, limits: Limits, length: int
) -> Solution:
    """`lax.scan` over `length` steps and the start, those after the stop idle.

    Reverse mode goes through.
    """

    @jax.checkpoint
    def body(carry: Carry, _: None) -> tuple[Carry, None]:
        return (
            jax.lax.cond(
                running(limits, carry),
                lambda c: advance(oracle, solver, limits, c),
                lambda c: c,
                carry,
            ),
            None,
        )

    carry, _ = jax.lax.scan(body, start(oracle, solver, mixture, limits), None, length=length + 1)
    return finish(oracle, solver, carry)
