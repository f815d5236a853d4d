"""Arithmetic with a policy: full-precision products, and values and gradients that stay finite."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

SLICE = 65_536
"""Rows that the host edge looks at together: no second array as long as the data."""


def fold_slices(
    function: Callable[..., Array],
    combine: Callable[[Array, Array], Array],
    start: Array,
    *arrays: Array,
) -> Array:
    """`function` of slices of rows, combined one after the other."""
    count = arrays[0].shape[0] // SLICE

    def body(number: Array, total: Array) -> Array:
        first = number * SLICE
        parts = [jax.lax.dynamic_slice_in_dim(array, first, SLICE) for array in arrays]
        return combine(total, function(*parts))

    total = jax.lax.fori_loop(0, count, body, start) if count else start
    return combine(total, function(*(array[count * SLICE :] for array in arrays)))


def matmul(a: Array, b: Array) -> Array:
    """`a @ b` at full precision: accelerators take float32 products in TF32 unless told."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def einsum(pattern: str, *operands: Array) -> Array:
    """At full precision, as `matmul`."""
    return jnp.einsum(pattern, *operands, precision=jax.lax.Precision.HIGHEST)


def safe_log(x: Array) -> Array:
    """`log(x)` with `log(0) = -inf` and gradient 0 there; NaN stays NaN."""
    # Twice `where`: the untaken branch has a derivative too, and 0 * inf is NaN.
    positive = x != 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1)), -jnp.inf)


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, 0 where the denominator is 0, with finite gradients there."""
    # twice `where`, as in `safe_log`: 0 / 0 not selected still has a derivative of NaN
    present = denominator != 0
    return jnp.where(present, numerator / jnp.where(present, denominator, 1), 0)


def logsumexp(logits: Array, axis: int) -> Array:
    """Log-sum-exp; -inf where every entry is -inf, with gradient 0 there (JAX's gives NaN)."""
    peak = jnp.max(logits, axis, keepdims=True)
    # -inf - -inf is NaN, so a peak that is not finite is 0; it cancels, so it has no derivative
    peak = jax.lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0))
    return safe_log(jnp.sum(jnp.exp(logits - peak), axis)) + jnp.squeeze(peak, axis)


def log_ratio(mass: Array, log_weights: Array) -> Float[Array, " k"]:
    """The logarithm of D_j = m_j / pi_j, -inf at absent components."""
    present = log_weights > -jnp.inf
    # twice `where`: -inf - -inf is NaN
    return jnp.where(present, safe_log(mass) - jnp.where(present, log_weights, 0), -jnp.inf)


def accurate_sum(v: Array) -> Array:
    """The sum of a vector in two levels: in float32 a plain loop over 1e6 rows loses digits."""
    if v.shape[0] <= 1024:
        return jnp.sum(v)
    width = max(math.isqrt(v.shape[0]), 1)
    head = v.shape[0] // width * width
    # the rest apart: padding to a rectangle would copy the vector
    return jnp.sum(jnp.sum(v[:head].reshape(-1, width), axis=0)) + jnp.sum(v[head:])


def normalize(weights: Array) -> Array:
    """Weights divided by their sum, without overflow or underflow; all zero stays all zero."""
    # it cancels, so it needs no derivative: that of a maximum is arbitrary at ties
    peak = jax.lax.stop_gradient(jnp.max(jnp.abs(weights)))
    scaled = safe_divide(weights, peak)
    return safe_divide(scaled, accurate_sum(scaled))


def all_finite(tree: object) -> Array:
    """Whether every floating leaf of a PyTree is finite."""
    leaves = jax.tree.leaves(tree)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def positive_variance(variance: Float[Array, " d"]) -> Float[Array, " d"]:
    """The variances, with their mean (or 1) for a column that has none."""
    average = jnp.mean(variance)
    fallback = jnp.where(average > 0, average, 1)
    return jnp.where(variance > 0, variance, fallback)


