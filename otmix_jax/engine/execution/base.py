"""The contract of an execution: how the Sweeps of tiles are summed."""

import abc
from collections.abc import Callable

from jax import Array
from jaxtyping import Float

from ..sweep import Sweep


class Execution(abc.ABC):
    """Knows tiles, meshes and dtypes; nothing of what is in a tile."""

    @abc.abstractmethod
    def sum(
        self,
        tile: Callable[[Array, Array], Sweep],
        x: Float[Array, "n d"],
        row_weight: Float[Array, " n"],
    ) -> Sweep:
        """The sum of `tile(rows, their weights)` over tiles that cover all rows."""
