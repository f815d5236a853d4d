"""What rows say of a latent location y: log p(x_i | y), its slope and its curvature.

Locations have coordinates z in which no row knows more than one unit: the Fisher information of a
row is at most 1. For Gaussians z is y in units of the noise; for a one-parameter exponential
family it is its variance-stabilising coordinate (2 sqrt(rate) of a Poisson law).
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from ..core.numerics import einsum, matmul
from ..core.tree import pytree, static
from ..families.binomial import Bernoulli, Binomial, Geometric
from ..families.family import Description
from ..families.independent import Independent
from ..families.poisson import Poisson
from ..families.positive import Exponential


class LocationKernel(abc.ABC):
    """Rows, as functions of the location of a latent law; leaves have the leading axis n."""

    @abc.abstractmethod
    def log_density(self, z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Log p(x_i | z_j), in nats."""

    @abc.abstractmethod
    def score(self, z: Float[Array, "m d"]) -> Float[Array, "n m d"]:
        """Its gradient in z_j."""

    @abc.abstractmethod
    def information(
        self, plan: Float[Array, "n m"], z: Float[Array, "m d"]
    ) -> Float[Array, "m d d"]:
        """Minus its second derivative, summed over rows with the plan's weights."""

    @property
    def half_width(self) -> float:
        """Of cells on which D is a polynomial up to rounding; of one column."""
        return 0.5

    @property
    def border(self) -> float:
        """What D may win, relative to its supremum, from the last coordinate to a border."""
        return 0.0

    def growth(self, height: np.ndarray) -> np.ndarray:
        """Log of a bound on sup |D(u + iv)| / sup D over real u, for heights v; of one column."""
        return 0.5 * height**2

    @abc.abstractmethod
    def ceiling(
        self, left: np.ndarray, right: np.ndarray, at_left: np.ndarray, at_right: np.ndarray
    ) -> np.ndarray:
        """What log D cannot exceed between two locations of one column, from its values there.

        Log D plus the log-partition of the most informative row is a convex function of the
        natural parameter, and so lies below its chord (docs/infinite.md).
        """


