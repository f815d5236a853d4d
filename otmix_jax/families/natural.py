"""Families in natural parameters: every cost one matrix product, every statistic another."""

import abc

from jax import Array
from jaxtyping import Bool, Float, PyTree


class NaturalForm(abc.ABC):
    """A family whose cost is linear in known features of a row.

        C_ij = shared(x_i) - features(x_i) . coefficients_j

    and whose statistics follow from sum_i P_ij features(x_i). A PyTree.
    """

    coefficients: Array
    """[k, f]"""

    @abc.abstractmethod
    def features(self, x: Float[Array, "n d *batch"]) -> Float[Array, "n f *batch"]:
        """T(x); its first column is 1. Axes after the second are batch axes, of `self` as well."""

    @abc.abstractmethod
    def shared(self, x: Float[Array, "n d"]) -> Float[Array, " n"] | float:
        """The part of the cost that is the same for every component."""

    @abc.abstractmethod
    def total(self, x: Float[Array, "n d"], row_weight: Float[Array, " n"]) -> PyTree:
        """What `statistics` needs of all rows, whatever the plan; additive in rows."""

    @abc.abstractmethod
    def statistics(self, sums: Float[Array, "k f"], total: PyTree) -> PyTree:
        """The family's own statistics from sum_i P_ij T(x_i) and the total."""

    @abc.abstractmethod
    def amplification(self) -> Float[Array, ""]:
        """How many unit roundoffs a cost may lose to cancellation, in nats per feature of x."""

    @abc.abstractmethod
    def in_range(self, x: Float[Array, "n d"]) -> Bool[Array, ""]:
        """Whether no feature of these rows over- or underflows where the cost itself would not."""
