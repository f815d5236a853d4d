"""What a batch of fits returns."""

from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Float, Int

from ..core.display import (
    brief,
    escaped,
    harmless,
    known,
    law,
    optional,
    outcomes,
    page,
    status_line,
)
from ..core.files import Saved
from ..core.tree import index, pytree
from ..model import Mixture, Solution


@pytree
class StartsAccount:
    """Every start of every problem: how stable the optimum is.

    Attributes:
        value: [b, n_init] transport value reached, in nats per row.
        objective: [b, n_init] value plus the prior's penalty.
        status: [b, n_init] integers.
        n_steps: [b, n_init] steps taken.
    """

    value: Array
    objective: Array
    status: Array
    n_steps: Array


@pytree
class Batch(Saved):
    """Solutions of many problems, a PyTree with leading axis b.

    Attributes:
        solution: the best start of each problem; a problem that cannot be fitted holds NaN.
        starts: the account of all starts.
        computed_steps: steps of lanes that were computed in all; the useful ones are the sum of
            `starts.n_steps`, the rest were idle places in a block.
    """

    solution: Solution
    starts: StartsAccount
    computed_steps: Array

    @harmless
    def __repr__(self) -> str:
        return f"Batch({self._line})"

    @optional
    def _repr_html_(self) -> str:
        values = known(self.value)
        shown = [] if values is None else [f"values {brief(values, 4)} nats per row"]
        return page(f"Batch({self._line})", status_line(self.status), *map(escaped, shown))

    @property
    def _line(self) -> str:
        count = self.status.shape[0]
        return f"{count} problems: {outcomes(self.status)}; {law(self.mixture.components)}"

    @property
    def mixture(self) -> Mixture:
        """The mixtures; every leaf has leading axis b."""
        return self.solution.mixture

    @property
    def value(self) -> Float[Array, " b"]:
        """The transport value of each problem, by default its mean negative log-likelihood."""
        return self.solution.value

    @property
    def status(self) -> Int[Array, " b"]:
        """The `Status` of each problem, as integers."""
        return self.solution.status

    @property
    def n_steps(self) -> Int[Array, " b"]:
        """Steps of the start that was kept."""
        return self.solution.n_steps

    def __len__(self) -> int:
        return self.status.shape[0]

    def __getitem__(self, which: int | np.integer | Any) -> Solution:
        """The solution of one problem, or those of a slice or an array of indices."""
        return index(self.solution, which)

    def __iter__(self) -> Any:
        # without it iteration would never end: JAX clamps an index past the end
        return (self[number] for number in range(len(self)))
