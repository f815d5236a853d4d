"""Wrappers that first step on an easier problem, then hand over to the solver as it is."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .._pytree import pytree, replace, static
from ..mixture import Mixture
from ..oracle import Oracle
from ..transport.couplings import Balanced
from .base import Progress, Solver
from .em import EM


class Staged(Solver):
    """Takes `steps` steps on other problems before its first step on the real one.

    They are part of the start: they count in no `n_steps`, and the history begins after them.
    """

    inner: Solver
    steps: int

    @abc.abstractmethod
    def early(self, oracle: Oracle, count: Array) -> Oracle:
        """The problem of early step number `count`, counted from 0."""

    def begin(self, mixture: Mixture) -> Mixture:
        """The start of the early steps."""
        return mixture

    def init(self, oracle: Oracle, mixture: Mixture) -> Any:
        """The early steps, then the inner solver's start on the real problem."""
        if self.steps == 0:
            return self.inner.init(oracle, mixture)

        def body(count: Array, state: Any) -> Any:
            # A step moves by the plan at hand, and makes the next one; the first makes the first.
            return self.inner.step(self.early(oracle, jnp.minimum(count, self.steps - 1)), state)

        first = self.inner.init(self.early(oracle, jnp.asarray(0)), self.begin(mixture))
        last = jax.lax.fori_loop(0, self.steps + 1, body, first)
        reached = self.inner.mixture(last)
        if not oracle.problem.weights_are_learned:
            reached = replace(reached, log_weights=mixture.log_weights)
        return self.inner.init(oracle, reached)

    def step(self, oracle: Oracle, state: Any) -> Any:
        """The inner solver's."""
        return self.inner.step(oracle, state)

    def mixture(self, state: Any) -> Mixture:
        """The inner solver's."""
        return self.inner.mixture(state)

    def progress(self, state: Any) -> Progress:
        """The inner solver's."""
        return self.inner.progress(state)


@pytree
class Annealed(Staged):
    """A schedule of entropies, then the problem's own: deterministic annealing.

    Epsilon below 1 sharpens the plan, above 1 blurs it. Do not go above 1 with learned
    covariances: components that merge there stay merged (notebooks/02_epsilon.ipynb).

    Attributes:
        inner: the solver, usually `EM()`.
        schedule: step number to epsilon > 0, for example an optax schedule.
        steps: how many steps it holds for.
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

    No component can starve in these steps. That leads out of some poor local optima, and into
    others where the groups' sizes differ much (docs/balanced_start.md has the table).

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
