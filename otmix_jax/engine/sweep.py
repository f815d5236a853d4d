"""The one primitive: what a pass over the rows yields, summed over rows."""

import jax
from jax import Array
from jaxtyping import PyTree

from .._pytree import pytree


@pytree
class Sweep:
    """A commutative monoid under `+`: tiles, devices and minibatches are ways to sum it.

    Attributes:
        value: sum_i a_i f_i, in nats.
        mass: [k] m_j = sum_i P_ij, the plan's column marginal.
        statistics: the family's additive statistics, sum_i P_ij T(x_i).
    """

    value: Array
    mass: Array
    statistics: PyTree

    def __add__(self, other: "Sweep") -> "Sweep":
        """The sweep of both sets of rows."""
        return jax.tree.map(lambda a, b: a + b, self, other)
