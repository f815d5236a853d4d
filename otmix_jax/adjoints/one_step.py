"""Cheap stand-ins for the derivative of the answer: one step, or none."""

import jax
from jax import Array
from jaxtyping import PyTree

from ..core.tree import pytree
from ..model import Mixture, Objective, Solution
from ..solvers.em import EM
from ..solvers.loop import Limits, Solver, run
from .base import Adjoint, frozen_weights, values_of, with_answer, with_frozen


# a rule, not answer + carrier - stop_gradient(carrier), which would round the answer
@jax.custom_jvp
def _borrow(answer: PyTree, carrier: PyTree) -> PyTree:
    """The answer, with the derivative of the carrier, a tree of the same shape."""
    del carrier
    return answer


@_borrow.defjvp
def _borrow_jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    return _borrow(*primals), tangents[1]


@pytree
class OneStep(Adjoint):
    """Differentiates a single step from the answer, taken as a constant.

    The truth is (I - J)^-1 times this, J the step's Jacobian at the answer. So the relative error
    is about EM's rate: fair where components are well apart, and wrong in size and direction
    where they overlap and EM is slow (docs/differentiation.md has the numbers). One sweep and its
    derivative. For comparison, and for loops that only need a direction of descent.

    Attributes:
        solver: whose step it is, whichever found the answer. EM's step needs learnable or fixed
            proportions as `EM` does.

    Source: Bolte, Pauwels and Vaiter, One-step differentiation of iterative algorithms, 2023.
    """

    solver: Solver = EM()

    def run(
        self, objective: Objective, solver: Solver, initial: Mixture, limits: Limits
    ) -> Solution:
        """Runs without derivatives, then borrows those of one more step."""
        solution = run(*jax.lax.stop_gradient((objective, solver, initial, limits)))
        still = with_frozen(
            jax.lax.stop_gradient(solution.mixture), frozen_weights(objective, initial)
        )
        state, candidate, _ = self.solver.init(objective, still)
        for _ in range(2):  # where it stands, then the step from there
            evaluation = self.solver.question(objective, *candidate)
            state, candidate, _ = self.solver.update(objective, state, candidate, evaluation)
        mixture = _borrow(solution.mixture, self.solver.mixture(state))
        values: tuple[Array, ...] = (
            solution.value,
            solution.negative_log_likelihood,
            solution.objective,
        )
        return with_answer(solution, mixture, _borrow(values, values_of(objective, mixture)))


@pytree
class Stop(Adjoint):
    """No derivative at all: the answer is a constant, as under `jax.lax.stop_gradient`."""

    def run(
        self, objective: Objective, solver: Solver, initial: Mixture, limits: Limits
    ) -> Solution:
        """Runs without derivatives."""
        return run(*jax.lax.stop_gradient((objective, solver, initial, limits)))
