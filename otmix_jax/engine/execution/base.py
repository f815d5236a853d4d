"""The contract of an execution: how what tiles yield is summed."""

import abc
from collections.abc import Callable
from typing import TypeVar

from jax import Array
from jaxtyping import Float

_T = TypeVar("_T")


class Execution(abc.ABC):
    """Knows tiles, meshes and dtypes; nothing of what is in a tile."""

    @abc.abstractmethod
    def sum(
        self,
        tile: Callable[[Array, Array], _T],
        x: Float[Array, "n d"],
        row_weight: Float[Array, " n"],
    ) -> _T:
        """The sum of `tile(rows, their weights)` over tiles that cover all rows."""
