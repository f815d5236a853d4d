"""Full covariances that share all but their sizes, or nothing but the size: VEE and EVV."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ...core.numerics import einsum
from ...core.tree import parameter, pytree, replace
from ...core.triangular import inverse_triangle, multiply, regular_cholesky
from .. import geometry
from ..coordinates import POSITIVE, UNIT_FACTOR
from .decomposed import BALANCE, Decomposed, mean_size, unit_factor, unit_product


class _Sized(Decomposed):
    """Triangular factors of determinant 1, times sizes."""

    shape: Any
    geometry = geometry.free

    @property
    def factor(self) -> Float[Array, "*b k d d"]:  # type: ignore[override]
        """Lower factors."""
        return self.own("deviation")[..., None, None] * self.own("shape")

    def scale(self, scale: Array) -> Any:
        """See `Covariance.scale`."""
        relative = unit_product(scale)
        size = scale[0] / relative[0]
        shape = relative[:, None] * self.shape
        return replace(self, deviation=size * self.deviation, shape=shape)


@pytree
class VEE(_Sized):
    """Proportional covariances: one shape and orientation, own sizes.

    Attributes:
        deviation: [k] det Sigma_j^(1 / 2d).
        shape: [d, d] lower factor of determinant 1.
    """

    deviation: Array = parameter(POSITIVE, axes=0)
    shape: Array = parameter(UNIT_FACTOR, axes=2, shared=True)

    def estimate(self, average: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        """See `Decomposed.estimate`; a fixed point, of an objective convex along geodesics.

        Source: Celeux and Govaert (1995), Pattern Recognition 28, their model lambda_k C.
        """
        floor = jnp.zeros((), average.dtype) if lifted else None

        def sizes(shape: Array) -> Array:
            inverse = inverse_triangle(shape)
            return jnp.mean(jnp.sum(multiply(inverse, average) * inverse, axis=-1), axis=-1)

        def step(_: Any, shape: Array) -> Array:
            pooled = einsum("k,kde->de", mass / sizes(shape), average)
            return unit_factor(regular_cholesky(pooled, floor))[1]

        shape = jax.lax.fori_loop(0, BALANCE, step, self.shape)
        return {"deviation": jnp.sqrt(sizes(shape)), "shape": shape}


@pytree
class EVV(_Sized):
    """Full covariances of one volume.

    Attributes:
        deviation: one number, det Sigma_j^(1 / 2d).
        shape: [k, d, d] lower factors of determinant 1.
    """

    deviation: Array = parameter(POSITIVE, axes=0, shared=True)
    shape: Array = parameter(UNIT_FACTOR, axes=2)

    def estimate(self, average: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        """See `Decomposed.estimate`; in closed form."""
        floor = jnp.zeros((), average.dtype) if lifted else None
        size, shape = unit_factor(regular_cholesky(average, floor))
        return {"deviation": mean_size(size, mass), "shape": shape}
