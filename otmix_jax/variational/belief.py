"""What is believed of a mixture, and the bound of its evidence that the descent raises.

With the rows' components, the proportions and the parameters independent of each other under q,

    log p(x) >= L(q) = -n V(q) - KL(q(pi) | p(pi)) - sum_j KL(q(theta_j) | p(theta))

    V(q) = min_P sum_ij P_ij (E C_ij + log(P_ij / (a_i omega_j))),   omega_j = exp E log pi_j

V is the transport value of a mixture again: of expected costs, and of reference weights that sum to
less than 1. So the sweep of maximum likelihood serves.
"""

from typing import Any

import jax
from jax import Array
from jaxtyping import Float

from ..core.numerics import log_proportions
from ..core.tree import cast, pytree
from ..engine import Rows
from ..families import Frame
from ..model import Evaluation, Mixture, Objective, Problem


@pytree
class Belief:
    """Independent laws of proportions and components: a prior or a posterior.

    Attributes:
        weights: the proportions' law, `DirichletWeights` or `StickBreaking`.
        components: the parameters' law, such as `NormalWishart`; of K = 1 in a prior.
    """

    weights: Any
    components: Any

    def expected(self) -> Mixture:
        """The expected logarithms: exp E log pi_j, of sum below 1, and the expected costs."""
        return Mixture(self.weights.expected_log(), self.components.expected())

    def plug_in(self) -> Mixture:
        """The mixture at the parameters' expectations."""
        return Mixture(log_proportions(self.weights.mean()), self.components.plug_in())

    def predictive(self) -> Mixture:
        """The law of the next row: the proportions' means, and each component's predictive law."""
        return Mixture(log_proportions(self.weights.mean()), self.components.predictive())

    def updated(self, pivot: Mixture, evaluation: Evaluation, count: Any) -> "Belief":
        """This prior's posterior, given what rows are in which component.

        Args:
            pivot: the mixture that was evaluated.
            evaluation: the plan's masses and statistics.
            count: how many rows there are.
        """
        counts = count * evaluation.mass
        statistics = jax.tree.map(lambda leaf: count * leaf, evaluation.statistics)
        components = self.components.updated(pivot.components, statistics, counts)
        return Belief(self.weights.updated(counts), components)

    def divergence(self, other: "Belief") -> Float[Array, ""]:
        """KL(self | other), in nats."""
        weights = self.weights.divergence(other.weights)
        return weights + self.components.divergence(other.components)

    def out_of(self, frame: Frame) -> "Belief":
        """The belief for rows of which these are `frame.into(x)`."""
        moved = self.components.out_of(cast(frame, self.weights.expected_log().dtype))
        return Belief(self.weights, moved)


@pytree
class Bound:
    """Minus the evidence lower bound of a belief, over the number of rows.

    It answers what the loop asks of an `Objective`, of beliefs in the place of mixtures.

    Attributes:
        objective: maximum likelihood on the same rows.
        prior: the prior's `Belief`.
        count: how many rows there are: the sum of the weights, as they were given.
    """

    objective: Objective
    prior: Belief
    count: Array | float

    @classmethod
    def on(cls, problem: Problem, prior: Belief, count: Any, engine: Any = None) -> "Bound":
        """The bound on the rows of a checked problem."""
        return cls(Objective.of(problem, engine).likelihood(), prior, count)

    @property
    def rows(self) -> Rows:
        """The rows."""
        return self.objective.rows

    def check(self, belief: Belief) -> None:
        """See `Objective.check`."""
        self.objective.check(belief.expected())

    def admissible(self, belief: Belief) -> Belief:
        """Every belief is."""
        return belief

    def evaluate(self, belief: Belief) -> Evaluation:
        """Block 1: the rows' components, by one sweep."""
        return self.objective.evaluate(belief.expected())

    def penalty(self, belief: Belief) -> Float[Array, ""]:
        """How far the belief is from the prior, over the rows."""
        return belief.divergence(self.prior) / self.count

    def updated(self, belief: Belief, evaluation: Evaluation) -> Belief:
        """Blocks 2 and 3: the posterior for the plan at hand."""
        return self.prior.updated(belief.expected(), evaluation, self.count)

    def stepped(self, belief: Belief) -> Belief:
        """One whole step of the descent."""
        return self.updated(belief, self.evaluate(belief))

    def lower_bound(self, belief: Belief) -> Float[Array, ""]:
        """L, in nats, of all rows; its derivative is taken in the same pass."""
        value = self.objective.value(belief.expected())
        return -self.count * (value + self.penalty(belief))
