"""The covariance of an estimate: observed information, sandwich, delta method."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, PyTree

from ..adjoints.condition import spectrum_at
from ..adjoints.optimality import Optimality
from ..core.numerics import matmul
from ..core.tree import pytree
from ..core.typing import AnyArray
from ..model import Mixture, Objective, Problem
from .row_scores import score_outer_product


@pytree
class Estimate:
    """A quantity derived from a mixture, and how sure it is.

    Attributes:
        value: the quantity, any tree of arrays.
        standard_error: a tree of the same shape.
        covariance: [m, m] of its m numbers, in the order of `ravel_pytree`.
    """

    value: PyTree
    standard_error: PyTree
    covariance: Array


@pytree
class ParameterCovariance:
    """The estimated sampling covariance of a maximum-likelihood answer.

    Attributes:
        origin: the optimality condition at the answer, about which the coordinates are.
        matrix: [p, p] covariance of the unconstrained coordinates (`Mixture.constrain`); NaN where
            the information is singular.
        absent: [p] coordinates that the data say nothing of: those of components of weight 0.
        condition_number: of the information; inf where it is not positive definite.
    """

    origin: Optimality
    matrix: Float[Array, "p p"]
    absent: Bool[Array, " p"]
    condition_number: Float[Array, ""]

    @property
    def mixture(self) -> Mixture:
        """The answer."""
        return self.origin.mixture

    def delta(self, function: Callable[[Mixture], PyTree]) -> Estimate:
        """The delta method: J V J^T, J the derivative of a function of the mixture.

        What depends on an absent component has NaN for its standard error.

        Args:
            function: from a mixture to a tree of arrays, differentiable.

        Example:
            >>> import otmix_jax as om
            >>> x = om.datasets.old_faithful().x
            >>> mixture = om.fit(x, 2, key=0).mixture
            >>> covariance = om.inference.parameter_covariance(mixture, x)
            >>> ratio = covariance.delta(lambda m: m.weights[0] / m.weights[1])
            >>> f"{ratio.value:.2f} +- {ratio.standard_error:.2f}"
            '1.81 +- 0.23'
        """
        value = function(self.mixture)
        _, unravel = ravel_pytree(value)
        # forward: one pass for each of p coordinates, however many numbers the function has
        jacobian = jax.jacfwd(lambda z: ravel_pytree(function(self.origin.at(z)))[0])(
            self.origin.zeros
        )
        # the matrix is 0 at absent coordinates: what depends on them would look certain
        unknown = jnp.any((jacobian != 0) & self.absent, axis=1)
        moving = jnp.where(self.absent, 0, jacobian)
        covariance = matmul(matmul(moving, self.matrix), moving.T)
        covariance = jnp.where(unknown[:, None] | unknown, jnp.nan, covariance)
        return Estimate(value, unravel(jnp.sqrt(jnp.diagonal(covariance))), covariance)


def parameter_covariance(
    mixture: Mixture,
    x: PyTree,
    sample_weight: Float[AnyArray, " n"] | None = None,
    *,
    robust: bool = False,
    learn_weights: bool = True,
) -> ParameterCovariance:
    """Covariance of a maximum-likelihood answer, from the curvature of the likelihood.

    With H the Hessian of the mean negative log-likelihood and N the total weight,

        V = H^-1 / N,         robust: V = H^-1 (sum_i a_i s_i s_i^T) H^-1 / N,    s_i row scores

    the inverse of the observed information (Louis), and the sandwich, which also holds where the
    model is wrong. Both are for an answer in the interior: with a component that is empty, or that
    coincides with another, the information is singular and V is NaN.

    Args:
        mixture: a converged answer for these rows.
        x: [n, d] rows, or a dict of columns as the family wants them.
        sample_weight: [n] counts: 2 is a row that was seen twice, and N is their sum. None: N = n.
        robust: the sandwich; holds p numbers per row, for one tile of rows.
        learn_weights: False where the proportions were not estimated.

    Raises:
        ValueError: for rows that are not the mixture's; see `Mixture.log_prob`.

    Source: Louis, J. R. Statist. Soc. B 44 (1982); White, Econometrica 50 (1982).
    """
    problem = Problem(x, sample_weight, learn_weights=learn_weights).checked(mixture)
    return covariance_at(mixture, problem, robust)


@functools.partial(jax.jit, static_argnums=2)
def covariance_at(mixture: Mixture, problem: Problem, robust: bool) -> ParameterCovariance:
    """`parameter_covariance` for a checked problem."""
    here = Optimality(Objective.of(problem), mixture)
    spectrum = spectrum_at(here)
    inverse = spectrum.inverse()
    if robust:
        inverse = matmul(matmul(inverse, score_outer_product(here)), inverse)
    # not normalised: as counts they say how much information there is
    total = problem.n_rows if problem.sample_weight is None else jnp.sum(problem.sample_weight)
    return ParameterCovariance(here, inverse / total, spectrum.absent, spectrum.condition_number)
