"""Conjugate priors, for maximum a posteriori: what they add to the statistics and the objective.

Strengths are pseudo-masses relative to the total mass 1 of the rows: a prior worth r rows among n
has strength r / n. The objective is then the negative log-posterior over n, up to a constant.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ._pytree import pytree, replace
from ._typing import AnyArray


@pytree
class Dirichlet:
    """A prior on the proportions: it adds -sum_j strength_j log pi_j to the objective.

    Under Dirichlet(alpha) and n rows, strength_j is (alpha_j - 1) / n; alpha_j >= 1. The
    proportions become (m_j + strength_j) / (1 + sum strength), so no component starves.

    Attributes:
        strength: [k], or one number for all; >= 0.
    """

    strength: AnyArray | float

    def maximize(self, mass: Float[Array, " k"]) -> Float[Array, " k"]:
        """Proportions, up to their sum, under the plan's sizes."""
        return mass + self.strength

    def penalty(self, log_weights: Float[Array, " k"]) -> Float[Array, ""]:
        """What it adds to the objective; absent components are left out."""
        present = log_weights > -jnp.inf
        return -jnp.sum(jnp.where(present, self.strength * jnp.where(present, log_weights, 0), 0))


@pytree
class NormalMean:
    """A prior on the means, mu_j given Sigma_j being N(centre, Sigma_j / strength): conjugate.

    It counts as `strength` more mass at `centre` in every component: it adds strength * C(centre,
    theta_j) to the objective for each, C being the cost, so it fits any family that has means.

    Under a normal-inverse-Wishart law with kappa pseudo-rows and n rows, strength is kappa / n.

    Attributes:
        centre: [d], in the units of the rows.
        strength: >= 0.
    """

    centre: AnyArray
    strength: AnyArray | float

    def observe(
        self, components: Any, statistics: PyTree, mass: Float[Array, " k"]
    ) -> tuple[PyTree, Float[Array, " k"]]:
        """The statistics and the mass with the pseudo-row in every component."""
        plan = jnp.full((1, mass.shape[0]), self.strength, mass.dtype)
        extra = components.statistics(jnp.asarray(self.centre)[None], plan)
        return jax.tree.map(jnp.add, statistics, extra), mass + self.strength

    def penalty(self, components: Any) -> Float[Array, ""]:
        """What it adds to the objective, up to a constant."""
        return jnp.asarray(self.strength) * jnp.sum(components.cost(jnp.asarray(self.centre)[None]))


@pytree
class Prior:
    """Priors on the parts of a mixture, any of which may be missing.

    Attributes:
        covariance: a `families.Ridge`, an inverse-Wishart law with a diagonal scale; in `fit`,
            None leaves it to the argument `ridge`.
        mean: a `NormalMean`.
        weights: a `Dirichlet`.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> prior = om.priors.Prior(weights=om.priors.Dirichlet(10.0))
        >>> solution = om.fit(x, 2, key=0, prior=prior)
        >>> sorted(solution.mixture.weights.round(2).tolist())
        [0.49..., 0.5...]

    Source: Fraley and Raftery (2007), section 2, for means and covariances.
    """

    covariance: Any = None
    mean: NormalMean | None = None
    weights: Dirichlet | None = None

    def stretch(self, n_components: int, shift: Any) -> Any:
        """What the objective's constant gains where every cost gains `shift`, as units change."""
        return 0.0 if self.mean is None else n_components * self.mean.strength * shift

    def standardised(self, scale: Any, centre: Any) -> "Prior":
        """The same for the rows (x - centre) / scale."""
        mean, covariance = self.mean, self.covariance
        if mean is not None:
            mean = replace(mean, centre=(jnp.asarray(mean.centre) - centre) / scale)
        if covariance is not None:
            covariance = replace(covariance, variance=covariance.variance / scale**2)
        return replace(self, mean=mean, covariance=covariance)


def split(prior: PyTree) -> Prior:
    """Any prior as its parts; what is not a `Prior` is one on covariances."""
    return prior if isinstance(prior, Prior) else Prior(covariance=prior)
