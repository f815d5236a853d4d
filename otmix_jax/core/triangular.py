"""Lower-triangular factors: factorise, invert, and lay out as unconstrained coordinates.

Written in array operations, not as calls to LAPACK: on a CPU a batched call spreads over the very
thread pool that runs it and waits there, so that two at a time block each other forever on a
machine of few cores (jaxlib 0.10).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

UNROLLED = 6
"""Widths up to which factors are computed entry by entry."""


def regular_cholesky(
    matrices: Float[Array, "... d d"],
    floor: Float[Array, " d"] | Float[Array, ""] | None = None,
) -> Float[Array, "... d d"]:
    """Lower factors; NaN where a pivot drowns in rounding, that is, where a matrix is singular.

    A pivot is the variance that a column has left, given the earlier ones: relative to its own
    variance 1 - R^2, so the test does not depend on the columns' units. With a floor [d] no pivot
    is below it, nor below the rounding of its own column, and nothing is singular.
    """
    d = matrices.shape[-1]
    # written out, the program grows with d^3: wide matrices would take too long to compile
    wide = d > UNROLLED
    if floor is None:
        factor = _cholesky_loop(matrices) if wide else _cholesky(matrices, None)
        least = _rounding(diagonal(matrices))
    else:
        least = pivot_floor(diagonal(matrices), floor)
        factor = _cholesky_columns(matrices, least) if wide else _cholesky(matrices, least)
        least = 0.5 * least  # where a pivot was lifted, its root squared may be an ulp below
    # false for NaN too
    regular = jnp.all(diagonal(factor) ** 2 > least, axis=-1)
    # no value can raise under jit: to a solver, NaN is a collapse
    return jnp.where(regular[..., None, None], factor, jnp.nan)


def _rounding(variance: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """What pivots of columns of these variances are off by."""
    return variance.shape[-1] * jnp.finfo(variance.dtype).eps * variance


def pivot_floor(
    variance: Float[Array, "... d"], floor: Float[Array, " d"] | Float[Array, ""]
) -> Float[Array, "... d"]:
    """What pivots are lifted to: the floor, or a few times the rounding of their own column."""
    return jnp.maximum(floor, 4 * _rounding(variance))


def _cholesky(
    matrices: Float[Array, "... d d"], least: Float[Array, "... d"] | None
) -> Float[Array, "... d d"]:
    """Cholesky-Banachiewicz, row by row; every entry is one array over the batch."""
    d = matrices.shape[-1]
    entry: dict[tuple[int, int], Array] = {}
    lifted: dict[int, Array] = {}
    for i in range(d):
        for j in range(i + 1):
            rest = matrices[..., i, j] - sum(entry[i, m] * entry[j, m] for m in range(j))
            if j < i:
                # what lies below a lifted pivot is rounding, which would grow from each to the next
                rest = jnp.where(lifted[j], 0, rest) if j in lifted else rest
                entry[i, j] = rest / entry[j, j]
                continue
            if least is not None:
                lifted[i] = rest <= least[..., i]
                rest = jnp.maximum(rest, least[..., i])
            entry[i, i] = _root(rest)
    return _lower(entry, d)


# a rule of its own: reverse mode would else keep the whole factor at each of d steps
@jax.custom_jvp
def _cholesky_loop(matrices: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """The same, a column at a time; it reads the lower triangle."""
    return _cholesky_columns(matrices, None)


def _cholesky_columns(
    matrices: Float[Array, "... d d"], least: Float[Array, "... d"] | None
) -> Float[Array, "... d d"]:
    d = matrices.shape[-1]

    def column(j: Array, factor: Array) -> Array:
        # the whole row is summed: columns from j on are still 0
        rest = matrices[..., :, j] - jnp.sum(factor * factor[..., j, None, :], axis=-1)
        left = rest[..., j, None]
        if least is not None:
            # what lies below a lifted pivot is rounding, which would grow from each to the next
            rest = jnp.where(left <= least[..., j, None], 0, rest)
            left = jnp.maximum(left, least[..., j, None])
        pivot = _root(left)
        # by masks: a slice up to a traced j has no static shape
        below = jnp.where(jnp.arange(d) > j, rest / pivot, 0)
        return factor.at[..., :, j].set(jnp.where(jnp.arange(d) == j, pivot, below))

    return jax.lax.fori_loop(0, d, column, jnp.zeros_like(matrices))


@_cholesky_loop.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """L^-1 dL = lower(L^-1 dA L^-T), with half the diagonal."""
    factor = _cholesky_loop(primals[0])
    inverse = inverse_triangle(factor)
    # only the lower triangle is read, so its tangent stands for both
    dot = jnp.tril(tangents[0])
    dot += jnp.swapaxes(jnp.tril(dot, -1), -1, -2)
    relative = multiply(multiply(inverse, dot), jnp.swapaxes(inverse, -1, -2))
    half = 0.5 * jnp.eye(factor.shape[-1], dtype=factor.dtype)
    return factor, multiply(factor, jnp.tril(relative) - half * relative)


@jax.custom_jvp
def _inverse_doubled(factor: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """Inverses of diagonal blocks of 1, 2, 4, ... rows: [[A, 0], [B, C]] from those of A and C.

    No loop, so that XLA sees where two parts of a program invert the same factor.
    """
    d = factor.shape[-1]
    width = 1 << (d - 1).bit_length()
    rest = [(0, 0)] * (factor.ndim - 2) + [(0, width - d)] * 2
    # 1 on the padded diagonal, whose reciprocal would else be inf
    padded = jnp.pad(factor, rest) + jnp.diag((jnp.arange(width) >= d).astype(factor.dtype))
    inverse = 1 / diagonal(padded)[..., None, None]
    size = 1
    while size < width:
        count = width // (2 * size)
        blocks = padded.reshape(*padded.shape[:-2], count, 2, size, count, 2, size)
        # by a mask, as in `diagonal`: a gather compiles to more loops
        own = np.eye(count, dtype=bool)[:, None, :, None]
        corners = jnp.sum(jnp.where(own, blocks[..., 1, :, :, 0, :], 0), axis=-2)
        above, below = inverse[..., ::2, :, :], inverse[..., 1::2, :, :]
        corner = -multiply(multiply(below, corners), above)
        upper = jnp.concatenate([above, jnp.zeros_like(above)], axis=-1)
        lower = jnp.concatenate([corner, below], axis=-1)
        inverse = jnp.concatenate([upper, lower], axis=-2)
        size *= 2
    return inverse[..., 0, :d, :d]


@_inverse_doubled.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse = _inverse_doubled(primals[0])
    return inverse, -multiply(multiply(inverse, jnp.tril(tangents[0])), inverse)


def diagonal(matrices: Float[Array, "... d d"]) -> Float[Array, "... d"]:
    """The diagonals, by a mask: one loop to compile, where `jnp.diagonal` is a gather of many."""
    return jnp.sum(jnp.where(np.eye(matrices.shape[-1], dtype=bool), matrices, 0), axis=-1)


def _root(x: Array) -> Array:
    """Square root; NaN below zero, with a finite gradient where it is not used."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), jnp.nan)