def row_softmax(
    cost: Float[Array, "n k"],
    log_weights: Float[Array, " k"],
    g: Float[Array, " k"] | float = 0.0,
    epsilon: Float[Array, ""] | float | None = None,
) -> tuple[Float[Array, " n"], Float[Array, "n k"]]:
    """Row potential f and conditional plan P / a of a cost matrix.

    Args:
        cost: [n, k] cost c_ij = -log p(x_i | theta_j); +inf allowed.
        log_weights: [k] log pi; -inf marks an absent component, whose cost is not read.
        g: [k] column potentials; 0 is the semi-relaxed problem, that is maximum likelihood.
        epsilon: entropy, >= 0. None is 1, known when compiling. 0 is the hard limit: each row
            goes to its cheapest present component, whatever the proportions.

    Returns:
        f [n], in the units of the cost (nats), and the conditional plan [n, k], whose rows sum
        to 1. A row out of reach of every component (all costs +inf) has f = +inf and follows pi.

    Source: Vayer and Lasalle, arXiv 2501.12005, eq. (2.6) and (3.2).
    """
    present = log_weights > -jnp.inf
    # by `where`: an absent component's cost may be NaN, which a weight of 0 does not remove
    reduced = jnp.where(present, cost, 0) - g
    if epsilon is None:
        return soft_rows(log_weights - reduced, log_weights)
    # Relative to the cheapest, so that no epsilon over- or underflows a whole row.
    cheapest = jnp.min(jnp.where(present, reduced, jnp.inf), axis=1)
    base = jax.lax.stop_gradient(jnp.where(jnp.isfinite(cheapest), cheapest, 0))[:, None]
    # epsilon may be traced: both limits are computed, so neither may divide by 0
    soft = epsilon > 0
    scale = jnp.where(soft, epsilon, 1)
    # An infinite cost stays out of the division, or its derivative in epsilon would be NaN.
    blocked = reduced == jnp.inf
    dearer = jnp.where(blocked, jnp.inf, jnp.where(blocked, 0, reduced - base) / scale)
    f, conditional = soft_rows(log_weights - dearer, log_weights)
    f = _gently(f, dearer, log_weights)
    hard = _cheapest(reduced - base, present, conditional)
    # 0 * inf: a cost of +inf that is not chosen must not count
    hard_f = jnp.sum(jnp.where(hard > 0, hard * reduced, 0), axis=1)
    return jnp.where(soft, base[:, 0] + scale * f, hard_f), jnp.where(soft, conditional, hard)


def _gently(f: Array, dearer: Array, log_weights: Array) -> Array:
    """-log sum_j pi_j exp(-dearer_j) as -log1p(small) where that keeps the digits.

    At large epsilon the sum is 1 - O(1 / epsilon), and a plain logarithm would lose f.
    """
    weights = jnp.exp(log_weights)
    total = jnp.sum(weights)
    excess = jnp.sum(weights * jnp.expm1(-jnp.where(weights > 0, dearer, 0)), axis=1)
    # The rounding of a sum of 1 is left out of the value, or a large epsilon would magnify it.
    rounding = 8 * len(weights) * jnp.finfo(weights.dtype).eps
    unit = jnp.abs(total - 1) < rounding
    excess += total - jnp.where(unit, jax.lax.stop_gradient(total), 1)
    # beyond, the plain logarithm keeps the digits, and log1p loses them towards -1
    near = excess > -0.5
    return jnp.where(near, -jnp.log1p(jnp.where(near, excess, 0)), f)


def _cheapest(dearer: Array, present: Array, conditional: Array) -> Array:
    """The first present component at no extra cost, as 0 and 1; a lost row keeps its plan."""
    tied = present & (dearer == 0)
    first = tied & (jnp.cumsum(tied, axis=1) == 1)
    lost = ~jnp.any(first, axis=1, keepdims=True)
    return jnp.where(lost, conditional, first.astype(conditional.dtype))


def soft_rows(
    logits: Float[Array, "n k"], log_weights: Float[Array, " k"]
) -> tuple[Float[Array, " n"], Float[Array, "n k"]]:
    """`row_softmax` at epsilon = 1 from logits, log pi_j + g_j - c_ij."""
    # it cancels, so it needs no derivative
    peak = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    # One exponential for both: they cost more than all else when there are few features.
    scaled = jnp.exp(logits - peak)
    total = jnp.sum(scaled, axis=1, keepdims=True)
    # a row that no exponential reaches follows pi; one division per row, not per entry
    conditional = jnp.where(
        total == 0, jnp.exp(log_weights), scaled * safe_divide(jnp.ones_like(total), total)
    )
    return -(safe_log(total) + peak)[:, 0], conditional


def kl_divergence(p: Float[Array, "*shape"], q: Float[Array, "*shape"]) -> Float[Array, ""]:
    """KL(p | q) = sum p log(p / q) - p + q, with 0 log 0 = 0; +inf unless p << q.

    For two arrays of the same total mass it is the note's KL (its section 1).
    """
    continuous = jnp.all((p == 0) | (q != 0))
    # zeros of p are replaced before the logarithm: 0 * -inf is NaN, in the derivative too
    log_ratio = safe_log(jnp.where(p != 0, p, 1)) - safe_log(jnp.where(q != 0, q, 1))
    terms = jnp.where(p != 0, p * log_ratio, 0) - p + q
    return jnp.where(continuous, jnp.sum(terms), jnp.inf)
