"""The covariance of an estimate: observed information, sandwich, delta method."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, PyTree

from ..adjoints.condition import spectrum_at
from ..core.compiling import Quick
from ..core.numerics import matmul
from ..core.tree import is_float, pytree, replace
from ..core.typing import AnyArray
from ..engine import Engine, Rows
from ..engine.kernels import floats
from ..model import Mixture, Objective, Problem
from ..model.optimality import Optimality
from .counts import counted, engine_of
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
        unravel = ravel_pytree(value)[1]
        real, whole = _opened(self.mixture)

        def moved(tangents: list) -> Array:
            return jax.jvp(lambda *r: ravel_pytree(function(whole(r)))[0], real, tuple(tangents))[1]

        # forward, for each of p coordinates, however many numbers the function has; how these move
        # the mixture is a program of its own, which serves any function
        tangents = _tangents(self.is_small, self.without_rows().origin)
        jacobian = jax.vmap(moved, -1, 1)(tangents)
        error, covariance = _spread(self.is_small, jacobian, self.matrix, self.absent)
        return Estimate(value, unravel(error), covariance)

    @property
    def is_small(self) -> bool:
        """Whether products of the matrix take less time than the compiler for fast ones."""
        return self.matrix.shape[-1] <= 256

    def without_rows(self) -> "ParameterCovariance":
        """The same, for programs that are to serve any number of rows."""
        none = Rows({}, jax.device_put(np.zeros(0)))
        objective = replace(self.origin.objective, rows=none, engine=None)
        return replace(self, origin=replace(self.origin, objective=objective))


def _opened(mixture: Mixture) -> tuple[tuple, Callable[[tuple], Mixture]]:
    """The real leaves of a mixture, and the mixture of others in their place."""
    leaves, structure = jax.tree.flatten(mixture)

    def whole(real: tuple) -> Mixture:
        rest = iter(real)
        return structure.unflatten([next(rest) if is_float(leaf) else leaf for leaf in leaves])

    return tuple(floats(leaves)), whole


def _moves(origin: Optimality) -> list:
    """Derivatives [..., p] of the mixture's real leaves in the coordinates."""
    dtypes = [leaf.dtype for leaf in floats(origin.mixture)]

    def leaves(z: Array) -> list:
        moved = zip(floats(origin.at(z)), dtypes, strict=True)
        return [leaf.astype(dtype) for leaf, dtype in moved]

    return jax.jacfwd(leaves)(origin.zeros)


def _propagated(jacobian: Array, matrix: Array, absent: Array) -> tuple[Array, Array]:
    """The standard errors [m] of quantities, and their covariance."""
    # the matrix is 0 at absent coordinates: what depends on them would look certain
    unknown = jnp.any((jacobian != 0) & absent, axis=1)
    moving = jnp.where(absent, 0, jacobian)
    covariance = matmul(matmul(moving, matrix), moving.T)
    covariance = jnp.where(unknown[:, None] | unknown, jnp.nan, covariance)
    return jnp.sqrt(jnp.diagonal(covariance)), covariance


_tangents, _spread = Quick(_moves, level=0), Quick(_propagated, level=0)


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
    problem, total = counted(mixture, x, sample_weight, learn_weights)
    engine = engine_of(mixture, problem)
    return _covariance(engine is not None, mixture, problem, total, robust, engine)


def _at(
    mixture: Mixture, problem: Problem, total: Array | float, robust: bool, engine: Engine | None
) -> ParameterCovariance:
    here = Optimality(Objective.of(problem, engine), mixture)
    spectrum = spectrum_at(here)
    inverse = spectrum.inverse()
    if robust:
        inverse = matmul(matmul(inverse, score_outer_product(here)), inverse)
    return ParameterCovariance(here, inverse / total, spectrum.absent, spectrum.condition_number)


_covariance = Quick(_at, level=0, static_argnums=3)
