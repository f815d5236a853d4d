"""A fixed dictionary of components: a look at all likelihoods of the rows, or at some columns."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, Int, PyTree

from ..core.numerics import matmul, safe_log
from ..core.tree import pytree, static
from ..engine import Columns, Dense, DualSweep, Engine, Kernel, Reference, Rows, Tiled, dual
from ..engine.engine import tile_size
from ..engine.kernels import weighted_value


@pytree
class Table:
    """Components whose log-likelihoods are the rows: x is [n, K]. What an engine asks of a family.

    Attributes:
        n_components: how many.
        which: [n_components] their columns in x; None for all.
    """

    n_components: int = static()
    which: Array | None = None

    def numbers_per_row(self) -> int:
        """See `Family.numbers_per_row`."""
        return 4 * self.n_components

    def take(self, which: Int[Array, " m"]) -> "Table":
        """Some of the components."""
        return Table(which.shape[0], which if self.which is None else self.which[which])

    def cost(self, x: Float[Array, "n all"]) -> Float[Array, "n k"]:
        """See `Family.cost`."""
        return -x if self.which is None else -x[:, self.which]

    def prepared_cost(self) -> Callable[[PyTree], Float[Array, "n k"]]:
        """See `Family.prepared_cost`."""
        return Partial(Table.cost, self)


@pytree
class Look:
    """What one pass over all n times K likelihoods says of proportions w.

    Attributes:
        f: [n] minus the log-density of each row, in nats.
        value: sum_i a_i f_i, in nats.
        log_multipliers: [K] log D_j.
    """

    f: Array
    value: Array
    log_multipliers: Array


@pytree
class Dictionary:
    """Rows and K components that stay as they are: what is asked is how much there is of each.

    Attributes:
        rows: the rows with their weights.
        components: a family's, or a `Table`.
        engine: how a pass over the rows is made.
    """

    rows: Rows
    components: Any
    engine: Engine

    @classmethod
    def of_table(cls, log_likelihood: Float[Array, "n k"], rows: Rows) -> "Dictionary":
        """The dictionary of a matrix of log-likelihoods, which is read tile by tile."""
        n, k = log_likelihood.shape
        table = Table(k)
        size = tile_size(Reference, table, log_likelihood.dtype)
        return cls(rows, table, Engine(Reference, Dense() if n <= size else Tiled(size)))

    def look(self, weights: Float[Array, " k"]) -> Look:
        """One pass over the rows.

        Args:
            weights: [k] > 0: D_j of a component is read from its share of the rows.
        """
        log_weights = jnp.log(weights)
        kernel = self.engine.kernel.of(Columns(log_weights), self.components)
        tile = Partial(_shares, kernel)
        (value, mass), f = self.engine.execution.reduce(tile, self.rows, by_row=True)
        return Look(f, value, safe_log(mass) - log_weights)

    def columns(self, which: Int[Array, " m"], f: Float[Array, " n"]) -> Float[Array, "n m"]:
        """Likelihoods of some components, each row in units of its density exp(-f)."""
        tile = Partial(_relative, self.components.take(which).prepared_cost())
        return self.engine.execution.map(tile, self.rows, f)

    def overlap(self, weights: Float[Array, " k"]) -> DualSweep:
        """One pass over the rows for the shares [k], and how they overlap [k, k]."""
        return dual(self.engine, self.rows, Columns(jnp.log(weights)), self.components)


def _shares(kernel: Kernel, x: PyTree, a: Array) -> tuple[tuple[Array, Array], Array]:
    f, conditional = kernel.rows(x)
    return (weighted_value(a, f), matmul(a, conditional)), f


def _relative(cost: Callable[[PyTree], Array], x: PyTree, a: Array, f: Array) -> Array:
    del a
    return jnp.exp(f[:, None] - cost(x))
