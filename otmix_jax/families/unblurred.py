"""First guesses of vectors behind noisy rows, which a few very noisy rows do not lead astray.

Of each column, or behind projections of the vectors as a whole, a centre c and a variance V with
weights 1 / (V + S), each found from the other a few times over. A row then tells of the vector
c + V R^T (R V R^T + S)^-1 (x - R c).
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..core.numerics import matmul, safe_divide
from ..core.triangular import diagonal, inverse_triangle, multiply, regular_cholesky
from .noise import Seen, pulls

ROUNDS = 4


def spread_out(
    seen: Seen, weight: Float[Array, " n"]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """A centre and variances of the vectors, generous ones: their noise is not subtracted."""
    counts = jnp.ones_like(seen.value) * weight[:, None]
    width = seen.value.shape[1] if seen.projection is None else seen.projection.shape[2]
    centre = variance = jnp.zeros(width, seen.value.dtype)
    precision = seen.known(counts)
    for _ in range(ROUNDS):
        centre = centre + _solved(seen, precision[:, :, None], centre)[0]
        square = seen.residual(centre) ** 2
        own = safe_divide(precision, counts) * precision  # the weight counts once
        if seen.projection is None:
            variance = safe_divide(jnp.sum(own * square, axis=0), jnp.sum(own, axis=0))
        else:
            reach = seen.known(jnp.sum(seen.projection**2, axis=2))
            one = safe_divide(jnp.sum(own * square), jnp.sum(own * reach))
            variance = jnp.full_like(centre, one)
        precision = seen.known(counts * _precision(seen, variance))
    return centre, variance


def located(
    seen: Seen, plan: Float[Array, "n k"], centre: Float[Array, " d"], variance: Float[Array, " d"]
) -> Float[Array, "k d"]:
    """The components' means, of the rows that they are given; the centre where there are none."""
    precision = seen.known(_precision(seen, variance))
    return centre + _solved(seen, precision[:, :, None] * plan[:, None, :], centre)


def lifted(
    seen: Seen, centre: Float[Array, "*n d"], variance: Float[Array, " d"]
) -> Float[Array, "n d"]:
    """What each row tells of its vector, of which no more is known than a centre and variances."""
    if seen.projection is not None:
        # a trace of regularity: rows and noise may be 0 altogether
        reach = jnp.mean(seen.projection**2, axis=(1, 2)) * jnp.mean(variance)
        tiny = 1e3 * jnp.finfo(reach.dtype).eps * reach + jnp.finfo(reach.dtype).tiny
        eye = jnp.eye(seen.value.shape[1], dtype=reach.dtype)
        full = seen.noise if seen.noise.ndim == 3 else seen.noise[..., None] * eye
        noise = full + tiny[:, None, None] * eye
        own = Seen(seen.value, seen.there, noise, seen.projection)
        return centre + pulls(centre, jnp.diag(variance), own)
    noise = _variances(seen)
    shrunk = safe_divide(noise, noise + variance)
    # subtracted, so that a row without noise keeps its digits
    told = seen.value - shrunk * (seen.value - centre)
    return told if seen.there is None else jnp.where(seen.there, told, centre)


def _variances(seen: Seen) -> Float[Array, "n m"]:
    return seen.noise if seen.noise.ndim == 2 else diagonal(seen.noise)


def _precision(seen: Seen, variance: Float[Array, " d"]) -> Float[Array, "n m"]:
    """1 / (R V R^T + S) of each cell by itself; 1 for one that is exact and does not vary."""
    own = variance
    if seen.projection is not None:
        own = jnp.sum(seen.projection**2 * variance, axis=2)
    total = own + _variances(seen)
    return jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 1)


def _solved(seen: Seen, precision: Float[Array, "n m k"], centre: Float[Array, " d"]) -> Array:
    """Weighted least squares for steps from the centre; 0 in directions that no row sees.

    Args:
        seen: the rows.
        precision: of each cell, for each component.
        centre: c.
    """
    residual = seen.residual(centre)
    if seen.projection is None:
        pull = jnp.sum(precision * residual[..., None], axis=0).T
        return safe_divide(pull, jnp.sum(precision, axis=0).T)
    n, m, d = seen.projection.shape
    told = seen.known(seen.projection).reshape(n * m, d)
    weights = precision.reshape(n * m, -1)
    pull = matmul(weights.T, residual.reshape(n * m, 1) * told)
    products = (told[:, :, None] * told[:, None, :]).reshape(n * m, d * d)
    normal = matmul(weights.T, products).reshape(-1, d, d)
    average = jnp.mean(diagonal(normal), axis=-1)[:, None, None]
    ridge = 1e-4 * jnp.where(average > 0, average, 1) * jnp.eye(d, dtype=normal.dtype)
    inverse = inverse_triangle(regular_cholesky(normal + ridge))
    return multiply(jnp.swapaxes(inverse, 1, 2), multiply(inverse, pull[..., None]))[..., 0]


def least_noise(seen: Seen, weight: Float[Array, " n"]) -> Float[Array, " d"]:
    """Variances that every present row's noise has at least, along the vectors' columns.

    With S = D C D, D^2 = diag S, and 1 / tr C^-1 no more than the least eigenvalue of C, S is at
    least D^2 / tr C^-1. R D^2 R^T is at least c R R^T where c is |R|^2 times smaller.
    """
    m, noise = seen.value.shape[1], seen.noise
    if noise.ndim == 3:
        variance = diagonal(noise)
        deviation = jnp.sqrt(variance)
        unit = deviation[:, :, None] * deviation[:, None, :]
        # an exact cell has variance 0, whatever the rest
        correlation = jnp.where(unit > 0, safe_divide(noise, unit), jnp.eye(m, dtype=noise.dtype))
        inverse = inverse_triangle(regular_cholesky(correlation))
        least = 1 / jnp.sum(inverse**2, axis=(1, 2))
        noise = variance * jnp.where(least > 0, least, 0)[:, None]  # NaN where C is singular
    if seen.projection is not None:
        size = jnp.sum(seen.projection**2, axis=(1, 2))
        least = safe_divide(jnp.min(noise, axis=1), size)
        noise = jnp.broadcast_to(
            jnp.where(size > 0, least, jnp.inf)[:, None], (len(size), seen.projection.shape[2])
        )
    found = jnp.min(jnp.where(weight[:, None] > 0, noise, jnp.inf), axis=0)
    return jnp.where(jnp.isfinite(found), found, 0)
