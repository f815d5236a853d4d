"""A structure as data: one program serves all of them, where compiling is what takes time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ...core.numerics import safe_divide
from ...core.tree import parameter, pytree, replace
from ...core.triangular import diagonal, regular_cholesky
from .. import geometry
from ..coordinates import FACTOR
from ..coordinates import constrain as coordinates_at
from .axis_aligned import Diagonal, Spherical
from .base import Covariance
from .full import Full, Tied

KINDS: tuple[type[Covariance], ...] = (Full, Tied, Diagonal, Spherical)
"""In the order of `Projected.kind`."""


@pytree
class Projected(Covariance):
    """Covariances held to one of `KINDS` by a number, not by their type.

    The estimate is the free one, projected: pooled, its diagonal, or the mean of that. Many times
    the arithmetic of an axis-aligned structure in many columns, and nothing in a few.

    Attributes:
        factor: [k, d, d], lower, positive diagonal.
        kind: [k, 4] the structure, one-hot, the same for all components.
    """

    factor: Array = parameter(FACTOR, axes=2)
    kind: Any = None
    geometry = geometry.free

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "k d d"]) -> "Projected":
        """See `Covariance.from_matrices`; free ones."""
        free = jnp.zeros((len(matrices), len(KINDS)), matrices.dtype).at[:, 0].set(1)
        return cls(regular_cholesky(matrices), free)

    def maximize(self, scatter: Array, mass: Array, floor: Array | None = None) -> "Projected":
        """See `Covariance.maximize`."""
        free, tied, diagonals, spherical = self.kind[0]
        present = (mass > 0)[:, None, None]
        identity = jnp.eye(scatter.shape[-1], dtype=scatter.dtype)
        average = safe_divide(scatter, mass[:, None, None])
        pooled = jnp.sum(scatter, axis=0) / jnp.sum(mass)
        axes = diagonal(average)[..., None] * identity
        sphere = jnp.mean(diagonal(average), axis=-1)[:, None, None] * identity
        own = free * average + diagonals * axes + spherical * sphere
        # components without mass have their share of a pooled matrix all the same
        matrices = jnp.where(present, own, (1 - tied) * identity) + tied * pooled
        factor = regular_cholesky(matrices, floor)
        return replace(self, factor=jnp.where(present | (tied > 0), factor, self.factor))

    def constrain(self, coordinates: dict[str, Any]) -> "Projected":
        """As for free factors, along the structure alone."""
        free, tied, diagonals, spherical = self.kind[0]
        z, d = coordinates["factor"], self.factor.shape[-1]
        rows, columns = np.tril_indices(d)
        axes = jnp.where(rows == columns, z, 0)
        mean = jnp.sum(axes, axis=-1, keepdims=True) / d
        sphere = jnp.where(rows == columns, mean, 0)
        own = free * z + diagonals * axes + spherical * sphere + tied * jnp.mean(z, axis=0)
        return coordinates_at(self, {"factor": own})

    def scale(self, scale: Array) -> "Projected":
        """See `Covariance.scale`."""
        return replace(self, factor=scale[:, None] * self.factor)

    def spanned(self, d: int) -> Array | int:
        """See `Covariance.spanned`."""
        return jnp.dot(self.kind[0], np.array([kind.geometry.SPANNED or d for kind in KINDS]))

    def settled(self, kind: type[Covariance]) -> Covariance:
        """The same as one of `KINDS`, on the host."""
        factor = np.asarray(self.factor)
        deviations = np.diagonal(factor, axis1=1, axis2=2)
        own = {Full: factor, Tied: factor[0], Diagonal: deviations, Spherical: deviations[:, 0]}
        return kind(jax.device_put(own[kind]))  # type: ignore[call-arg]


def one_hot(kind: type[Covariance]) -> np.ndarray:
    """`Projected.kind` of one component."""
    return np.eye(len(KINDS))[KINDS.index(kind)]


def held(factor: np.ndarray, weights: np.ndarray, kind: type[Covariance]) -> np.ndarray:
    """Free factors [..., k, d, d] on the host, held to a kind; weights [..., k]."""
    if kind is Full:
        return factor
    matrices, d = factor @ np.swapaxes(factor, -1, -2), factor.shape[-1]
    if kind is Tied:
        share = (weights / weights.sum(axis=-1, keepdims=True))[..., None, None]
        pooled = (share * matrices).sum(axis=-3, keepdims=True)
        return np.broadcast_to(np.linalg.cholesky(pooled), factor.shape).astype(factor.dtype)
    variances = np.diagonal(matrices, axis1=-2, axis2=-1)
    if kind is Spherical:
        variances = np.broadcast_to(variances.mean(axis=-1, keepdims=True), variances.shape)
    return (np.sqrt(variances)[..., None] * np.eye(d)).astype(factor.dtype)
