"""Arithmetic with a policy: full-precision products, and values and gradients that stay finite."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.tree_util import Partial
from jaxtyping import Float

SLICE = 65_536
"""Rows that the host edge looks at together: no second array as long as the data."""
NUMBERS = 2**20
"""Numbers of the rows that a start looks at together."""
OPENING = 2.0**-100
"""The unit of an absent component's proportion in derivatives.

log pi has no derivative at 0, and what follows, exp(log pi), has one of 0, so their product would
be lost. `log_proportions` has the tangent d pi / OPENING there, and sums over components, by
`opened`, multiply by OPENING: together they are the derivative in pi. Whoever differentiates in
log pi itself meets OPENING, which no sum feels, for 0.
"""


def fold_slices(
    function: Callable[..., Any],
    combine: Callable[[Any, Any], Any],
    start: Any,
    *arrays: Array,
    size: int = SLICE,
) -> Any:
    """`function` of slices of rows, combined one after the other."""
    count = arrays[0].shape[0] // size

    def body(number: Array, total: Any) -> Any:
        first = number * size
        parts = [jax.lax.dynamic_slice_in_dim(array, first, size) for array in arrays]
        return combine(total, function(*parts))

    total = jax.lax.fori_loop(0, count, body, start) if count else start
    return combine(total, function(*(array[count * size :] for array in arrays)))


def sum_slices(function: Callable[..., Any], x: Array, plan: Array) -> Any:
    """The sum of what `function(x, plan)` yields of slices of rows [n, d] and plan [n, k]."""
    size = max(NUMBERS // max(x.shape[1], 1), 1)
    if x.shape[0] <= size:
        return function(x, plan)
    shapes = jax.eval_shape(function, x[:1], plan[:1])
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total: Any, part: Any) -> Any:
        return jax.tree.map(jnp.add, total, part)

    return fold_slices(function, add, start, x, plan, size=size)


def pooled_scatter(scatter: Callable[..., Array], x: Array, plan: Array, mean: Array) -> Array:
    """sum_j scatter(x - mean_j, P_j), component by component: no [n, k, d] array."""

    def within(x: Array, plan: Array) -> Array:
        def add(pooled: Array, component: tuple[Array, Array]) -> tuple[Array, None]:
            mass, centre = component
            return pooled + scatter((x - centre)[:, None], mass[:, None]), None

        shape = jax.eval_shape(scatter, x[:, None], plan[:, :1])
        return jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (plan.T, mean))[0]

    return sum_slices(within, x, plan)


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


@jax.custom_jvp
def log_proportions(weights: Array) -> Array:
    """`safe_log` of proportions, with a derivative at 0 that sums over components take up."""
    return safe_log(weights)


@log_proportions.defjvp
def _log_proportions_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (weights,), (dot,) = primals, tangents
    return log_proportions(weights), dot / jnp.where(weights == 0, OPENING, weights)


@jax.custom_jvp
def proportions(log_weights: Array) -> Array:
    """The inverse of `log_proportions`."""
    return jnp.exp(log_weights)


@proportions.defjvp
def _proportions_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (log_weights,), (dot,) = primals, tangents
    weights = proportions(log_weights)
    return weights, dot * jnp.where(log_weights == -jnp.inf, OPENING, weights)


@jax.custom_batching.custom_vmap
def everywhere(predicate: Array) -> Array:
    """Whether something holds in all lanes of a batch: one answer for all of them.

    A predicate per lane would turn `lax.cond` into both branches.
    """
    return predicate


@everywhere.def_vmap
def _(axis_size: int, in_batched: list, predicate: Array) -> tuple[Array, bool]:
    del axis_size
    # through the rule again, for an outer vmap; False: the answer has no axis of lanes
    return (everywhere(jnp.all(predicate, axis=0)) if in_batched[0] else predicate), False


@jax.custom_jvp
def opened(terms: Any, log_weights: Array, shift: Array, logits: Partial) -> Any:
    """pi_j exp(l_ij - shift_i) as given, with its derivative in a pi_j of 0: exp(l_ij - shift_i).

    Args:
        terms: [n, k], or a tuple of k columns [n].
        log_weights: [k] by `log_proportions`.
        shift: [n].
        logits: yields l [n, k]; called for a derivative alone. NaN, from parameters that an absent
            component may hold, counts as out of reach.
    """
    del log_weights, shift, logits
    return terms


@functools.partial(opened.defjvp, symbolic_zeros=True)
def _opened_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    terms, log_weights, shift, logits = primals
    dots = jax.tree.map(_instantiated, terms, tangents[0], is_leaf=_is_zero)
    if _is_zero(tangents[1]):
        return opened(*primals), dots
    absent = log_weights == -jnp.inf
    moved = OPENING * jnp.where(absent, tangents[1], 0)
    # beyond, the derivative is finite and large, as is the truth
    most = 0.5 * math.log(jnp.finfo(log_weights.dtype).max)

    def gain() -> Array:
        reach = logits()
        readable = absent & jnp.isfinite(reach)
        # twice `where`: what is not selected must have a finite derivative
        exponent = jnp.minimum(jnp.where(readable, reach, 0) - shift[:, None], most)
        return moved * jnp.where(readable, jnp.exp(exponent), 0)

    # mostly none is absent: then one look at the weights is all
    none = everywhere(~jnp.any(absent))
    shape = jax.eval_shape(gain)
    gained = jax.lax.cond(none, lambda: jnp.zeros(shape.shape, shape.dtype), gain)
    parts = [gained[:, j] for j in range(len(terms))] if isinstance(terms, tuple) else [gained]
    leaves, structure = jax.tree.flatten(dots)
    added = [dot + part for dot, part in zip(leaves, parts, strict=True)]
    return opened(*primals), jax.tree.unflatten(structure, added)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def _instantiated(term: Array, tangent: Any) -> Array:
    return jnp.zeros_like(term) if _is_zero(tangent) else tangent


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


def normalize_log(log_weights: Float[Array, " k"]) -> Float[Array, " k"]:
    """`normalize` of proportions by their logarithms, with a derivative in one that is 0."""
    one_row = log_weights[None]
    total = -soft_rows(one_row, log_weights, Partial(jnp.zeros_like, one_row))[0][0]
    return _divided(log_weights, total)


@jax.custom_jvp
def _divided(log_weights: Array, total: Array) -> Array:
    return log_weights - total


@_divided.defjvp
def _divided_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # at 0 the tangent is that of the proportion, which is divided, not of its logarithm
    moved, total_dot = tangents
    opening = moved * jnp.exp(-primals[1])
    return _divided(*primals), jnp.where(primals[0] == -jnp.inf, opening, moved - total_dot)


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
    # what potential an absent component would have is not known, where they are not all 0
    free = isinstance(g, float)
    if epsilon is None:
        absent = Partial(jnp.negative, cost) if free else None
        return soft_rows(log_weights - reduced, log_weights, absent)
    # Relative to the cheapest, so that no epsilon over- or underflows a whole row.
    cheapest = jnp.min(jnp.where(present, reduced, jnp.inf), axis=1)
    base = jax.lax.stop_gradient(jnp.where(jnp.isfinite(cheapest), cheapest, 0))[:, None]
    # epsilon may be traced: both limits are computed, so neither may divide by 0
    soft = epsilon > 0
    scale = jnp.where(soft, epsilon, 1)
    # An infinite cost stays out of the division, or its derivative in epsilon would be NaN.
    blocked = reduced == jnp.inf
    dearer = jnp.where(blocked, jnp.inf, jnp.where(blocked, 0, reduced - base) / scale)
    absent = Partial(_tilted, cost, base, scale) if free else None
    f, conditional = soft_rows(log_weights - dearer, log_weights, absent)
    f = _gently(f, dearer, log_weights, absent)
    hard = _cheapest(reduced - base, present, conditional)
    # 0 * inf: a cost of +inf that is not chosen must not count
    hard_f = jnp.sum(jnp.where(hard > 0, hard * reduced, 0), axis=1)
    # below 0 and NaN are no entropies: what comes of them is no value
    hard_f = jnp.where(epsilon == 0, hard_f, jnp.nan)
    return jnp.where(soft, base[:, 0] + scale * f, hard_f), jnp.where(soft, conditional, hard)


def _tilted(cost: Array, base: Array, scale: Array) -> Array:
    return (base - cost) / scale


def _gently(f: Array, dearer: Array, log_weights: Array, absent: Partial | None) -> Array:
    """-log sum_j pi_j exp(-dearer_j) as -log1p(small) where that keeps the digits.

    At large epsilon the sum is 1 - O(1 / epsilon), and a plain logarithm would lose f.
    """
    weights = jnp.exp(log_weights)
    total = jnp.sum(weights)
    terms = weights * jnp.expm1(-jnp.where(weights > 0, dearer, 0))
    if absent is not None:
        terms = opened(terms, log_weights, jnp.zeros_like(f), absent)
    excess = jnp.sum(terms, axis=1)
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
    logits: Float[Array, "n k"], log_weights: Float[Array, " k"], absent: Partial | None = None
) -> tuple[Float[Array, " n"], Float[Array, "n k"]]:
    """`row_softmax` at epsilon = 1 from logits, log pi_j + g_j - c_ij.

    `absent` yields -c_ij of absent components too, for derivatives in their proportions.
    """
    # it cancels, so it needs no derivative
    peak = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    peak = jnp.where(jnp.isfinite(peak), peak, 0)
    # One exponential for both: they cost more than all else when there are few features.
    scaled = jnp.exp(logits - peak)
    if absent is not None:
        scaled = opened(scaled, log_weights, peak[:, 0], absent)
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
