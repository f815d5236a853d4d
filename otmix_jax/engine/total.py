"""The value of all rows, with a derivative that is taken in the same pass."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float

from .execution.base import Execution
from .kernels.base import Ready, floats
from .rows import Rows


def total(execution: Execution, ready: Ready, rows: Rows) -> Float[Array, ""]:
    """sum_i a_i f_i over all rows.

    A tile's gradient needs only that tile, so one pass yields value and gradient, and reverse mode
    keeps nothing per row but the derivatives in the rows themselves, where they are asked for.
    Differentiable to any order: what the derivative does is again a pass over tiles. The rows'
    origin and unit count as constants.
    """

    @jax.custom_jvp
    def value(ready: Ready, rows: Rows) -> Array:
        return execution.sum(ready.value, rows)

    def rule(primals: tuple[Ready, Rows], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
        ready, rows = primals
        ready_dot, rows_dot = tangents
        by_row = _moves(rows_dot.x) or _moves(rows_dot.weight)

        def tile(x: Array, weight: Array) -> tuple[Any, Any]:
            value, slopes, in_rows = ready.slopes(x, weight, by_row)
            return (value, slopes), in_rows

        (value, gradient), in_rows = execution.finer().reduce(tile, rows)
        dot = _inner(gradient, floats(ready_dot), value)
        if by_row:
            moved = rows_dot.x
            if rows.unit is not None and _moves(moved):
                moved = moved / rows.unit
            dot += _inner(in_rows, [moved, rows_dot.weight], value)
        return value, dot

    value.defjvp(rule, symbolic_zeros=True)
    return value(ready, rows)


def _moves(tangent: Any) -> bool:
    return not isinstance(tangent, SymbolicZero)


def _inner(gradient: list, tangent: list, like: Array) -> Array:
    pairs = zip(gradient, tangent, strict=True)
    terms = [jnp.sum(g * t) for g, t in pairs if _moves(t)]
    return sum(terms, jnp.zeros_like(like))
