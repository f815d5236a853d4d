"""How well the derivative of an answer is determined."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ..core.tree import pytree
from ..model import Mixture, Objective, Problem
from ..model.optimality import Optimality
from .base import frozen_weights, with_frozen
from .implicit import newton_error
from .linear import Spectrum, materialize


@pytree
class Conditioning:
    """What the Hessian says of an answer.

    Attributes:
        eigenvalues: [p] of the Hessian in unconstrained coordinates scaled to a unit diagonal,
            ascending; p counts a gauge coordinate, with eigenvalue 1. The smallest is
            small where EM is slow.
        condition_number: largest over smallest eigenvalue; inf unless all are positive.
        distance: length of the Newton step to the optimum, in coordinates without units.
        excess: what that step would win of the objective, in nats.
        derivative_error: estimated relative error of `Implicit`'s derivative because the run
            stopped short: distance over the smallest eigenvalue. One Newton step squares it.
        regular: whether the Hessian is positive definite beyond rounding; if not, the answer has
            no derivative and no standard errors.
    """

    eigenvalues: Float[Array, " p"]
    condition_number: Float[Array, ""]
    distance: Float[Array, ""]
    excess: Float[Array, ""]
    derivative_error: Float[Array, ""]
    regular: Bool[Array, ""]


def spectrum_at(here: Optimality) -> Spectrum:
    """The Hessian at the origin of the coordinates."""
    zeros = here.zeros
    matrix = materialize(lambda v: here.product(zeros, v), zeros, here.row_work)
    return Spectrum.of(matrix, here.gauge)


@jax.jit
def conditioning(problem: Problem, mixture: Mixture) -> Conditioning:
    """The condition of the optimum, and what stopping short of it does to derivatives.

    Forms the Hessian: p Hessian-vector products, p the number of parameters.

    Args:
        problem: what was minimised.
        mixture: the answer; its proportions are data where the problem does not learn them.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> mixture = om.fit(x, 2, key=0, goal=om.Goal(ridge=0)).mixture
        >>> float(om.adjoints.conditioning(om.Problem(x), mixture).condition_number) < 10
        True
    """
    objective = Objective.of(problem.checked())
    here = Optimality(objective, with_frozen(mixture, frozen_weights(objective, mixture)))
    spectrum, residual = spectrum_at(here), here.gradient(here.zeros)
    step = spectrum.solve(residual)
    return Conditioning(
        spectrum.values,
        spectrum.condition_number,
        jnp.linalg.norm(step),
        0.5 * jnp.sum(step * residual),
        newton_error(spectrum, residual),
        spectrum.regular,
    )
