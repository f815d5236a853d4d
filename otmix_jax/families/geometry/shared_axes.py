"""One standard deviation of each column for all components, [d], or of all columns, [1].

See `free` for what each function answers.
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ...core.numerics import einsum, matmul
from . import axes, pooled

inverse = axes.inverse
of_spread = axes.of_spread
trace = axes.trace
trace_with = axes.trace_with
share = pooled.share
features = pooled.features
SPANNED = 0


def matrices(factor: Float[Array, "*b e"], d: int) -> Float[Array, "*b 1 d d"]:
    """One diagonal matrix, with an axis for the components that share it."""
    return (factor**2)[..., None, :, None] * jnp.eye(d, dtype=factor.dtype)


def variances(factor: Float[Array, " e"], d: int) -> Float[Array, "1 d"]:
    """See `free.variances`."""
    return pivots(factor, d) ** 2


def pivots(factor: Float[Array, " e"], d: int) -> Float[Array, "1 d"]:
    """See `free.pivots`."""
    return jnp.broadcast_to(factor, (1, d))


def tightness(
    factor: Float[Array, " e"], inverse: Float[Array, " e"], weights: Float[Array, " k"]
) -> Float[Array, " k"]:
    """No more than the width: all are alike."""
    del inverse
    return jnp.full_like(weights, factor.shape[-1])


def dense(inverse: Float[Array, " e"], shift: Float[Array, "k d"]) -> Float[Array, "k d d"]:
    """As matrices."""
    identity = jnp.eye(shift.shape[-1], dtype=inverse.dtype)
    return jnp.broadcast_to(inverse[:, None] * identity, (*shift.shape, shift.shape[-1]))


def whiten(inverse: Float[Array, " e"], u: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
    """u_ij over the standard deviations."""
    return u * inverse


def colour(factor: Float[Array, " e"], z: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """The standard deviations times z_j."""
    return factor * z


def colour_rows(
    factor: Float[Array, " e"], z: Float[Array, "n d"], labels: Int[Array, " n"]
) -> Float[Array, "n d"]:
    """The standard deviations times z_i."""
    del labels
    return factor * z


def half_log_det(factor: Float[Array, " e"], d: int) -> Float[Array, ""]:
    """The sum of the logarithms."""
    return jnp.sum(jnp.log(jnp.broadcast_to(factor, (d,))))


def precision(inverse: Float[Array, " e"], v: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """v_j over the variances."""
    return v * inverse**2


def coefficients(inverse: Float[Array, " e"], k: int) -> Float[Array, "k 0"]:
    """None."""
    return jnp.zeros((k, 0), inverse.dtype)


def shared(inverse: Float[Array, " e"], u: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The whole half square."""
    return 0.5 * jnp.sum((u * inverse) ** 2, axis=-1)


def total(u: Float[Array, "n d"], row_weight: Float[Array, " n"]) -> Float[Array, " d"]:
    """The squares of all rows, which no plan changes."""
    return matmul(row_weight, u**2)


def pivoted(
    mass: Float[Array, " k"],
    first: Float[Array, "k d"],
    second: Float[Array, "k 0"],
    total: Float[Array, " d"],
    shift: Float[Array, "k d"],
) -> Float[Array, " d"]:
    """See `free.pivoted`."""
    del second
    return total + jnp.sum(shift * (mass[:, None] * shift - 2 * first), axis=0)


def scatter(u: Float[Array, "n k d"], plan: Float[Array, "n k"]) -> Float[Array, " d"]:
    """The sum over components too."""
    return einsum("nk,nkd->d", plan, u**2)


def of_second(second: Float[Array, "k d d"]) -> Float[Array, " d"]:
    """The sum of their diagonals."""
    return jnp.sum(axes.of_second(second), axis=0)


def central(
    scatter: Float[Array, " d"], shift: Float[Array, "k d"], mass: Float[Array, " k"]
) -> Float[Array, " d"]:
    """See `free.central`."""
    return scatter - matmul(mass, shift**2)


def amplification(
    factor: Float[Array, " e"], inverse: Float[Array, " e"], shift: Float[Array, "k d"]
) -> Float[Array, " k"]:
    """See `free.amplification`."""
    del factor
    return jnp.sum((shift * inverse) ** 2, axis=-1) + shift.shape[-1]
