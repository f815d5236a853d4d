"""A standard deviation for each component and column: [k, d]. See `free` for the functions."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ...core.numerics import einsum
from ...core.tree import along
from ...core.triangular import diagonal
from . import free

shared = free.shared
total = free.total
share = free.share
SPANNED = 1


def inverse(factor: Float[Array, "k *d"]) -> Float[Array, "k *d"]:
    """Its reciprocal."""
    return 1 / factor


def matrices(factor: Float[Array, "*b k d"], d: int) -> Float[Array, "*b k d d"]:
    """Diagonal matrices of variances."""
    return (factor**2)[..., None] * jnp.eye(d, dtype=factor.dtype)


def variances(factor: Float[Array, "k d"], d: int) -> Float[Array, "k d"]:
    """See `free.variances`."""
    del d
    return factor**2


def pivots(factor: Float[Array, "k d"], d: int) -> Float[Array, "k d"]:
    """See `free.pivots`."""
    del d
    return factor


def tightness(
    factor: Float[Array, "k *d"], inverse: Float[Array, "k *d"], weights: Float[Array, " k"]
) -> Float[Array, " k"]:
    """See `free.tightness`."""
    present = along(weights > 0, factor)
    pooled = jnp.sum(along(weights, factor) * jnp.where(present, factor, 0) ** 2, axis=0)
    return jnp.sum((pooled * inverse**2).reshape(len(weights), -1), axis=-1)


def dense(inverse: Float[Array, "k d"], shift: Float[Array, "k d"]) -> Float[Array, "k d d"]:
    """As matrices."""
    return inverse[..., None] * jnp.eye(shift.shape[-1], dtype=inverse.dtype)


def whiten(inverse: Float[Array, "k d"], u: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
    """u_ij over the standard deviations."""
    return u * inverse


def colour(factor: Float[Array, "k d"], z: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """The standard deviations times z_j."""
    return factor * z


def colour_rows(
    factor: Float[Array, "k d"], z: Float[Array, "n d"], labels: Int[Array, " n"]
) -> Float[Array, "n d"]:
    """Those of the rows' components times z_i."""
    return factor[labels] * z


def half_log_det(factor: Float[Array, "k d"], d: int) -> Float[Array, " k"]:
    """The sum of the logarithms."""
    del d
    return jnp.sum(jnp.log(factor), axis=-1)


def precision(inverse: Float[Array, "k d"], v: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """v_j over the variances."""
    return v * inverse**2


def features(u: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Squares."""
    return u**2


def coefficients(inverse: Float[Array, "k d"], k: int) -> Float[Array, "k d"]:
    """Half the precisions."""
    del k
    return 0.5 * inverse**2


def pivoted(
    mass: Float[Array, " k"],
    first: Float[Array, "k d"],
    second: Float[Array, "k d"],
    total: None,
    shift: Float[Array, "k d"],
) -> Float[Array, "k d"]:
    """See `free.pivoted`."""
    del total
    return second - 2 * shift * first + mass[:, None] * shift**2


def scatter(u: Float[Array, "n k d"], plan: Float[Array, "n k"]) -> Float[Array, "k d"]:
    """sum_i P_ij u_ij^2."""
    return einsum("nk,nkd->kd", plan, u**2)


def of_second(second: Float[Array, "k d d"]) -> Float[Array, "k d"]:
    """Their diagonals."""
    return diagonal(second)


def central(
    scatter: Float[Array, "k d"], shift: Float[Array, "k d"], mass: Float[Array, " k"]
) -> Float[Array, "k d"]:
    """See `free.central`."""
    return scatter - mass[:, None] * shift**2


def of_spread(spread: Float[Array, "*m d"]) -> Float[Array, " d"]:
    """The variances."""
    return diagonal(spread) if spread.ndim == 2 else spread


def trace(inverse: Float[Array, "*k e"], spread: Float[Array, "*m d"]) -> Float[Array, ""]:
    """See `free.trace`."""
    return jnp.sum(of_spread(spread) * inverse**2)


def trace_with(inverse: Float[Array, "*k e"], second: Float[Array, "*k e"]) -> Float[Array, ""]:
    """See `free.trace_with`."""
    return jnp.sum(second * inverse**2)


def amplification(
    factor: Float[Array, "k d"], inverse: Float[Array, "k d"], shift: Float[Array, "k d"]
) -> Float[Array, " k"]:
    """See `free.amplification`."""
    del factor
    return jnp.sum((shift * inverse) ** 2, axis=-1) + shift.shape[-1]
