"""Free covariances, one per component or one for all, through triangular factors."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ...core.numerics import safe_divide
from ...core.tree import parameter, pytree, replace
from ...core.triangular import regular_cholesky
from .. import geometry
from ..coordinates import FACTOR
from .base import Covariance


@pytree
class Full(Covariance):
    """A free covariance per component. `factor`: [k, d, d], lower, positive diagonal."""

    factor: Array = parameter(FACTOR, axes=2)
    geometry = geometry.free

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Full":
        """See `Covariance.from_matrices`."""
        return cls(regular_cholesky(matrices))

    @classmethod
    def from_scatter(cls, scatter: Array, d: int) -> "Full":
        """See `Covariance.from_scatter`."""
        return cls.from_matrices(scatter.reshape(1, d, d))

    def maximize(self, scatter: Array, mass: Array, floor: Array | None = None) -> "Full":
        """See `Covariance.maximize`."""
        present = (mass > 0)[..., None, None]
        # A regular stand-in without mass: its factor is not used, but has a derivative.
        identity = jnp.eye(scatter.shape[-1], dtype=scatter.dtype)
        # `...`: one mass for each factor, or a single one under `Tied`
        average = safe_divide(scatter, mass[..., None, None])
        factor = regular_cholesky(jnp.where(present, average, identity), floor)
        return replace(self, factor=jnp.where(present, factor, self.factor))

    def scale(self, scale: Array) -> "Full":
        """See `Covariance.scale`."""
        return replace(self, factor=scale[:, None] * self.factor)


@pytree
class Tied(Covariance):
    """One covariance for all components. `factor`: [d, d], lower, positive diagonal."""

    factor: Array = parameter(FACTOR, axes=2, shared=True)
    geometry = geometry.pooled

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Tied":
        """See `Covariance.from_matrices`."""
        return cls(regular_cholesky(jnp.mean(matrices, axis=0)))

    @classmethod
    def from_scatter(cls, scatter: Array, d: int) -> "Tied":
        """See `Covariance.from_scatter`."""
        return cls.from_matrices(scatter.reshape(1, d, d))

    maximize = Full.maximize  # type: ignore[assignment]
    scale = Full.scale  # type: ignore[assignment]
