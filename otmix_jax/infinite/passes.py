"""Passes over the rows, tile by tile: densities, Lindsay's D, and Newton's steps on the atoms."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ..core.numerics import einsum, logsumexp, matmul, safe_log
from ..core.tree import pytree, replace, select
from .kernels import LocationKernel

TILE = 2048
"""Rows at a time: what is held of them stays in the cache."""
LONGEST = 3.0, 0.5
"""The longest step of a log-weight, and of a location in units of the noise."""
SMALLEST_DAMPING = 1e-15


def _tiles(tree: Any, n: int) -> Any:
    """Leaves [n, ...] as [n_tiles, tile, ...]."""
    size = TILE if n % TILE == 0 else n
    return jax.tree.map(lambda leaf: leaf.reshape(n // size, size, *leaf.shape[1:]), tree)


def _summed(one: Callable[..., Any], rows: tuple) -> Any:
    """The sum over tiles of one(*rows)."""
    tiles = _tiles(rows, len(rows[-1]))
    shapes = jax.eval_shape(lambda t: one(*jax.tree.map(lambda leaf: leaf[0], t)), tiles)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(lambda c, t: (jax.tree.map(jnp.add, c, one(*t)), None), zero, tiles)[0]


@jax.jit
def log_likelihoods(kernel: LocationKernel, z: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Log p(x_i | z_j) of all rows."""
    return kernel.log_density(z)


@jax.jit
def log_mixture(
    kernel: LocationKernel, row_weight: Array, log_w: Float[Array, " m"], z: Float[Array, "m d"]
) -> Float[Array, " n"]:
    """Log sum_j w_j p(x_i | z_j)."""

    def one(carry: None, tile: tuple) -> tuple[None, Array]:
        return None, logsumexp(tile[0].log_density(z) + log_w, axis=1)

    tiles = _tiles((kernel, row_weight), len(row_weight))
    return jax.lax.scan(one, None, tiles)[1].reshape(-1)


@jax.jit
def log_lindsay(
    kernel: LocationKernel, log_c: Float[Array, " n"], z: Float[Array, "m d"]
) -> Float[Array, " m"]:
    """Log D(z) = log sum_i c_i p(x_i | z), c_i = a_i / f_i."""

    def one(carry: tuple[Array, Array], tile: tuple) -> tuple[tuple[Array, Array], None]:
        peak, total = carry
        terms = tile[0].log_density(z) + tile[1][:, None]
        higher = jnp.maximum(peak, jnp.max(terms, axis=0))
        safe = jnp.where(jnp.isfinite(higher), higher, 0)
        total = total * jnp.exp(peak - safe) + jnp.sum(jnp.exp(terms - safe), axis=0)
        return (higher, total), None

    none = jnp.full(z.shape[0], -jnp.inf, log_c.dtype)
    tiles = _tiles((kernel, log_c), len(log_c))
    peak, total = jax.lax.scan(one, (none, jnp.zeros_like(none)), tiles)[0]
    return safe_log(total) + jnp.where(jnp.isfinite(peak), peak, 0)


@pytree
class Slope:
    """Log D at m locations.

    Attributes:
        value: [m]
        gradient: [m, d]
        hessian: [m, d, d]
        information: [m, d, d] of the rows, by their shares in D: never below minus the hessian.
    """

    value: Array
    gradient: Array
    hessian: Array
    information: Array


def slope(kernel: LocationKernel, log_c: Float[Array, " n"], z: Float[Array, "m d"]) -> Slope:
    """Log D and its two derivatives, in two passes."""
    value = log_lindsay(kernel, log_c, z)

    def one(kernel: LocationKernel, log_c: Array) -> tuple[Array, Array, Array]:
        share = jnp.exp(kernel.log_density(z) + log_c[:, None] - value)
        score = kernel.score(z)
        second = einsum("nma,nmb->mab", share[:, :, None] * score, score)
        return einsum("nm,nma->ma", share, score), second, kernel.information(share, z)

    gradient, second, information = _summed(one, (kernel, log_c))
    second -= information + gradient[:, :, None] * gradient[:, None]
    return Slope(value, gradient, second, information)


