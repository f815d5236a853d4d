"""Streams that never end: a mixture that takes in one batch of rows after another."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ..core.numerics import accurate_sum
from ..core.reading import numbers
from ..core.status import Status
from ..core.tree import cast, is_plain, pytree, replace, static
from ..model import Mixture, Objective, Problem
from ..solvers.loop import ending
from ..solvers.online import ROWS
from ..solvers.tiles import Running, learn
from ..transport.couplings import Coupling
from .edge import check_goal, check_number
from .options import Goal


@pytree
class Absorbed:
    """A mixture and what it remembers of the rows so far: the state of `absorb`. A PyTree.

    Attributes:
        mixture: the current one; always finite, if the first was.
        running: statistics of the rows so far, faded; None before the first batch.
        n_refused: batches that were left out, as NON_FINITE.
        value: of the last batch under the mixture before it, in nats per row; by default the mean
            negative log-likelihood: a forecast's score.
        status: of the last batch: CONVERGED while all is well; NON_FINITE if it was left out, for
            rows that are not finite, or that no component can hold; COLLAPSED if the M-step led to
            no regular mixture, and the old one stayed; EMPTY_COMPONENT.
        exponent: of the steps.
        memory: rows that the estimate holds at least.
        problem: (epsilon, coupling, prior).
        learn_weights: see `Goal`.
    """

    mixture: Mixture
    running: Running | None
    n_refused: Int[Array, ""]
    value: Float[Array, ""]
    status: Int[Array, ""]
    exponent: Array | float
    memory: Array | float
    problem: tuple[Any, Coupling, Any]
    learn_weights: bool | None = static(default=None)

    @property
    def n_rows(self) -> Float[Array, ""]:
        """The weight of all rows that were taken in."""
        return jnp.zeros_like(self.value) if self.running is None else self.running.total

    @property
    def n_steps(self) -> Int[Array, ""]:
        """Batches that were taken in."""
        return jnp.zeros_like(self.status) if self.running is None else self.running.count


def absorbing(
    mixture: Mixture,
    *,
    goal: Goal = Goal(),
    exponent: float = 0.6,
    memory: float | None = None,
) -> Absorbed:
    """The state from which `absorb` starts: a mixture, such as `fit` found on the first rows.

    Args:
        mixture: the start, in the precision of the stream.
        goal: epsilon, coupling and prior, as in `fit`; the prior's strengths are relative to all
            rows together, and a coupling's sizes to each batch.
        exponent: batch number t, from 0, moves the statistics by (t + 2)^-exponent: in (1 / 2, 1]
            for a law that stays. 0, with a `memory`, follows one that drifts: rows then fade as in
            a window of so many.
        memory: rows that the estimate holds at least: the mixture stays until so many are in, and
            steps are no longer than that. None is five for each parameter.

    Raises:
        TypeError: for a ridge, which is relative to data, and a prior without use.
        ValueError: for numbers out of range.

    Source: Cappé and Moulines (2009), J. R. Statist. Soc. B 71.
    """
    if goal.ridge is not None:
        raise TypeError("a ridge is relative to the rows of a fit: give a prior, such as Ridge.of")
    described = mixture.components.described()
    goal, _ = check_goal(goal, mixture.n_components, described)
    memory = (
        float(ROWS * mixture.n_parameters) if memory is None else check_number(memory, "memory")
    )
    if not 0 <= exponent <= 1:
        raise ValueError(f"exponent must be between 0 and 1, not {exponent!r}")
    mixture = jax.tree.map(jnp.asarray, mixture)
    zero, none = jnp.zeros_like(mixture.log_weights[0]), jnp.zeros((), jnp.int32)
    settings = (jnp.asarray(exponent), jnp.asarray(memory))
    told = goal.epsilon, goal.coupling, goal.prior
    state = Absorbed(mixture, None, none, zero, none, *settings, told, goal.learn_weights)
    return cast(state, mixture.log_weights.dtype)


def absorb(state: Absorbed, x: Any, sample_weight: Any = None) -> Absorbed:
    """Takes in a batch of rows: what scikit-learn calls `partial_fit`. Pure.

    One step of stepwise EM: the batch's statistics are mixed into those that run, and the M-step
    follows. Rows are not kept. One program for each shape of a batch: keep to a few, and fill the
    last with rows of weight 0.

    Args:
        state: what `absorbing`, or the last call, returned.
        x: [n, d] rows, as in `fit`; nothing about their values raises.
        sample_weight: [n] weights >= 0, which count across batches too.

    Returns:
        The next state.

    Raises:
        ValueError: at trace time, for rows of other columns than the mixture describes.
        TypeError: at trace time, for a family that cannot re-centre its statistics.

    Example:
        >>> import jax, otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> state = om.absorbing(om.fit(x[:100], 2, key=0).mixture)
        >>> for batch in (x[100:150], x[150:200], x[200:250]):
        ...     state = om.absorb(state, batch)
        >>> int(state.n_steps), om.Status(int(state.status)).name
        (3, 'CONVERGED')
    """
    dtype = state.mixture.log_weights.dtype
    epsilon, coupling, prior = state.problem
    given = Problem(x, sample_weight, epsilon, coupling, prior, state.learn_weights)
    problem = cast(given.checked(state.mixture), dtype)
    if sample_weight is None:
        total = jnp.asarray(problem.n_rows, dtype)
    else:
        # as given: what is checked may be in another unit
        weight = sample_weight if is_plain(sample_weight) else numbers(sample_weight, "weight")
        total = accurate_sum(jnp.asarray(weight).astype(dtype))
    if state.running is None:
        # here, or the first batch would be another program than all others
        state = replace(state, running=Running.none(Objective.of(problem), state.mixture))
    return _absorb(state, problem, total)


@jax.jit
def _absorb(state: Absorbed, problem: Problem, total: Array) -> Absorbed:
    objective, running = Objective.of(problem), state.running
    objective.check(state.mixture)
    assert running is not None  # absorb
    mixture = objective.admissible(state.mixture)
    mixture, running, value, status = learn(
        objective, mixture, running, total, state.exponent, state.memory
    )
    left_out = status == int(Status.NON_FINITE)
    return replace(
        state,
        mixture=mixture,
        running=running,
        n_refused=state.n_refused + left_out,
        value=value,
        status=jnp.maximum(status, ending(mixture)).astype(jnp.int32),
    )
