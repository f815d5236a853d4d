"""The contract of an adjoint: how to run a solver so that its answer has a derivative."""

import abc

from jax import Array
from jaxtyping import Float

from .._pytree import replace
from ..mixture import Mixture
from ..oracle import Oracle
from ..solution import Solution
from ..solvers.base import Solver
from ..solvers.driver import Limits


class Adjoint(abc.ABC):
    """Knows the problem and the driver, no particular solver."""

    @abc.abstractmethod
    def run(self, oracle: Oracle, solver: Solver, initial: Mixture, limits: Limits) -> Solution:
        """The solution, differentiable in the problem."""


def frozen_weights(oracle: Oracle, initial: Mixture) -> Float[Array, " k"] | None:
    """The proportions [k] that are data of the problem; None where they are learned."""
    return None if oracle.problem.weights_are_learned else oracle.admissible(initial).log_weights


def with_frozen(mixture: Mixture, frozen: Array | None) -> Mixture:
    """The mixture with the proportions that are not learned, if any."""
    return mixture if frozen is None else replace(mixture, log_weights=frozen)


def values_of(oracle: Oracle, mixture: Mixture) -> tuple[Array, Array, Array]:
    """Value, negative log-likelihood and objective of a mixture."""
    value = oracle.value(mixture)
    likelihood = value if oracle.is_likelihood else oracle.likelihood().value(mixture)
    return value, likelihood, value + oracle.penalty(mixture)


def with_answer(solution: Solution, mixture: Mixture, values: tuple) -> Solution:
    """The solution with the same answer, as something that has a derivative."""
    value, likelihood, objective = values
    return replace(
        solution,
        mixture=mixture,
        value=value,
        negative_log_likelihood=likelihood,
        objective=objective,
    )
