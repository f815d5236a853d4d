"""Log-domain helpers whose values and gradients stay finite at zero weights."""

import math

import jax
import jax.numpy as jnp
from jax import Array


def matmul(a: Array, b: Array) -> Array:
    """`a @ b` at full precision: accelerators take float32 products in TF32 unless told."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def safe_log(x: Array) -> Array:
    """`log(x)` with `log(0) = -inf` and gradient 0 there; NaN stays NaN."""
    positive = x != 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1)), -jnp.inf)


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, 0 where the denominator is 0, with finite gradients there."""
    present = denominator != 0
    return jnp.where(present, numerator / jnp.where(present, denominator, 1), 0)


def logsumexp(logits: Array, axis: int) -> Array:
    """Log-sum-exp; -inf where every entry is -inf, with gradient 0 there (JAX's gives NaN)."""
    peak = jnp.max(logits, axis, keepdims=True)
    peak = jax.lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0))
    return safe_log(jnp.sum(jnp.exp(logits - peak), axis)) + jnp.squeeze(peak, axis)


def accurate_sum(v: Array) -> Array:
    """The sum of a vector in two levels: in float32 a plain loop over 1e6 rows loses digits."""
    if v.shape[0] <= 1024:
        return jnp.sum(v)
    width = max(math.isqrt(v.shape[0]), 1)
    head = v.shape[0] // width * width
    return jnp.sum(jnp.sum(v[:head].reshape(-1, width), axis=0)) + jnp.sum(v[head:])


def normalize(weights: Array) -> Array:
    """Weights divided by their sum, without overflow or underflow; all zero stays all zero."""
    peak = jax.lax.stop_gradient(jnp.max(jnp.abs(weights)))
    scaled = safe_divide(weights, peak)
    return safe_divide(scaled, accurate_sum(scaled))


def all_finite(tree: object) -> Array:
    """Whether every floating leaf of a PyTree is finite."""
    leaves = jax.tree.leaves(tree)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
