"""The contract of an adjoint: how to run a solver so that its answer has a derivative."""

import abc

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
