"""Axis-aligned and isotropic covariances: standard deviations, no factorisation."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ...core.numerics import safe_divide
from ...core.tree import along, parameter, pytree, replace
from ...core.triangular import diagonal
from .. import geometry
from ..coordinates import POSITIVE
from .base import Covariance


def standard_deviation(variance: Array) -> Array:
    """Square root; NaN, with a finite gradient elsewhere, where the variance is not positive."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), jnp.nan)


@pytree
class Diagonal(Covariance):
    """Axis-aligned covariances. `factor`: [k, d], standard deviations in the units of the rows."""

    factor: Array = parameter(POSITIVE)
    geometry = geometry.axes

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Diagonal":
        """See `Covariance.from_matrices`."""
        return cls(standard_deviation(diagonal(matrices)))

    @classmethod
    def from_scatter(cls, scatter: Array, d: int) -> "Diagonal":
        """See `Covariance.from_scatter`."""
        del d
        return cls(standard_deviation(scatter))

    def maximize(self, scatter: Array, mass: Array, floor: Array | None = None) -> "Diagonal":
        """See `Covariance.maximize`."""
        mass = along(mass, scatter)
        # 1 without mass: not used, but the square root of 0 has an infinite derivative
        variance = jnp.where(mass > 0, safe_divide(scatter, mass), 1)
        if floor is not None:
            variance = jnp.maximum(variance, self.geometry.of_spread(floor))
        return replace(self, factor=jnp.where(mass > 0, standard_deviation(variance), self.factor))

    def scale(self, scale: Array) -> "Diagonal":
        """See `Covariance.scale`."""
        return replace(self, factor=scale * self.factor)


@pytree
class Spherical(Covariance):
    """Isotropic covariances. `factor`: [k], standard deviations in the units of the rows."""

    factor: Array = parameter(POSITIVE, axes=0)
    geometry = geometry.isotropic
    one_unit = True

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Spherical":
        """See `Covariance.from_matrices`."""
        return cls(standard_deviation(jnp.mean(diagonal(matrices), axis=-1)))

    @classmethod
    def from_scatter(cls, scatter: Array, d: int) -> "Spherical":
        """See `Covariance.from_scatter`."""
        del d
        return cls(standard_deviation(scatter))

    maximize = Diagonal.maximize  # type: ignore[assignment]

    def scale(self, scale: Array) -> "Spherical":
        """See `Covariance.scale`."""
        return replace(self, factor=scale[0] * self.factor)
