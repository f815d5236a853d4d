"""One triangular factor for all components: [d, d]. See `free` for what each function answers."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ...core.numerics import einsum, matmul
from ...core.triangular import inverse_triangle, log_diagonal_sum, multiply
from . import free

inverse = inverse_triangle
of_spread = free.of_spread
trace = free.trace
trace_with = free.trace_with
SPANNED = 0


def matrices(factor: Float[Array, "*b d d"], d: int) -> Float[Array, "*b 1 d d"]:
    """L L^T, with an axis for the components that share it."""
    return free.matrices(factor[..., None, :, :], d)


def variances(factor: Float[Array, "d d"], d: int) -> Float[Array, "1 d"]:
    """See `free.variances`."""
    return free.variances(factor[None], d)


def pivots(factor: Float[Array, "d d"], d: int) -> Float[Array, "1 d"]:
    """See `free.pivots`."""
    return free.pivots(factor[None], d)


def tightness(
    factor: Float[Array, "d d"], inverse: Float[Array, "d d"], weights: Float[Array, " k"]
) -> Float[Array, " k"]:
    """The width: all are alike."""
    del inverse
    return jnp.full_like(weights, factor.shape[-1])


def dense(inverse: Float[Array, "d d"], shift: Float[Array, "k d"]) -> Float[Array, "k d d"]:
    """The inverse factor, for each component."""
    return jnp.broadcast_to(inverse, (shift.shape[0], *inverse.shape))


def whiten(inverse: Float[Array, "d d"], u: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
    """L^-1 u_ij."""
    return einsum("de,nke->nkd", inverse, u)


def colour(factor: Float[Array, "d d"], z: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """L z_j."""
    return matmul(z, jnp.tril(factor).T)


def colour_rows(
    factor: Float[Array, "d d"], z: Float[Array, "n d"], labels: Int[Array, " n"]
) -> Float[Array, "n d"]:
    """L z_i."""
    del labels
    return colour(factor, z)


def half_log_det(factor: Float[Array, "d d"], d: int) -> Float[Array, ""]:
    """The logarithm of det L."""
    del d
    return log_diagonal_sum(factor)


def precision(inverse: Float[Array, "d d"], v: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Sigma^-1 v_j."""
    return matmul(matmul(v, inverse.T), inverse)


def features(u: Float[Array, "n d"]) -> Float[Array, "n 0"]:
    """None."""
    # a square that all components share cancels from the softmax: see `shared`
    return u[:, :0]


def coefficients(inverse: Float[Array, "d d"], k: int) -> Float[Array, "k 0"]:
    """None."""
    return jnp.zeros((k, 0), inverse.dtype)


def shared(inverse: Float[Array, "d d"], u: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The whole half square."""
    return 0.5 * jnp.sum(matmul(u, inverse.T) ** 2, axis=-1)


def total(u: Float[Array, "n d"], row_weight: Float[Array, " n"]) -> Float[Array, "d d"]:
    """The scatter of all rows, which no plan changes."""
    return matmul((row_weight[:, None] * u).T, u)


def pivoted(
    mass: Float[Array, " k"],
    first: Float[Array, "k d"],
    second: Float[Array, "k 0"],
    total: Float[Array, "d d"],
    shift: Float[Array, "k d"],
) -> Float[Array, "d d"]:
    """See `free.pivoted`."""
    del second
    cross = matmul(first.T, shift)
    between = matmul((mass[:, None] * shift).T, shift)
    return total - cross - cross.T + between


def scatter(u: Float[Array, "n k d"], plan: Float[Array, "n k"]) -> Float[Array, "d d"]:
    """The sum over components too."""
    return einsum("nkd,nke->de", plan[..., None] * u, u)


def of_second(second: Float[Array, "k d d"]) -> Float[Array, "d d"]:
    """Their sum."""
    return jnp.sum(second, axis=0)


def central(
    scatter: Float[Array, "d d"], shift: Float[Array, "k d"], mass: Float[Array, " k"]
) -> Float[Array, "d d"]:
    """See `free.central`."""
    return scatter - einsum("kd,ke->de", mass[:, None] * shift, shift)


def share(mass: Float[Array, " k"]) -> Float[Array, ""]:
    """All of it."""
    return jnp.sum(mass)


def amplification(
    factor: Float[Array, "d d"], inverse: Float[Array, "d d"], shift: Float[Array, "k d"]
) -> Float[Array, " k"]:
    """See `free.amplification`."""
    size = jnp.abs(multiply(inverse.T, inverse))
    distant = jnp.sum(matmul(jnp.abs(shift), size) * jnp.abs(shift), axis=-1)
    return distant + jnp.sum(size * jnp.abs(matrices(factor, 0)[0]))
