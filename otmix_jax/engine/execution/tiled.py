"""Rows in tiles, one after the other: memory for one tile, whatever n."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from ..._pytree import pytree, static
from ..rows import Rows
from .base import Execution
from .dense import Dense


@pytree
class Tiled(Execution):
    """`lax.scan` over tiles of equal size; float32 sums carry their rounding error along.

    The last tile is moved up to end with the last row, and rows that it shares with the one before
    count there with weight 0: nothing is padded, so nothing is copied. Backpropagation computes
    each tile again rather than keep what it held.

    Attributes:
        size: rows of a tile at most, static.
    """

    size: int = static(default=4096)

    def tile_rows(self, n: int) -> int:
        """See `Execution.tile_rows`."""
        count = max(-(-n // self.size), 1)
        return min(-(-n // (8 * count)) * 8, self.size, n)

    def finer(self) -> "Tiled":
        """See `Execution.finer`."""
        return Tiled(max(self.size // 2, 1))

    def reduce(
        self, tile: Callable[..., tuple[Any, Any]], rows: Rows, *others: Array
    ) -> tuple[Any, Any]:
        """See `Execution.reduce`."""
        n = rows.x.shape[0]
        if n <= self.size:
            return Dense().reduce(tile, rows, *others)
        size = self.tile_rows(n)

        def one(index: Array) -> tuple[Array, tuple[Any, Any]]:
            first = jnp.minimum(index * size, n - size)
            x, weight, *same = (
                jax.lax.dynamic_slice_in_dim(array, first, size)
                for array in (rows.x, rows.weight, *others)
            )
            new = first + jnp.arange(size) >= index * size
            weight = jnp.where(new, weight, 0)
            return first, tile(rows.read(x, weight), weight, *same)

        # Inside a scan nothing else could be merged with the second computation of a tile.
        again = jax.checkpoint(one, prevent_cse=False)

        def body(carry: tuple[Any, Any], index: Array) -> tuple[tuple[Any, Any], None]:
            sums, side_by_side = carry
            first, (added, part) = again(index)
            return (_over_sums(_Sum.plus, sums, added), _write(side_by_side, part, first)), None

        count = -(-n // size)
        summed, part = jax.eval_shape(one, jnp.zeros((), jnp.int32))[1]
        zeros = jax.tree.map(_Sum.zero, summed)
        blank = jax.tree.map(lambda leaf: jnp.empty((n, *leaf.shape[1:]), leaf.dtype), part)
        # The last tile goes first: of the rows that it shares, the one before writes the answer.
        order = jnp.roll(jnp.arange(count, dtype=jnp.int32), 1)
        (sums, side_by_side), _ = jax.lax.scan(body, (zeros, blank), order)
        return _over_sums(lambda one: one.value, sums), side_by_side


def _write(whole: PyTree, part: PyTree, first: Array) -> PyTree:
    """Rows of the answer, in place: side by side from the start, so that nothing is copied."""
    return jax.tree.map(
        lambda w, p: jax.lax.dynamic_update_slice_in_dim(w, p, first, axis=0), whole, part
    )


@pytree
class _Sum:
    """A running sum; below double precision its rounding error comes along (Knuth's two-sum)."""

    total: Array
    error: Array | None

    @classmethod
    def zero(cls, like: jax.ShapeDtypeStruct) -> "_Sum":
        zeros = jnp.zeros(like.shape, like.dtype)
        return cls(zeros, zeros if like.dtype.itemsize < 8 else None)

    def plus(self, new: Array) -> "_Sum":
        after = self.total + new
        if self.error is None:
            return _Sum(after, None)
        a, b, total = jax.lax.stop_gradient((self.total, new, after))
        part = total - a
        lost = (a - (total - part)) + (b - part)
        return _Sum(after, self.error + jnp.where(jnp.isfinite(lost), lost, 0))

    @property
    def value(self) -> Array:
        return self.total if self.error is None else self.total + self.error


def _over_sums(function: Callable[..., Any], sums: PyTree, *others: PyTree) -> PyTree:
    return jax.tree.map(function, sums, *others, is_leaf=lambda node: isinstance(node, _Sum))
