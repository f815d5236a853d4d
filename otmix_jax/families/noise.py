"""What rows with Gaussian noise of their own say of Gaussian vectors behind them.

Row i is x_i = R_i v_i + e_i with e_i ~ N(0, S_i), and v_i ~ N(mu, V) in component j. With

    r = x_i - R_i mu        T = R_i V R_i^T + S_i = L L^T        A = L^-1 R_i V

    -log p(x_i) = |L^-1 r|^2 / 2 + log det L + m / 2 log 2 pi
    E[v - mu | x_i] = A^T L^-1 r = b          Cov[v | x_i] = V - A^T A = B

A cell that is missing is an identity row in T, has no residual, and a row of zeros in R.

Source: Bovy, Hogg and Roweis (2011), Annals of Applied Statistics 5, section 2: the steps of EM.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PRNGKeyArray

from ..core.numerics import einsum, matmul
from ..core.tree import pytree
from ..core.triangular import UNROLLED, diagonal, inverse_triangle, multiply, regular_cholesky

NARROW = UNROLLED
"""Widths of rows and vectors up to which factors are computed entry by entry, all components side
by side; each entry is one array. Four times as fast as small matrices row by row."""


@pytree
class Seen:
    """Rows as they were seen.

    Attributes:
        value: [n, m], 0 where a cell is missing.
        there: [n, m] which cells tell of something; None is all.
        noise: [n, m] variances or [n, m, m] covariances S.
        projection: [n, m, d] R; None is the identity.
    """

    value: Array
    there: Any
    noise: Array
    projection: Any

    @classmethod
    def of(cls, x: dict[str, Array], may_miss: bool) -> "Seen":
        """Rows that are a dict; NaN is a missing cell where cells may be missing.

        A cell that sees nothing, without noise, is as good as missing: its law is a point.
        """
        value, noise, projection = x["x"], x["covariance"], x.get("projection")
        there = ~jnp.isnan(value) if may_miss else None
        if projection is not None:
            variance = noise if noise.ndim == 2 else diagonal(noise)
            sees = jnp.any(projection != 0, axis=-1) | (variance != 0)
            there = sees if there is None else sees & there
        value = value if there is None else jnp.where(there, value, 0)
        return cls(value, there, noise, projection)

    def known(self, leaf: Array, instead: Any = 0) -> Array:
        """A leaf [n, m, ...] with a number for what is missing."""
        if self.there is None:
            return leaf
        there = self.there.reshape(self.there.shape + (1,) * (leaf.ndim - 2))
        return jnp.where(there, leaf, instead)

    def residual(self, centre: Float[Array, "*n d"]) -> Float[Array, "n m"]:
        """Of x - R c, for one vector or one for each row."""
        if self.projection is None:
            return self.known(self.value - centre)
        return self.known(self.value - jnp.sum(self.projection * centre[..., None, :], axis=-1))

    def through(self, v: Float[Array, "n d"]) -> Float[Array, "n m"]:
        """R v."""
        if self.projection is None:
            return v
        return multiply(self.projection, v[..., None])[..., 0]

    def draw(self, key: PRNGKeyArray) -> Float[Array, "n m"]:
        """Noise of each row."""
        z = jax.random.normal(key, self.value.shape, self.value.dtype)
        if self.noise.ndim == 2:
            return jnp.sqrt(self.noise) * z
        # a floor of next to nothing: exact cells have a singular covariance
        tiny = jnp.asarray(4 * jnp.finfo(z.dtype).tiny, z.dtype)
        return multiply(regular_cholesky(self.noise, tiny), z[..., None])[..., 0]

    @property
    def constant(self) -> Array | float:
        """Half of log 2 pi for each cell that is there; a column."""
        half = 0.5 * math.log(2 * math.pi)
        if self.there is None:
            return half * self.value.shape[1]
        return half * jnp.sum(self.there, axis=1, dtype=self.value.dtype)[:, None]


def costs(mean: Float[Array, "k d"], spread: Array, seen: Seen) -> Float[Array, "n k"]:
    """-log p(x_i) under each component, in nats; 0 for a row without cells.

    Args:
        mean: mu.
        spread: [k, d, d] matrices V; or variances [k, d], for rows without projection whose noise
            is diagonal.
        seen: the rows.
    """
    if spread.ndim == 2:
        variance = seen.noise[:, None] + spread
        scaled = (seen.value[:, None] - mean) ** 2 / variance + jnp.log(variance)
        there = True if seen.there is None else seen.there[:, None]
        return seen.constant + 0.5 * jnp.sum(jnp.where(there, scaled, 0), axis=-1)
    if _is_narrow(mean, seen):
        whitened, factor, _ = _entries(mean, spread, seen)
        each = [0.5 * u * u + jnp.log(factor[a, a]) for a, u in enumerate(whitened)]
        return seen.constant + sum(each[1:], each[0]).T

    def one(component: tuple[Array, Array]) -> Array:
        factor, _, whitened = _whitened(*component, seen)
        logs = jnp.sum(jnp.log(diagonal(factor)), axis=-1)
        return 0.5 * jnp.sum(whitened**2, axis=-1) + logs

    # component by component: side by side they would hold [n, k, m, m]
    return seen.constant + jax.lax.map(one, (mean, spread)).T


def moments(
    mean: Float[Array, "k d"], spread: Array, seen: Seen, plan: Float[Array, "n k"]
) -> tuple[Float[Array, "k d"], Float[Array, "k d d"]]:
    """sum_i P_ij b_ij and sum_i P_ij (b_ij b_ij^T + B_ij): moments about mu; see `costs`."""
    if spread.ndim == 2:
        return _axis_aligned(mean, spread, seen, plan)
    if _is_narrow(mean, seen):
        return _narrow(mean, spread, seen, plan)

    def one(component: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        centre, matrix, share = component
        _, half, whitened = _whitened(centre, matrix, seen)
        pull = jnp.sum(half * whitened[..., None], axis=1)
        told = (share[:, None, None] * half).reshape(-1, half.shape[-1])
        left = matmul(told.T, half.reshape(-1, half.shape[-1]))
        second = matmul((share[:, None] * pull).T, pull) - left
        return matmul(share, pull), second + jnp.sum(share) * matrix

    return jax.lax.map(one, (mean, spread, plan.T))


def pulls(centre: Float[Array, "*n d"], spread: Array, seen: Seen) -> Float[Array, "n d"]:
    """E[v - c | x_i] under N(c, V), for one vector c or one for each row; V as of one component."""
    if spread.ndim == 1:
        return seen.known(spread / (seen.noise + spread) * (seen.value - centre))
    _, half, whitened = _whitened(centre, spread, seen)
    return jnp.sum(half * whitened[..., None], axis=1)


def _is_narrow(mean: Array, seen: Seen) -> bool:
    return max(mean.shape[-1], seen.value.shape[-1]) <= NARROW


def _axis_aligned(
    mean: Float[Array, "k d"], spread: Float[Array, "k d"], seen: Seen, plan: Array
) -> tuple[Array, Array]:
    there = True if seen.there is None else seen.there[:, None]
    noise = seen.noise[:, None]
    pull = spread / (noise + spread)
    b = jnp.where(there, pull * (seen.value[:, None] - mean), 0)
    left = jnp.where(there, pull * noise, spread)
    first = einsum("nk,nkd->kd", plan, b)
    second = einsum("nk,nkd->kd", plan, b * b + left)
    return first, second[..., None] * jnp.eye(mean.shape[-1], dtype=mean.dtype)


def _narrow(
    mean: Float[Array, "k d"], spread: Float[Array, "k d d"], seen: Seen, plan: Array
) -> tuple[Array, Array]:
    whitened, _, half = _entries(mean, spread, seen)
    d = mean.shape[-1]
    width = range(len(whitened))
    pull = [sum(half[a, c] * whitened[a] for a in width) for c in range(d)]
    pairs = [(c, e) for c in range(d) for e in range(c + 1)]
    second = [pull[c] * pull[e] - sum(half[a, c] * half[a, e] for a in width) for c, e in pairs]
    sums = [jnp.sum(plan.T * one, axis=1) for one in [*pull, *second]]
    entry = dict(zip(pairs, sums[d:], strict=True))
    rows = [jnp.stack([entry[max(c, e), min(c, e)] for e in range(d)], -1) for c in range(d)]
    whole = jnp.sum(plan, axis=0)[:, None, None] * spread
    return jnp.stack(sums[:d], axis=-1), jnp.stack(rows, axis=-2) + whole


def _entries(
    mean: Float[Array, "k d"], spread: Float[Array, "k d d"], seen: Seen
) -> tuple[list[Array], dict, dict]:
    """L^-1 r, L and A entry by entry, each [k, n]: long loops over rows, whatever the widths."""
    m, d = seen.value.shape[1], mean.shape[1]
    residual, cross, total = _projected(mean, spread, seen)
    for a, b in total:
        if seen.noise.ndim == 3:
            total[a, b] = total[a, b] + seen.noise[:, a, b]
        elif a == b:
            total[a, a] = total[a, a] + seen.noise[:, a]
    if seen.there is not None:
        there = [seen.there[:, a] for a in range(m)]
        residual = [jnp.where(there[a], residual[a], 0) for a in range(m)]
        cross = {(a, c): jnp.where(there[a], one, 0) for (a, c), one in cross.items()}
        for a, b in total:
            total[a, b] = jnp.where(there[a] & there[b], total[a, b], float(a == b))
    return _solved(total, cross, residual, d)


def _projected(
    mean: Float[Array, "k d"], spread: Float[Array, "k d d"], seen: Seen
) -> tuple[list[Array], dict, dict]:
    """The residual x - R mu, R V and the lower triangle of R V R^T."""
    cells, width = range(seen.value.shape[1]), range(mean.shape[1])
    centre = [mean[:, c, None] for c in width]
    matrix = {(c, e): spread[:, c, e, None] for c in width for e in width}
    lower = [(a, b) for a in cells for b in range(a + 1)]
    if seen.projection is None:
        residual = [seen.value[:, a] - centre[a] for a in cells]
        return residual, matrix, {pair: matrix[pair] for pair in lower}
    told = {(a, c): seen.projection[:, a, c] for a in cells for c in width}
    residual = [seen.value[:, a] - sum(told[a, c] * centre[c] for c in width) for a in cells]
    cross = {(a, c): sum(told[a, e] * matrix[e, c] for e in width) for a in cells for c in width}
    total = {(a, b): sum(cross[a, c] * told[b, c] for c in width) for a, b in lower}
    return residual, cross, total


def _solved(total: dict, cross: dict, residual: list, d: int) -> tuple[list[Array], dict, dict]:
    """The factor L of T, L^-1 r and L^-1 W, by forward substitution."""
    m, factor, half = len(residual), {}, {}
    whitened: list[Array] = []
    for a in range(m):
        for b in range(a):
            rest = total[a, b] - sum(factor[a, c] * factor[b, c] for c in range(b))
            factor[a, b] = rest / factor[b, b]
        left = total[a, a] - sum(factor[a, c] ** 2 for c in range(a))
        # what is no more than the rounding of its own cell is singular, and becomes NaN
        regular = left > m * jnp.finfo(left.dtype).eps * total[a, a]
        root = jnp.where(regular, jnp.sqrt(jnp.where(regular, left, 1)), jnp.nan)
        factor[a, a] = root
        told = residual[a] - sum(factor[a, c] * whitened[c] for c in range(a))
        whitened.append(told / root)
        for e in range(d):
            half[a, e] = (cross[a, e] - sum(factor[a, c] * half[c, e] for c in range(a))) / root
    return whitened, factor, half


def _whitened(
    centre: Float[Array, "*n d"], matrix: Float[Array, "d d"], seen: Seen
) -> tuple[Float[Array, "n m m"], Float[Array, "n m d"], Float[Array, "n m"]]:
    """L, A and L^-1 r of one component, for every row; its mean may be another for each."""
    n, m = seen.value.shape
    if seen.projection is None:
        cross = jnp.broadcast_to(matrix, (n, m, m))
        total = cross
    else:
        cross = einsum("nmd,de->nme", seen.projection, matrix)
        total = multiply(cross, jnp.swapaxes(seen.projection, 1, 2))
    eye = jnp.eye(m, dtype=matrix.dtype)
    total = total + (seen.noise if seen.noise.ndim == 3 else seen.noise[..., None] * eye)
    cross = seen.known(cross)
    if seen.there is not None:
        both = seen.there[:, :, None] & seen.there[:, None, :]
        total = jnp.where(both, total, eye)
    factor = regular_cholesky(total)
    inverse = inverse_triangle(factor)
    whitened = multiply(inverse, seen.residual(centre)[..., None])[..., 0]
    return factor, multiply(inverse, cross), whitened
