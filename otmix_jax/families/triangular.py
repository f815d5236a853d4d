"""Lower-triangular factors: factorise, invert, and lay out as unconstrained coordinates."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def regular_cholesky(matrices: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """Lower factors; NaN where a pivot drowns in rounding, that is, where a matrix is singular.

    A pivot relative to its own variance is 1 - R^2 of that column given the earlier ones, so the
    test does not depend on the columns' units.
    """
    factor = jnp.linalg.cholesky(matrices)
    variance = jnp.diagonal(matrices, axis1=-2, axis2=-1)
    pivot = jnp.diagonal(factor, axis1=-2, axis2=-1) ** 2
    floor = matrices.shape[-1] * jnp.finfo(matrices.dtype).eps * variance
    regular = jnp.all(pivot > floor, axis=-1)
    return jnp.where(regular[..., None, None], factor, jnp.nan)


def inverse_triangle(factor: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """The inverse of each lower factor."""
    identity = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
    return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)


def pack(factor: Float[Array, "... d d"]) -> Float[Array, "... t"]:
    """Lower triangle as a vector, the diagonal through a logarithm."""
    d = factor.shape[-1]
    diagonal = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1))
    rows, columns = jnp.tril_indices(d)
    logged = jnp.where(jnp.eye(d, dtype=bool), diagonal[..., None, :], factor)
    return logged[..., rows, columns]


def unpack(coordinates: Float[Array, "... t"], d: int) -> Float[Array, "... d d"]:
    """The inverse of `pack`."""
    rows, columns = jnp.tril_indices(d)
    zeros = jnp.zeros((*coordinates.shape[:-1], d, d), coordinates.dtype)
    factor = zeros.at[..., rows, columns].set(coordinates)
    eye = jnp.eye(d, dtype=bool)
    return jnp.where(eye, jnp.exp(jnp.where(eye, factor, 0)), factor)


def log_diagonal_sum(factor: Float[Array, "... d d"]) -> Array:
    """The log-determinant of each factor."""
    return jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
