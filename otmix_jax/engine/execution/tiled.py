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
    """`lax.scan` over tiles of `size` rows; sums carry their own rounding error along.

    The last tile is moved up to end with the last row, and rows that it shares with the one before
    count there with weight 0: nothing is padded, so nothing is copied. Backpropagation computes
    each tile again rather than keep what it held.

    Attributes:
        size: rows of a tile, static.
    """

    size: int = static(default=4096)

    def tile_rows(self, n: int) -> int:
        """See `Execution.tile_rows`."""
        return min(n, self.size)

    def finer(self) -> "Tiled":
        """See `Execution.finer`."""
        return Tiled(max(self.size // 2, 1))

    def reduce(
        self, tile: Callable[..., tuple[Any, Any]], rows: Rows, *others: Array
    ) -> tuple[Any, Any]:
        """See `Execution.reduce`."""
        n, size = rows.x.shape[0], self.size
        if n <= size:
            return Dense().reduce(tile, rows, *others)

        def one(index: Array) -> tuple[Any, Any]:
            first = jnp.minimum(index * size, n - size)
            x, weight, *same = (
                jax.lax.dynamic_slice_in_dim(array, first, size)
                for array in (rows.x, rows.weight, *others)
            )
            new = first + jnp.arange(size) >= index * size
            weight = jnp.where(new, weight, 0)
            return tile(rows.read(x, weight), weight, *same)

        # Inside a scan nothing else could be merged with the second computation of a tile.
        again = jax.checkpoint(one, prevent_cse=False)

        def body(sums: tuple[PyTree, PyTree], index: Array) -> tuple[tuple[PyTree, PyTree], Any]:
            added, stacked = again(index)
            return _add(sums, added), stacked

        shapes = jax.eval_shape(one, jnp.zeros((), jnp.int32))[0]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        count = -(-n // size)
        sums, stacked = jax.lax.scan(body, (zeros, zeros), jnp.arange(count, dtype=jnp.int32))
        return jax.tree.map(jnp.add, *sums), jax.tree.map(lambda s: _side_by_side(s, n), stacked)


def _add(sums: tuple[PyTree, PyTree], new: PyTree) -> tuple[PyTree, PyTree]:
    """Sum and summed rounding error (Knuth's two-sum), so that many float32 tiles lose nothing."""
    total, error = sums
    after = jax.tree.map(jnp.add, total, new)
    return after, jax.tree.map(lambda e, a, b, s: e + _lost(a, b, s), error, total, new, after)


def _lost(a: Array, b: Array, total: Array) -> Array:
    a, b, total = jax.lax.stop_gradient((a, b, total))
    part = total - a
    lost = (a - (total - part)) + (b - part)
    return jnp.where(jnp.isfinite(lost), lost, 0)


def _side_by_side(stacked: Array, n: int) -> Array:
    count, size = stacked.shape[:2]
    rest = n - (count - 1) * size
    if rest == size:
        return stacked.reshape(n, *stacked.shape[2:])
    head = stacked[:-1].reshape(-1, *stacked.shape[2:])
    return jnp.concatenate([head, stacked[-1, size - rest :]])
