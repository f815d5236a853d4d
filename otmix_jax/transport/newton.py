"""Newton's method for the column potentials g: K variables, however many rows.

The dual D(g) = sum_i a_i f_i(g) + psi(g) is concave, with

    gradient   w(g) - m(g)                                           w: the implied target sizes
    -Hessian   (diag(m) - overlap) / epsilon + (diag(w) - w w^T) / rho

and a null direction, the constant. One evaluation is one pass over the rows; a Newton step that
does not raise D is replaced by a Sinkhorn step, which always does. Where clusters lie so far apart
that D is flat between kinks, epsilon is first raised until Newton bites, then lowered again.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..core.tree import pytree, replace, select, static
from ..engine import DualSweep
from .couplings import centre, implied_target, psi, sinkhorn_step

Unsolved = Any
"""What the dual is of: a `plans.Plan`, which is built on this module."""


@pytree
class Inner:
    """Options of the inner solve.

    Attributes:
        newton: False for Sinkhorn steps alone, which need no K x K solve.
        max_sweeps: passes over the rows at most.
    """

    newton: bool = static(default=True)
    max_sweeps: int = static(default=2000)


@pytree
class Potential:
    """The inner solve's answer and account.

    Attributes:
        g: [k] potentials, sum_j b_j g_j = 0.
        residual: sum_j |w_j - m_j|, which vanishes at the optimum.
        n_sweeps: passes over the rows.
    """

    g: Array
    residual: Array
    n_sweeps: Array


@pytree
class _State:
    g: Array
    sweep: DualSweep
    dual: Array
    epsilon: Array
    trial: Array  # where the next pass looks
    newton: Array  # whether the trial is a Newton point, which may be refused
    radius: Array  # the longest step allowed, in units of epsilon
    at_level: Array
    climbing: Array
    n_sweeps: Array
    done: Array


def _residual(problem: Unsolved, g: Array, mass: Array) -> Array:
    target = implied_target(g, problem.log_target, problem.coupling.penalty_strength())
    return jnp.sum(jnp.abs(target - mass))


def _curvature(problem: Unsolved, g: Array, sweep: DualSweep, epsilon: Array | float) -> Array:
    """Minus the dual's Hessian, with the constant direction and absent columns filled in."""
    rho = problem.coupling.penalty_strength()
    target = implied_target(g, problem.log_target, rho)
    absent = ~(problem.log_target > -jnp.inf) | ~(problem.columns.log_weights > -jnp.inf)
    curvature = (jnp.diag(sweep.mass) - sweep.overlap) / epsilon
    finite = jnp.isfinite(rho) & (jnp.asarray(rho) > 0)
    spread = jnp.diag(target) - target[:, None] * target
    curvature += jnp.where(finite, spread / jnp.where(finite, rho, 1), 0)
    # a constant added to g moves nothing: without a share of ones the matrix is singular
    scale = jnp.trace(curvature) / curvature.shape[0] + jnp.finfo(g.dtype).tiny
    return curvature + scale / curvature.shape[0] + jnp.diag(jnp.where(absent, scale, 0))


def _next_trial(problem: Unsolved, state: _State, refused: Array, inner: Inner) -> _State:
    rho = problem.coupling.penalty_strength()
    log_target = problem.log_target
    sinkhorn = sinkhorn_step(state.g, state.sweep.mass, log_target, state.epsilon, rho)
    if not inner.newton:
        return replace(state, trial=sinkhorn, newton=jnp.asarray(False))
    gradient = implied_target(state.g, log_target, rho) - state.sweep.mass
    curvature = _curvature(problem, state.g, state.sweep, state.epsilon)
    # LAPACK: batched calls in two threads may block each other, see `fitting.many._threads`
    step = jnp.linalg.solve(curvature, gradient)
    longest = jnp.max(jnp.abs(step))
    limit = state.radius * state.epsilon
    step = jnp.where(longest > limit, step * (limit / longest), step)
    usable = jnp.all(jnp.isfinite(step)) & ~refused
    newton = centre(state.g + jnp.where(usable, step, 0), log_target)
    return replace(state, trial=jnp.where(usable, newton, sinkhorn), newton=usable)


