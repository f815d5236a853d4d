"""The contract of an execution: how what tiles yield is summed, or put side by side."""

import abc
from collections.abc import Callable
from typing import Any, TypeVar

from jax import Array

from ..rows import Rows

_T = TypeVar("_T")


class Execution(abc.ABC):
    """Knows tiles, meshes and dtypes; nothing of what is in a tile."""

    @abc.abstractmethod
    def reduce(
        self, tile: Callable[..., tuple[Any, Any]], rows: Rows, *others: Array
    ) -> tuple[Any, Any]:
        """Over tiles that cover all rows: what `tile` yields first, summed, and second, in order.

        `tile(x, weight, *others)` gets rows [t, d] as `Rows.read` gives them, their weights [t],
        and the same rows of other arrays; what it yields second has a leading axis [t], which
        becomes [n].
        """

    @abc.abstractmethod
    def tile_rows(self, n: int) -> int:
        """Rows that are held at a time, of n."""

    def finer(self) -> "Execution":
        """For a pass whose tiles hold about twice as much per row, as a derivative's do."""
        return self

    def sum(self, tile: Callable[..., _T], rows: Rows, *others: Array) -> _T:
        """The sum of `tile(x, weight, *others)`."""
        return self.reduce(lambda *a: (tile(*a), None), rows, *others)[0]

    def map(self, tile: Callable[..., _T], rows: Rows, *others: Array) -> _T:
        """The rows of `tile(x, weight, *others)`, side by side."""
        return self.reduce(lambda *a: (None, tile(*a)), rows, *others)[1]