@pytree
class Look:
    """One pass: the value, and what a Newton step on log-weights and locations needs.

    Attributes:
        value: -sum a log f + sum w, in nats.
        mass: [m] w D.
        pull: [m, d] w grad D.
        bend: [m, d, d] minus the second derivative of D, times w.
        gram: [m (1 + d), m (1 + d)] sum_i a_i b_i b_i^T, b = (P, P score).
    """

    value: Array
    mass: Array
    pull: Array
    bend: Array
    gram: Array


def _look(kernel: LocationKernel, row_weight: Array, log_w: Array, z: Array) -> Look:
    m, d = z.shape

    def one(kernel: LocationKernel, a: Array) -> Look:
        logits = kernel.log_density(z) + log_w
        log_f = logsumexp(logits, axis=1)
        plan = jnp.exp(logits - jnp.where(jnp.isfinite(log_f), log_f, 0)[:, None])
        # the score may be infinite where the share is 0
        pulls = jnp.where(plan[:, :, None] > 0, plan[:, :, None] * kernel.score(z), 0)
        both = jnp.concatenate([plan, pulls.reshape(-1, m * d)], axis=1)
        share = plan * a[:, None]
        score = jnp.where(plan[:, :, None] > 0, kernel.score(z), 0)
        second = einsum("nma,nmb->mab", pulls * a[:, None, None], score)
        return Look(
            value=-jnp.sum(jnp.where(a > 0, a * log_f, 0)),
            mass=jnp.sum(share, axis=0),
            pull=matmul(a, pulls.reshape(-1, m * d)).reshape(m, d),
            bend=kernel.information(share, z) - second,
            gram=matmul(both.T * a, both),
        )

    found = _summed(one, (kernel, row_weight))
    return replace(found, value=found.value + jnp.sum(jnp.exp(log_w)))


def _residual(look: Look, log_w: Array, least: Array) -> Array:
    """How far D is from 1 and its slope from 0 at the atoms; those that leave count upwards."""
    w = jnp.exp(log_w)
    present = w > 0
    safe = jnp.where(present, w, 1)
    excess = jnp.where(present, look.mass / safe - 1, 0)
    steep = jnp.max(jnp.abs(look.pull), axis=1) / safe
    stays = w > least
    return jnp.max(jnp.where(stays, jnp.maximum(jnp.abs(excess), steep), jnp.maximum(excess, 0)))


def _step(look: Look, log_w: Array, damping: Array) -> tuple[Array, Array]:
    """Newton's step on (log w, z), by the part of the second derivative that is never negative."""
    m, d = look.pull.shape
    w = jnp.exp(log_w)
    present = w > 0
    scale = jnp.where(present, 1 / jnp.sqrt(jnp.where(present, w, 1)), 0)
    gradient = jnp.concatenate([w - look.mass, -look.pull.reshape(-1)])
    scales = jnp.concatenate([scale, jnp.repeat(scale, d)])
    if d == 1:
        bend = jnp.maximum(look.bend, 0)
    else:
        values, vectors = jnp.linalg.eigh(look.bend)
        bend = einsum("mab,mb,mcb->mac", vectors, jnp.maximum(values, 0), vectors)
    where = jnp.arange(m, m * (1 + d)).reshape(m, d)
    hessian = look.gram.at[where[:, :, None], where[:, None]].add(bend)
    scaled = hessian * scales[:, None] * scales
    ridge = damping + jnp.where(scales > 0, 0, 1)
    factor = jax.scipy.linalg.cho_factor(scaled + jnp.diag(ridge))
    step = -scales * jax.scipy.linalg.cho_solve(factor, scales * gradient)
    moved, shift = step[:m], step[m:].reshape(m, d)
    longest = jnp.maximum(
        jnp.max(jnp.abs(moved)) / LONGEST[0], jnp.max(jnp.abs(shift)) / LONGEST[1]
    )
    shorter = 1 / jnp.maximum(longest, 1)
    return moved * shorter, shift * shorter


