"""What a run returns."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ._pytree import pytree
from .mixture import Mixture


@pytree
class Solution:
    """A mixture and how it was reached; a PyTree of arrays, batched under `vmap`.

    Attributes:
        mixture: the answer: the last finite parameters.
        value: mean negative log-likelihood of `mixture` itself, in nats per row.
        objective: `value` plus the prior's penalty: what was minimised.
        status: integer; `Status(int(solution.status))` names it.
        n_steps: steps taken.
        history: [history_size] value of the start (entry 0) and after each step; NaN beyond
            `n_steps`. Steps beyond its size are taken and not recorded. Under EM it never rises;
            with a prior it is the objective that never rises.
    """

    mixture: Mixture
    value: Array
    objective: Array
    status: Array
    n_steps: Array
    history: Array

    def log_likelihood(self, total_weight: float) -> Float[Array, ""]:
        """Total log-likelihood of `total_weight` rows (n without sample weights)."""
        return -total_weight * self.value

    def bic(self, total_weight: float) -> Float[Array, ""]:
        """BIC in scikit-learn's sign (lower is better): -2 log-likelihood + parameters log n."""
        parameters = self.mixture.n_parameters
        return -2 * self.log_likelihood(total_weight) + parameters * jnp.log(total_weight)
