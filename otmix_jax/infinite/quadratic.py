"""A small convex quadratic program over the positive orthant, by an interior point."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Float

from ..core.numerics import matmul, safe_divide
from ..core.tree import pytree, replace, select

MOST_ITERATIONS = 40
"""Mehrotra's method takes 8 to 20, whatever the size."""


@pytree
class _Point:
    """Variables, scaled to a unit diagonal, and slacks; both > 0."""

    y: Array
    z: Array
    n_iterations: Array
    done: Array


def nonnegative_quadratic(
    matrix: Float[Array, "m m"], linear: Float[Array, " m"], start: Float[Array, " m"]
) -> Float[Array, " m"]:
    """The u >= 0 that minimises u^T H u / 2 - b^T u, H positive definite up to rounding.

    No entry of H is below 0: where b_j <= 0, u_j is then 0, and is left out.

    Args:
        matrix: [m, m] H.
        linear: [m] b.
        start: [m] any u >= 0; its size sets the scale.

    Source: Nocedal and Wright, Numerical Optimization (2006), algorithm 16.4 (Mehrotra's
        predictor and corrector).
    """
    diagonal = jnp.diag(matrix)
    present = (diagonal > 0) & (linear > 0)
    scale = jnp.where(present, safe_divide(jnp.ones_like(diagonal), jnp.sqrt(diagonal)), 0)
    unit = matrix * scale[:, None] * scale + jnp.diag(jnp.where(present, 0, 1).astype(scale.dtype))
    target = jnp.where(present, linear * scale, -1)
    y = jnp.where(present, safe_divide(start, scale), 0)
    size = jnp.mean(y) + jnp.finfo(y.dtype).tiny ** 0.25
    y += size
    z = jnp.maximum(jnp.abs(matmul(unit, y) - target), size)
    first = _Point(y, z, jnp.zeros((), jnp.int32), jnp.asarray(False))
    found = jax.lax.while_loop(
        lambda p: ~p.done & (p.n_iterations < MOST_ITERATIONS),
        lambda p: _iterate(unit, target, p),
        first,
    )
    return _polished(unit, target, found) * scale


def _iterate(unit: Array, target: Array, point: _Point) -> _Point:
    """A predictor, which says how far the centre is, and a corrector."""
    y, z = point.y, point.z
    residual = matmul(unit, y) - target - z
    product = jnp.mean(y * z)
    factor = cho_factor(unit + jnp.diag(z / y))

    def direction(aimed: Array) -> tuple[Array, Array]:
        """To where the residual is 0 and y z moves by `aimed`."""
        dy = cho_solve(factor, aimed / y - residual)
        return dy, (aimed - z * dy) / y

    ahead = direction(-y * z)
    step = jnp.minimum(_longest(y, ahead[0]), _longest(z, ahead[1]))
    reached = jnp.mean((y + step * ahead[0]) * (z + step * ahead[1]))
    centring = (reached / product) ** 3
    dy, dz = direction(centring * product - y * z - ahead[0] * ahead[1])
    step = jnp.minimum(1, 0.995 * jnp.minimum(_longest(y, dy), _longest(z, dz)))
    moved_y, moved_z = y + step * dy, z + step * dz
    product = jnp.mean(moved_y * moved_z)
    missed = jnp.max(jnp.abs(matmul(unit, moved_y) - target - moved_z))
    rounding = jnp.finfo(y.dtype).eps
    near = product <= rounding * jnp.mean(moved_y * jnp.abs(target))
    near &= missed <= len(y) * rounding * jnp.max(jnp.abs(target))
    # where the factor fails, the last point is the answer
    finite = jnp.isfinite(product + missed)
    moved = _Point(moved_y, moved_z, point.n_iterations + 1, near)
    return select(finite, moved, replace(point, done=jnp.asarray(True)))


def _polished(unit: Array, target: Array, point: _Point) -> Array:
    """The minimiser on the support that the point names, if it is one; else the point."""
    support, eps = point.y > point.z, jnp.finfo(target.dtype).eps
    both = support[:, None] & support
    reduced = jnp.where(both, unit, jnp.eye(len(target), dtype=unit.dtype))
    exact = cho_solve(cho_factor(reduced), jnp.where(support, target, 0))
    slack = matmul(unit, exact) - target
    # False for NaN
    valid = jnp.where(support, exact > 0, slack >= -len(slack) * eps * jnp.max(jnp.abs(target)))
    rest = jnp.where(point.y > eps * jnp.max(point.y), point.y, 0)
    return jnp.where(jnp.all(valid), exact, rest)


def _longest(v: Array, step: Array) -> Array:
    """The longest step, at most 1, that keeps v positive."""
    blocked = step < 0
    return jnp.minimum(1, jnp.min(jnp.where(blocked, -v / jnp.where(blocked, step, -1), jnp.inf)))
