"""The definition of correct: cost matrix, row softmax, statistics, for any family."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from ..._pytree import pytree
from ..._rows import row_softmax
from ...families.base import Family
from ..sweep import Columns, Sweep
from .base import Kernel, Ready, weighted_value


@pytree
class ReferenceReady(Ready):
    """Columns, and components of which whatever depends on no row is computed."""

    columns: Columns
    components: Any

    def rows(self, x: Array) -> tuple[Array, Array]:
        """See `Ready.rows`."""
        columns = self.columns
        cost = self.components.cost(x)
        return row_softmax(cost, columns.log_weights, columns.potentials, columns.epsilon)

    def sweep(self, x: Array, row_weight: Array) -> Sweep:
        """See `Ready.sweep`."""
        f, conditional = self.rows(x)
        plan = row_weight[:, None] * conditional
        statistics = self.components.statistics(x, plan)
        return Sweep(weighted_value(row_weight, f), jnp.sum(plan, axis=0), statistics)


@pytree
class Reference(Kernel):
    """Holds the whole [t, k] plan of a tile, and what the family holds per row and component.

    Gaussians whiten the difference of each row and mean, so a cost loses no more digits than the
    difference does: the safe way.
    """

    def ready(self, columns: Columns, components: Family) -> ReferenceReady:
        """See `Kernel.ready`."""
        return ReferenceReady(columns, components.prepared())

    def numbers_per_row(self, components: Family) -> int:
        """Differences and whitened differences, and three numbers per component."""
        k, d = components.n_components, components.n_features
        return 2 * k * d + 3 * k
