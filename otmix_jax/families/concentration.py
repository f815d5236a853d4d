"""Shapes from means of logarithms, to full precision however large they are.

With psi the digamma function, a gamma law's shape solves log a - psi(a) = s, and the shapes of a
beta or Dirichlet law solve psi(a_i) - psi(sum a) = mean of log x_i. Both are written by the small
differences psi(z) - log z and psi'(z) - 1/z, in which nothing cancels.

Source: Minka (2002), Estimating a gamma distribution; Minka (2000), Estimating a Dirichlet
distribution.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

SHIFT = 12
"""Where the asymptotic series hold all digits."""
DIGAMMA = (-1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760, -1 / 12)
TRIGAMMA = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
NARROWEST = 256
"""The least relative width of a law, in roundings: that of rows which are all alike."""
GAMMA_STEPS, DIRICHLET_STEPS = 10, 40
"""Newton steps: more than any shape within the bounds needs from its start."""
EULER = 0.5772156649015329
SHORTEST = 0.2
"""The least factor of a step in a shape."""


def narrowest(dtype: Any) -> float:
    """The least relative width, for a dtype; the largest shape is its inverse square."""
    return NARROWEST * float(jnp.finfo(dtype).eps)


def largest_sum(dtype: Any) -> float:
    """The largest sum of Dirichlet shapes: beyond, the rounding of their means is felt."""
    return 1 / (16 * float(jnp.finfo(dtype).eps))


def _shifted(z: Array) -> tuple[Array, Array, list[Array]]:
    """Whether z is small, z moved to where the series hold, and what it passes on the way."""
    small = z < SHIFT
    within = jnp.where(small, z, 1)
    return small, jnp.where(small, z + SHIFT, z), [within + i for i in range(SHIFT)]


def _series(coefficients: tuple[float, ...], z: Array) -> Array:
    return functools.reduce(lambda total, c: total / z**2 + c, reversed(coefficients), 0 * z)


def digamma_excess(z: Array) -> Array:
    """psi(z) - log z < 0, to full relative precision."""
    small, far, passed = _shifted(z)
    series = -0.5 / far + _series(DIGAMMA, far) / far**2
    near = jnp.log((passed[0] + SHIFT) / passed[0]) - sum(1 / one for one in passed)
    return series + jnp.where(small, near, 0)


def trigamma_excess(z: Array) -> Array:
    """psi'(z) - 1 / z > 0, to full relative precision."""
    small, far, passed = _shifted(z)
    series = 0.5 / far**2 + _series(TRIGAMMA, far) / far**3
    # 1 / (z + m) - 1 / z as one fraction
    near = sum(1 / one**2 for one in passed) - SHIFT / (passed[0] * (passed[0] + SHIFT))
    return series + jnp.where(small, near, 0)


def gamma_shape(s: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The shape a of log a - psi(a) = s, bounded where s is a rounding of 0.

    Args:
        s: log of the mean less mean of the logarithms.
    """
    least = narrowest(s.dtype)
    # as 1 / (2 a) does: there is no larger shape
    s = jnp.maximum(s, 0.5 * least**2)
    start = (3 - s + jnp.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)

    def step(shape: Array, s: Array) -> Array:
        # Newton in 1 / a, in which the equation is nearly straight
        excess = s + digamma_excess(shape)
        return shape / (1 + excess / (shape * trigamma_excess(shape)))

    fixed = jax.lax.stop_gradient((start, s))
    found = jax.lax.fori_loop(0, GAMMA_STEPS, lambda _, a: step(a, fixed[1]), fixed[0])
    # one more from a constant: its derivative is that of the root
    return jnp.minimum(step(found, s), 1 / least**2)


def dirichlet_shapes(mean_log: Float[Array, "*b c"], origin: Float[Array, "*b c"]) -> Array:
    """The shapes a [*b, c] whose expected logarithms are given, of bounded sum.

    Args:
        mean_log: means of log(x_i / m_i), m being the means of a law of shapes `origin`.
        origin: that law's.

    Returns:
        The argmax of log Gamma(sum a) - sum log Gamma(a_i) + sum a_i mean(log x_i).
    """
    most, c = largest_sum(mean_log.dtype), mean_log.shape[-1]
    centre = origin / jnp.sum(origin, axis=-1, keepdims=True)

    def bounded(a: Array) -> Array:
        return a * jnp.minimum(1, most / jnp.sum(a, axis=-1, keepdims=True))

    def step(a: Array, mean_log: Array, centre: Array) -> Array:
        # H is diagonal but for a constant: Minka (2000), eq. 15 to 18
        n = jnp.sum(a, axis=-1, keepdims=True)
        slope = digamma_excess(n) - digamma_excess(a) + mean_log - log_ratio(a / n, centre)
        lack, width = _lack(a), a - _lack(a)
        below = jnp.sum(lack, axis=-1, keepdims=True) - _lack(n)
        common = jnp.sum(width * slope, axis=-1, keepdims=True) / below
        moved = 1 + width / a * (slope + common)
        return bounded(a * jnp.maximum(moved, SHORTEST))

    # geometric means sum to about 1 - (c - 1) / (2 n)
    peak = jnp.max(mean_log, axis=-1, keepdims=True)
    total = jnp.sum(centre * jnp.exp(mean_log - peak), axis=-1, keepdims=True)
    lack = jnp.sum(centre * jnp.expm1(mean_log), axis=-1, keepdims=True)
    lost = jnp.where(lack > -0.5, -jnp.log1p(jnp.maximum(lack, -0.5)), -jnp.log(total) - peak)
    n = 0.5 * (c - 1) / jnp.maximum(lost, 0.5 * (c - 1) / most)
    start = _inverse_digamma(jnp.log(n) + digamma_excess(n) + jnp.log(centre) + mean_log)
    start, *fixed = jax.lax.stop_gradient((bounded(start), mean_log, centre))
    found = jax.lax.fori_loop(0, DIRICHLET_STEPS, lambda _, a: step(a, *fixed), start)
    return step(found, mean_log, centre)


def _inverse_digamma(y: Array) -> Array:
    """About the root of psi(a) = y: Minka (2000), eq. 149."""
    return jnp.where(y > -2.22, jnp.exp(y) + 0.5, -1 / (jnp.minimum(y, -2.22) + EULER))


def _lack(z: Array) -> Array:
    """What 1 / psi'(z) lacks of z: about 1/2 where z is large."""
    excess = trigamma_excess(z)
    return z * excess / (excess + 1 / z)


def log_ratio(x: Array, m: Array, difference: Array | None = None) -> Array:
    """log(x / m), to full relative precision where x is near m."""
    v = (x - m if difference is None else difference) / m
    near = jnp.abs(v) < 0.5
    # twice `where`: what is not selected must have a finite derivative
    far = jnp.log(jnp.where(near, 1, x)) - jnp.log(jnp.where(near, 1, m))
    return jnp.where(near, jnp.log1p(jnp.where(near, v, 0)), far)
