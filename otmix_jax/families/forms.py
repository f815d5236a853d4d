"""Forms in which a family's cost and statistics are cheap: linear in features, or whitened."""

import abc

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, PyTree

from ..core.numerics import matmul
from ..core.tree import pytree


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


class LinearForm(abc.ABC):
    """A family whose cost follows from scores that are linear in known features of a row.

        s_ij = T(x_i) . eta_j + log h(x_i)            C_ij = -s_ij, or `cost(s_ij)`

    and whose statistics follow from sum_i P_ij T(x_i), or from sum_i P_ij u(s_ij) T(x_i) where
    there is a latent scale u. A PyTree.
    """

    natural_parameters: Array
    """[k, f] eta"""
    linked: bool = False
    """Whether `cost` is not simply -s and there is a latent scale: known when compiling."""
    guarded: bool = False
    """Whether `safe` and `reaches` say something: a form without a guard compiles none."""

    @abc.abstractmethod
    def sufficient_statistics(self, x: PyTree) -> Float[Array, "n f"]:
        """T(x); its first column is 1."""

    def log_base_measure(self, x: PyTree) -> Float[Array, " n"] | float:
        """Log h(x), the part of the score that is the same for every component."""
        del x
        return 0.0

    def cost(self, scores: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The link; only asked if `linked`."""
        return -scores

    def scale(self, scores: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The latent scale u; only asked if `linked`."""
        raise TypeError(f"{type(self).__name__} has no latent scale")

    def costs(self, x: PyTree) -> Float[Array, "n k"]:
        """C of rows, straight from the form."""
        linear = matmul(self.sufficient_statistics(x), self.natural_parameters.T)
        scores = linear + jnp.reshape(self.log_base_measure(x), (-1, 1))
        return self.cost(scores) if self.linked else -scores

    def total(self, x: PyTree, row_mass: Float[Array, " n"]) -> PyTree:
        """What `statistics` needs of all rows, whatever the plan; additive in rows.

        `row_mass` is sum_j P_ij u_ij: the rows' weights, unless there is a latent scale.
        """
        del x, row_mass

    @abc.abstractmethod
    def statistics(self, sums: Float[Array, "k f"], total: PyTree) -> PyTree:
        """The family's own statistics from sum_i P_ij u_ij T(x_i) and the total."""

    def completed(
        self, statistics: PyTree, plan: Float[Array, "n k"], scores: Float[Array, "n k"]
    ) -> PyTree:
        """The statistics with what the link's own parameters need of the scores, additive in rows;
        only asked if `linked`.
        """
        del plan, scores
        return statistics

    def safe(self) -> Bool[Array, ""]:
        """Whether these parameters keep the digits; only asked if `guarded`."""
        raise TypeError(f"{type(self).__name__} needs no guard")

    def reaches(self, x: PyTree) -> Bool[Array, ""]:
        """Whether no feature of these rows over- or underflows; only asked if `guarded`."""
        raise TypeError(f"{type(self).__name__} needs no guard")
