"""Problem x kernel x execution: the only thing that a solver sees."""

from jax import Array
from jaxtyping import Float

from ._pytree import pytree
from .engine import Dense, Execution, Kernel, Reference, Sweep
from .mixture import Mixture
from .problem import Problem


@pytree
class Oracle:
    """Answers a solver's questions about a problem; holds no state of a run.

    Attributes:
        problem: what is minimised.
        kernel: how one tile of rows is swept.
        execution: how tiles are summed.
    """

    problem: Problem
    kernel: Kernel = Reference()
    execution: Execution = Dense()

    def sweep(self, mixture: Mixture) -> Sweep:
        """Block 1: the plan of `mixture`, summed over the rows."""
        x, row_weight = self.problem.rows()

        def tile(rows: Array, weights: Array) -> Sweep:
            return self.kernel.sweep(rows, weights, mixture.log_weights, mixture.components)

        return self.execution.sum(tile, x, row_weight)

    def penalty(self, mixture: Mixture) -> Float[Array, ""] | float:
        """The prior's share of the objective."""
        return mixture.components.penalty(self.problem.prior)

    def value(self, mixture: Mixture) -> Float[Array, ""]:
        """Mean negative log-likelihood, in nats."""
        return self.sweep(mixture).value

    def objective(self, mixture: Mixture) -> Float[Array, ""]:
        """Value plus penalty: what solvers minimise."""
        return self.value(mixture) + self.penalty(mixture)
