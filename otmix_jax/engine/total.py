"""The value of all rows, with a derivative that is taken in the same pass."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float

from .execution.base import Execution
from .kernels.base import Ready
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
            arguments = (ready, x, weight) if by_row else (ready,)
            fixed = () if by_row else (x, weight)
            value, pullback = jax.vjp(lambda k, *moved: k.value(*moved, *fixed), *arguments)
            in_ready, *in_rows = pullback(jnp.ones_like(value))
            return (value, _floating(in_ready)), in_rows

        (value, gradient), in_rows = execution.finer().reduce(tile, rows)
        dot = _inner(gradient, _floating(ready_dot), value)
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


def _floating(tree: Any) -> list:
    """The leaves of floating type, in order."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _inner(gradient: list, tangent: list, like: Array) -> Array:
    pairs = zip(gradient, tangent, strict=True)
    terms = [jnp.sum(g * t) for g, t in pairs if _moves(t)]
    return sum(terms, jnp.zeros_like(like))
