"""Confidence ellipses of the means."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..core.compiling import Quick
from ..core.tree import pytree
from .covariance import ParameterCovariance


@pytree
class Ellipses:
    """One ellipse (ellipsoid) per component: centre + directions @ (half_lengths * unit vector).

    Attributes:
        centre: [k, d] the estimated means.
        covariance: [k, d, d] sampling covariance of each mean.
        half_lengths: [k, d] ascending, in the units of the rows.
        directions: [k, d, d] unit vectors, in columns.
    """

    centre: Float[Array, "k d"]
    covariance: Float[Array, "k d d"]
    half_lengths: Float[Array, "k d"]
    directions: Float[Array, "k d d"]

    def outline(self, n_points: int = 100) -> Float[Array, "k n_points 2"]:
        """Points on each ellipse, for drawing; two columns only."""
        angle = jnp.linspace(0, 2 * jnp.pi, n_points)
        circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
        stretched = self.half_lengths[:, None, :] * circle
        return self.centre[:, None, :] + jnp.einsum("kde,kne->knd", self.directions, stretched)


def chi_squared_quantile(level: Array | float, degrees: int) -> Float[Array, ""]:
    """The quantile of the chi-squared law, by bisection."""
    shape = jnp.asarray(0.5 * degrees, float)
    level = jnp.asarray(level, float)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        below = jax.scipy.special.gammainc(shape, 0.5 * middle) < level
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    # P(X > d + 40 sqrt(d) + 60) is below the rounding of `level`.
    furthest = degrees + 40 * jnp.sqrt(2 * shape) + 60
    # a fixed number: 64 halvings reach the last bit of float64, and vmap costs nothing more
    return jax.lax.fori_loop(0, 64, halve, (jnp.zeros_like(furthest), furthest))[1]


def confidence_ellipses(covariance: ParameterCovariance, level: float = 0.95) -> Ellipses:
    """Regions that cover each mean with probability `level`, one component at a time.

    Args:
        covariance: from `parameter_covariance`; the components must have a `mean` [k, d].
        level: in (0, 1).

    Returns:
        `Ellipses`; NaN for an absent component, and throughout where the information is singular.
    """
    return _at_level(covariance.is_small, covariance.without_rows(), level)


def _ellipses(covariance: ParameterCovariance, level: Array | float) -> Ellipses:
    means = covariance.delta(lambda mixture: mixture.components.mean)
    k, d = means.value.shape
    blocks = means.covariance.reshape(k, d, k, d)
    each = jnp.arange(k)
    # indices with a slice between them put their common axis first: [k, d, d]
    block = blocks[each, :, each, :]
    variances, directions = jnp.linalg.eigh(block)
    radius = jnp.sqrt(chi_squared_quantile(level, d)).astype(block.dtype)
    return Ellipses(means.value, block, radius * jnp.sqrt(variances), directions)


_at_level = Quick(_ellipses, level=0)
