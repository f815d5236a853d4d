"""All rows as one tile."""

from collections.abc import Callable
from typing import TypeVar

from jax import Array

from ..._pytree import pytree
from .base import Execution

_T = TypeVar("_T")


@pytree
class Dense(Execution):
    """One tile; memory grows with what the kernel holds per row, at least k numbers."""

    def sum(self, tile: Callable[[Array, Array], _T], x: Array, row_weight: Array) -> _T:
        """See `Execution.sum`."""
        return tile(x, row_weight)
