"""What a pass over the rows yields: sums over rows, and what each column of the plan is given."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from .._pytree import pytree


@pytree
class Columns:
    """What decides the plan besides the cost: one number per column, and the entropy.

    Attributes:
        log_weights: [k] log pi, the reference weights.
        g: [k] column potentials; None is 0, the semi-relaxed problem.
        epsilon: entropy, >= 0; None is 1.
    """

    log_weights: Array
    g: Array | None = None
    epsilon: Array | float | None = None

    @property
    def potentials(self) -> Float[Array, " k"]:
        """The column potentials as an array."""
        return jnp.zeros_like(self.log_weights) if self.g is None else self.g


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
        return jax.tree.map(jnp.add, self, other)


@pytree
class DualSweep:
    """What the column potentials are found from: additive, as a `Sweep` is.

    Attributes:
        value: sum_i a_i f_i, in nats.
        mass: [k] m_j = sum_i P_ij.
        overlap: [k, k] sum_i P_ij P_il / a_i, the curvature's share of the rows.
    """

    value: Array
    mass: Array
    overlap: Array

    def __add__(self, other: "DualSweep") -> "DualSweep":
        """The sweep of both sets of rows."""
        return jax.tree.map(jnp.add, self, other)
