"""All rows as one tile."""

from collections.abc import Callable

from jax import Array

from ..._pytree import pytree
from ..sweep import Sweep
from .base import Execution


@pytree
class Dense(Execution):
    """One tile; memory grows with n times k."""

    def sum(self, tile: Callable[[Array, Array], Sweep], x: Array, row_weight: Array) -> Sweep:
        """See `Execution.sum`."""
        return tile(x, row_weight)
