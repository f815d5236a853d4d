"""Which kernel and which tile: chosen from the shapes, explained, and open to another choice."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from .._pytree import pytree
from ..families.base import Family
from .execution import Dense, Execution, Tiled
from .kernels import Entrywise, Guarded, Kernel, Ready, Reference
from .kernels.entrywise import fits
from .rows import Rows
from .sweep import Columns, DualSweep, Sweep
from .total import total

SMALLEST = 512
"""Rows of a tile at least: below, products are too thin."""
ON_CPU = 10 * 2**20, 16_384
"""Bytes and rows of a tile at most: about a core's share of the last-level cache."""
ON_ACCELERATOR = 256 * 2**20, 2**20
"""The same where a tile is to keep thousands of lanes busy, and where the host waits for the
guard's choice once a tile. Reasoned, not measured."""
MOST_FEATURES = 4096
"""Beyond this many features per row a tile leaves the cache, and the products win nothing."""


@pytree
class Engine:
    """A kernel and an execution: how a pass over the rows is made.

    Attributes:
        kernel: what a tile of rows yields.
        execution: how tiles are summed.
    """

    kernel: Kernel = Reference()
    execution: Execution = Dense()

    def sweep(self, rows: Rows, columns: Columns, components: Family) -> Sweep:
        """Value, mass and statistics of all rows."""
        return self.execution.sum(self.kernel.ready(columns, components).sweep, rows)

    def dual(self, rows: Rows, columns: Columns, components: Family) -> DualSweep:
        """Value, mass and overlap of all rows."""
        return self.execution.sum(self.kernel.ready(columns, components).dual, rows)

    def value(self, rows: Rows, columns: Columns, components: Family) -> Float[Array, ""]:
        """The value of all rows; its derivative is taken in the same pass (`total`)."""
        return total(self.execution, self.kernel.ready(columns, components), rows)

    def ready(self, columns: Columns, components: Family) -> Ready:
        """The kernel for these columns and components."""
        return self.kernel.ready(columns, components)


def choose(components: Family, n: int, dtype: DTypeLike) -> Engine:
    """The engine for n rows: the guarded moment kernel where the family has a natural form.

    Small problems get the entrywise kernel. Tiles hold about 10 MiB on a CPU, 256 MiB elsewhere;
    rows that fit into one are not split.
    """
    if n <= SMALLEST and fits(components):
        return _engine(Entrywise(), components, n, dtype)
    form = jax.eval_shape(lambda c: c.natural(), components)
    linear = form is not None and form.coefficients.shape[-1] <= MOST_FEATURES
    return _engine(Guarded() if linear else Reference(), components, n, dtype)


def _engine(kernel: Kernel, components: Family, n: int, dtype: DTypeLike) -> Engine:
    size = tile_size(kernel, components, dtype)
    return Engine(kernel, Dense() if n <= size else Tiled(size))


def tile_size(kernel: Kernel, components: Family, dtype: DTypeLike) -> int:
    """The power of two of rows that a tile holds on JAX's default platform, within bounds."""
    most_bytes, most_rows = ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR
    per_row = kernel.numbers_per_row(components) * jnp.dtype(dtype).itemsize
    return min(max(1 << (most_bytes // per_row).bit_length() - 1, SMALLEST), most_rows)
