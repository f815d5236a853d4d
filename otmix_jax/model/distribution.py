"""Distribution function, quantiles and density levels of a mixture."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ..core.numerics import matmul, proportions, safe_divide
from .moments import of_present


def check_single(mixture: Any) -> None:
    """Refuses a mixture of several columns.

    Raises:
        ValueError: with the remedy.
    """
    width = mixture.components.n_features
    if width != 1:
        raise ValueError(
            f"cdf and quantile are of one column, not of {width or 'parts'}: take "
            "mixture.marginal([a]), or marginal('name') of a part"
        )


@jax.jit
def cdf(mixture: Any, x: Float[Array, " *n"]) -> Float[Array, " *n"]:
    """sum_j pi_j F_j(x)."""
    x = jnp.asarray(x).astype(mixture.log_weights.dtype)
    flat = x.reshape(-1)
    terms = of_present(mixture.log_weights, mixture.components, lambda family: family.cdf(flat).T)
    return matmul(proportions(mixture.log_weights), terms).reshape(x.shape)


@jax.custom_jvp
@jax.jit
def quantile(mixture: Any, q: Float[Array, " *n"]) -> Float[Array, " *n"]:
    """The least floating-point number x with F(x) >= q, by bisection over all of them.

    Numbers in order are consecutive integers in their bits, so that as many halvings as a number
    has bits find it, on any scale and support, at jumps too. Its derivative is that of the
    implicit function F(x; theta) = q.
    """
    bits = jnp.int64 if q.dtype == jnp.float64 else jnp.int32
    infinity = jnp.asarray(jnp.inf, q.dtype)
    top = jax.lax.bitcast_convert_type(infinity, bits)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        # the floor of the average, without overflow
        middle = (low & high) + ((low ^ high) >> 1)
        reached = cdf(mixture, _number(middle, q.dtype)) >= q
        return jnp.where(reached, low, middle), jnp.where(reached, middle, high)

    # F(-inf) = 0 is below q, and F(inf) = 1 is not; -top - 1 is -inf
    ends = jnp.full(q.shape, -top - 1), jnp.full(q.shape, top)
    steps = jnp.iinfo(bits).bits
    found = _number(jax.lax.fori_loop(0, steps, halve, ends)[1], q.dtype)
    found = jnp.where(q == 0, -infinity, found)
    return jnp.where((q >= 0) & (q <= 1), found, jnp.nan)


@quantile.defjvp
def _quantile_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (mixture, q), (mixture_dot, q_dot) = primals, tangents
    x = quantile(mixture, q)
    moved = jax.jvp(lambda m: cdf(m, x), (mixture,), (mixture_dot,))[1]
    density = jax.jvp(lambda t: cdf(mixture, t), (x,), (jnp.ones_like(x),))[1]
    return x, safe_divide(q_dot - moved, density)


def _number(order: Int[Array, " *n"], dtype: Any) -> Float[Array, " *n"]:
    """The floating-point number at a place in their order, counted from 0 at 0."""
    most = jnp.asarray(jnp.iinfo(order.dtype).max, order.dtype)
    bits = jnp.where(order < 0, order ^ most, order)
    number = jax.lax.bitcast_convert_type(bits, dtype)
    # numbers below the least normal one compare as 0 on most machines; -0 becomes 0
    return jnp.where(jnp.abs(number) < jnp.finfo(dtype).tiny, 0, number)


def density_levels(log_density: Float[Array, " n"], probability: Array) -> Array:
    """The (1 - probability)-quantiles of the densities of rows, interpolated linearly."""
    # relative to the largest: densities of many columns underflow
    peak = jnp.max(log_density)
    relative = jnp.exp(log_density - peak)
    return jnp.exp(peak) * jnp.quantile(relative, 1 - probability)
