"""Student's law in 1 / nu, in which it is smooth down to the Gaussian at 0: no digit is lost there.

-log p = h-part + constant,   h-part(h, theta) = (1 / theta + d) / 2 log(1 + 2 h theta)
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

SHIFT = 10
"""Steps by which an argument is raised before its asymptotic series."""
SERIES = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224)
"""log Gamma(z + 1/2) - log Gamma(z) - log(z) / 2 in z^-1, z^-3, ..."""
NEAR = 0.05
"""Where y = 2 h theta is smaller, derivatives are summed from `TERMS` powers of it."""
TERMS = 10


def log_constant(inverse: Float[Array, "*k"], d: int) -> Float[Array, "*k"]:
    """Log Gamma(nu / 2) - log Gamma((nu + d) / 2) + (d / 2) log(nu / 2), 0 at 1 / nu = 0.

    Without d / 2 log 2 pi it is the Student law's constant. Written out by the factors of a ratio
    of gamma functions, for the logarithms of these cancel where nu is large.

    Args:
        inverse: 1 / nu, of any shape.
        d: the dimension, static.
    """
    odd = d % 2
    steps = 2 * np.arange(d // 2) + odd
    raised = jnp.log1p(inverse[..., None] * jnp.asarray(steps, inverse.dtype))
    return -jnp.sum(raised, axis=-1) - (_half_step(inverse) if odd else 0)


def _half_step(inverse: Array) -> Array:
    """Log Gamma(z + 1/2) - log Gamma(z) - log(z) / 2 at z = nu / 2."""
    number = jnp.arange(SHIFT, dtype=inverse.dtype)
    each = 2 * inverse[..., None] / (1 + 2 * number * inverse[..., None])  # 1 / (z + i)
    raised = jnp.sum(0.5 * jnp.log1p(each) - jnp.log1p(0.5 * each), axis=-1)
    w = 2 * inverse / (1 + 2 * SHIFT * inverse)
    return raised + w * jnp.polyval(jnp.asarray(SERIES[::-1], w.dtype), w**2)


def by_inverse(
    half_square: Float[Array, "n k"], inverse: Float[Array, "*k"], d: int
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """First and second derivative of the h-part in 1 / nu.

    With y = 2 h theta and w(y) = log(1 + y) - y / (1 + y), these are

        -w / (2 theta^2) + d h / (1 + y)        (2 w - (y / (1 + y))^2) / (2 theta^3) - ...
    """
    y = 2 * half_square * inverse
    near = y < NEAR
    # twice `where`: either form would overflow where the other is taken
    small, large = jnp.where(near, y, 0), jnp.where(near, 1, y)
    k = np.arange(TERMS)
    terms = (-1.0) ** k * (k + 1) / (k + 2)  # of w / y^2
    h = small / (2 * inverse)
    first = 2 * h**2 * jnp.polyval(jnp.asarray(terms[::-1], y.dtype), small)
    slopes = (terms * k)[1:]
    second = 4 * h**3 * jnp.polyval(jnp.asarray(slopes[::-1], y.dtype), small)
    share = large / (1 + large)
    w = jnp.log1p(large) - share
    first = jnp.where(near, first, w / (2 * inverse**2))
    second = jnp.where(near, second, (share**2 - 2 * w) / (2 * inverse**3))
    ratio = half_square / (1 + y)
    return d * ratio - first, -second - 2 * d * ratio**2
