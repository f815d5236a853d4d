"""Forms in which a family's cost and statistics are cheap: natural parameters, locations."""

import abc

from jax import Array
from jaxtyping import Bool, Float, PyTree

from .._pytree import pytree


@pytree
class LocationForm:
    """Components whose cost is |W_j (x - p_j)|^2 / 2 + constant_j: squares of small numbers.

    Attributes:
        pivot: [k, d] p.
        whitening: [k, d, d] W, lower triangular.
        constant: [k]
    """

    pivot: Array
    whitening: Array
    constant: Array


class NaturalForm(abc.ABC):
    """A family whose cost is linear in known features of a row.

        C_ij = shared(x_i) - features(x_i) . coefficients_j

    and whose statistics follow from sum_i P_ij features(x_i). A PyTree.
    """

    coefficients: Array
    """[k, f]"""

    @abc.abstractmethod
    def features(self, x: Float[Array, "n d"]) -> Float[Array, "n f"]:
        """T(x); its first column is 1."""

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
    def in_range(self) -> Bool[Array, ""]:
        """Whether no coefficient over- or underflows where the cost itself would not."""

    @abc.abstractmethod
    def reaches(self, x: Float[Array, "n d"]) -> Bool[Array, ""]:
        """Whether no feature of these rows over- or underflows where the cost itself would not."""
