"""The best proportions of a fixed dictionary, by Newton's method on few of its columns at a time.

F(w) = -sum_i a_i log sum_j w_j exp(l_ij) is convex. A look at all n times K likelihoods gives F and
D_j = -dF/dw_j; F(w') >= F(w) - log max_j D_j for all proportions w'. Between two looks, Newton
steps on a working set: local maxima of D, support, largest D. What has weight outside of it keeps
its proportions, and is one more column. A step solves a quadratic program over weights >= 0, and is
shortened until it lowers F.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..core.compiling import Quick
from ..core.numerics import accurate_sum, everywhere, matmul, normalize, safe_divide
from ..core.status import Status
from ..core.tree import pytree, replace, select
from ..engine import rows_of
from .dictionary import Dictionary, Look
from .quadratic import nonnegative_quadratic

WORKING = 48
"""Columns of the working set, at most."""
ENTERING = WORKING // 3
"""Local maxima of D that go before the support, at most."""
SAMPLED = WORKING // 2
"""Columns of a support too large that are spread evenly over its mass."""
MANY, NUMBERS = 256, 2**26
"""The working set of a support that does not fit; how many likelihoods may be held for it."""
EARLY = 3
"""Looks after which a support that does not fit is no matter of the start."""
MOST_STEPS, MOST_HALVINGS = 16, 30
"""Newton steps between two looks, and how often one is halved, at most."""
FAR = 4.0
"""A largest D from which a step of EM, which multiplies by D, goes further than Newton's, which at
best doubles a density."""
PROXIMAL = {"float64": 1e-11, "float32": 3e-4}
"""What is added to the curvature, in units of its diagonal: columns that are nearly the same leave
directions without any, in which the gradient's rounding would decide."""
LEFT = 0.1
"""What a step must leave of each row's density: beyond, the quadratic model is no model."""
SMALL = 2**18
"""Likelihoods up to which a run takes less time than its compilation."""
IDLE = 3
"""Looks in a row that find nothing better, after which rounding is all that is left."""


@pytree
class Weights:
    """The best proportions, and what is known of them.

    Attributes:
        weights: [K] proportions w.
        log_multipliers: [K] log D_j, D_j = sum_i a_i p_ij / sum_l w_l p_il: the optimum is where
            none is above 0.
        value: the mean negative log-likelihood, in nats.
        gap: log max_j D_j: other proportions win at most this much, in nats per row.
        n_passes: looks at all n times K likelihoods.
        status: CONVERGED: `gap` <= tolerance; MAX_STEPS; STALLED: rounding hides the rest;
            NON_FINITE: a row that no component reaches, or NaN.
    """

    weights: Array
    log_multipliers: Array
    value: Array
    gap: Array
    n_passes: Array
    status: Array


def optimal_weights(
    log_likelihood: Float[Array, "n k"],
    row_weight: Float[Array, " n"],
    start: Float[Array, " k"] | None = None,
    tolerance: float | Array = 1e-9,
    max_passes: int | Array = 100,
) -> Weights:
    """The proportions w that minimise -sum_i a_i log sum_j w_j exp(l_ij).

    Pure: jit, vmap, and derivatives of all answers in likelihoods and row weights, by the implicit
    function theorem on the support (where no component without weight has D_j = 1).

    Args:
        log_likelihood: [n, K] l, in nats; -inf is out of reach. Any constant per row may be added.
        row_weight: [n] a >= 0, of sum 1; a row of weight 0 is absent, whatever it holds.
        start: [K] proportions; None for equal ones.
        tolerance: the gap at which to stop, in nats per row.
        max_passes: looks at all likelihoods at most.

    Source: Kim, Carbonetto, Stephens and Anitescu, J. Comput. Graph. Stat. 29 (2020), for
        sequential quadratic programs on this problem; Lindsay, Ann. Stat. 11 (1983), for D.
    """
    row_weight = row_weight.astype(log_likelihood.dtype)
    dictionary = Dictionary.of_table(log_likelihood, rows_of(log_likelihood, row_weight))
    return weigh(dictionary, start, tolerance, max_passes)


