"""Orthogonal matrices: coordinates, triangular forms, and axes along which matrices are diagonal.

Written in array operations like `core.triangular`, whose reason holds here too: LAPACK batched
under a thread pool of few cores can block itself.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .triangular import UNROLLED, diagonal, inverse_triangle, multiply


# a rule of its own, as those below: derivatives of written-out steps are programs of many times
# their size
@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _inverse_beside(
    matrix: Float[Array, "... d d"], chosen: bool
) -> tuple[Float[Array, "... d d"], Float[Array, "... d"]]:
    """(A + S)^-1 and S, a diagonal of signs: +1, or chosen so that no pivot is below 1.

    A orthogonal has such signs, and a skew A with S = 1 has no pivot below 1 either, so rows are
    not exchanged.

    Source: O'Dorney (2014), Linear Algebra and its Applications 448, 97-103.
    """
    d = matrix.shape[-1]

    def step(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        both, signs = state
        at = jnp.arange(d) == i
        pivot = both[..., i, i]
        sign = jnp.where(pivot < 0, -1, 1).astype(pivot.dtype) if chosen else jnp.ones_like(pivot)
        row = both[..., i, :] + sign[..., None] * (jnp.arange(2 * d) == i)
        row = (row / (pivot + sign)[..., None])[..., None, :]
        column = jnp.where(at, 0, both[..., :, i])[..., None]
        both = jnp.where(at[:, None], row, both - column * row)
        return both, jnp.where(at, sign[..., None], signs)

    identity = jnp.broadcast_to(jnp.eye(d, dtype=matrix.dtype), matrix.shape)
    state = jnp.concatenate([matrix, identity], axis=-1), jnp.ones_like(matrix[..., 0])
    both, signs = jax.lax.fori_loop(0, d, step, state)
    return both[..., d:], signs


@_inverse_beside.defjvp
def _(chosen: bool, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    inverse, signs = _inverse_beside(primals[0], chosen)
    dot = -multiply(multiply(inverse, tangents[0]), inverse)
    return (inverse, signs), (dot, jnp.zeros_like(signs))


def turned(origin: Float[Array, "... d d"], z: Float[Array, "... t"]) -> Float[Array, "... d d"]:
    """R C(z), Cayley's (1 - Z / 2)^-1 (1 + Z / 2) of the skew Z with z below the diagonal."""
    d = origin.shape[-1]
    rows, columns = np.tril_indices(d, -1)
    lower = jnp.zeros((*z.shape[:-1], d, d), z.dtype).at[..., rows, columns].set(z)
    skew = 0.5 * (lower - jnp.swapaxes(lower, -1, -2))
    inverse, _ = _inverse_beside(-skew, False)
    return multiply(origin, 2 * inverse - jnp.eye(d, dtype=z.dtype))


def turn(value: Float[Array, "... d d"], origin: Float[Array, "... d d"]) -> Float[Array, "... t"]:
    """The inverse of `turned`, up to the signs of the value's columns: some have no coordinates."""
    relative = multiply(jnp.swapaxes(origin, -1, -2), value)
    inverse, signs = _inverse_beside(relative, True)
    # with Q = R^T V and C = Q S: Z / 2 = 1 - 2 (C + 1)^-1, and (C + 1)^-1 = S (Q + S)^-1
    half = -2 * signs[..., :, None] * inverse
    rows, columns = np.tril_indices(value.shape[-1], -1)
    return half[..., rows, columns] - half[..., columns, rows]


