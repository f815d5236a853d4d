"""Elliptical components as linear forms in quadratic features, with the guard that these need."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ..core.numerics import safe_divide
from ..core.tree import pytree, replace
from .forms import LinearForm

LOSS = {"float64": 1e-12, "float32": 1e-5}
"""What a cost may lose to cancellation per feature of x, in nats, by dtype."""


@pytree
class Moments:
    """Sums over rows about the pivots p_j (the current means): additive.

    Attributes:
        mass: [k] sum_i P_ij u_ij.
        first: [k, d] sum_i P_ij u_ij (x_i - p_j).
        second: sum_i P_ij u_ij (x_i - p_j)(x_i - p_j)^T, in the covariance's layout.
    """

    mass: Array
    first: Array
    second: Array

    def about(self, shift: Float[Array, "k d"], layout: Any) -> "Moments":
        """The same about p_j + shift_j, in a layout of `geometry`."""
        mean = safe_divide(self.first, self.mass[:, None])
        # m ((mean - shift)^2 - mean^2): two rows of masses m and -m
        rows, plan = jnp.stack([mean - shift, mean]), jnp.stack([self.mass, -self.mass])
        second = self.second + layout.scatter(rows, plan)
        return replace(self, first=self.first - self.mass[:, None] * shift, second=second)


@pytree
class QuadraticForm(LinearForm):
    """Elliptical components in T(x) = (1, u, quadratic features of u), u = x - centre.

    The score is minus the half square; for Gaussians the normalisers are in its constant.

    Attributes:
        natural_parameters: [k, 1 + d + q] eta, with the layout's q.
        centre: [d] the origin of u.
        shift: [k, d] means from the centre: the pivots of the statistics.
        inverse: the inverse factors, in the layout.
        components: the family.
    """

    natural_parameters: Array
    centre: Array
    shift: Array
    inverse: Array
    components: Any
    guarded = True

    @property
    def linked(self) -> bool:  # type: ignore[override]
        """Whether the radial cost is more than the half square."""
        return self.components.scaled

    @property
    def _layout(self) -> Any:
        return self.components.covariance.geometry

    def _from_centre(self, x: Array) -> Array:
        return x - jax.lax.stop_gradient(self.centre)  # as in `Elliptical.linear_form`

    def sufficient_statistics(self, x: Float[Array, "n d"]) -> Float[Array, "n f"]:
        """See `LinearForm.sufficient_statistics`."""
        u = self._from_centre(x)
        return jnp.concatenate([jnp.ones_like(u[:, :1]), u, self._layout.features(u)], axis=1)

    def log_base_measure(self, x: Float[Array, "n d"]) -> Float[Array, " n"] | float:
        """The quadratic form of a covariance that all components share."""
        return -self._layout.shared(self.inverse, self._from_centre(x))

    def cost(self, scores: Array) -> Array:
        """See `LinearForm.cost`."""
        return self.components.radial_cost(_half_square(scores)) + self.components._half_log_det()

    def scale(self, scores: Array) -> Array:
        """See `LinearForm.scale`."""
        return self.components.latent_scale(_half_square(scores))

    def completed(self, statistics: Moments, plan: Array, scores: Array) -> Moments:
        """See `LinearForm.completed`."""
        return self.components.completed(statistics, plan, _half_square(scores))

    def total(self, x: Float[Array, "n d"], row_mass: Float[Array, " n"]) -> Array | None:
        """The scatter of all rows, where components share a covariance."""
        return self._layout.total(self._from_centre(x), row_mass)

    def statistics(self, sums: Float[Array, "k f"], total: Array | None) -> Moments:
        """Moments about the current means."""
        d = self.shift.shape[1]
        mass, first, second = sums[:, 0], sums[:, 1 : d + 1], sums[:, d + 1 :]
        scatter = self._layout.pivoted(mass, first, second, total, self.shift)
        return Moments(mass, first - mass[:, None] * self.shift, scatter)

    def amplification(self) -> Float[Array, ""]:
        """How many unit roundoffs, per column, expanding the squares may lose; 1 is all well."""
        factor = self.components.covariance.factor
        worst = jnp.max(self._layout.amplification(factor, self.inverse, self.shift))
        return worst / self.shift.shape[1]

    def safe(self) -> Bool[Array, ""]:
        """Whether a cost loses no more than `LOSS`, and no variance over- or underflows.

        Standard deviations stay within the fourth root of the range of floating point.
        """
        # it decides between kernels of the same value: no derivative
        amplification = jax.lax.stop_gradient(self.amplification())
        largest = _fourth_root(self.centre)
        variance = self._layout.variances(self.components.covariance.factor, self.shift.shape[1])
        within = jnp.all((variance < largest**2) & (variance > 1 / largest**2))
        return within & (amplification <= largest_amplification(amplification.dtype))

    def reaches(self, x: Float[Array, "n d"]) -> Bool[Array, ""]:
        """Rows within the fourth root of the range of floating point from the centre."""
        return jnp.all(jnp.abs(x - self.centre) < _fourth_root(x))


def largest_amplification(dtype: Any) -> float:
    """The amplification up to which squares are expanded."""
    return LOSS.get(jnp.dtype(dtype).name, 1e-2) / float(jnp.finfo(dtype).eps)


def _half_square(scores: Array) -> Array:
    return jnp.maximum(-scores, 0)  # rounding may take a square of 0 below it


def _fourth_root(like: Array) -> float:
    """Of the largest number of this dtype."""
    # features are squares, coefficients inverse squares: their product must stay finite
    return float(jnp.finfo(like.dtype).max) ** 0.25