def weigh(
    dictionary: Dictionary,
    start: Float[Array, " k"] | None = None,
    tolerance: float | Array = 1e-9,
    max_passes: int | Array = 100,
) -> Weights:
    """`optimal_weights` of any dictionary: no n times K numbers are held."""
    k, dtype = dictionary.components.n_components, dictionary.rows.weight.dtype
    start = jnp.full(k, 1 / k, dtype) if start is None else normalize(start.astype(dtype))
    given = jax.lax.stop_gradient((dictionary, start))
    limits = jnp.asarray(tolerance, dtype), jnp.asarray(max_passes, jnp.int32)
    found = _descent(len(dictionary.rows.weight) * k <= SMALL, *given, *limits)
    weights, value, log_multipliers = _attach(
        dictionary, found.weights, found.value, found.log_multipliers
    )
    gap = jnp.max(log_multipliers)
    return Weights(weights, log_multipliers, value, gap, found.n_passes, found.status)


def _least(dtype: Any) -> float:
    """What a weight of 0 is read as: D of a column is then known, and no row is out of reach.

    Its square must be a number, and its share in a row that others reach be lost in rounding.
    """
    return 1e-40 if jnp.finfo(dtype).bits == 64 else 1e-15


@pytree
class _State:
    """The weights with a look at them, and the account."""

    weights: Array
    look: Look
    n_passes: Array
    best: Weights  # of the lowest gap: it is what proves an answer
    idle: Array
    done: Array


def _descend(dictionary: Dictionary, start: Array, tolerance: Array, max_passes: Array) -> Weights:
    """Looks and Newton steps in turn."""
    zero = jnp.zeros((), jnp.int32)
    weights = jnp.maximum(start, _least(start.dtype))
    look = dictionary.look(weights)
    best = _answer(weights, look, tolerance, zero + 1)
    state = _State(weights, look, zero + 1, best, zero, _ended(best, zero))

    def body(state: _State) -> _State:
        weights = _next(dictionary, state, tolerance)
        look = dictionary.look(weights)
        n_passes = state.n_passes + 1
        answer = _answer(weights, look, tolerance, n_passes)
        # False for NaN
        closer = answer.gap < state.best.gap
        rounding = 8 * jnp.finfo(look.value.dtype).eps * jnp.maximum(1, jnp.abs(look.value))
        won = (answer.value < state.best.value - rounding) | (answer.gap < 0.8 * state.best.gap)
        idle = jnp.where(won, 0, state.idle + 1)
        best = select(closer | (answer.value < state.best.value - rounding), answer, state.best)
        return _State(weights, look, n_passes, best, idle, _ended(best, idle))

    state = jax.lax.while_loop(lambda s: ~s.done & (s.n_passes < max_passes), body, state)
    stalled = (state.idle >= IDLE) & (state.best.status == Status.MAX_STEPS.code)
    status = jnp.where(stalled, Status.STALLED.code, state.best.status)
    return replace(state.best, n_passes=state.n_passes, status=status)


_descent = Quick(_descend, level=0)


