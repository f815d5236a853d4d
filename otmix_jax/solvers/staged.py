"""Wrappers that change the problem for the first steps, then hand over to the solver as it is."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from .._pytree import pytree, replace, static
from ..mixture import Mixture
from ..oracle import Oracle
from ..transport.couplings import Balanced
from .base import Progress, Solver
from .em import EM


@pytree
class StagedState:
    """The inner solver's state, and how many steps were taken."""

    inner: Any
    count: Int[Array, ""]


class Staged(Solver):
    """Steps on another problem for `steps` steps; the run cannot end before they are over."""

    inner: Solver
    steps: int

    @abc.abstractmethod
    def early(self, oracle: Oracle, count: Array) -> Oracle:
        """The problem of early step number `count`, counted from 0."""

    def begin(self, mixture: Mixture) -> Mixture:
        """The start of the early steps."""
        return mixture

    def init(self, oracle: Oracle, mixture: Mixture) -> StagedState:
        """The inner solver's, on the first early problem."""
        first = self.early(oracle, jnp.zeros((), jnp.int32)) if self.steps else oracle
        start = self.begin(mixture) if self.steps else mixture
        return StagedState(self.inner.init(first, start), jnp.zeros((), jnp.int32))

    def step(self, oracle: Oracle, state: StagedState) -> StagedState:
        """Early: a step on the early problem. At the border: the mixture starts afresh."""

        def early(_: None) -> Any:
            return self.inner.step(self.early(oracle, state.count), state.inner)

        def border(_: None) -> Any:
            return self.inner.init(oracle, self.inner.mixture(state.inner))

        def late(_: None) -> Any:
            return self.inner.step(oracle, state.inner)

        stage = (state.count >= self.steps).astype(jnp.int32) + (state.count > self.steps)
        inner = jax.lax.switch(stage, [early, border, late], None)
        return StagedState(inner, state.count + 1)

    def mixture(self, state: StagedState) -> Mixture:
        """The inner solver's mixture."""
        return self.inner.mixture(state.inner)

    def progress(self, state: StagedState) -> Progress:
        """The inner solver's; an infinite decrease until the problem is the real one."""
        progress = self.inner.progress(state.inner)
        waiting = state.count <= self.steps
        return replace(progress, decrease=jnp.where(waiting, jnp.inf, progress.decrease))


@pytree
class Annealed(Staged):
    """A schedule of entropies, then the problem's own: deterministic annealing.

    Epsilon below 1 sharpens the plan, above 1 blurs it. Never go above 1 with learned covariances:
    all components then collapse into one, and the way back is blocked.

    Attributes:
        inner: the solver, usually `EM()`.
        schedule: step number to epsilon > 0, for example an optax schedule.
        steps: how many steps it holds for; the next one starts afresh at the problem's epsilon.
    """

    inner: Solver
    schedule: Callable[[Array], Array | float] = static()
    steps: int = static(default=50)

    def early(self, oracle: Oracle, count: Array) -> Oracle:
        """The problem at the schedule's epsilon."""
        dtype = jnp.asarray(oracle.problem.x).dtype
        epsilon = jnp.asarray(self.schedule(count), dtype)
        return replace(oracle, problem=replace(oracle.problem, epsilon=epsilon))


@pytree
class BalancedStart(Staged):
    """Sinkhorn-EM with equal proportions first: every component is held to its share of the rows.

    No component can starve in these steps, which leads out of some poor local optima.

    Attributes:
        inner: the solver that follows, usually `EM()`.
        steps: how many balanced steps.
    """

    inner: Solver = EM()
    steps: int = static(default=20)

    def early(self, oracle: Oracle, count: Array) -> Oracle:
        """The balanced problem, proportions fixed."""
        del count
        problem = replace(oracle.problem, coupling=Balanced(), learn_weights=False)
        return replace(oracle, problem=problem)

    def begin(self, mixture: Mixture) -> Mixture:
        """Equal proportions for the components that are present."""
        present = mixture.log_weights > -jnp.inf
        equal = jnp.where(present, -jnp.log(jnp.sum(present)), -jnp.inf)
        return replace(mixture, log_weights=equal.astype(mixture.log_weights.dtype))
