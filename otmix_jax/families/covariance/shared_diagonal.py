"""Axis-aligned covariances that share a size, a shape, or both: EII, EEI, VEI and EVI."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ...core.numerics import safe_divide
from ...core.tree import parameter, pytree, replace
from .. import geometry
from ..coordinates import POSITIVE, UNIT_PRODUCT
from .axis_aligned import standard_deviation
from .base import Covariance
from .decomposed import Decomposed, balanced, deviations, mean_size, unit_product


class _OneForAll(Covariance):
    """Deviations that all components share, of each column or of all columns."""

    deviation: Any
    geometry = geometry.shared_axes

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> Any:
        """See `Covariance.from_matrices`."""
        return cls.from_scatter(cls.geometry.of_second(matrices) / len(matrices), 0)

    @classmethod
    def from_scatter(cls, scatter: Float[Array, " d"], d: int) -> Any:
        """See `Covariance.from_scatter`."""
        del d
        return cls(standard_deviation(cls._of_columns(scatter)))  # type: ignore[call-arg]

    @staticmethod
    def _of_columns(variance: Float[Array, " d"]) -> Array:
        return variance

    def maximize(self, scatter: Array, mass: Array, floor: Array | None = None) -> Any:
        """See `Covariance.maximize`."""
        average = jnp.where(mass > 0, safe_divide(scatter, mass), 1)
        variance = self._of_columns(average if floor is None else jnp.maximum(average, floor))
        deviation = jnp.where(mass > 0, standard_deviation(variance), self.deviation)
        return replace(self, deviation=deviation)


@pytree
class EII(_OneForAll):
    """One isotropic covariance for all components. `deviation`: one number."""

    deviation: Array = parameter(POSITIVE, axes=0, shared=True)
    one_unit = True

    @property
    def factor(self) -> Float[Array, "*b 1"]:  # type: ignore[override]
        """The deviation, with an axis of columns."""
        return self.deviation[..., None]

    @staticmethod
    def _of_columns(variance: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.mean(variance)

    def scale(self, scale: Array) -> "EII":
        """See `Covariance.scale`."""
        return replace(self, deviation=scale[0] * self.deviation)


@pytree
class EEI(_OneForAll):
    """One axis-aligned covariance for all components. `deviation`: [d]."""

    deviation: Array = parameter(POSITIVE, shared=True)

    @property
    def factor(self) -> Float[Array, "*b d"]:  # type: ignore[override]
        """The deviations."""
        return self.deviation

    def scale(self, scale: Array) -> "EEI":
        """See `Covariance.scale`."""
        return replace(self, deviation=scale * self.deviation)


class _Aligned(Decomposed):
    """Axis-aligned covariances: sizes times relative deviations."""

    shape: Any
    geometry = geometry.axes

    @property
    def factor(self) -> Float[Array, "*b k d"]:  # type: ignore[override]
        """Standard deviations."""
        return self.own("deviation")[..., None] * self.own("shape")

    @classmethod
    def from_scatter(cls, scatter: Float[Array, "... d"], d: int) -> Any:
        """See `Covariance.from_scatter`."""
        return cls.of_averages(scatter.reshape(1, d), jnp.ones(1, scatter.dtype), d)

    def scale(self, scale: Array) -> Any:
        """See `Covariance.scale`."""
        relative = unit_product(scale)
        size = scale[0] / relative[0]
        return replace(self, deviation=size * self.deviation, shape=relative * self.shape)


@pytree
class VEI(_Aligned):
    """Axis-aligned covariances of one shape and own sizes.

    Attributes:
        deviation: [k] geometric mean of a component's standard deviations.
        shape: [d] standard deviations over that, of product 1.
    """

    deviation: Array = parameter(POSITIVE, axes=0)
    shape: Array = parameter(UNIT_PRODUCT, shared=True)

    def estimate(self, average: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        """See `Decomposed.estimate`; a fixed point."""
        size, shape = balanced(average, mass, self.shape)
        return {"deviation": size, "shape": deviations(shape**2, lifted)[1]}


@pytree
class EVI(_Aligned):
    """Axis-aligned covariances of one size and own shapes. `deviation`: one number.

    Attributes:
        deviation: one number, the geometric mean of each component's standard deviations.
        shape: [k, d] standard deviations over that, of product 1.
    """

    deviation: Array = parameter(POSITIVE, axes=0, shared=True)
    shape: Array = parameter(UNIT_PRODUCT)

    def estimate(self, average: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        """See `Decomposed.estimate`; in closed form."""
        size, shape = deviations(average, lifted)
        return {"deviation": mean_size(size, mass), "shape": shape}