@pytree
class GaussianKernel(LocationKernel):
    """x_i = y + noise, Gaussian of known covariance.

    Attributes:
        x: [n, d] rows, in units in which the precision of no row exceeds 1.
        whitening: what standardises the noise of each row: [n, d] factors, [n, d, d] matrices, or
            None where the noise of all is standard.
        constant: [n] log-density at the row itself, in the rows' own units.
    """

    x: Any
    whitening: Any
    constant: Any

    def log_density(self, z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """See `LocationKernel.log_density`; by differences, which keep the digits."""
        return self.constant[:, None] - 0.5 * jnp.sum(self._whitened(z) ** 2, axis=-1)

    def score(self, z: Float[Array, "m d"]) -> Float[Array, "n m d"]:
        """See `LocationKernel.score`."""
        white = self._whitened(z)
        if self.whitening is None:
            return white
        if self.whitening.ndim == 2:
            return white * self.whitening[:, None]
        return einsum("nba,nmb->nma", self.whitening, white)

    def information(
        self, plan: Float[Array, "n m"], z: Float[Array, "m d"]
    ) -> Float[Array, "m d d"]:
        """See `LocationKernel.information`."""
        identity = jnp.eye(z.shape[1], dtype=z.dtype)
        if self.whitening is None:
            return jnp.sum(plan, axis=0)[:, None, None] * identity
        if self.whitening.ndim == 2:
            return einsum("nm,na->ma", plan, self.whitening**2)[:, :, None] * identity
        precision = einsum("nba,nbc->nac", self.whitening, self.whitening)
        return einsum("nm,nac->mac", plan, precision)

    def ceiling(
        self, left: np.ndarray, right: np.ndarray, at_left: np.ndarray, at_right: np.ndarray
    ) -> np.ndarray:
        """See `LocationKernel.ceiling`: the highest point of the chord minus z^2 / 2."""
        square, rise = (right - left) ** 2, at_right - at_left
        t = np.clip(0.5 + rise / np.where(square > 0, square, 1), 0, 1)
        return at_left + t * rise + 0.5 * t * (1 - t) * square

    def _whitened(self, z: Array) -> Float[Array, "n m d"]:
        difference = self.x[:, None] - z
        if self.whitening is None:
            return difference
        if self.whitening.ndim == 2:
            return difference * self.whitening[:, None]
        return einsum("nba,nma->nmb", self.whitening, difference)


@dataclasses.dataclass(frozen=True)
class Stable:
    """The coordinate v of a family in which a unit of size has the information 1.

    Attributes:
        mean: (v, NumPy or JAX's) to the mean of the sufficient statistic per unit of size.
        inverse: back, NumPy.
        ends: the coordinates of degenerate laws, infinite where there is none.
        natural: the natural parameter of a mean, NumPy.
        log_partition: A of a mean, NumPy.
        strip: whether log sup |D(u + iv)| / sup D per unit of size is -log cos v, not v^2 / 2.
    """

    mean: Callable[[Any, Any], Any]
    inverse: Callable[[Any], Any]
    ends: tuple[float, float]
    natural: Callable[[Any], Any]
    log_partition: Callable[[Any], Any]
    strip: bool = False


_POISSON = Stable(
    mean=lambda v, _: v**2 / 4,
    inverse=lambda mean: 2 * np.sqrt(mean),
    ends=(0.0, math.inf),
    natural=np.log,
    log_partition=lambda mean: mean,
)
_BINOMIAL = Stable(
    mean=lambda v, module: module.sin(v / 2) ** 2,
    inverse=lambda mean: 2 * np.arcsin(np.sqrt(mean)),
    ends=(0.0, math.pi),
    natural=lambda mean: np.log(mean) - np.log1p(-mean),
    log_partition=lambda mean: -np.log1p(-mean),
)
_GEOMETRIC = Stable(
    mean=lambda v, module: module.sinh(v / 2) ** 2,
    inverse=lambda mean: 2 * np.arcsinh(np.sqrt(mean)),
    ends=(0.0, math.inf),
    natural=lambda mean: np.log(mean) - np.log1p(mean),
    log_partition=np.log1p,
    strip=True,
)
_EXPONENTIAL = Stable(
    mean=lambda v, module: module.exp(v),
    inverse=np.log,
    ends=(-math.inf, math.inf),
    natural=lambda mean: -1 / mean,
    log_partition=np.log,
    strip=True,
)
STABLE: dict[type[Independent], Stable] = {
    Poisson: _POISSON,
    Bernoulli: _BINOMIAL,
    Binomial: _BINOMIAL,
    Geometric: _GEOMETRIC,
    Exponential: _EXPONENTIAL,
}
"""Families with one parameter and a quadratic variance V: dv = d mean / sqrt(V) (Morris 1982)."""
NEAREST = 4e-8
"""How near to a degenerate law a coordinate v comes: log-likelihoods stay finite."""


@pytree
class FamilyKernel(LocationKernel):
    """x_i of a one-parameter exponential family, log p = t eta - s A(eta) + log h.

    Attributes:
        x: one column [n, 1], or a dict of it and its sizes [n, 1].
        described: the family.
        scale: z over the family's stable coordinate: its square is at least the largest size.
    """

    x: PyTree
    described: Description = static()
    scale: float = static()

    @property
    def stable(self) -> Stable:
        """The family's coordinate."""
        family: Any = self.described.family
        return STABLE[family]

    def mean(self, z: Array) -> Array:
        """The mean per unit of size."""
        return self.stable.mean(z / self.scale, jnp)

    def law(self, z: Float[Array, "m d"]) -> Any:
        """The family at these locations."""
        return self.at(self.mean(z))

    def at(self, mean: Float[Array, "m d"]) -> Any:
        """The family of these means."""
        family: Any = self.described.family
        options = dict(self.described.options)
        by_cell = isinstance(self.x, dict)
        return family(**family.of_means(mean, **options), by_cell=by_cell, **options)

    @property
    def half_width(self) -> float:
        """See `LocationKernel.half_width`."""
        return 0.25 if self.stable.strip else 0.5

    @property
    def border(self) -> float:
        """See `LocationKernel.border`: D is even about it, and its second derivative below 4."""
        return 2 * (NEAREST * self.scale) ** 2

    def growth(self, height: np.ndarray) -> np.ndarray:
        """See `LocationKernel.growth`."""
        if not self.stable.strip:
            return 0.5 * height**2
        cosine = np.cos(np.minimum(height / self.scale, 0.5 * math.pi))
        return -(self.scale**2) * np.log(np.maximum(cosine, 1e-16))

    def ceiling(
        self, left: np.ndarray, right: np.ndarray, at_left: np.ndarray, at_right: np.ndarray
    ) -> np.ndarray:
        """See `LocationKernel.ceiling`: the chord's slope is the mean where it is highest."""
        size, law = self.scale**2, self.stable
        low, high = (law.mean(z / self.scale, np) for z in (left, right))
        begin, width = law.natural(low), law.natural(high) - law.natural(low)
        flat = width <= 0
        rise = at_right - at_left + size * (law.log_partition(high) - law.log_partition(low))
        mean = np.clip(rise / np.where(flat, 1, size * width), low, high)
        reached = rise * (law.natural(mean) - begin) / np.where(flat, 1, width)
        above = size * (law.log_partition(mean) - law.log_partition(low))
        return np.where(flat, np.maximum(at_left, at_right), at_left + reached - above)

    def coefficients(self, z: Array) -> tuple[Array, Array]:
        """Eta and A at one location."""
        law = self.law(z.reshape(1, 1))
        return law.natural()[0][0, 0], law.log_partition()[0, 0]

    def log_density(self, z: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """See `LocationKernel.log_density`."""
        return -self.law(z).cost(self.x)

    def score(self, z: Float[Array, "m d"]) -> Float[Array, "n m d"]:
        """See `LocationKernel.score`."""
        size, cell = self._cells(z)
        slope, pull = jax.vmap(jax.jacfwd(self.coefficients))(z[:, 0])
        return (cell * slope - size * pull)[:, :, None]

    def information(
        self, plan: Float[Array, "n m"], z: Float[Array, "m d"]
    ) -> Float[Array, "m d d"]:
        """See `LocationKernel.information`."""
        size, cell = self._cells(z)
        bend, pull = jax.vmap(jax.jacfwd(jax.jacfwd(self.coefficients)))(z[:, 0])
        total, sums = matmul(plan.T, size)[:, 0], matmul(plan.T, cell)[:, 0]
        return (total * pull - sums * bend)[:, None, None]

    def _cells(self, z: Array) -> tuple[Float[Array, "n 1"], Float[Array, "n 1"]]:
        """Sizes and sufficient statistics."""
        size, cell = self.law(z[:1]).cells(self.x)
        return jnp.broadcast_to(size, cell.shape), cell
