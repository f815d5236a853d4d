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

from .._numerics import matmul, safe_divide
from .._pytree import pytree, replace, static
from .._typing import AnyArray
from .triangular import inverse_triangle, log_diagonal_sum, pack, regular_cholesky, unpack

_HIGHEST = jax.lax.Precision.HIGHEST  # float32 products default to TF32 on accelerators


def _einsum(pattern: str, *operands: Array) -> Array:
    return jnp.einsum(pattern, *operands, precision=_HIGHEST)


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
        average = jnp.mean(variance)
        fallback = jnp.where(average > 0, average, 1)
        return cls(jnp.asarray(strength, x.dtype), jnp.where(variance > 0, variance, fallback))


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


def _prior_divergence(prior: Ridge, trace: Array, half_log_det: Array, count: Array | int) -> Array:
    """Summed KL(N(0, D) | N(0, Sigma)) times strength, from sums of tr(D / Sigma) and log det L."""
    d = prior.variance.shape[0]
    constant = count * (d + jnp.sum(jnp.log(prior.variance)))
    return prior.strength * (0.5 * (trace - constant) + half_log_det)


def _standard_deviation(variance: Array) -> Array:
    """Square root; NaN, with a finite gradient elsewhere, where the variance is not positive."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), jnp.nan)


@pytree
class Full(Covariance):
    """A free covariance per component. `factor`: [k, d, d], lower, positive diagonal."""

    factor: Array

    def matrices(self) -> Float[Array, "*batch k d d"]:
        factor = jnp.tril(self.factor)
        return _einsum("...de,...fe->...df", factor, factor)

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Full":
        return cls(regular_cholesky(matrices))

    def whiten(self, difference: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
        return _einsum("kde,nke->nkd", inverse_triangle(self.factor), difference)

    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return _einsum("kde,ke->kd", jnp.tril(self.factor), z)

    def colour_rows(self, z: Array, labels: Array) -> Float[Array, "n d"]:
        def one(j: Array, rows: Array) -> Array:
            coloured = matmul(z, jnp.tril(self.factor[j]).T)
            return jnp.where((labels == j)[:, None], coloured, rows)

        return jax.lax.fori_loop(0, self.factor.shape[0], one, jnp.zeros_like(z))

    def half_log_det(self) -> Float[Array, " k"]:
        return log_diagonal_sum(self.factor)

    def scatter(self, difference: Array, plan: Array) -> Float[Array, "k d d"]:
        return _einsum("nkd,nke->kde", plan[..., None] * difference, difference)

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Full":
        central = scatter - mass[:, None, None] * shift[:, :, None] * shift[:, None, :]
        total = (mass + prior.strength)[:, None, None]
        ridge = prior.strength * jnp.diag(prior.variance)
        identity = jnp.eye(shift.shape[-1], dtype=shift.dtype)
        factor = regular_cholesky(
            jnp.where(total > 0, safe_divide(central + ridge, total), identity)
        )
        return replace(self, factor=jnp.where(total > 0, factor, self.factor))

    def penalty(self, prior: Ridge) -> Float[Array, ""]:
        trace = jnp.sum(inverse_triangle(self.factor) ** 2 * prior.variance)
        count = self.factor.shape[0]
        return _prior_divergence(prior, trace, jnp.sum(self.half_log_det()), count)

    def constrain(self, coordinates: Array) -> "Full":
        relative = unpack(coordinates, self.factor.shape[-1])
        return replace(self, factor=_einsum("kde,kef->kdf", jnp.tril(self.factor), relative))

    def unconstrained(self, origin: Any) -> Array:
        inverse = inverse_triangle(origin.factor)
        return pack(_einsum("kde,kef->kdf", inverse, jnp.tril(self.factor)))

    def scale(self, scale: Array) -> "Full":
        return replace(self, factor=scale * self.factor)

    @property
    def n_parameters(self) -> int:
        k, d = self.factor.shape[-3:-1]
        return k * d * (d + 1) // 2


@pytree
class Tied(Covariance):
    """One covariance for all components. `factor`: [d, d], lower, positive diagonal."""

    factor: Array
    n_components: int = static()

    def matrices(self) -> Float[Array, "*batch k d d"]:
        one = Full(self.factor[..., None, :, :]).matrices()
        return jnp.repeat(one, self.n_components, axis=-3)

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Tied":
        return cls(regular_cholesky(jnp.mean(matrices, axis=0)), matrices.shape[0])

    def whiten(self, difference: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
        return _einsum("de,nke->nkd", inverse_triangle(self.factor), difference)

    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return matmul(z, jnp.tril(self.factor).T)

    def colour_rows(self, z: Array, labels: Array) -> Float[Array, "n d"]:
        del labels
        return self.colour(z)

    def half_log_det(self) -> Float[Array, " k"]:
        return jnp.broadcast_to(log_diagonal_sum(self.factor), (self.n_components,))

    def scatter(self, difference: Array, plan: Array) -> Float[Array, "d d"]:
        return _einsum("nkd,nke->de", plan[..., None] * difference, difference)

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Tied":
        central = scatter - _einsum("kd,ke->de", mass[:, None] * shift, shift)
        one = Full(self.factor[None]).maximize(
            central[None], jnp.zeros_like(shift[:1]), jnp.sum(mass)[None], prior
        )
        return replace(self, factor=one.factor[0])

    def penalty(self, prior: Ridge) -> Float[Array, ""]:
        return Full(self.factor[None]).penalty(prior)

    def constrain(self, coordinates: Array) -> "Tied":
        return replace(self, factor=Full(self.factor[None]).constrain(coordinates).factor[0])

    def unconstrained(self, origin: Any) -> Array:
        return Full(self.factor[None]).unconstrained(Full(origin.factor[None]))

    def scale(self, scale: Array) -> "Tied":
        return replace(self, factor=scale * self.factor)

    @property
    def n_parameters(self) -> int:
        d = self.factor.shape[-1]
        return d * (d + 1) // 2


class AxisAligned(Covariance):
    """What `Diagonal` and `Spherical` share: a positive `standard_deviation` of any shape."""

    standard_deviation: Array

    def constrain(self, coordinates: Array) -> "AxisAligned":
        return replace(self, standard_deviation=self.standard_deviation * jnp.exp(coordinates))

    def unconstrained(self, origin: Any) -> Array:
        return jnp.log(self.standard_deviation / origin.standard_deviation)

    def scale(self, scale: Array) -> "AxisAligned":
        return replace(self, standard_deviation=scale * self.standard_deviation)

    def penalty(self, prior: Ridge) -> Float[Array, ""]:
        count, d = self.standard_deviation.shape[0], prior.variance.shape[0]
        deviation = self.standard_deviation.reshape(count, -1)  # [k, d] or [k, 1]
        trace = jnp.sum(jnp.broadcast_to(prior.variance / deviation**2, (count, d)))
        return _prior_divergence(prior, trace, jnp.sum(self.half_log_det()), count)

    def _estimate(self, central: Array, mass: Array, prior: Ridge, variance: Array) -> Any:
        """(central scatter + strength D) / (mass + strength); the old one where that is 0 / 0."""
        total = mass + prior.strength
        estimate = safe_divide(central + prior.strength * variance, total)
        deviation = _standard_deviation(jnp.where(total > 0, estimate, 1))
        kept = jnp.where(total > 0, deviation, self.standard_deviation)
        return replace(self, standard_deviation=kept)


@pytree
class Diagonal(AxisAligned):
    """Axis-aligned covariances. `standard_deviation`: [k, d], in the units of the rows."""

    standard_deviation: Array

    def matrices(self) -> Float[Array, "*batch k d d"]:
        variance = self.standard_deviation**2
        return variance[..., None] * jnp.eye(variance.shape[-1], dtype=variance.dtype)

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Diagonal":
        return cls(_standard_deviation(jnp.diagonal(matrices, axis1=-2, axis2=-1)))

    def whiten(self, difference: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
        return difference / self.standard_deviation

    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return self.standard_deviation * z

    def colour_rows(self, z: Array, labels: Array) -> Float[Array, "n d"]:
        return self.standard_deviation[labels] * z

    def half_log_det(self) -> Float[Array, " k"]:
        return jnp.sum(jnp.log(self.standard_deviation), axis=-1)

    def scatter(self, difference: Array, plan: Array) -> Float[Array, "k d"]:
        return _einsum("nk,nkd->kd", plan, difference**2)

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Diagonal":
        central = scatter - mass[:, None] * shift**2
        return self._estimate(central, mass[:, None], prior, prior.variance)

    @property
    def n_parameters(self) -> int:
        k, d = self.standard_deviation.shape[-2:]
        return k * d


@pytree
class Spherical(AxisAligned):
    """Isotropic covariances. `standard_deviation`: [k], in the units of the rows."""

    standard_deviation: Array
    n_features: int = static()

    def matrices(self) -> Float[Array, "*batch k d d"]:
        variance = self.standard_deviation**2
        return variance[..., None, None] * jnp.eye(self.n_features, dtype=variance.dtype)

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Spherical":
        variance = jnp.mean(jnp.diagonal(matrices, axis1=-2, axis2=-1), axis=-1)
        return cls(_standard_deviation(variance), matrices.shape[-1])

    def whiten(self, difference: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
        return difference / self.standard_deviation[:, None]

    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return self.standard_deviation[:, None] * z

    def colour_rows(self, z: Array, labels: Array) -> Float[Array, "n d"]:
        return self.standard_deviation[labels, None] * z

    def half_log_det(self) -> Float[Array, " k"]:
        return self.n_features * jnp.log(self.standard_deviation)

    def scatter(self, difference: Array, plan: Array) -> Float[Array, " k"]:
        return _einsum("nk,nk->k", plan, jnp.sum(difference**2, axis=-1))

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Spherical":
        central = (scatter - mass * jnp.sum(shift**2, axis=-1)) / self.n_features
        return self._estimate(central, mass, prior, jnp.mean(prior.variance))

    @property
    def n_parameters(self) -> int:
        return self.standard_deviation.shape[-1]


STRUCTURES: dict[str, type[Covariance]] = {
    "full": Full,
    "tied": Tied,
    "diagonal": Diagonal,
    "spherical": Spherical,
}
