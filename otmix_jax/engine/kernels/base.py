"""The contract of a kernel: what a tile of rows yields, for given columns and components."""

import abc

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ..._numerics import accurate_sum, matmul
from ...families.base import Family
from ..sweep import Columns, DualSweep, Sweep


def weighted_value(row_weight: Array, f: Array) -> Array:
    """sum_i a_i f_i, where 0 * inf is 0.

    A finite f of an absent row stays in, so that the derivative in its weight is the right one.
    """
    counted = (row_weight != 0) | jnp.isfinite(f)
    return accurate_sum(row_weight * jnp.where(counted, f, 0))


def dual_sweep(f: Array, conditional: Array, row_weight: Array) -> DualSweep:
    """The dual sweep of a conditional plan [t, k] and its row potentials [t]."""
    plan = row_weight[:, None] * conditional
    overlap = matmul(plan.T, conditional)
    return DualSweep(weighted_value(row_weight, f), jnp.sum(plan, axis=0), overlap)


def floats(tree: PyTree) -> list:
    """The leaves of floating type, in order."""
    leaves = jax.tree.leaves(tree)
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


class Ready(abc.ABC):
    """A kernel ready for a pass over the rows: what depends on no row is computed. A PyTree.

    Rows of weight 0 add nothing; their x must be finite.
    """

    @abc.abstractmethod
    def rows(self, x: Float[Array, "t d"]) -> tuple[Float[Array, " t"], Float[Array, "t k"]]:
        """Row potential f and conditional plan P / a of each row."""

    @abc.abstractmethod
    def sweep(self, x: Float[Array, "t d"], row_weight: Float[Array, " t"]) -> Sweep:
        """The tile's value, mass and statistics."""

    def potential(self, x: Float[Array, "t d"]) -> Float[Array, " t"]:
        """The row potential f alone."""
        return self.rows(x)[0]

    def value(self, x: Float[Array, "t d"], row_weight: Float[Array, " t"]) -> Float[Array, ""]:
        """The tile's value alone."""
        return weighted_value(row_weight, self.potential(x))

    def slopes(self, x: Array, row_weight: Array, by_row: bool) -> tuple[Array, list, list]:
        """The tile's value; its derivatives in the kernel's `floats`; and those in the rows.

        The last are in x and in the row weights, if `by_row`, else none.
        """

        def value_of(ready: Ready, *moved: Array) -> Array:
            return ready.value(*(moved or (x, row_weight)))

        value, pullback = jax.vjp(value_of, self, *((x, row_weight) if by_row else ()))
        in_ready, *in_rows = pullback(jnp.ones_like(value))
        return value, floats(in_ready), in_rows

    def dual(self, x: Float[Array, "t d"], row_weight: Float[Array, " t"]) -> DualSweep:
        """The tile's value, mass and overlap."""
        return dual_sweep(*self.rows(x), row_weight)


class Kernel(abc.ABC):
    """Knows a family and a row softmax; nothing of traversal, solvers or devices."""

    @abc.abstractmethod
    def ready(self, columns: Columns, components: Family) -> Ready:
        """The kernel for these columns and components."""

    @abc.abstractmethod
    def numbers_per_row(self, components: Family) -> int:
        """About how many numbers a tile holds per row."""
