"""The definition of correct: cost matrix, row softmax, statistics, for any family."""

import jax.numpy as jnp
from jax import Array

from ..._numerics import matmul
from ..._pytree import pytree
from ..._rows import row_softmax
from ...families.base import Family
from ..sweep import Columns, DualSweep, Sweep
from .base import Kernel


def weighted_value(row_weight: Array, f: Array) -> Array:
    """sum_i a_i f_i, where 0 * inf is 0.

    A finite f of an absent row stays in, so that the derivative in its weight is the right one.
    """
    counted = (row_weight != 0) | jnp.isfinite(f)
    return jnp.sum(row_weight * jnp.where(counted, f, 0))


def dual_sweep(cost: Array, row_weight: Array, columns: Columns) -> DualSweep:
    """The dual sweep of a cost matrix."""
    f, conditional = row_softmax(cost, columns.log_weights, columns.potentials, columns.epsilon)
    plan = row_weight[:, None] * conditional
    overlap = matmul(plan.T, conditional)
    return DualSweep(weighted_value(row_weight, f), jnp.sum(plan, axis=0), overlap)


@pytree
class Reference(Kernel):
    """Holds the whole [n, k] plan of its tile, and what the family holds per row and component."""

    def sweep(self, x: Array, row_weight: Array, columns: Columns, components: Family) -> Sweep:
        """See `Kernel.sweep`."""
        f, conditional = row_softmax(
            components.cost(x), columns.log_weights, columns.potentials, columns.epsilon
        )
        plan = row_weight[:, None] * conditional
        value = weighted_value(row_weight, f)
        return Sweep(value, jnp.sum(plan, axis=0), components.statistics(x, plan))

    def dual(self, x: Array, row_weight: Array, columns: Columns, components: Family) -> DualSweep:
        """See `Kernel.dual`."""
        return dual_sweep(components.cost(x), row_weight, columns)
