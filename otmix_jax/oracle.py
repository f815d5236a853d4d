"""Problem x engine: the only thing that a solver sees."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ._pytree import pytree, replace
from .engine import Columns, Engine, choose
from .mixture import Mixture
from .priors import split
from .problem import Problem
from .transport.couplings import SemiRelaxed
from .transport.plan import RowsProblem
from .transport.potential import Potential


@pytree
class Evaluation:
    """What a mixture's plan says, on all rows.

    Attributes:
        value: the transport value H_rho, in nats; by default the mean negative log-likelihood.
        mass: [k] the plan's sizes.
        statistics: the family's statistics under the plan.
        g: [k] the column potentials, where the next solve starts; 0 if semi-relaxed.
    """

    value: Array
    mass: Array
    statistics: PyTree
    g: Array


@pytree
class Oracle:
    """Answers a solver's questions about a problem; holds no state of a run.

    Attributes:
        problem: what is minimised.
        engine: how a pass over the rows is made; None chooses by shape.
    """

    problem: Problem
    engine: Engine | None = None

    def engine_for(self, mixture: Mixture) -> Engine:
        """The engine, chosen by shape unless it was given."""
        x = self.problem.x
        return self.engine or choose(mixture.components, x.shape[0], x.dtype)

    def transport(self, mixture: Mixture) -> RowsProblem:
        """The transport problem at a mixture."""
        log_weights = self.problem.coupling.reference(mixture.log_weights)
        return RowsProblem(
            self.problem.rows(),
            mixture.components,
            Columns(log_weights, None, self.problem.epsilon),
            self.problem.coupling,
            self.engine_for(mixture),
        )

    def evaluate(self, mixture: Mixture, start: Array | None = None) -> Evaluation:
        """Block 1: the plan of `mixture`, summed over the rows; potentials from `start`."""
        problem = self.transport(mixture)
        if problem.coupling.free:
            sweep, g = problem.statistics(None), jnp.zeros_like(mixture.log_weights)
            return Evaluation(sweep.value, sweep.mass, sweep.statistics, g)
        potential = problem.solve(start)
        sweep = problem.statistics(potential.g)
        value = _unless_missed(potential, sweep.value)
        return Evaluation(value, sweep.mass, sweep.statistics, potential.g)

    def admissible(self, mixture: Mixture) -> Mixture:
        """The mixture, with the proportions that the coupling prescribes if it names sizes."""
        coupling = self.problem.coupling
        if not coupling.fixes_weights or self.problem.weights_are_learned:
            return mixture
        return replace(mixture, log_weights=coupling.target(mixture.log_weights))

    def penalty(self, mixture: Mixture) -> Float[Array, ""] | float:
        """The prior's share of the objective."""
        penalty = mixture.components.penalty(self.problem.prior)
        weights = split(self.problem.prior).weights
        return penalty if weights is None else penalty + weights.penalty(mixture.log_weights)

    @property
    def prior_on_weights(self) -> bool:
        """Whether a prior holds the proportions, known when compiling."""
        return split(self.problem.prior).weights is not None

    def proportions(self, mass: Float[Array, " k"]) -> Float[Array, " k"]:
        """The proportions, up to their sum, that are best for the plan's sizes."""
        weights = split(self.problem.prior).weights
        return mass if weights is None else weights.maximize(mass)

    def value(self, mixture: Mixture, start: Array | None = None) -> Float[Array, ""]:
        """The transport value, in nats; its derivative is taken in the same pass."""
        problem = self.transport(mixture)
        if problem.coupling.free:
            return problem.value(None)
        potential = problem.solve(start)
        return _unless_missed(potential, problem.value(potential.g))

    def objective(self, mixture: Mixture) -> Float[Array, ""]:
        """Value plus penalty: what solvers minimise."""
        return self.value(mixture) + self.penalty(mixture)

    def likelihood(self) -> "Oracle":
        """The same rows at epsilon = 1 with free sizes: maximum likelihood."""
        problem = replace(self.problem, epsilon=None, coupling=SemiRelaxed())
        return replace(self, problem=problem)

    @property
    def is_likelihood(self) -> bool:
        """Whether this is maximum likelihood, known when compiling."""
        return self.problem.epsilon is None and self.problem.coupling.free


def _unless_missed(potential: Potential, value: Array) -> Array:
    """NaN, which no status calls converged, where a plan misses its sizes: it is no plan."""
    return jnp.where(potential.residual < 1e-3, value, jnp.nan)
