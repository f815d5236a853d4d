"""Free covariances, one per component or one for all, through triangular factors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ..._numerics import matmul, safe_divide
from ..._pytree import pytree, replace, static
from ..triangular import (
    inverse_triangle,
    log_diagonal_sum,
    multiply,
    pack,
    regular_cholesky,
    unpack,
)
from .base import CentredSums, Covariance, Ridge, einsum, prior_divergence


@pytree
class Full(Covariance):
    """A free covariance per component. `factor`: [k, d, d], lower, positive diagonal."""

    factor: Array

    def matrices(self) -> Float[Array, "*batch k d d"]:
        factor = jnp.tril(self.factor)
        return multiply(factor, jnp.swapaxes(factor, -1, -2))

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Full":
        return cls(regular_cholesky(matrices))

    def whiten(self, difference: Float[Array, "n k d"]) -> Float[Array, "n k d"]:
        return einsum("kde,nke->nkd", self._inverse(), difference)

    def prepared(self) -> "Full":
        return PreparedFull(self.factor, self._inverse())

    def _inverse(self) -> Float[Array, "k d d"]:
        return inverse_triangle(self.factor)

    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return multiply(jnp.tril(self.factor), z[..., None])[..., 0]

    def colour_rows(self, z: Array, labels: Array) -> Float[Array, "n d"]:
        def one(j: Array, rows: Array) -> Array:
            coloured = matmul(z, jnp.tril(self.factor[j]).T)
            return jnp.where((labels == j)[:, None], coloured, rows)

        return jax.lax.fori_loop(0, self.factor.shape[0], one, jnp.zeros_like(z))

    def half_log_det(self) -> Float[Array, " k"]:
        return log_diagonal_sum(self.factor)

    def scatter(self, difference: Array, plan: Array) -> Float[Array, "k d d"]:
        return einsum("nkd,nke->kde", plan[..., None] * difference, difference)

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Full":
        central = scatter - mass[:, None, None] * shift[:, :, None] * shift[:, None, :]
        total = (mass + prior.strength)[:, None, None]
        ridge = prior.strength * jnp.diag(prior.variance)
        identity = jnp.eye(shift.shape[-1], dtype=shift.dtype)
        factor = regular_cholesky(
            jnp.where(total > 0, safe_divide(central + ridge, total), identity)
        )
        return replace(self, factor=jnp.where(total > 0, factor, self.factor))

    def precision(self, v: Array) -> Float[Array, "k d"]:
        inverse = self._inverse()
        return multiply(jnp.swapaxes(inverse, 1, 2), multiply(inverse, v[..., None]))[..., 0]

    def quadratic(self, u: Array) -> Float[Array, "n q"]:
        return jnp.concatenate([u[:, i : i + 1] * u[:, i:] for i in range(u.shape[1])], axis=1)

    def quadratic_coefficients(self) -> Float[Array, "k q"]:
        rows, columns = np.triu_indices(self.factor.shape[-1])
        halves = jnp.asarray(np.where(rows == columns, 0.5, 1.0), self.factor.dtype)
        return halves * self._precisions()[:, rows, columns]

    def pivoted(self, sums: CentredSums, total: Array | None, shift: Array) -> Array:
        del total
        d = shift.shape[-1]
        rows, columns = np.triu_indices(d)
        position = np.zeros((d, d), int)
        position[rows, columns] = position[columns, rows] = np.arange(len(rows))
        cross = sums.first[:, :, None] * shift[:, None, :]
        between = sums.mass[:, None, None] * shift[:, :, None] * shift[:, None, :]
        return sums.second[:, position] - cross - jnp.swapaxes(cross, 1, 2) + between

    def whitening(self) -> Float[Array, "k d d"]:
        return self._inverse()

    def of_second_moments(self, second: Array) -> Float[Array, "k d d"]:
        return second

    def amplification(self, shift: Array) -> Float[Array, " k"]:
        precisions = jnp.abs(self._precisions())
        distant = einsum("kd,kde,ke->k", jnp.abs(shift), precisions, jnp.abs(shift))
        return distant + jnp.sum(precisions * jnp.abs(self.matrices()), axis=(1, 2))

    def _precisions(self) -> Float[Array, "k d d"]:
        inverse = self._inverse()
        return multiply(jnp.swapaxes(inverse, 1, 2), inverse)

    def penalty(self, prior: Ridge) -> Float[Array, ""]:
        trace = jnp.sum(self._inverse() ** 2 * prior.variance)
        count = self.factor.shape[0]
        return prior_divergence(prior, trace, jnp.sum(self.half_log_det()), count)

    def constrain(self, coordinates: Array) -> "Full":
        relative = unpack(coordinates, self.factor.shape[-1])
        return replace(self, factor=multiply(jnp.tril(self.factor), relative))

    def unconstrained(self, origin: Any) -> Array:
        inverse = inverse_triangle(origin.factor)
        return pack(multiply(inverse, jnp.tril(self.factor)))

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
        return einsum("de,nke->nkd", self._inverse(), difference)

    def prepared(self) -> "Tied":
        return PreparedTied(self.factor, self.n_components, self._inverse())

    def _inverse(self) -> Float[Array, "d d"]:
        return inverse_triangle(self.factor)

    def colour(self, z: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return matmul(z, jnp.tril(self.factor).T)

    def colour_rows(self, z: Array, labels: Array) -> Float[Array, "n d"]:
        del labels
        return self.colour(z)

    def half_log_det(self) -> Float[Array, " k"]:
        return jnp.broadcast_to(log_diagonal_sum(self.factor), (self.n_components,))

    def scatter(self, difference: Array, plan: Array) -> Float[Array, "d d"]:
        return einsum("nkd,nke->de", plan[..., None] * difference, difference)

    def maximize(self, scatter: Array, shift: Array, mass: Array, prior: Ridge) -> "Tied":
        central = scatter - einsum("kd,ke->de", mass[:, None] * shift, shift)
        one = Full(self.factor[None]).maximize(
            central[None], jnp.zeros_like(shift[:1]), jnp.sum(mass)[None], prior
        )
        return replace(self, factor=one.factor[0])

    def precision(self, v: Array) -> Float[Array, "k d"]:
        inverse = self._inverse()
        return matmul(matmul(v, inverse.T), inverse)

    def quadratic(self, u: Array) -> Float[Array, "n 0"]:
        return u[:, :0]

    def quadratic_coefficients(self) -> Float[Array, "k 0"]:
        return jnp.zeros((self.n_components, 0), self.factor.dtype)

    def shared(self, u: Array) -> Float[Array, " n"]:
        return 0.5 * jnp.sum(matmul(u, self._inverse().T) ** 2, axis=-1)

    def total(self, u: Array, row_weight: Array) -> Float[Array, "d d"]:
        return matmul((row_weight[:, None] * u).T, u)

    def pivoted(self, sums: CentredSums, total: Any, shift: Array) -> Float[Array, "d d"]:
        cross = matmul(sums.first.T, shift)
        between = matmul((sums.mass[:, None] * shift).T, shift)
        return total - cross - cross.T + between

    def whitening(self) -> Float[Array, "k d d"]:
        inverse = self._inverse()
        return jnp.broadcast_to(inverse, (self.n_components, *inverse.shape))

    def of_second_moments(self, second: Array) -> Float[Array, "d d"]:
        return jnp.sum(second, axis=0)

    def amplification(self, shift: Array) -> Float[Array, " k"]:
        factor = jnp.broadcast_to(self.factor, (self.n_components, *self.factor.shape))
        return Full(factor).amplification(shift)

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


@pytree
class PreparedFull(Full):
    """`Full` with the inverse factor at hand."""

    inverse: Array

    def _inverse(self) -> Float[Array, "k d d"]:
        return self.inverse


@pytree
class PreparedTied(Tied):
    """`Tied` with the inverse factor at hand."""

    inverse: Array

    def _inverse(self) -> Float[Array, "d d"]:
        return self.inverse
