"""Axis-aligned and isotropic covariances: standard deviations, no factorisation."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..._numerics import safe_divide
from ..._pytree import pytree, replace, static
from ..triangular import diagonal
from .base import CentredSums, Covariance, Ridge, einsum, prior_divergence


def _standard_deviation(variance: Array) -> Array:
    """Square root; NaN, with a finite gradient elsewhere, where the variance is not positive."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), jnp.nan)


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
        return prior_divergence(prior, trace, jnp.sum(self.half_log_det()), count)

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
        return cls(_standard_deviation(diagonal(matrices)))

    def whiten(self, difference: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
        return difference / self.standard_deviation

    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return self.standard_deviation * z

    def colour_rows(self, z: Array, labels: Array) -> Float[Array, "n d"]:
        return self.standard_deviation[labels] * z

    def half_log_det(self) -> Float[Array, " k"]:
        return jnp.sum(jnp.log(self.standard_deviation), axis=-1)

    def scatter(self, difference: Array, plan: Array) -> Float[Array, "k d"]:
        return einsum("nk,nkd->kd", plan, difference**2)

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Diagonal":
        central = scatter - mass[:, None] * shift**2
        return self._estimate(central, mass[:, None], prior, prior.variance)

    def precision(self, v: Array) -> Float[Array, "k d"]:
        return v / self.standard_deviation**2

    def quadratic(self, u: Array) -> Float[Array, "n d"]:
        return u**2

    def quadratic_coefficients(self) -> Float[Array, "k d"]:
        return 0.5 / self.standard_deviation**2

    def pivoted(self, sums: CentredSums, total: Array | None, shift: Array) -> Array:
        del total
        return sums.second - 2 * shift * sums.first + sums.mass[:, None] * shift**2

    def whitening(self) -> Float[Array, "k d d"]:
        identity = jnp.eye(self.standard_deviation.shape[-1], dtype=self.standard_deviation.dtype)
        return identity / self.standard_deviation[..., None]

    def of_second_moments(self, second: Array) -> Float[Array, "k d"]:
        return diagonal(second)

    def amplification(self, shift: Array) -> Float[Array, " k"]:
        return jnp.sum((shift / self.standard_deviation) ** 2, axis=-1) + shift.shape[-1]

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
        variance = jnp.mean(diagonal(matrices), axis=-1)
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
        return einsum("nk,nk->k", plan, jnp.sum(difference**2, axis=-1))

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Spherical":
        central = (scatter - mass * jnp.sum(shift**2, axis=-1)) / self.n_features
        return self._estimate(central, mass, prior, jnp.mean(prior.variance))

    def precision(self, v: Array) -> Float[Array, "k d"]:
        return v / self.standard_deviation[:, None] ** 2

    def quadratic(self, u: Array) -> Float[Array, "n 1"]:
        return jnp.sum(u**2, axis=1, keepdims=True)

    def quadratic_coefficients(self) -> Float[Array, "k 1"]:
        return 0.5 / self.standard_deviation[:, None] ** 2

    def pivoted(self, sums: CentredSums, total: Array | None, shift: Array) -> Array:
        del total
        cross = jnp.sum(shift * sums.first, axis=-1)
        return sums.second[:, 0] - 2 * cross + sums.mass * jnp.sum(shift**2, axis=-1)

    def whitening(self) -> Float[Array, "k d d"]:
        identity = jnp.eye(self.n_features, dtype=self.standard_deviation.dtype)
        return identity / self.standard_deviation[:, None, None]

    def of_second_moments(self, second: Array) -> Float[Array, " k"]:
        return jnp.trace(second, axis1=1, axis2=2)

    def amplification(self, shift: Array) -> Float[Array, " k"]:
        squares = jnp.sum((shift / self.standard_deviation[:, None]) ** 2, axis=-1)
        return squares + self.n_features

    @property
    def n_parameters(self) -> int:
        return self.standard_deviation.shape[-1]
