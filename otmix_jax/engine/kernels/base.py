"""The contract of a kernel: one tile of rows to one Sweep."""

import abc

from jax import Array
from jaxtyping import Float

from ...families.base import Family
from ..sweep import Columns, DualSweep, Sweep


class Kernel(abc.ABC):
    """Knows a family and a row softmax; nothing of traversal, solvers or devices.

    Rows of weight 0 add nothing; their x must be finite.
    """

    @abc.abstractmethod
    def sweep(
        self,
        x: Float[Array, "n d"],
        row_weight: Float[Array, " n"],
        columns: Columns,
        components: Family,
    ) -> Sweep:
        """The tile's value, mass and statistics."""

    @abc.abstractmethod
    def dual(
        self,
        x: Float[Array, "n d"],
        row_weight: Float[Array, " n"],
        columns: Columns,
        components: Family,
    ) -> DualSweep:
        """The tile's value, mass and overlap."""