@pytree
class Polished:
    """Atoms after Newton's method.

    Attributes:
        log_w: [m] log-weights.
        z: [m, d] locations.
        residual: the largest |D - 1| or slope of D at an atom that stays.
        damping: that was needed at last.
        n_passes: over the rows.
    """

    log_w: Array
    z: Array
    residual: Array
    damping: Array
    n_passes: Array


@pytree
class _State:
    log_w: Array
    z: Array
    look: Look
    residual: Array
    damping: Array
    n_passes: Array


@jax.jit
def polish(
    kernel: LocationKernel,
    row_weight: Float[Array, " n"],
    log_w: Float[Array, " m"],
    z: Float[Array, "m d"],
    bounds: tuple[Array, Array],
    least: Array,
    tolerance: Array,
    damping: Array,
    max_passes: Array,
) -> Polished:
    """Newton's method, damped as Levenberg and Marquardt do, on weights and locations together.

    Args:
        kernel: the rows.
        row_weight: [n] a, of sum 1.
        log_w: [m] log-weights; -inf is absent.
        z: [m, d] locations.
        bounds: the least and the largest coordinate.
        least: the weight below which an atom is on its way out.
        tolerance: of the residual.
        damping: at first.
        max_passes: at most.
    """
    first = _look(kernel, row_weight, log_w, z)
    dtype = first.value.dtype
    rounding = 4 * jnp.finfo(dtype).eps * jnp.maximum(1, jnp.abs(first.value))
    residual = _residual(first, log_w, least)
    start = _State(log_w, z, first, residual, damping, jnp.asarray(1))

    def more(state: _State) -> Bool[Array, ""]:
        going = (state.n_passes < max_passes) & (state.damping < 1e8)
        return going & (state.residual > tolerance)

    def body(state: _State) -> _State:
        moved, shift = _step(state.look, state.log_w, state.damping)
        log_w, z = state.log_w + moved, jnp.clip(state.z + shift, *bounds)
        look = _look(kernel, row_weight, log_w, z)
        residual = _residual(look, log_w, least)
        lower = look.value < state.look.value - rounding
        alike = (look.value <= state.look.value + rounding) & (residual < state.residual)
        # False for NaN, where the factor failed
        better = lower | alike
        damping = jnp.where(
            better, jnp.maximum(state.damping / 10, SMALLEST_DAMPING), state.damping * 10
        )
        n_passes = state.n_passes + 1
        new = _State(log_w, z, look, residual, damping, n_passes)
        old = _State(state.log_w, state.z, state.look, state.residual, damping, n_passes)
        return select(better, new, old)

    end = jax.lax.while_loop(more, body, start)
    return Polished(end.log_w, end.z, end.residual, end.damping, end.n_passes)


@jax.jit
def settle(
    kernel: LocationKernel,
    row_weight: Float[Array, " n"],
    log_w: Float[Array, " m"],
    z: Float[Array, "m d"],
    steps: Array,
) -> tuple[Float[Array, " m"], Float[Array, "m d"]]:
    """EM on log-weights and locations, for atoms too many for a Newton step on all at once."""

    def one(log_w: Array, z: Array, kernel: LocationKernel, a: Array) -> tuple[Array, ...]:
        logits = kernel.log_density(z) + log_w
        plan = a[:, None] * jax.nn.softmax(logits, axis=1)
        pull = einsum("nm,nma->ma", plan, kernel.score(z))
        return jnp.sum(plan, axis=0), pull, kernel.information(plan, z)

    def body(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        log_w, z = state
        told = functools.partial(one, log_w, z)
        mass, pull, information = _summed(told, (kernel, row_weight))
        present = mass > 0
        identity = jnp.eye(z.shape[1], dtype=z.dtype)
        safe = jnp.where(present[:, None, None], information, identity)
        shift = jnp.linalg.solve(safe, pull[..., None])[..., 0]
        return safe_log(mass), jnp.where(present[:, None], z + shift, z)

    return jax.lax.fori_loop(0, steps, body, (log_w, z))
