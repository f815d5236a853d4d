"""Derivatives through the steps themselves."""

from ..core.tree import pytree, static
from ..model import Mixture, Objective, Solution
from ..solvers.loop import Limits, Solver, run_scanned
from .base import Adjoint


@pytree
class Unrolled(Adjoint):
    """Backpropagates through up to `length` steps, each recomputed from its checkpoint.

    Time and memory grow with `length`. Use it to check `Implicit`, or to differentiate a run
    that is stopped early.

    Attributes:
        length: static bound on the steps; `max_steps` still holds below it.
    """

    length: int = static(default=100)

    def run(
        self, objective: Objective, solver: Solver, initial: Mixture, limits: Limits
    ) -> Solution:
        """Runs under `lax.scan`."""
        return run_scanned(objective, solver, initial, limits, self.length)
