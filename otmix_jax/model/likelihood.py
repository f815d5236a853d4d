"""The loss."""

import jax
from jax import Array
from jaxtyping import Float, PyTree

from ..core.typing import AnyArray
from ..engine import Engine
from .mixtures import Mixture
from .problems import Objective, Problem


def negative_log_likelihood(
    mixture: Mixture,
    x: PyTree,
    sample_weight: Float[AnyArray, " n"] | None = None,
    *,
    engine: Engine | None = None,
) -> Float[Array, ""]:
    """Mean negative log-likelihood -sum_i a_i log sum_j pi_j p(x_i | theta_j), in nats per row.

    One pass over the rows, tile by tile. Its gradient is a pass that yields the value too, and
    holds nothing of size n x k. Differentiable to any order, in the mixture, in x and in the
    weights; absent rows (weight 0) and absent components (weight 0) give zeros in the gradient,
    never NaN. Through `Mixture.from_weights` an absent component's weight has its one-sided
    derivative, 1 - sum_i a_i p(x_i | theta_j) / p(x_i): who grows components goes where it falls.

    Args:
        mixture: the model.
        x: [n, d] rows, or a dict of columns as the family wants them.
        sample_weight: [n] weights >= 0, divided by their sum; None for equal weights.
        engine: how the pass over the rows is made; None chooses (see `explain`).

    Raises:
        ValueError: for rows that are not the mixture's; see `Mixture.log_prob`.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.6).
    """
    return _value(mixture, Problem(x, sample_weight).checked(mixture), engine)


@jax.jit
def _value(mixture: Mixture, problem: Problem, engine: Engine | None) -> Array:
    return Objective.of(problem, engine).value(mixture)
