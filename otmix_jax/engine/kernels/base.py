"""The contract of a kernel: one tile of rows to one Sweep."""

import abc

from jax import Array
from jaxtyping import Float

from ...families.base import Family
from ..sweep import Sweep


class Kernel(abc.ABC):
    """Knows a family and a row softmax; nothing of traversal, solvers or devices."""

    @abc.abstractmethod
    def sweep(
        self,
        x: Float[Array, "n d"],
        row_weight: Float[Array, " n"],
        log_weights: Float[Array, " k"],
        components: Family,
    ) -> Sweep:
        """The tile's sums. Rows of weight 0 add nothing; their x must be finite."""
