"""The one loop of the package: it evaluates, a solver answers. And what it asks of a solver."""

import abc
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ..core.numerics import kl_divergence, log_ratio
from ..core.status import Status
from ..core.tree import pytree, replace, static
from ..model import Mixture, Objective, RunCertificate, Solution


@pytree
class Progress:
    """What the loop needs to know of a solver's state, all scalars but the mass.

    Attributes:
        value: transport value of the state's mixture, in nats; by default the mean negative
            log-likelihood.
        objective: value plus the prior's penalty.
        decrease: what the last step won of the objective, or an estimate of what the next can
            win; the loop stops when it falls to the tolerance.
        mass: [k] the plan's sizes; None from a solver that does not need them.
        status: CONVERGED while all is well, else the `Status` that ends the run.
        remaining: an estimate of what all further steps can win together (see `Outlook`); None
            from a solver that has none.
    """

    value: Array
    objective: Array
    decrease: Array
    mass: Array | None
    status: Array
    remaining: Array | None = None


def no_progress(mixture: Mixture, mass: Array | None, foresees: bool = False) -> Progress:
    """Before the start is evaluated: nothing failed, and anything is lower.

    Args:
        mixture: the start.
        mass: zeros, or None.
        foresees: whether the solver estimates what remains.
    """
    far = jnp.full_like(mixture.log_weights[0], jnp.inf)
    # int32: a Python int becomes int64 where 64 bits are on, and a carry must keep its type
    status = jnp.zeros((), jnp.int32)
    return Progress(far, far, far, mass, status, far if foresees else None)


@pytree
class Outlook:
    """What steps that converge linearly may still win, from what the last ones won.

    Where each step shrinks the error by a factor r, all further ones together win no more than
    1 / (1 - r) times what the last one won: `slowness`. A single estimate is fooled by a leap, or
    by the turn of a valley, so the largest of late counts, an estimate falls to no less than a
    quarter of the one before it, and what remains is the larger of two in a row.

    Attributes:
        slowness: the largest 1 / (1 - r) of late; each step forgets a fifth of it.
        left: the last estimate, or a quarter of the one before it.
    """

    slowness: Array
    left: Array

    @classmethod
    def none(cls, like: Array) -> "Outlook":
        """Before anything is known."""
        return cls(jnp.ones_like(like), jnp.full_like(like, jnp.inf))

    def after(self, won: Array, slowness: Array) -> tuple["Outlook", Array]:
        """The outlook after a step, and what remains."""
        won, slowness = jax.lax.stop_gradient((won, slowness))
        # bounded: NaN and infinity would never be forgotten
        slowness = jnp.clip(jnp.nan_to_num(slowness, nan=SLOWEST), 1, SLOWEST)
        slowness = jnp.maximum(slowness, MEMORY * self.slowness)
        left = jnp.abs(won) * slowness
        remaining = jnp.maximum(left, self.left)
        before = jnp.where(jnp.isfinite(self.left), 0.25 * self.left, 0)
        return Outlook(slowness, jnp.maximum(left, before)), remaining


SLOWEST, MEMORY = 1e4, 0.8
"""The largest slowness that counts, and what each step keeps of it."""
GROWING = 300.0
"""The slowness, at least, of a step of EM that won more than the one before it, with a leap between
them: a plateau's end."""


def ending(mixture: Mixture) -> Array:
    """A component without mass is no success."""
    # proportions sum to 1: below its rounding there is no mass
    empty = mixture.weights < jnp.finfo(mixture.log_weights.dtype).eps
    return jnp.where(jnp.any(empty), int(Status.EMPTY_COMPONENT), int(Status.CONVERGED))


class Solver(abc.ABC):
    """One algorithm. It asks an `Objective`, never a concrete family, kernel or device.

    The loop evaluates a candidate, and the solver answers with the next one. So a run holds one
    evaluation, wherever it is made: under jit, in a batch, or from a host loop over a stream. A
    state is a PyTree of fixed structure. The first candidate is the start itself.
    """

    question: ClassVar[Callable[..., Any]] = staticmethod(Objective.evaluate)
    """(objective, *candidate) to the evaluation that `update` is given."""
    ending: ClassVar[Any] = staticmethod(ending)
    """What an answer says of itself: CONVERGED, or the `Status` that outranks the run's."""

    @abc.abstractmethod
    def init(self, objective: Objective, mixture: Mixture) -> tuple[Any, tuple, Progress]:
        """The state and the candidate before anything is evaluated, and `no_progress`."""

    @abc.abstractmethod
    def update(
        self, objective: Objective, state: Any, candidate: tuple, evaluation: Any
    ) -> tuple[Any, tuple, Progress]:
        """The next state, its candidate, and how it fares.

        On failure the old mixture stays and the status says why. The start itself stays whatever
        it is, and its failure is NON_FINITE.
        """

    @abc.abstractmethod
    def mixture(self, state: Any) -> Mixture:
        """The state's mixture."""