def _next(dictionary: Dictionary, state: _State, tolerance: Array) -> Array:
    """The weights after Newton steps on few columns, or on many where the support needs them."""
    n, k = dictionary.rows.weight.shape[0], state.weights.shape[0]
    given = dictionary, state.weights, state.look, tolerance
    small = functools.partial(_refined, min(WORKING, k))
    many = min(k, MANY, NUMBERS // max(n, 1))
    if many <= WORKING:
        return small(*given)
    support = jnp.sum(state.weights > 2 * _least(state.weights.dtype))
    # the first looks thin out a start that has weight everywhere; a batch decides as one
    few = everywhere((support <= WORKING - ENTERING) | (state.n_passes < EARLY))
    return jax.lax.cond(few, small, functools.partial(_refined, many), *given)


def _ended(best: Weights, idle: Array) -> Array:
    return (best.status != Status.MAX_STEPS.code) | (idle >= IDLE)


def _answer(weights: Array, look: Look, tolerance: Array, n_passes: Array) -> Weights:
    gap = jnp.max(look.log_multipliers)
    status = jnp.where(gap <= tolerance, Status.CONVERGED.code, Status.MAX_STEPS.code)
    status = jnp.where(jnp.isfinite(look.value + gap), status, Status.NON_FINITE.code)
    # all such together are lost in rounding, unless a row hangs on one: then its D is large
    lost = weights * len(weights) <= 16 * jnp.finfo(weights.dtype).eps
    absent = lost & (look.log_multipliers < 1)
    shown = normalize(jnp.where(absent, 0, weights))
    return Weights(shown, look.log_multipliers, look.value, gap, n_passes, status)


def _working_set(size: int, weights: Array, log_multipliers: Array) -> Array:
    """The columns to work on: local maxima of D above 1, then the support, then the largest D."""
    k = weights.shape[0]
    edge = jnp.full(1, -jnp.inf, weights.dtype)
    before = jnp.concatenate([edge, log_multipliers[:-1]])
    after = jnp.concatenate([log_multipliers[1:], edge])
    peak = (log_multipliers > 0) & (log_multipliers >= before) & (log_multipliers >= after)
    highest = jax.lax.top_k(jnp.where(peak, log_multipliers, -jnp.inf), min(ENTERING, k))[1]
    first = jnp.zeros(k, bool).at[highest].set(True) & peak
    multiplier = jax.nn.sigmoid(log_multipliers)
    # of a support too large, those spread evenly over the mass, then those that move most
    mass = weights * jnp.exp(jnp.minimum(log_multipliers, 1))
    sampled = jnp.diff(jnp.floor(SAMPLED * jnp.cumsum(normalize(mass))), prepend=0) > 0
    moved = weights * jnp.abs(jnp.expm1(jnp.minimum(log_multipliers, 1)))
    support = 1 + sampled + moved
    score = jnp.where(weights > 2 * _least(weights.dtype), support, multiplier)
    return jax.lax.top_k(jnp.where(first, 4 + multiplier, score), size)[1]


def _refined(
    size: int, dictionary: Dictionary, weights: Array, look: Look, tolerance: Array
) -> Array:
    """The weights after Newton steps on a working set."""
    least = _least(weights.dtype)
    which = _working_set(size, weights, look.log_multipliers)
    inside = jnp.zeros(weights.shape, bool).at[which].set(True)
    columns = dictionary.columns(which, look.f)
    outside = jnp.where(inside | (weights <= 2 * least), 0, weights)
    share = jnp.sum(outside)
    # the density is 1 in its own units: what the working set leaves is the rest's, or rounding
    left = 1 - matmul(columns, weights[which])
    rest = safe_divide(jnp.where(left > 64 * jnp.finfo(left.dtype).eps, left, 0), share)
    gap = jnp.max(look.log_multipliers)
    sufficient = jnp.clip(0.01 * gap, 0.1 * tolerance, 0.1)
    within = jnp.concatenate([columns, rest[:, None]], axis=1)
    start = jnp.append(weights[which], share)
    found = _newton(within, dictionary.rows.weight, start, sufficient)
    moved = (outside * safe_divide(found[-1], share)).at[which].set(found[:-1])
    return jnp.maximum(normalize(moved), least)


@pytree
class _Inner:
    """Weights of the working set, the rows' densities in units of those at the look, and D."""

    weights: Array
    density: Array
    multipliers: Array
    n_steps: Array
    done: Array


def _newton(columns: Array, a: Array, start: Array, sufficient: Array) -> Array:
    """Lowers -sum_i a_i log sum_j u_j columns_ij until log max_j D_j <= `sufficient`."""
    present = a > 0
    # a row without weight may hold anything
    columns = jnp.where(present[:, None], columns, 1)

    def at(u: Array, n_steps: Array, stuck: Array) -> _Inner:
        density = matmul(columns, u)
        multipliers = matmul(a / density, columns)
        near = jnp.log(jnp.max(multipliers)) <= sufficient
        return _Inner(u, density, multipliers, n_steps, near | stuck)

    def body(state: _Inner) -> _Inner:
        far = jnp.max(state.multipliers) > FAR
        u, stuck = jax.lax.cond(far, _em_step, _step, columns, a, state)
        return at(u, state.n_steps + 1, stuck)

    first = at(start, jnp.zeros((), jnp.int32), jnp.asarray(False))
    last = jax.lax.while_loop(lambda s: ~s.done & (s.n_steps < MOST_STEPS), body, first)
    return last.weights


def _em_step(columns: Array, a: Array, state: _Inner) -> tuple[Array, Array]:
    """A step of EM, which never raises the value."""
    del columns, a
    return normalize(state.weights * state.multipliers), jnp.asarray(False)


def _step(columns: Array, a: Array, state: _Inner) -> tuple[Array, Array]:
    """A Newton step that lowers the value, and whether there was none."""
    u, eps = state.weights, jnp.finfo(a.dtype).eps
    scaled = columns * (jnp.sqrt(a) / state.density)[:, None]
    curvature = matmul(scaled.T, scaled)
    curvature += jnp.diag(PROXIMAL[str(a.dtype)] * jnp.diag(curvature))
    linear = state.multipliers - 1 + matmul(curvature, u)
    target = normalize(nonnegative_quadratic(curvature, linear, u))
    slope = 1 - jnp.sum(state.multipliers * target)
    lost = jnp.max(1 - matmul(columns, target) / state.density)
    longest = (1 - LEFT) / jnp.maximum(lost, 1 - LEFT)

    def trial(size: Array) -> tuple[Array, Array]:
        moved = jnp.maximum(u + size * (target - u), _least(a.dtype))
        gain = accurate_sum(a * jnp.log(matmul(columns, moved) / state.density))
        # False for NaN
        return moved, gain >= -1e-4 * size * slope - 8 * eps

    def shorter(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        size, _, _, count = carry
        return (size / 2, *trial(size / 2), count + 1)

    start = (longest, *trial(longest), jnp.zeros((), jnp.int32))
    _, moved, lowered, _ = jax.lax.while_loop(
        lambda c: ~c[2] & (c[3] < MOST_HALVINGS), shorter, start
    )
    return jnp.where(lowered, moved, u), ~lowered


@jax.custom_jvp
def _attach(
    dictionary: Dictionary, weights: Array, value: Array, log_multipliers: Array
) -> tuple[Array, Array, Array]:
    """The answers as they are, with the derivatives of the minimiser.

    On the support D_j = 1, so H dw = dD at fixed weights, H the Hessian there.
    """
    del dictionary
    return weights, value, log_multipliers


@_attach.defjvp
def _attach_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    dictionary = primals[0]
    # attached again, for derivatives of higher order
    answers = _attach(*primals)
    weights = jnp.maximum(answers[0], _least(answers[0].dtype))

    def seen(dictionary: Dictionary, weights: Array) -> tuple[Array, Array]:
        look = dictionary.look(weights)
        return look.value, look.log_multipliers

    (_, at_fixed), dots = jax.jvp(lambda d: seen(d, weights), primals[:1], tangents[:1])
    sweep = dictionary.overlap(weights)
    present = answers[0] > 0
    root = jnp.sqrt(weights)
    both = present[:, None] & present
    # in units of sqrt(w) its eigenvalues lie in [0, 1]; equal columns have some of 0
    unit = jnp.eye(len(root), dtype=root.dtype)
    matrix = jnp.where(both, sweep.overlap / (root[:, None] * root), unit)
    matrix += 64 * jnp.finfo(root.dtype).eps * unit
    moved = jnp.where(present, sweep.mass / root * dots[1], 0)
    step = root * jnp.linalg.solve(matrix, moved)
    dot = jnp.where(present, step, 0)
    _, (value_dot, log_dot) = jax.jvp(seen, (dictionary, weights), (tangents[0], dot))
    return answers, (dot, value_dot, log_dot)
