"""Logarithms of counting laws as deviances from their peaks: no digit is lost at large counts.

    log Poisson(x; m) = peak(x) - deviance(x, m)

Both are of the size of the answer, where x log m, m and log x! are as large as the counts and
cancel. Each is one program, so that rows outside `jit` do not compile its many small steps apart.

Source: Loader (2000), Fast and Accurate Computation of Binomial Probabilities.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import digamma

from .numerics import everywhere

SHIFT = 8
"""Where the series of Stirling's error begins to hold all digits."""
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
"""Its coefficients in z^-1, z^-3, ..."""
TABLE = np.array([math.lgamma(x + 1) for x in range(1024)])
"""Log x! of small counts."""
NEAR = 0.1
"""The relative difference below which a deviance is summed as a series."""


def _polynomial(coefficients: Any, x: Array) -> Array:
    total = jnp.full_like(x, coefficients[-1])
    for one in reversed(coefficients[:-1]):
        total = total * x + one
    return total


def _series(z: Array) -> Array:
    """Stirling's error log z! - log(sqrt(2 pi z) (z / e)^z) of z >= SHIFT."""
    return _polynomial(STIRLING, 1 / z**2) / z


@jax.jit
def log_factorial(x: Array) -> Array:
    """Log Gamma(x + 1) of real x >= 0."""
    small = x < SHIFT
    z = jnp.where(small, x + SHIFT, x)
    within = jnp.where(small, x, 0)
    product = math.prod(within + i for i in range(1, SHIFT + 1))
    whole = (z + 0.5) * jnp.log(z) - z + 0.5 * math.log(2 * math.pi) + _series(z)
    return whole - jnp.where(small, jnp.log(product), 0)


@jax.custom_jvp
def log_factorial_of_count(x: Array) -> Array:
    """Log x! of whole x >= 0: out of a table, if they are all in it, at a tenth of the time."""
    in_table = everywhere(jnp.all(x < len(TABLE)))

    def looked_up(x: Array) -> Array:
        return jnp.asarray(TABLE, x.dtype)[x.astype(jnp.int32)]

    return jax.lax.cond(in_table, looked_up, log_factorial, x)


@log_factorial_of_count.defjvp
def _log_factorial_of_count_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return log_factorial_of_count(*primals), digamma(primals[0] + 1) * tangents[0]


def peak(x: Array) -> Array:
    """The peak x log x - x - log x!: the logarithm of the largest Poisson probability of x >= 0."""
    small = x < SHIFT
    # twice `where`: what is not selected must have a finite derivative
    large = jnp.where(small, SHIFT, x)
    positive = small & (x > 0)
    within = jnp.where(positive, x, 1)
    near = jnp.where(positive, within * jnp.log(within), 0) - x
    near = near - log_factorial(jnp.where(small, x, 0))
    far = -0.5 * jnp.log(2 * math.pi * large) - _series(large)
    return jnp.where(small, near, far)


def deviance(x: Array, mean: Array, difference: Array | None = None) -> Array:
    """Half a deviance, x log(x / m) - x + m of x >= 0 and m > 0, to full relative precision.

    Args:
        x: what was counted.
        mean: m.
        difference: x - m, where it is known to more digits.
    """
    gap = x - mean if difference is None else difference
    whole = x + mean
    near = jnp.abs(gap) < NEAR * whole
    # twice `where`: the square of a small mean, in the derivative, may be 0
    v = jnp.where(near, gap, 0) / jnp.where(near, whole, 1)
    # log((1 + v) / (1 - v)) = 2 (v + v^3 / 3 + ...)
    rest = _polynomial([1 / (2 * j + 1) for j in range(1, 10)], v**2) * v**3
    series = gap * v + 2 * x * rest
    # logarithms apart: of a mean near 0 the ratio would overflow
    ratio = jnp.log(jnp.where(x > 0, x, mean)) - jnp.log(mean)
    return jnp.where(near, series, x * ratio - gap)


@jax.jit
def log_poisson(x: Array, mean: Array) -> Array:
    """Log probability of a count x >= 0."""
    return peak(x) - deviance(x, mean)


@jax.jit
def log_binomial(x: Array, trials: Array, probability: Array) -> Array:
    """Log probability of x successes in so many trials, 0 <= x <= trials, 0 < probability < 1."""
    rest, failure = trials - x, 1 - probability
    top = peak(x) + peak(rest) - peak(trials)
    return top - deviance(x, trials * probability) - deviance(rest, trials * failure)


@jax.jit
def log_choose(trials: Array, x: Array) -> Array:
    """Log of the binomial coefficient: the entropy of x in so many trials, and what it lacks."""
    rest = trials - x
    inner = (x > 0) & (rest > 0)
    share = jnp.where(inner, x / jnp.where(inner, trials, 1), 0.5)
    entropy = -x * jnp.log(share) - rest * jnp.log1p(-share)
    return jnp.where(inner, peak(x) + peak(rest) - peak(trials) + entropy, 0)


@jax.jit
def log_negative_binomial(x: Array, mean: Array, dispersion: Array) -> Array:
    """Log probability of a count x >= 0 of this mean and variance mean + mean^2 / dispersion."""
    both = x + dispersion
    share = both / (mean + dispersion)
    top = peak(x) + peak(dispersion) - peak(both) + jnp.log(dispersion / both)
    # how far x is from its share of both, and so the dispersion from its own
    gap = (x - mean) * (dispersion / (mean + dispersion))
    own = deviance(x, share * mean, gap)
    return top - own - deviance(dispersion, share * dispersion, -gap)