@pytree
class Limits:
    """When to stop.

    Attributes:
        tolerance: the expert's number: stop once a step wins no more of the objective than this,
            in nats per row; may be traced. None: by `gap`.
        max_steps: steps at most; may be traced.
        history_size: static capacity of `Solution.history`.
        gap: without a tolerance, stop once all further steps together are estimated to win no
            more than this of the total log-likelihood, in nats, whatever the number of rows, or
            than rounding hides of its mean over them; may be traced. Solvers without such an
            estimate stop at a tolerance of 1e-8.
    """

    tolerance: Array | float | None = None
    max_steps: Array | int = 2000
    history_size: int = static(default=2001)
    gap: Array | float = 1e-6


@pytree
class Carry:
    """The loop's state: the solver's, what is to be evaluated next, and the account of the run."""

    state: Any
    candidate: tuple
    progress: Progress
    status: Array
    done: Array
    n_steps: Int[Array, ""]
    history: Float[Array, " history_size"]
    decrease_before: Array
    lowest: Array
    idle: Int[Array, ""]
    n_rows: Array


IDLE = 64
"""Steps in a row after which a run stops, where rounding hides what they win and no estimate of it
is the lowest yet: then it is noise."""


def _stopping(limits: Limits, progress: Progress, n_rows: Array) -> tuple[Array, Array]:
    """Whether to stop, and as what. NaN stops, and is never called converged.

    The floor is the square of a step of a few units in the last place: below it there is nothing
    left to win, only rounding, and a tolerance of 0 would run forever.
    """
    decrease, tolerance = progress.decrease, limits.tolerance
    floor = 0.5 * (32 * jnp.finfo(decrease.dtype).eps) ** 2
    near = jnp.asarray(False)
    if tolerance is None:
        # known when compiling
        tolerance = 1e-8
        # per row; float32 hides more of the objective than the gap asks for
        hidden = rounding(progress.objective)
        gap = jnp.maximum(limits.gap / n_rows, hidden)
        if progress.remaining is not None:
            tolerance, near = floor, progress.remaining <= gap
        # rounding may make a step a rise, which is no reason to go on
        tolerance = jnp.maximum(tolerance, jnp.maximum(gap, 4 * hidden) * (decrease < 0))
    converged = near | ((jnp.abs(decrease) <= tolerance) & (tolerance >= floor))
    # not `decrease <= ...`, which NaN would pass by
    stop = near | ~(decrease > jnp.maximum(tolerance, floor))
    return stop, jnp.where(converged, int(Status.CONVERGED), int(Status.STALLED))


def start(objective: Any, solver: Solver, mixture: Any, limits: Limits) -> Carry:
    """Before the start is evaluated, which is step 0.

    Args:
        objective: an `Objective`, or another that answers `rows`, `check`, `admissible` and what
            the solver asks, of something else than mixtures.
        solver: how.
        mixture: where from.
        limits: how far.

    Raises:
        ValueError: at trace time, where the shapes of rows and mixture do not fit together.
        TypeError: for a prior that the family has no use for.
    """
    objective.check(mixture)
    state, candidate, progress = solver.init(objective, objective.admissible(mixture))
    return Carry(
        state,
        candidate,
        progress,
        jnp.asarray(int(Status.MAX_STEPS), jnp.int32),
        jnp.asarray(False),
        # the evaluation of the start counts up to 0
        jnp.asarray(-1, jnp.int32),
        jnp.full((limits.history_size,), jnp.nan, progress.decrease.dtype),
        progress.decrease,
        progress.decrease,
        jnp.asarray(0, jnp.int32),
        # Kish: equal weights count as so many rows, whatever their unit, and absent rows as none
        1 / jnp.sum(objective.rows.weight**2),
    )


