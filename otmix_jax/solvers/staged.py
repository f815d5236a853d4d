"""Wrappers that first step on an easier problem, then hand over to the solver as it is."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..core.tree import pytree, replace, static
from ..model import Mixture, Objective
from ..transport.couplings import Balanced
from .em import EM
from .loop import Progress, Solver


class Prepared(Solver):
    """The inner solver, from where `init` has led: what it does counts in no `n_steps`, and the
    history begins after it.
    """

    inner: Any

    @property
    def question(self) -> Callable[..., Any]:  # type: ignore[override]
        """The inner solver's."""
        return self.inner.question

    @property
    def ending(self) -> Callable[[Mixture], Array]:  # type: ignore[override]
        """The inner solver's."""
        return self.inner.ending

    def update(
        self, objective: Objective, state: Any, candidate: tuple, evaluation: Any
    ) -> tuple[Any, tuple, Progress]:
        """The inner solver's."""
        return self.inner.update(objective, state, candidate, evaluation)

    def mixture(self, state: Any) -> Mixture:
        """The inner solver's."""
        return self.inner.mixture(state)


class Staged(Prepared):
    """Takes `steps` steps on other problems before its first step on the real one."""

    steps: int

    @abc.abstractmethod
    def early(self, objective: Objective, count: Array) -> Objective:
        """The problem of early step number `count`, counted from 0."""

    def begin(self, mixture: Mixture) -> Mixture:
        """The start of the early steps."""
        return mixture

    def init(self, objective: Objective, mixture: Mixture) -> tuple[Any, tuple, Progress]:
        """The early steps, then the inner solver's start on the real problem.

        In `init`, so that under `vmap` the steps after them cost nothing more.
        """
        if self.steps == 0:
            return self.inner.init(objective, mixture)

        def body(count: Array, carry: tuple[Any, tuple]) -> tuple[Any, tuple]:
            state, candidate = carry
            # one round more than steps, so the last problem is asked twice
            early = self.early(objective, jnp.minimum(count, self.steps - 1))
            evaluation = self.inner.question(early, *candidate)
            return self.inner.update(early, state, candidate, evaluation)[:2]

        first = self.inner.init(self.early(objective, jnp.asarray(0)), self.begin(mixture))
        # The first evaluation is that of the start, and no step.
        state, _ = jax.lax.fori_loop(0, self.steps + 1, body, first[:2])
        reached = self.inner.mixture(state)
        # early steps may have held other proportions than those that are to stay
        if not objective.learns_weights:
            reached = replace(reached, log_weights=mixture.log_weights)
        return self.inner.init(objective, reached)


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

    def early(self, objective: Objective, count: Array) -> Objective:
        """The problem at the schedule's epsilon."""
        dtype = objective.rows.weight.dtype
        return replace(objective, epsilon=jnp.asarray(self.schedule(count), dtype))


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

    def early(self, objective: Objective, count: Array) -> Objective:
        """The balanced problem, proportions fixed."""
        del count
        return replace(objective, coupling=Balanced(), learns_weights=False)

    def begin(self, mixture: Mixture) -> Mixture:
        """Equal proportions for the components that are present."""
        present = mixture.log_weights > -jnp.inf
        # a sum of booleans is an integer, and its logarithm of the default precision: cast back
        equal = jnp.where(present, -jnp.log(jnp.sum(present)), -jnp.inf)
        return replace(mixture, log_weights=equal.astype(mixture.log_weights.dtype))
