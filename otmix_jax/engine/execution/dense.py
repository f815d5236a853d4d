"""All rows as one tile."""

from collections.abc import Callable
from typing import Any

from jax import Array

from ..._pytree import pytree
from ..rows import Rows
from .base import Execution


@pytree
class Dense(Execution):
    """One tile; memory grows with what the kernel holds per row, at least k numbers."""

    def reduce(
        self, tile: Callable[..., tuple[Any, Any]], rows: Rows, *others: Array
    ) -> tuple[Any, Any]:
        """See `Execution.reduce`."""
        return tile(rows.read(rows.x, rows.weight), rows.weight, *others)

    def tile_rows(self, n: int) -> int:
        """See `Execution.tile_rows`."""
        return n
