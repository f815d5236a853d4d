"""A triangular factor for each component: [k, d, d]."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from ...core.numerics import einsum, matmul
from ...core.triangular import diagonal, inverse_triangle, log_diagonal_sum, multiply

inverse = inverse_triangle
SPANNED = 0
"""Rows that a singular shape can be laid through at will; 0 for as many as columns."""


def matrices(factor: Float[Array, "*b k d d"], d: int) -> Float[Array, "*b k d d"]:
    """L L^T; also of a batch of mixtures."""
    del d
    # what stands above the diagonal is no parameter
    lower = jnp.tril(factor)
    return multiply(lower, jnp.swapaxes(lower, -1, -2))


def variances(factor: Float[Array, "k d d"], d: int) -> Float[Array, "k d"]:
    """The diagonals of L_j L_j^T."""
    del d
    return jnp.sum(jnp.tril(factor) ** 2, axis=-1)


def pivots(factor: Float[Array, "k d d"], d: int) -> Float[Array, "k d"]:
    """The standard deviation that each column has left, given those before it."""
    del d
    return diagonal(factor)


def tightness(
    factor: Float[Array, "k d d"], inverse: Float[Array, "k d d"], weights: Float[Array, " k"]
) -> Float[Array, " k"]:
    """tr(W Sigma_j^-1), W = sum_j weights_j Sigma_j: large where j is thin in some direction."""
    # a component that is absent may hold anything
    lower = jnp.where(weights[:, None, None] > 0, jnp.tril(factor), 0)
    pooled = einsum("k,kde,kfe->df", weights, lower, lower)
    return einsum("kde,ef,kdf->k", inverse, pooled, inverse)


def dense(inverse: Float[Array, "k d d"], shift: Float[Array, "k d"]) -> Float[Array, "k d d"]:
    """The inverse factors as matrices."""
    del shift
    return inverse


def whiten(inverse: Float[Array, "k d d"], u: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
    """L_j^-1 u_ij."""
    return einsum("kde,nke->nkd", inverse, u)


def colour(factor: Float[Array, "k d d"], z: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """L_j z_j."""
    return multiply(jnp.tril(factor), z[..., None])[..., 0]


def colour_rows(
    factor: Float[Array, "k d d"], z: Float[Array, "n d"], labels: Int[Array, " n"]
) -> Float[Array, "n d"]:
    """L_{labels_i} z_i, component by component: a gather of factors would hold [n, d, d]."""

    def one(j: Array, rows: Array) -> Array:
        coloured = matmul(z, jnp.tril(factor[j]).T)
        return jnp.where((labels == j)[:, None], coloured, rows)

    return jax.lax.fori_loop(0, factor.shape[0], one, jnp.zeros_like(z))


def half_log_det(factor: Float[Array, "k d d"], d: int) -> Float[Array, " k"]:
    """The logarithm of det L_j."""
    del d
    return log_diagonal_sum(factor)


def precision(inverse: Float[Array, "k d d"], v: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Sigma_j^-1 v_j."""
    return multiply(jnp.swapaxes(inverse, 1, 2), multiply(inverse, v[..., None]))[..., 0]


def features(u: Float[Array, "n d"]) -> Float[Array, "n q"]:
    """u_a u_b for a <= b, row by row of the triangle."""
    return jnp.concatenate([u[:, i : i + 1] * u[:, i:] for i in range(u.shape[1])], axis=1)


def coefficients(inverse: Float[Array, "k d d"], k: int) -> Float[Array, "k q"]:
    """Those of the features in |L_j^-1 u|^2 / 2: off the diagonal a product counts twice."""
    del k
    rows, columns = np.triu_indices(inverse.shape[-1])
    halves = jnp.asarray(np.where(rows == columns, 0.5, 1.0), inverse.dtype)
    return halves * _precisions(inverse)[:, rows, columns]


def shared(inverse: Array, u: Float[Array, "n d"]) -> float:
    """The part of the half square that is the same for every component: none."""
    del inverse, u
    return 0.0


def total(u: Float[Array, "n d"], row_weight: Float[Array, " n"]) -> None:
    """What `pivoted` needs of all rows, whatever the plan: nothing."""
    del u, row_weight


def pivoted(
    mass: Float[Array, " k"],
    first: Float[Array, "k d"],
    second: Float[Array, "k q"],
    total: None,
    shift: Float[Array, "k d"],
) -> Float[Array, "k d d"]:
    """Second moments about pivots o + shift_j, from sums over u = x - o of 1, u and features."""
    del total
    d = shift.shape[-1]
    rows, columns = np.triu_indices(d)
    position = np.zeros((d, d), int)
    position[rows, columns] = position[columns, rows] = np.arange(len(rows))
    # what this subtraction may lose is what `amplification` bounds
    cross = first[:, :, None] * shift[:, None, :]
    between = mass[:, None, None] * shift[:, :, None] * shift[:, None, :]
    return second[:, position] - cross - jnp.swapaxes(cross, 1, 2) + between


def scatter(u: Float[Array, "n k d"], plan: Float[Array, "n k"]) -> Float[Array, "k d d"]:
    """sum_i P_ij u_ij u_ij^T."""
    return einsum("nkd,nke->kde", plan[..., None] * u, u)


def of_second(second: Float[Array, "k d d"]) -> Float[Array, "k d d"]:
    """What this layout keeps of whole second moments."""
    return second


def central(
    scatter: Float[Array, "k d d"], shift: Float[Array, "k d"], mass: Float[Array, " k"]
) -> Float[Array, "k d d"]:
    """The scatter about p_j + shift_j, the means, from that about p_j."""
    return scatter - mass[:, None, None] * shift[:, :, None] * shift[:, None, :]


def share(mass: Float[Array, " k"]) -> Float[Array, " k"]:
    """The mass that each factor answers for."""
    return mass


def of_spread(spread: Float[Array, "*m d"]) -> Float[Array, "d d"]:
    """A matrix [d, d], or the diagonal one of variances [d], in this layout."""
    return spread if spread.ndim == 2 else jnp.diag(spread)


def trace(inverse: Float[Array, "*k d d"], spread: Float[Array, "*m d"]) -> Float[Array, ""]:
    """sum_j tr(D Sigma_j^-1), D being what `of_spread` takes."""
    if spread.ndim == 1:
        return jnp.sum(inverse**2 * spread)
    return jnp.sum(multiply(inverse, spread) * inverse)


def trace_with(inverse: Float[Array, "*k d d"], second: Float[Array, "*k d d"]) -> Float[Array, ""]:
    """sum_j tr(S_j Sigma_j^-1), S_j being second moments in this layout."""
    return jnp.sum(multiply(inverse, second) * inverse)


def amplification(
    factor: Float[Array, "k d d"], inverse: Float[Array, "k d d"], shift: Float[Array, "k d"]
) -> Float[Array, " k"]:
    """|shift_j|^T |Sigma_j^-1| |shift_j| + sum_ab |Sigma_j^-1|_ab |Sigma_j|_ab.

    Times the unit roundoff, what |L_j^-1 u|^2 loses near the mean when its square is expanded
    about an origin that lies `shift_j` away: d at best, more for far means and for columns
    that correlate.
    """
    size = jnp.abs(_precisions(inverse))
    distant = einsum("kd,kde,ke->k", jnp.abs(shift), size, jnp.abs(shift))
    return distant + jnp.sum(size * jnp.abs(matrices(factor, 0)), axis=(1, 2))


def _precisions(inverse: Float[Array, "k d d"]) -> Float[Array, "k d d"]:
    return multiply(jnp.swapaxes(inverse, 1, 2), inverse)