def advance(objective: Any, solver: Solver, limits: Limits, carry: Carry) -> Carry:
    """One evaluation, the solver's answer, and its entry in the account.

    A step that failed is not counted. A start that is not finite ends the run, and so does one
    that is optimal already, which a gradient method sees at once.
    """
    evaluation = solver.question(objective, *carry.candidate)
    state, candidate, progress = solver.update(objective, carry.state, carry.candidate, evaluation)
    healthy = progress.status == int(Status.CONVERGED)
    stop, how = _stopping(limits, progress, carry.n_rows)
    won = jnp.abs(carry.progress.objective - progress.objective)
    hidden = won <= rounding(progress.objective)
    idle = jnp.where(hidden & ~(progress.decrease < carry.lowest), carry.idle + 1, 0)
    stop |= idle >= IDLE
    n_steps = carry.n_steps + healthy
    entry = jnp.where(healthy, progress.value, jnp.nan)
    status = jnp.where(healthy, jnp.where(stop, how, int(Status.MAX_STEPS)), progress.status)
    return Carry(
        state,
        candidate,
        progress,
        status.astype(jnp.int32),
        stop | ~healthy,
        jnp.maximum(n_steps, 0),
        # drop: steps beyond the capacity are taken, not recorded
        carry.history.at[carry.n_steps + 1].set(entry, mode="drop"),
        carry.progress.decrease,
        jnp.fmin(carry.lowest, progress.decrease),
        idle,
        carry.n_rows,
    )


def rounding(total: Array) -> Array:
    """What a difference of objectives may be off by."""
    return 16 * jnp.finfo(total.dtype).eps * jnp.maximum(1, jnp.abs(total))


def running(limits: Limits, carry: Carry) -> Array:
    """Whether another step is due."""
    return ~carry.done & (carry.n_steps < limits.max_steps)


def finish(
    objective: Objective, solver: Solver, carry: Carry, meant: Array | bool = True
) -> Solution:
    """The solution; what the solver says of its answer outranks the way the loop ended.

    Args:
        objective: what was minimised.
        solver: how.
        carry: the last one.
        meant: [k] which components are to be there; others are absent on purpose.
    """
    mixture, progress = solver.mixture(carry.state), carry.progress
    # known when compiling: otherwise one more pass over the rows
    if objective.is_likelihood and progress.mass is not None:
        likelihood, mass = progress.value, progress.mass
    else:
        free = objective.likelihood().evaluate(mixture)
        likelihood, mass = free.value, free.mass
    spurious = mixture.components.spurious(objective.prior, mixture.weights, carry.n_rows)
    # components that are absent on purpose are full as far as the ending is concerned
    whole = jnp.where(meant, mixture.log_weights, 0)
    status = jnp.maximum(carry.status, solver.ending(replace(mixture, log_weights=whole)))
    fallen = jnp.any(spurious) & (status <= int(Status.STALLED))
    return Solution(
        mixture,
        progress.value,
        likelihood,
        progress.objective,
        _certificate(mixture, mass, carry.decrease_before, progress.decrease, spurious),
        jnp.where(fallen, int(Status.COLLAPSED), status).astype(jnp.int32),
        carry.n_steps,
        carry.history,
        objective.learns_weights,
    )


def _certificate(
    mixture: Mixture, mass: Array, before: Array, last: Array, spurious: Array
) -> RunCertificate:
    ratio = jnp.abs(last) / jnp.abs(before)
    geometric = (ratio > 0) & (ratio < 1) & jnp.isfinite(before)
    ratio = jnp.where(geometric, ratio, jnp.nan)
    return RunCertificate(
        jnp.max(log_ratio(mass, mixture.log_weights)),
        kl_divergence(mixture.weights, mass),
        # Decreases go with the square of the error.
        jnp.sqrt(ratio),
        jnp.abs(last) * ratio / (1 - ratio),
        spurious,
    )


def run(
    objective: Objective,
    solver: Solver,
    mixture: Mixture,
    limits: Limits,
    meant: Array | bool = True,
) -> Solution:
    """`lax.while_loop`: stops by itself, has no reverse mode. See `finish` for `meant`."""
    carry = start(objective, solver, mixture, limits)
    step = functools.partial(advance, objective, solver, limits)
    carry = jax.lax.while_loop(functools.partial(running, limits), step, carry)
    return finish(objective, solver, carry, meant)


def run_scanned(
    objective: Objective, solver: Solver, mixture: Mixture, limits: Limits, length: int
) -> Solution:
    """`lax.scan` over `length` steps and the start, those after the stop idle.

    Reverse mode goes through.
    """

    @jax.checkpoint
    def body(carry: Carry, _: None) -> tuple[Carry, None]:
        return (
            jax.lax.cond(
                # a cond: after the stop a step costs nothing (but under vmap, where it is a select)
                running(limits, carry),
                lambda c: advance(objective, solver, limits, c),
                lambda c: c,
                carry,
            ),
            None,
        )

    carry, _ = jax.lax.scan(
        body, start(objective, solver, mixture, limits), None, length=length + 1
    )
    return finish(objective, solver, carry)
