"""The contract of a conjugate law of components' parameters."""

import abc
from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from ..families import Description, Frame


class ConjugateLaw(abc.ABC):
    """What is believed of the parameters of K components: a prior, or with rows a posterior.

    A PyTree. The components are independent of each other. A prior is the law of one, K = 1, and
    stands for all.
    """

    @abc.abstractmethod
    def updated(self, components: Any, statistics: PyTree, counts: Float[Array, " k"]) -> Any:
        """The law after more rows: block 2 of the descent, exact.

        Args:
            components: whose pivots the statistics have.
            statistics: the family's, in rows, not in shares of them.
            counts: [k] rows in each component; they need not be whole.
        """

    @abc.abstractmethod
    def expected(self) -> Any:
        """A family whose cost is E[-log p(x | theta_j)], and whose statistics are the family's."""

    @abc.abstractmethod
    def divergence(self, other: Any) -> Float[Array, ""]:
        """KL(self | other), in nats, summed over components; `other` may be of K = 1."""

    @abc.abstractmethod
    def plug_in(self) -> Any:
        """The family at the parameters' expectations."""

    @abc.abstractmethod
    def predictive(self) -> Any:
        """A family whose density of a row is E p(x | theta_j)."""

    def out_of(self, frame: Frame) -> Any:
        """The law for rows of which these are `frame.into(x)`."""
        del frame
        return self


class ConjugatePrior(abc.ABC):
    """Hyperparameters, some of which may be left to the rows: None. A PyTree."""

    @abc.abstractmethod
    def law(
        self, x: PyTree, row_weight: Float[Array, " n"], count: Any, described: Description
    ) -> ConjugateLaw:
        """The prior law of K = 1.

        Args:
            x: rows.
            row_weight: [n] their weights, of sum 1.
            count: how many rows they stand for.
            described: the family, with its options.
        """

    def into(self, frame: Frame) -> Any:
        """The same for rows in a frame."""
        del frame
        return self

    def check(self, described: Description, n_features: int) -> None:
        """Refuses hyperparameters that are out of range: ValueError, on the host."""
        del described, n_features


def check_positive(value: Any, name: str) -> None:
    """Refuses hyperparameters that are not finite and > 0, on the host.

    Raises:
        ValueError: naming them.
    """
    numbers = np.asarray(value, float)
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise ValueError(f"{name} must be finite and > 0, not {value}")
