"""The contract of an adjoint: how to run a solver so that its answer has a derivative."""

import abc

from jax import Array
from jaxtyping import Float

from ..core.tree import replace
from ..model import Mixture, Objective, Solution
from ..solvers.loop import Limits, Solver


class Adjoint(abc.ABC):
    """Knows the objective and the loop, no particular solver."""

    @abc.abstractmethod
    def run(
        self, objective: Objective, solver: Solver, initial: Mixture, limits: Limits
    ) -> Solution:
        """The solution, differentiable in the problem."""


def frozen_weights(objective: Objective, initial: Mixture) -> Float[Array, " k"] | None:
    """The proportions [k] that are data of the problem; None where they are learned."""
    return None if objective.learns_weights else objective.admissible(initial).log_weights


def with_frozen(mixture: Mixture, frozen: Array | None) -> Mixture:
    """The mixture with the proportions that are not learned, if any."""
    return mixture if frozen is None else replace(mixture, log_weights=frozen)


def values_of(objective: Objective, mixture: Mixture) -> tuple[Array, Array, Array]:
    """Value, negative log-likelihood and objective of a mixture."""
    value = objective.value(mixture)
    likelihood = value if objective.is_likelihood else objective.likelihood().value(mixture)
    return value, likelihood, value + objective.penalty(mixture)


def with_answer(solution: Solution, mixture: Mixture, values: tuple) -> Solution:
    """The solution with the same answer, as something that has a derivative."""
    value, likelihood, total = values
    return replace(
        solution,
        mixture=mixture,
        value=value,
        negative_log_likelihood=likelihood,
        objective=total,
    )
