"""Covariances that share axes, or deviations along them: EEV, VEV, EVE and VVE."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ...core.numerics import matmul, safe_divide
from ...core.rotations import common_axes, lower_root, orthonormal
from ...core.tree import parameter, pytree, replace
from .. import geometry
from ..coordinates import POSITIVE, ROTATION, UNIT_PRODUCT
from .decomposed import Decomposed, balanced, deviations, mean_size, unit_product

JOINT = 10
"""How often each pair of common axes is turned in an M-step, which begins at the last answer."""


class _Oriented(Decomposed):
    """Orthonormal axes (columns), relative deviations along them, sizes."""

    shape: Any
    orientation: Any
    geometry = geometry.free
    one_unit = True

    @property
    def factor(self) -> Float[Array, "*b k d d"]:  # type: ignore[override]
        """Lower factors."""
        root = self.own("orientation") * self.own("shape")[..., None, :]
        return self.own("deviation")[..., None, None] * lower_root(root)

    def scale(self, scale: Array) -> Any:
        """See `Covariance.scale`."""
        return replace(self, deviation=scale[0] * self.deviation)


class _OwnAxes(_Oriented):
    """Each component has axes of its own; deviations along them are in falling order."""

    def estimate(self, average: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        """See `Decomposed.estimate`; the eigenvectors of each average."""
        d = average.shape[-1]
        rising = jnp.arange(1, d + 1, dtype=average.dtype)

        def weigh(along: Array) -> Array:
            return jnp.broadcast_to(rising, along.shape)

        basis = orthonormal(self.orientation)
        # a plane at a time is exact; rounds of them converge as fast as a square
        sweeps = 2 if d == 2 else 6 + d.bit_length()
        axes, along = common_axes(average[:, None], basis, weigh, sweeps)
        fields = self._along(jnp.maximum(along[:, 0], 0), mass, lifted)
        return {"orientation": axes, **fields}

    def _along(self, variances: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        """Sizes and shapes from the eigenvalues [k, d] of averages."""
        raise NotImplementedError


@pytree
class EEV(_OwnAxes):
    """Ellipsoids of one size and shape, each turned by itself.

    Attributes:
        deviation: one number, det Sigma_j^(1 / 2d).
        shape: [d] deviations along the axes over that, of product 1.
        orientation: [k, d, d] axes as columns.
    """

    deviation: Array = parameter(POSITIVE, axes=0, shared=True)
    shape: Array = parameter(UNIT_PRODUCT, shared=True)
    orientation: Array = parameter(ROTATION, axes=2)

    def _along(self, variances: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        pooled = safe_divide(matmul(mass, variances), jnp.sum(mass))
        size, shape = deviations(pooled, lifted)
        return {"deviation": size, "shape": shape}


@pytree
class VEV(_OwnAxes):
    """Ellipsoids of one shape, of own sizes and axes.

    Attributes:
        deviation: [k] det Sigma_j^(1 / 2d).
        shape: [d] deviations along the axes over that, of product 1.
        orientation: [k, d, d] axes as columns.
    """

    deviation: Array = parameter(POSITIVE, axes=0)
    shape: Array = parameter(UNIT_PRODUCT, shared=True)
    orientation: Array = parameter(ROTATION, axes=2)

    def _along(self, variances: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        size, shape = balanced(variances, mass, self.shape)
        return {"deviation": size, "shape": deviations(shape**2, lifted)[1]}


class _CommonAxes(_Oriented):
    """All components have the same axes.

    The axes given what a deviation along each is worth, and that given the axes, in turn: neither
    raises the expected cost.

    Source: Flury (1984), J. Amer. Statist. Assoc. 79; Browne and McNicholas (2014), Adv. Data
    Anal. Classif. 8, whose inner problem the rotations solve.
    """

    def estimate(self, average: Array, mass: Array, lifted: bool) -> dict[str, Array]:
        """See `Decomposed.estimate`; rotations of pairs of axes."""

        def weigh(along: Array) -> Array:
            return safe_divide(mass[:, None], self._worth(along))

        basis = orthonormal(self.orientation)
        axes, along = common_axes(average, basis, weigh, JOINT)
        size, shape = deviations(along, lifted)
        return {"orientation": axes, "shape": shape, "deviation": self._sizes(size, mass)}

    def _worth(self, along: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """The variances that averages along the axes ask for, up to a factor for all."""
        return along

    def _sizes(self, size: Float[Array, " k"], mass: Float[Array, " k"]) -> Array:
        del mass
        return size


@pytree
class EVE(_CommonAxes):
    """Ellipsoids of one size, along common axes.

    Attributes:
        deviation: one number, det Sigma_j^(1 / 2d).
        shape: [k, d] deviations along the axes over that, of product 1.
        orientation: [d, d] axes as columns.
    """

    deviation: Array = parameter(POSITIVE, axes=0, shared=True)
    shape: Array = parameter(UNIT_PRODUCT)
    orientation: Array = parameter(ROTATION, axes=2, shared=True)

    def _worth(self, along: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return unit_product(along)

    def _sizes(self, size: Float[Array, " k"], mass: Float[Array, " k"]) -> Array:
        return mean_size(size, mass)


@pytree
class VVE(_CommonAxes):
    """Ellipsoids along common axes.

    Attributes:
        deviation: [k] det Sigma_j^(1 / 2d).
        shape: [k, d] deviations along the axes over that, of product 1.
        orientation: [d, d] axes as columns.
    """

    deviation: Array = parameter(POSITIVE, axes=0)
    shape: Array = parameter(UNIT_PRODUCT)
    orientation: Array = parameter(ROTATION, axes=2, shared=True)
