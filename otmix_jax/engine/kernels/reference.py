"""The definition of correct: cost matrix, row softmax, statistics, for any family."""

import jax.numpy as jnp
from jax import Array

from ..._pytree import pytree
from ...families.base import Family
from ...transport.rows import row_softmax
from ..sweep import Sweep
from .base import Kernel


@pytree
class Reference(Kernel):
    """Holds the whole [n, k] plan of its tile, and what the family holds per row and component."""

    def sweep(self, x: Array, row_weight: Array, log_weights: Array, components: Family) -> Sweep:
        """See `Kernel.sweep`."""
        f, conditional = row_softmax(components.cost(x), log_weights)
        plan = row_weight[:, None] * conditional
        # 0 * inf would be NaN; a finite f of an absent row stays, as the derivative in its weight.
        counted = (row_weight != 0) | jnp.isfinite(f)
        value = jnp.sum(row_weight * jnp.where(counted, f, 0))
        return Sweep(value, jnp.sum(plan, axis=0), components.statistics(x, plan))
