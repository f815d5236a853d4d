"""Whole passes over the rows: the sweep, the dual, and the value with its derivative."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.tree_util import Partial
from jaxtyping import Float

from ..core.tree import is_float
from .engine import Engine, Execution, Rows
from .kernels import Columns, DualSweep, Kernel, Sweep, floats


def sweep(engine: Engine, rows: Rows, columns: Columns, components: Any) -> Sweep:
    """Value, mass and statistics of all rows."""
    kernel = engine.kernel.of(columns, components)
    return engine.execution.reduce(Partial(engine.kernel.sweep, kernel), rows)


def dual(engine: Engine, rows: Rows, columns: Columns, components: Any) -> DualSweep:
    """Value, mass and overlap of all rows."""
    kernel = engine.kernel.of(columns, components)
    return engine.execution.reduce(Partial(engine.kernel.dual, kernel), rows)


def value(engine: Engine, rows: Rows, columns: Columns, components: Any) -> Float[Array, ""]:
    """The value of all rows; its derivative is taken in the same pass."""
    return total(engine.execution, engine.kernel.of(columns, components), rows)


def total(execution: Execution, kernel: Kernel, rows: Rows) -> Float[Array, ""]:
    """sum_i a_i f_i over all rows.

    A tile's gradient needs only that tile, so one pass yields value and gradient, and reverse mode
    keeps nothing per row but the derivatives in the rows themselves, where they are asked for.
    Differentiable to any order: what the derivative does is again a pass over tiles. The rows'
    frame counts as a constant.
    """

    @jax.custom_jvp
    def value(kernel: Kernel, rows: Rows) -> Array:
        return execution.reduce(Partial(type(kernel).value, kernel), rows)

    def rule(primals: tuple[Kernel, Rows], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
        kernel, rows = primals
        kernel_dot, rows_dot = tangents
        dots = [*_in_frame(rows, rows_dot.x), rows_dot.weight]
        # known when tracing: without a tangent in the rows no [n, d] derivative is made
        by_row = any(map(_moves, dots))
        tile = Partial(_slopes_by_row if by_row else _slopes, kernel)
        # smaller tiles: a derivative holds about twice as much per row
        (value, gradient), in_rows = execution.finer().reduce(tile, rows, by_row=True)
        slopes = zip(gradient, _tangents(kernel, kernel_dot), strict=True)
        dot = _inner(slopes, value)
        return value, dot + _inner(zip(in_rows, dots, strict=True), value) if by_row else dot

    value.defjvp(rule, symbolic_zeros=True)
    return value(kernel, rows)


def _slopes(kernel: Kernel, x: Any, weight: Array) -> tuple[Any, Any]:
    value, slopes, _ = kernel.slopes(x, weight, False)
    return (value, slopes), None


def _slopes_by_row(kernel: Kernel, x: Any, weight: Array) -> tuple[Any, Any]:
    value, slopes, in_rows = kernel.slopes(x, weight, True)
    return (value, slopes), in_rows


def _moves(tangent: Any) -> bool:
    return not isinstance(tangent, SymbolicZero)


def _tangents(primal: Any, dot: Any) -> list:
    """The tangents of the floating leaves, in order."""
    leaves = jax.tree.leaves(dot, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    pairs = zip(jax.tree.leaves(primal), leaves, strict=True)
    return [tangent for leaf, tangent in pairs if is_float(leaf)]


def _in_frame(rows: Rows, dot: Any) -> list:
    """The tangents of the rows' real leaves, as the frame carries them."""
    tangents = _tangents(rows.x, dot)
    if rows.frame is None or not any(map(_moves, tangents)):
        return tangents
    real = floats(rows.x)
    # jvp wants arrays, not symbolic zeros
    filled = [
        t if _moves(t) else jnp.zeros_like(leaf) for t, leaf in zip(tangents, real, strict=True)
    ]
    leaves, structure = jax.tree.flatten(rows.x)

    def into(real: list) -> list:
        rest = iter(real)
        whole = [next(rest) if is_float(leaf) else leaf for leaf in leaves]
        return floats(rows.frame.into(jax.tree.unflatten(structure, whole)))  # type: ignore[union-attr]

    return jax.jvp(into, (real,), (filled,))[1]


def _inner(pairs: Any, like: Array) -> Array:
    terms = [jnp.sum(g * t) for g, t in pairs if _moves(t)]
    return sum(terms, jnp.zeros_like(like))
