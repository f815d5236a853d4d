"""The contract of a covariance structure: a factor L with Sigma = L L^T, and its estimate.

Storing a factor, costs, samples and log-determinants need no factorisation, and the unconstrained
coordinates are at hand. What else kernels ask follows from the layout of the factor (`geometry`).
"""

import abc
from types import ModuleType
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .. import coordinates


class Covariance(abc.ABC):
    """K covariance matrices [k, d, d] under a structure. Fields are `coordinates.parameter`s."""

    geometry: ClassVar[ModuleType]
    """The layout of `factor`."""
    factor: Any
    """L, as the layout has it."""
    one_unit: ClassVar[bool] = False
    """Whether columns can be scaled only together, by one number."""

    constrain = coordinates.constrain
    unconstrained = coordinates.unconstrained
    take = coordinates.take
    n_parameters = property(coordinates.count_parameters)

    @classmethod
    @abc.abstractmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Covariance":
        """The closest member: averages over what the structure shares."""

    @classmethod
    def from_scatter(cls, scatter: Array, d: int) -> "Covariance":
        """One member, as of one component, from one matrix [1, ...] in the layout.

        By way of the matrix; a structure without matrices makes none.
        """
        matrix = scatter
        if scatter.size != d * d:
            matrix = jnp.diag(jnp.broadcast_to(scatter.reshape(-1), (d,)))
        return cls.from_matrices(matrix.reshape(1, d, d))

    @abc.abstractmethod
    def maximize(self, scatter: Array, mass: Array, floor: Array | None = None) -> "Covariance":
        """The M-step from scatter about the new means and the mass it holds, in the layout.

        Without mass the old one stays; where it is singular, NaN. With a floor [d], the best one
        of which no column has less variance left, given the columns before it: never singular.

        Source: the note's eq. (3.4) without its factor 1/n: the plan sums to 1.
        """

    @abc.abstractmethod
    def scale(self, scale: Float[Array, " d"]) -> "Covariance":
        """The covariances of `scale * X`, column by column; all equal where `one_unit`."""

    def spanned(self, d: int) -> Any:
        """Rows that a singular shape can be laid through at will."""
        return self.geometry.SPANNED or d