def _lower(entry: dict[tuple[int, int], Array], d: int) -> Float[Array, "... d d"]:
    zero = jnp.zeros_like(entry[0, 0])
    rows = [jnp.stack([entry.get((i, j), zero) for j in range(d)], axis=-1) for i in range(d)]
    return jnp.stack(rows, axis=-2)


def inverse_triangle(factor: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """The inverse of each lower factor."""
    d = factor.shape[-1]
    if d > UNROLLED:
        return _inverse_doubled(factor)
    entry: dict[tuple[int, int], Array] = {}
    for j in range(d):
        entry[j, j] = 1 / factor[..., j, j]
        for i in range(j + 1, d):
            rest = sum(factor[..., i, m] * entry[m, j] for m in range(j, i))
            entry[i, j] = -rest / factor[..., i, i]
    return _lower(entry, d)


def multiply(a: Float[Array, "... m d"], b: Float[Array, "... d n"]) -> Float[Array, "... m n"]:
    """The matrix products, at full precision."""
    d = a.shape[-1]
    if d > UNROLLED:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    # tiny products one by one leave a processor idle: as sums they are one loop over the batch
    return sum(
        (a[..., :, i, None] * b[..., None, i, :] for i in range(1, d)),
        a[..., :, 0, None] * b[..., None, 0, :],
    )


def pack(factor: Float[Array, "... d d"]) -> Float[Array, "... t"]:
    """Lower triangle as a vector, the diagonal through a logarithm."""
    d = factor.shape[-1]
    rows, columns = np.tril_indices(d)
    # the logarithm of the diagonal alone: zeros above it would make NaN of the derivative
    logged = jnp.where(np.eye(d, dtype=bool), jnp.log(diagonal(factor))[..., None, :], factor)
    return logged[..., rows, columns]


def unpack(coordinates: Float[Array, "... t"], d: int) -> Float[Array, "... d d"]:
    """The inverse of `pack`."""
    rows, columns = np.tril_indices(d)
    zeros = jnp.zeros((*coordinates.shape[:-1], d, d), coordinates.dtype)
    factor = zeros.at[..., rows, columns].set(coordinates)
    eye = np.eye(d, dtype=bool)
    # 0 off the diagonal before exp, which a large entry would overflow
    return jnp.where(eye, jnp.exp(jnp.where(eye, factor, 0)), factor)


def log_diagonal_sum(factor: Float[Array, "... d d"]) -> Array:
    """The log-determinant of each factor."""
    return jnp.sum(jnp.log(diagonal(factor)), axis=-1)