def orthonormal(basis: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """A nearly orthogonal matrix without its rounding: one step of Newton and Schulz."""
    square = multiply(jnp.swapaxes(basis, -1, -2), basis)
    return 1.5 * basis - 0.5 * multiply(basis, square)


def lower_form(matrix: Float[Array, "... d q"]) -> Float[Array, "... d q"]:
    """M Q, zero above the diagonal and >= 0 on it, Q orthogonal; d >= q. M M^T stays.

    Householder's reflections from the right: no digit of a thin M is squared away.
    """
    q = matrix.shape[-1]

    def step(i: Array, matrix: Array) -> Array:
        places = jnp.arange(q)
        row = jnp.where(places >= i, matrix[..., i, :], 0)
        squared = jnp.sum(row**2, axis=-1, keepdims=True)
        present = squared > 0
        length = jnp.sqrt(jnp.where(present, squared, 1))
        head = row[..., i, None]
        # away from the head: the difference does not cancel
        sign = jnp.where(head > 0, 1.0, -1.0).astype(row.dtype)
        normal = jnp.where(present, row + sign * length * (places == i), 0)
        normal = normal / jnp.sqrt(length * (length + jnp.abs(head)))
        across = jnp.sum(matrix * normal[..., None, :], axis=-1, keepdims=True)
        matrix = matrix - across * normal[..., None, :]
        flip = jnp.where((places == i) & present, -sign, 1)
        return matrix * flip[..., None, :]

    return jnp.tril(jax.lax.fori_loop(0, q, step, matrix))


@jax.custom_jvp
def lower_root(matrix: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """`lower_form` of square, regular matrices: the factor of M M^T."""
    d = matrix.shape[-1]
    if d > UNROLLED:
        return lower_form(matrix)
    # Gram and Schmidt's, modified, row by row: its factor is as good as Householder's
    rest, columns = matrix, []
    for i in range(d):
        length = jnp.sqrt(jnp.sum(rest[..., :1, :] ** 2, axis=-1, keepdims=True))
        unit = rest[..., :1, :] / length
        below = jnp.sum(rest[..., 1:, :] * unit, axis=-1, keepdims=True)
        rest = rest[..., 1:, :] - below * unit
        above = jnp.zeros((*matrix.shape[:-2], i, 1), matrix.dtype)
        columns.append(jnp.concatenate([above, length, below], axis=-2))
    return jnp.concatenate(columns, axis=-1)


@lower_root.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """L^-1 dL = lower(L^-1 d(M M^T) L^-T), with half the diagonal."""
    factor = lower_root(primals[0])
    inverse = inverse_triangle(factor)
    back = jnp.swapaxes(multiply(inverse, primals[0]), -1, -2)
    half = multiply(multiply(inverse, tangents[0]), back)
    relative = half + jnp.swapaxes(half, -1, -2)
    identity = 0.5 * jnp.eye(factor.shape[-1], dtype=factor.dtype)
    return factor, multiply(factor, jnp.tril(relative) - identity * relative)


def _rounds(d: int) -> np.ndarray:
    """[rounds, d] the partner of each axis: every pair meets once; alone is one's own partner."""
    even = d + d % 2
    others, rounds = list(range(1, even)), []
    for _ in range(even - 1):
        order = [0, *others]
        partner = np.arange(even)
        for a, b in zip(order[: even // 2], order[::-1], strict=False):
            partner[a], partner[b] = b, a
        partner = partner[:d]
        rounds.append(np.where(partner < d, partner, np.arange(d)))
        others = others[-1:] + others[:-1]
    return np.array(rounds)


def common_axes(
    matrices: Float[Array, "... j d d"],
    basis: Float[Array, "... d d"],
    weigh: Callable[[Array], Array],
    sweeps: int,
) -> tuple[Float[Array, "... d d"], Float[Array, "... j d"]]:
    """Turns a basis D so that sum_jc w_jc D_c^T M_j D_c falls; and those D_c^T M_j D_c.

    Jacobi's rotations, d / 2 disjoint planes at a time: in a plane the best angle has a closed
    form, and disjoint planes do not feel one another.

    Args:
        matrices: symmetric; each group of j has axes in common.
        basis: where to begin.
        weigh: (variances along the axes) to weights, asked before each round. Constant ones that
            grow along the last axis yield eigenvectors, the largest eigenvalue first.
        sweeps: how often each pair of axes is turned.

    Source: Flury and Gautschi (1986), SIAM J. Sci. Stat. Comput. 7, 169-184; Golub and Van Loan,
    Matrix Computations, section 8.5.
    """
    d = basis.shape[-1]
    turned_back = jnp.swapaxes(basis, -1, -2)[..., None, :, :]
    matrices = multiply(multiply(turned_back, matrices), basis[..., None, :, :])

    def plane_turns(state: tuple[Array, Array], partner: Array) -> tuple[tuple, None]:
        basis, matrices = state
        along = diagonal(matrices)
        beside = jnp.sum(jnp.where(jnp.arange(d) == partner[:, None], matrices, 0), axis=-1)
        weights = weigh(along)
        gap = weights - weights[..., partner]
        apart = along - along[..., partner]
        angle = _best_angle(gap * apart, 2 * gap * beside, jnp.abs(gap * along))
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        basis = cosine[..., None, :] * basis + sine[..., None, :] * basis[..., partner]
        cosine, sine = cosine[..., None, None, :], sine[..., None, None, :]
        matrices = cosine * matrices + sine * matrices[..., partner]
        cosine, sine = jnp.swapaxes(cosine, -1, -2), jnp.swapaxes(sine, -1, -2)
        return (basis, cosine * matrices + sine * matrices[..., partner, :]), None

    rounds = jnp.asarray(np.tile(_rounds(d), (sweeps, 1)))
    (basis, matrices), _ = jax.lax.scan(plane_turns, (basis, matrices), rounds)
    return basis, diagonal(matrices)


def _best_angle(
    even: Float[Array, "... j d"], odd: Float[Array, "... j d"], size: Float[Array, "... j d"]
) -> Float[Array, "... d"]:
    """Where sum_j even_j cos 2t + odd_j sin 2t is least; 0 where it is nothing but rounding."""
    even, odd = jnp.sum(even, axis=-2), jnp.sum(odd, axis=-2)
    rounding = 4 * jnp.finfo(even.dtype).eps * jnp.sum(size, axis=-2)
    flat = jnp.abs(even) + jnp.abs(odd) <= rounding
    # before the arctangent, whose derivative at 0 / 0 is NaN
    return 0.5 * jnp.arctan2(jnp.where(flat, 0, -odd), jnp.where(flat, 1, -even))
