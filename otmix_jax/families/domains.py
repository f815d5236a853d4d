"""Where a parameter lives, and its unconstrained coordinates: see `coordinates`."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..core.numerics import logsumexp, matmul
from ..core.rotations import lower_form, turn, turned
from ..core.triangular import inverse_triangle, multiply, pack, unpack


@dataclasses.dataclass(frozen=True)
class Domain:
    """A set that parameters live in, as three functions.

    Attributes:
        at: (origin, z) to the value at coordinates z about the origin; zeros give the origin.
        coordinates: (value, origin) to z, the inverse.
        free: shape of one component's value to its degrees of freedom.
    """

    at: Callable[[Any, Any], Any]
    coordinates: Callable[[Any, Any], Any]
    free: Callable[[tuple[int, ...]], int]


def simplex_basis(d: int) -> np.ndarray:
    """[d, d - 1] orthonormal columns that sum to zero: no direction that moves nothing."""
    # NumPy, at trace time: a constant of the program
    basis = np.tri(d, d - 1, -1) * -1.0
    basis = np.where(np.eye(d, d - 1, dtype=bool), np.arange(d - 1, 0, -1), basis)
    return basis / np.linalg.norm(basis, axis=0) if d > 1 else basis


def _simplex_at(origin: Array, z: Array) -> Array:
    moved = jnp.log(origin) + matmul(z, jnp.asarray(simplex_basis(origin.shape[-1]).T, z.dtype))
    # in logarithms: a long step would overflow before it is divided by the sum
    return jnp.exp(moved - logsumexp(moved, axis=-1)[..., None])


def _simplex_coordinates(value: Array, origin: Array) -> Array:
    ratio = jnp.log(value) - jnp.log(origin)
    return matmul(ratio, jnp.asarray(simplex_basis(origin.shape[-1]), ratio.dtype))


def _reflected(origin: Array, v: Array) -> Array:
    """V under the reflection that takes the origin to an axis and back, its own inverse.

    The axis points away from the origin's first entry, so that the difference never cancels.
    """
    sign = jnp.where(origin[..., :1] > 0, -1.0, 1.0)
    axis = sign * jnp.eye(1, origin.shape[-1], dtype=origin.dtype)[0]
    normal = origin - axis
    along = jnp.sum(normal * v, axis=-1, keepdims=True) / jnp.sum(normal**2, -1, keepdims=True)
    return v - 2 * along * normal


def _sphere_at(origin: Array, z: Array) -> Array:
    """Along the great circle in the direction z, by its length in radians."""
    squared = jnp.sum(z**2, axis=-1, keepdims=True)
    # sin(r) / r from its series near 0, where the quotient has no derivative.
    near = squared < 1e-4
    length = jnp.sqrt(jnp.where(near, 1, squared))
    ratio = jnp.where(near, 1 - squared / 6 + squared**2 / 120, jnp.sin(length) / length)
    cosine = jnp.where(near, 1 - squared / 2 + squared**2 / 24, jnp.cos(length))
    tangent = jnp.concatenate([jnp.zeros_like(z[..., :1]), z], axis=-1)
    return cosine * origin + _reflected(origin, ratio * tangent)


def _sphere_coordinates(value: Array, origin: Array) -> Array:
    cosine = jnp.sum(value * origin, axis=-1, keepdims=True)
    tangent = _reflected(origin, value - cosine * origin)[..., 1:]
    squared = jnp.sum(tangent**2, axis=-1, keepdims=True)
    moved = squared > 0  # at the origin the root has no derivative, and the quotient is 1
    sine = jnp.sqrt(jnp.where(moved, squared, 1))
    # arccos would lose half the digits near the origin, where the cosine is flat
    angle = jnp.arctan2(sine, cosine)
    return tangent * jnp.where(moved, angle / sine, 1)


def _factor_at(origin: Array, z: Array) -> Array:
    # tril: what stands above the diagonal is no parameter, and gets no gradient
    return multiply(jnp.tril(origin), unpack(z, origin.shape[-1]))


def _factor_coordinates(value: Array, origin: Array) -> Array:
    return pack(multiply(inverse_triangle(origin), jnp.tril(value)))


def _unit_product_at(origin: Array, z: Array) -> Array:
    basis = jnp.asarray(simplex_basis(origin.shape[-1]).T, z.dtype)
    return origin * jnp.exp(matmul(z, basis))


def _unit_factor_at(origin: Array, z: Array) -> Array:
    d = origin.shape[-1]
    basis = jnp.asarray(simplex_basis(d).T, z.dtype)
    rows, columns = np.tril_indices(d)
    below = rows != columns
    packed = jnp.zeros((*z.shape[:-1], len(rows)), z.dtype)
    packed = packed.at[..., ~below].set(matmul(z[..., : d - 1], basis))
    return _factor_at(origin, packed.at[..., below].set(z[..., d - 1 :]))


def _unit_factor_coordinates(value: Array, origin: Array) -> Array:
    d = value.shape[-1]
    packed = _factor_coordinates(value, origin)
    rows, columns = np.tril_indices(d)
    below = rows != columns
    logs = matmul(packed[..., ~below], jnp.asarray(simplex_basis(d), packed.dtype))
    return jnp.concatenate([logs, packed[..., below]], axis=-1)


def _logit(p: Array) -> Array:
    return jnp.log(p) - jnp.log1p(-p)


def _loadings_at(origin: Array, z: Array) -> Array:
    rows, columns = np.tril_indices(origin.shape[-2], 0, origin.shape[-1])
    moved = jnp.zeros(origin.shape, z.dtype).at[..., rows, columns].set(z)
    return lower_form(origin) + moved


def _loadings_coordinates(value: Array, origin: Array) -> Array:
    rows, columns = np.tril_indices(value.shape[-2], 0, value.shape[-1])
    return (lower_form(value) - lower_form(origin))[..., rows, columns]


REAL = Domain(jnp.add, jnp.subtract, math.prod)
"""Any number; coordinates are in the parameter's own unit."""
POSITIVE = Domain(
    lambda origin, z: origin * jnp.exp(z), lambda value, origin: jnp.log(value / origin), math.prod
)
"""Above zero, through the logarithm of the ratio."""
UNIT = Domain(
    lambda origin, z: jax.nn.sigmoid(_logit(origin) + z),
    lambda value, origin: _logit(value) - _logit(origin),
    math.prod,
)
"""Between 0 and 1, through the difference of the log odds."""
SIMPLEX = Domain(
    _simplex_at, _simplex_coordinates, lambda shape: math.prod(shape[:-1]) * (shape[-1] - 1)
)
"""Positive, of sum 1 along the last axis, which loses one coordinate."""
SPHERE = Domain(
    _sphere_at, _sphere_coordinates, lambda shape: math.prod(shape[:-1]) * (shape[-1] - 1)
)
"""Unit vectors along the last axis, by the angle from the origin."""
FACTOR = Domain(_factor_at, _factor_coordinates, lambda shape: shape[-1] * (shape[-1] + 1) // 2)
"""Lower triangular with a positive diagonal; a step multiplies from the right."""
UNIT_PRODUCT = Domain(_unit_product_at, _simplex_coordinates, SIMPLEX.free)
"""Positive, of product 1 along the last axis, which loses one coordinate."""
UNIT_FACTOR = Domain(
    _unit_factor_at, _unit_factor_coordinates, lambda shape: FACTOR.free(shape) - 1
)
"""`FACTOR` of determinant 1."""
ROTATION = Domain(turned, turn, lambda shape: shape[-1] * (shape[-1] - 1) // 2)
"""Orthogonal matrices whose columns have no sign; a step turns from the right, in radians."""
LOADINGS = Domain(
    _loadings_at,
    _loadings_coordinates,
    lambda shape: shape[-2] * shape[-1] - shape[-1] * (shape[-1] - 1) // 2,
)
"""Matrices [d, q] of which L L^T alone is meant: through the one that is lower triangular."""
NESTED = Domain(
    lambda origin, z: origin.constrain(z),
    lambda value, origin: value.unconstrained(origin),
    lambda shape: 0,
)
"""An object that has parameters of its own."""
