"""Student-t components: the Gaussian's moments, each row counted by how near it lies."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln
from jaxtyping import Float, Int, PRNGKeyArray

from ..core.tree import parameter, pytree
from .coordinates import NESTED, REAL
from .covariance import Covariance
from .elliptical import Elliptical, examples, structure
from .family import Description


@pytree
class StudentT(Elliptical):
    """K multivariate Student-t components of fixed degrees of freedom.

    Attributes:
        mean: [k, d] locations, in the units of the rows.
        covariance: the scale matrices, of any covariance structure; the law's covariance is
            nu / (nu - 2) times them, for nu > 2.
        degrees: [k] nu > 0.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> family = om.families.StudentT.of("tied", degrees=5)
        >>> om.fit(x, 2, family=family, key=0).mixture.components.degrees.tolist()
        [5.0, 5.0]

    Source: Peel and McLachlan (2000), Statistics and Computing 10, section 3.
    """

    mean: Array = parameter(REAL)
    covariance: Covariance = parameter(NESTED)
    # no domain: not learned; still a leaf, so that another value needs no other program
    degrees: Array
    scaled = True
    priors = frozenset({"covariance", "floor"})

    @classmethod
    def of(cls, covariance: str | type[Covariance] = "full", degrees: float = 4.0) -> Description:
        """Student-t components of a scale structure and common degrees of freedom.

        Raises:
            ValueError: for a name that is no structure, or degrees that are not positive.
        """
        structure(covariance)
        if not degrees > 0:
            raise ValueError(f"degrees must be > 0, not {degrees}")
        return Description(cls, (("covariance", covariance), ("degrees", float(degrees))))

    def radial_cost(self, half_square: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """See `Elliptical.radial_cost`; log1p keeps the digits near the mean."""
        nu, d = self.degrees, self.n_features
        constant = gammaln(nu / 2) - gammaln((nu + d) / 2) + 0.5 * d * jnp.log(nu * math.pi)
        return constant + 0.5 * (nu + d) * jnp.log1p(2 * half_square / nu)

    def latent_scale(self, half_square: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """(nu + d) / (nu + |z|^2), the mean of the row's latent precision."""
        return (self.degrees + self.n_features) / (self.degrees + 2 * half_square)

    def _noise(self, key: PRNGKeyArray, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        # drawn from one key, the two would depend on each other
        normal, gamma = jax.random.split(key)
        half = 0.5 * self.degrees[labels]
        scale = jax.random.gamma(gamma, half, dtype=self.mean.dtype) / half
        return super()._noise(normal, labels) / jnp.sqrt(scale)[:, None]

    @classmethod
    def initial(
        cls,
        x: Float[Array, "n d"],
        plan: Float[Array, "n k"],
        covariance: Any = "full",
        degrees: float = 4.0,
    ) -> "StudentT":
        """As `Gaussian.initial`, with its covariance for the scale."""
        return cls(*cls._start(x, plan, covariance), jnp.full(plan.shape[1], degrees, x.dtype))

    @classmethod
    def examples(cls) -> dict[str, "StudentT"]:
        """One per scale structure, of 3, 5 and 30 degrees of freedom."""
        degrees = jnp.array([3.0, 5.0, 30.0])
        return {name: cls(*parts, degrees) for name, parts in examples().items()}
