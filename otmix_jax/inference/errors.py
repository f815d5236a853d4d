"""Standard errors in the shape of the mixture."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ..core.compiling import Quick
from ..core.tree import pytree
from ..core.typing import AnyArray
from ..model import Mixture, Solution
from .covariance import ParameterCovariance, parameter_covariance


@pytree
class Errors:
    """How far each parameter may be off: one standard deviation of its sampling law.

    Attributes:
        weights: [k] of the proportions.
        covariances: [k, d, d] of the entries of the covariance (or scale) matrices; None if the
            components have none.
        leaves: a tree shaped as the mixture, of the parameters as they are stored (`log_weights`,
            `components.mean`, the covariances' factors): for `jax.tree.map` beside the mixture. It
            is no mixture; its methods mean nothing.
    """

    weights: Float[Array, " k"]
    covariances: Float[Array, "k d d"] | None
    leaves: Mixture

    @property
    def means(self) -> Float[Array, "k d"]:
        """Of the means, in the units of the rows."""
        return self.leaves.components.mean


@pytree
class StandardErrors(Errors):
    """`Errors` from the curvature of the likelihood.

    Attributes:
        condition_number: of the information. Large: some parameters are hardly identified; inf: not
            at all, and all errors are NaN.
    """

    condition_number: Float[Array, ""]


def quantities(mixture: Mixture) -> dict:
    """What has an error, by the names of `Errors`; also of a batch of mixtures."""
    components = mixture.components
    matrices = components.matrices() if hasattr(components, "matrices") else None
    return {"weights": mixture.weights, "covariances": matrices, "leaves": mixture}


def standard_errors(
    solution: Solution,
    x: PyTree,
    sample_weight: Float[AnyArray, " n"] | None = None,
    *,
    robust: bool = False,
    learn_weights: bool = True,
) -> StandardErrors:
    """Standard errors of a maximum-likelihood fit, by the observed information.

    See `inference.parameter_covariance` for the formula, and for what else it can do.

    Args:
        solution: what `fit` or `solve` returned for these rows, converged, at epsilon 1 with free
            sizes and no more than a weak prior.
        x: [n, d] rows, or a dict of columns as the family wants them.
        sample_weight: [n] counts, as in the fit; None for one each.
        robust: the sandwich, which also holds where the model is wrong.
        learn_weights: False where the proportions were not estimated.

    Returns:
        `StandardErrors`. 0 for what `families.Frozen` holds. NaN for absent components, and for
        all where the answer has none: merged components, a component without mass. Proportions
        near 0 or 1 have none either in truth: the law of the estimate is not normal there.

    Raises:
        ValueError: for rows that are not the mixture's; see `Mixture.log_prob`.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> errors = om.standard_errors(om.fit(x, 2, key=0), x)
        >>> errors.weights.round(3).tolist()
        [0.029, 0.029]
    """
    covariance = parameter_covariance(
        solution.mixture, x, sample_weight, robust=robust, learn_weights=learn_weights
    )
    return _in_shape(covariance.is_small, covariance.without_rows())


def _errors(covariance: ParameterCovariance) -> StandardErrors:
    errors = covariance.delta(quantities).standard_error
    present = covariance.mixture.log_weights > -jnp.inf
    # exp has derivative 0 at -inf: an absent component's proportion would look certain
    weights = jnp.where(present, errors["weights"], jnp.nan)
    return StandardErrors(
        weights, errors["covariances"], errors["leaves"], covariance.condition_number
    )


_in_shape = Quick(_errors, level=0)