def _step(problem: Unsolved, inner: Inner, tightest: float, state: _State) -> _State:
    """One pass over the rows: judge the trial, choose the next one, change epsilon if due."""
    entropy = jnp.asarray(problem.entropy, state.g.dtype)
    columns = replace(problem.columns, g=state.trial, epsilon=state.epsilon)
    sweep = problem.sweep(columns)
    rho = problem.coupling.penalty_strength()
    dual = sweep.value + psi(state.trial, problem.log_target, rho)
    rounding = 8 * jnp.finfo(dual.dtype).eps * jnp.maximum(1, jnp.abs(dual))
    closer = _residual(problem, state.trial, sweep.mass) < _residual(
        problem, state.g, state.sweep.mass
    )
    # Within rounding of the old value the residual decides.
    better = (dual > state.dual + rounding) | ((dual > state.dual - rounding) & closer)
    accepted = ~state.newton | better
    moved = replace(
        state,
        g=jnp.where(accepted, state.trial, state.g),
        sweep=select(accepted, sweep, state.sweep),
        dual=jnp.where(accepted, dual, state.dual),
        radius=jnp.where(accepted, jnp.minimum(2 * state.radius, 1e6), 1.0),
        n_sweeps=state.n_sweeps + 1,
        at_level=state.at_level + 1,
    )
    residual = _residual(problem, moved.g, moved.sweep.mass)
    # The rounding of g itself moves the plan by this much.
    floor = 4 * jnp.finfo(dual.dtype).eps * jnp.max(jnp.abs(moved.g)) / state.epsilon
    tolerance = jnp.maximum(tightest, floor)
    at_target = state.epsilon <= entropy
    # on the way down a rough solution will do
    settled = residual <= jnp.where(at_target, tolerance, 0.05)
    climb = ~settled & state.climbing & (moved.at_level >= 12)
    descend = settled & ~at_target
    changed = climb | descend
    epsilon = jnp.where(climb, state.epsilon * 16, state.epsilon)
    epsilon = jnp.where(descend, jnp.maximum(entropy, state.epsilon / 4), epsilon)
    moved = replace(
        moved,
        epsilon=epsilon,
        climbing=state.climbing & ~descend & (moved.n_sweeps < 200),
        at_level=jnp.where(changed, 0, moved.at_level),
        done=(settled & at_target) | ~jnp.isfinite(dual),
    )
    nearby = _next_trial(problem, moved, ~accepted, inner)
    # At a new epsilon the point is evaluated anew, and that pass is not judged.
    again = replace(moved, trial=moved.g, newton=jnp.asarray(False), radius=jnp.ones_like(dual))
    return select(changed, again, nearby)


@jax.jit
def solve_potential(problem: Unsolved, start: Array, inner: Inner = Inner()) -> Potential:
    """Maximises the dual from `start` [k]; see the module."""
    dtype = start.dtype
    # a Python float is weakly typed: it leaves float32 as it is
    tolerance = float(jnp.finfo(dtype).eps) ** 0.8
    entropy = jnp.asarray(problem.entropy, dtype)
    g = centre(start, problem.log_target)
    sweep = problem.sweep(replace(problem.columns, g=g, epsilon=entropy))
    dual = sweep.value + psi(g, problem.log_target, problem.coupling.penalty_strength())
    false, zero = jnp.asarray(False), jnp.zeros((), jnp.int32)
    settled = _residual(problem, g, sweep.mass) <= tolerance
    # rho = 0 has g = 0, exactly.
    idle = jnp.asarray(problem.coupling.penalty_strength()) == 0
    g = jnp.where(idle, 0, g)
    # typed scalars throughout: the carry of a while_loop must keep its dtypes
    state = _State(
        g, sweep, dual, entropy, g, false, jnp.full((), 8.0, dtype), zero,
        jnp.asarray(inner.newton), zero + 1, settled | idle,
    )  # fmt: skip
    state = _next_trial(problem, state, false, inner)
    state = jax.lax.while_loop(
        lambda s: ~s.done & (s.n_sweeps < inner.max_sweeps),
        lambda s: _step(problem, inner, tolerance, s),
        state,
    )
    residual = jnp.where(idle, 0, _residual(problem, state.g, state.sweep.mass))
    return Potential(state.g, residual, state.n_sweeps)


@jax.custom_jvp
def attach(problem: Any, g: Array) -> Array:
    """The potentials as they are, with the derivative of the dual's maximiser.

    Implicit function theorem: dg = (-Hessian)^-1 d(w - m). The dual's value then has its envelope
    derivative, and second derivatives are right too.
    """
    del problem
    return g


@attach.defjvp
def _attach_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    problem, g = primals
    # attached again, for derivatives of higher order
    g = attach(problem, g)
    _, moved = jax.jvp(lambda p: p.gradient(g), (problem,), (tangents[0],))
    sweep = problem.sweep(replace(problem.columns, g=g))
    curvature = _curvature(problem, g, sweep, problem.entropy)
    idle = jnp.asarray(problem.coupling.penalty_strength()) == 0
    step = jnp.linalg.solve(curvature, moved)
    return g, jnp.where(idle, 0, centre(step, problem.log_target))


def proportions_rate(
    overlap: Float[Array, "k k"], log_weights: Float[Array, " k"]
) -> Float[Array, ""]:
    """1 - s_min, s the squared singular values of diag(a)^-1/2 P diag(pi)^-1/2.

    EM in the proportions is slow where components overlap (s_min near 0); Sinkhorn's rate is the
    second largest s, so it is slow where they lie apart.
    """
    present = log_weights > -jnp.inf
    root = jnp.exp(-0.5 * jnp.where(present, log_weights, 0))
    both = present[:, None] & present
    scaled = jnp.where(both, overlap * root[:, None] * root, jnp.eye(len(root)))
    # cast back: the identity promotes float32 where 64 bits are on
    return 1 - jnp.min(jnp.linalg.eigvalsh(scaled.astype(overlap.dtype)))
