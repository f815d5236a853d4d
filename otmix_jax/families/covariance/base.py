"""The contract of a covariance structure: a factor L with Sigma = L L^T, and its estimate.

Storing a factor, costs, samples and log-determinants need no factorisation, and the unconstrained
coordinates are at hand. What else kernels ask follows from the layout of the factor (`geometry`).
"""

import abc
from types import ModuleType
from typing import Any, ClassVar

from jax import Array
from jaxtyping import Float

from .. import coordinates


class Covariance(abc.ABC):
    """K covariance matrices [k, d, d] under a structure. Fields are `coordinates.parameter`s."""

    geometry: ClassVar[ModuleType]
    """The layout of `factor`."""
    factor: Any
    """L, as the layout has it."""

    constrain = coordinates.constrain
    unconstrained = coordinates.unconstrained
    take = coordinates.take
    n_parameters = property(coordinates.count_parameters)

    @classmethod
    @abc.abstractmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Covariance":
        """The closest member: averages over what the structure shares."""

    @abc.abstractmethod
    def maximize(self, scatter: Array, mass: Array) -> "Covariance":
        """The M-step from scatter about the new means and the mass it holds, in the layout.

        Without mass the old one stays; where it is singular, NaN.

        Source: the note's eq. (3.4) without its factor 1/n: the plan sums to 1.
        """

    @abc.abstractmethod
    def scale(self, scale: Float[Array, ""]) -> "Covariance":
        """The covariances of `scale * X`."""
