"""Four covariance structures behind one contract; a family asks, it never branches on which.

Each stores a factor L with Sigma = L L^T, so that costs, samples and log-determinants need no
factorisation and the unconstrained coordinates are at hand. Full is the free covariance per
component, Tied one for all (the note's own model, its section 3), Diagonal and Spherical are
axis-aligned and isotropic.
"""

import abc
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from ..._numerics import matmul
from ..._pytree import pytree
from ..._typing import AnyArray


def einsum(pattern: str, *operands: Array) -> Array:
    """At full precision: float32 products default to TF32 on accelerators."""
    return jnp.einsum(pattern, *operands, precision=jax.lax.Precision.HIGHEST)


@pytree
class Ridge:
    """A weak inverse-Wishart prior on every covariance, with mode at the data's own spread.

    It adds strength * KL(N(0, D) | N(0, Sigma_j)) to the objective for each covariance, D being
    diagonal: the M-step becomes Sigma_j = (m_j S_j + strength D) / (m_j + strength), as if each
    component had seen `strength` more of the total mass 1 with the spread of all the data. So the
    likelihood is bounded, EM still descends a fixed objective, and the unit of the data does not
    matter (nor, but for `Spherical`, that of a single column).

    Attributes:
        strength: pseudo-mass, >= 0, relative to the total mass 1 of the rows.
        variance: [d] the diagonal of D, > 0, in the squared units of the columns.
    """

    strength: Array
    variance: Array

    @classmethod
    def of(
        cls,
        x: Float[AnyArray, "n d"],
        row_weight: Float[AnyArray, " n"],
        strength: Float[AnyArray, ""] | float,
    ) -> "Ridge":
        """The ridge whose D is the columns' weighted variance; a constant column gets the mean."""
        x, row_weight = jnp.asarray(x), jnp.asarray(row_weight)
        variance = matmul(row_weight, (x - matmul(row_weight, x)) ** 2)
        return cls.from_variance(variance, strength)

    @classmethod
    def from_variance(
        cls, variance: Float[Array, " d"], strength: Float[AnyArray, ""] | float
    ) -> "Ridge":
        """The ridge whose D is the columns' variance; a constant column gets the mean."""
        average = jnp.mean(variance)
        fallback = jnp.where(average > 0, average, 1)
        scale = jnp.where(variance > 0, variance, fallback)
        return cls(jnp.asarray(strength, variance.dtype), scale)


@pytree
class CentredSums:
    """Sums over rows u = x - o under the plan, about one origin o for all components.

    Attributes:
        mass: [k] sum_i P_ij.
        first: [k, d] sum_i P_ij u_i.
        second: [k, q] sum_i P_ij times the quadratic features of u_i.
    """

    mass: Array
    first: Array
    second: Array


class Covariance(abc.ABC):
    """K covariance matrices [k, d, d] under a structure."""

    @abc.abstractmethod
    def matrices(self) -> Float[Array, "*batch k d d"]:
        """The covariance matrices, in squared units of the rows; also of a batch of mixtures."""

    @classmethod
    @abc.abstractmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Covariance":
        """The closest member: averages over what the structure shares."""

    @abc.abstractmethod
    def whiten(self, difference: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
        """L_j^-1 (x_i - mu_j): the safe way to a Mahalanobis distance."""

    def prepared(self) -> "Covariance":
        """The same, with what `whiten` needs at hand; it keeps nothing for an M-step."""
        return self

    @abc.abstractmethod
    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """The products L_j z_j."""

    @abc.abstractmethod
    def colour_rows(self, z: Float[Array, "n d"], labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        """L_{labels_i} z_i, without an [n, d, d] temporary."""

    @abc.abstractmethod
    def half_log_det(self) -> Float[Array, " k"]:
        """The logarithm of det L_j."""

    @abc.abstractmethod
    def scatter(self, difference: Float[Array, "n k d"], plan: Float[Array, "n k"]) -> Array:
        """What the structure needs of sum_i P_ij (x_i - p_j)(x_i - p_j)^T; additive in rows."""

    @abc.abstractmethod
    def maximize(
        self, scatter: Array, shift: Float[Array, "k d"], mass: Float[Array, " k"], prior: Ridge
    ) -> "Covariance":
        """The M-step from scatter about pivots p_j, the new means being p_j + shift_j.

        Source: the note's eq. (3.4) without its factor 1/n (the plan sums to 1), about the *new*
        means: S_j = scatter_j / m_j - shift_j shift_j^T.
        """

    @abc.abstractmethod
    def precision(self, v: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """The products Sigma_j^-1 v_j."""

    @abc.abstractmethod
    def quadratic(self, u: Float[Array, "n d"]) -> Float[Array, "n q"]:
        """The quadratic features in which |L_j^-1 u_i|^2 / 2 is linear, but for what all share."""

    @abc.abstractmethod
    def quadratic_coefficients(self) -> Float[Array, "k q"]:
        """The coefficients of the features in |L_j^-1 u_i|^2 / 2, but for what all share."""

    def shared(self, u: Float[Array, "n d"]) -> Float[Array, " n"] | float:
        """The part of |L_j^-1 u_i|^2 / 2 that is the same for every component."""
        del u
        return 0.0

    def total(self, u: Float[Array, "n d"], row_weight: Float[Array, " n"]) -> Array | None:
        """What `pivoted` needs of all rows, whatever the plan; additive in rows."""
        del u, row_weight

    @abc.abstractmethod
    def pivoted(
        self, sums: "CentredSums", total: Array | None, shift: Float[Array, "k d"]
    ) -> Array:
        """`scatter` about the pivots o + shift_j from sums over rows u = x - o."""

    @abc.abstractmethod
    def whitening(self) -> Float[Array, "k d d"]:
        """The lower-triangular L_j^-1."""

    @abc.abstractmethod
    def of_second_moments(self, second: Float[Array, "k d d"]) -> Array:
        """`scatter` from whole second moments about the pivots."""

    @abc.abstractmethod
    def amplification(self, shift: Float[Array, "k d"]) -> Float[Array, " k"]:
        """|shift_j|^T |Sigma_j^-1| |shift_j| + sum_ab |Sigma_j^-1|_ab |Sigma_j|_ab.

        Times the unit roundoff, what |L_j^-1 u|^2 loses near the mean when its square is expanded
        about an origin that lies `shift_j` away: d at best, more for far means and for columns
        that correlate.
        """

    @abc.abstractmethod
    def penalty(self, prior: Ridge) -> Float[Array, ""]:
        """Strength times the sum, over covariances, of KL(N(0, D) | N(0, Sigma))."""

    @abc.abstractmethod
    def constrain(self, coordinates: Array) -> "Covariance":
        """The structure at unconstrained coordinates about this one."""

    @abc.abstractmethod
    def unconstrained(self, origin: Any) -> Array:
        """The inverse of `origin.constrain`."""

    @abc.abstractmethod
    def scale(self, scale: Float[Array, ""]) -> "Covariance":
        """The covariances of `scale * X`."""

    @property
    @abc.abstractmethod
    def n_parameters(self) -> int:
        """Free parameters of the K covariances together."""


def prior_divergence(prior: Ridge, trace: Array, half_log_det: Array, count: Array | int) -> Array:
    """Summed KL(N(0, D) | N(0, Sigma)) times strength, from sums of tr(D / Sigma) and log det L."""
    d = prior.variance.shape[0]
    constant = count * (d + jnp.sum(jnp.log(prior.variance)))
    return prior.strength * (0.5 * (trace - constant) + half_log_det)
