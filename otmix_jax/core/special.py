"""Distribution functions that JAX lacks, or has without all derivatives."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import betainc, gammaln, ndtr

NODES, SHARES = np.polynomial.legendre.leggauss(128)
NORMAL = 1e5
"""Degrees from which Student's law is near the normal."""


@jax.custom_jvp
def student_cdf(t: Any, degrees: Any) -> Array:
    """P(T <= t) under Student's law; digits are relative in the lower tail.

    Source: Wallace (1959), Ann. Math. Statist. 30, for many degrees.
    """
    t, given = jnp.broadcast_arrays(t, degrees)
    # beyond, the beta function's digits go, and Wallace's approximation is off by 1e-11 at most
    near = given < NORMAL
    degrees, square = jnp.where(near, given, 1), t**2
    root = jnp.sqrt(given * jnp.log1p(square / given))
    normal = ndtr(jnp.sign(t) * root * (8 * given + 1) / (8 * given + 3))
    # two forms: each loses its digits where the other has them, at the centre and in the tail
    ratio = jnp.where(square > degrees, degrees / square, square / degrees)
    inner, outer = 1 / (1 + ratio), ratio / (1 + ratio)
    tail = 0.5 * betainc(degrees / 2, 0.5, jnp.where(square > degrees, outer, inner))
    centre = 0.5 * betainc(0.5, degrees / 2, jnp.where(square > degrees, inner, outer))
    lower = jnp.where(square < 1, 0.5 - centre, tail)
    return jnp.where(near, jnp.where(t > 0, 1 - lower, lower), normal)


@student_cdf.defjvp
def _student_cdf_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    t, degrees = primals
    log_density = _log_constant(degrees) - 0.5 * (degrees + 1) * jnp.log1p(t**2 / degrees)
    by_degrees = jax.jvp(lambda nu: _from_centre(t, nu), (degrees,), (tangents[1],))[1]
    return student_cdf(t, degrees), jnp.exp(log_density) * tangents[0] + by_degrees


def _log_constant(degrees: Any) -> Array:
    gap = gammaln(0.5 * degrees + 0.5) - gammaln(0.5 * degrees)
    return gap - 0.5 * jnp.log(math.pi * degrees)


def _from_centre(t: Any, degrees: Any) -> Array:
    """P(0 < T <= t) by quadrature over w, t = sqrt(nu) sinh w: for its derivative in nu."""
    # beyond, the integrand cosh(w)^-nu is below rounding
    most = 40 / degrees + 10 / jnp.sqrt(degrees)
    end = jnp.minimum(jnp.arcsinh(jnp.abs(t) / jnp.sqrt(degrees)), most)
    w = 0.5 * end[..., None] * jnp.asarray(1 + NODES, end.dtype)
    power = jnp.exp(-degrees[..., None] * (w + jnp.log1p(jnp.exp(-2 * w)) - math.log(2)))
    area = 0.5 * end * jnp.sum(power * jnp.asarray(SHARES, end.dtype), axis=-1)
    return jnp.sign(t) * jnp.exp(_log_constant(degrees)) * jnp.sqrt(degrees) * area
