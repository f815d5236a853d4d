"""One standard deviation for each component: [k]. See `free` for what each function answers."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ...core.numerics import einsum
from . import axes, free

inverse = axes.inverse
shared = free.shared
total = free.total
share = free.share
tightness = axes.tightness
trace_with = axes.trace_with
SPANNED = 1


def matrices(factor: Float[Array, "*b k"], d: int) -> Float[Array, "*b k d d"]:
    """Variances times the identity."""
    return (factor**2)[..., None, None] * jnp.eye(d, dtype=factor.dtype)


def variances(factor: Float[Array, " k"], d: int) -> Float[Array, "k d"]:
    """See `free.variances`."""
    return pivots(factor, d) ** 2


def pivots(factor: Float[Array, " k"], d: int) -> Float[Array, "k d"]:
    """See `free.pivots`."""
    return jnp.broadcast_to(factor[:, None], (len(factor), d))


def dense(inverse: Float[Array, " k"], shift: Float[Array, "k d"]) -> Float[Array, "k d d"]:
    """As matrices."""
    return inverse[:, None, None] * jnp.eye(shift.shape[-1], dtype=inverse.dtype)


def whiten(inverse: Float[Array, " k"], u: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
    """u_ij over the standard deviation."""
    return u * inverse[:, None]


def colour(factor: Float[Array, " k"], z: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """The standard deviation times z_j."""
    return factor[:, None] * z


def colour_rows(
    factor: Float[Array, " k"], z: Float[Array, "n d"], labels: Int[Array, " n"]
) -> Float[Array, "n d"]:
    """That of the row's component times z_i."""
    return factor[labels, None] * z


def half_log_det(factor: Float[Array, " k"], d: int) -> Float[Array, " k"]:
    """Columns times the logarithm."""
    return d * jnp.log(factor)


def precision(inverse: Float[Array, " k"], v: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """v_j over the variance."""
    return v * inverse[:, None] ** 2


def features(u: Float[Array, "n d"]) -> Float[Array, "n 1"]:
    """The squared length."""
    return jnp.sum(u**2, axis=1, keepdims=True)


def coefficients(inverse: Float[Array, " k"], k: int) -> Float[Array, "k 1"]:
    """Half the precision."""
    del k
    return 0.5 * inverse[:, None] ** 2


def pivoted(
    mass: Float[Array, " k"],
    first: Float[Array, "k d"],
    second: Float[Array, "k 1"],
    total: None,
    shift: Float[Array, "k d"],
) -> Float[Array, " k"]:
    """See `free.pivoted`."""
    del total
    cross = jnp.sum(shift * first, axis=-1)
    return second[:, 0] - 2 * cross + mass * jnp.sum(shift**2, axis=-1)


def scatter(u: Float[Array, "n k d"], plan: Float[Array, "n k"]) -> Float[Array, " k"]:
    """sum_i P_ij |u_ij|^2."""
    return einsum("nk,nk->k", plan, jnp.sum(u**2, axis=-1))


def of_second(second: Float[Array, "k d d"]) -> Float[Array, " k"]:
    """Their traces."""
    return jnp.trace(second, axis1=1, axis2=2)


def central(
    scatter: Float[Array, " k"], shift: Float[Array, "k d"], mass: Float[Array, " k"]
) -> Float[Array, " k"]:
    """See `free.central`; the mean over columns."""
    return (scatter - mass * jnp.sum(shift**2, axis=-1)) / shift.shape[-1]


def of_spread(spread: Float[Array, "*m d"]) -> Float[Array, ""]:
    """The mean of the variances."""
    return jnp.mean(axes.of_spread(spread))


def trace(inverse: Float[Array, " k"], spread: Float[Array, "*m d"]) -> Float[Array, ""]:
    """See `free.trace`."""
    return jnp.sum(inverse**2) * jnp.sum(axes.of_spread(spread))


def amplification(
    factor: Float[Array, " k"], inverse: Float[Array, " k"], shift: Float[Array, "k d"]
) -> Float[Array, " k"]:
    """See `free.amplification`."""
    del factor
    return jnp.sum((shift * inverse[:, None]) ** 2, axis=-1) + shift.shape[-1]
