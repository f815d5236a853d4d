"""Margins, conditionals and modes of elliptical laws.

With columns a given and b left, Sigma in blocks, and the lower factor [[A, 0], [B, C]] of Sigma
with the given columns first,

    mean of b given a = mu_b + B A^-1 (a - mu_a)        covariance of b given a = C C^T

so that nothing is subtracted and the covariance stays positive.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ..core.numerics import einsum
from ..core.tree import along, replace
from ..core.triangular import inverse_triangle, multiply, regular_cholesky
from . import geometry
from .answers import read_columns, read_values
from .coordinates import learned
from .covariance import Covariance, Diagonal, Full, Spherical, Tied
from .family import Family

_Self = TypeVar("_Self", bound="EllipticalAnswers")


class EllipticalAnswers(Family):
    """K laws of a whitened distance with `mean` [k, d] and `covariance`, L L^T.

    Margins and conditionals have the free covariance of the same layout: `Full`, `Tied`,
    `Diagonal` or `Spherical`.
    """

    mean: Any
    covariance: Any
    scaled: ClassVar[bool] = False
    """Whether `latent_scale` is not 1, known when compiling."""

    @property
    def n_components(self) -> int:
        """K."""
        return self.mean.shape[-2]

    @property
    def n_features(self) -> int:
        """The width d of a row."""
        return self.mean.shape[-1]

    def matrices(self) -> Float[Array, "*batch k d d"]:
        """The matrices L L^T."""
        raise NotImplementedError

    def reported(self) -> dict[str, Any]:
        """See `Answers.reported`: matrices in the place of factors."""
        matrices = self.matrices()
        shared = all(field.metadata.get("shared") for field in learned(self.covariance))
        # one matrix where all components share it
        return super().reported() | {"covariance": matrices[..., 0, :, :] if shared else matrices}

    def latent_scale(self, half_square: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """The derivative of `radial_cost`: how much a row counts; only asked if `scaled`."""
        raise NotImplementedError

    def radial_cdf(self, z: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """P(Z <= z) of the standard law of one column."""
        raise NotImplementedError

    def expected_cost(
        self, statistics: Any, mass: Float[Array, " k"], at: Any
    ) -> Float[Array, ""] | None:
        """See `Pivots.expected_cost`; of the Gaussian law the whole, of others what touches it."""
        layout, shift = self.covariance.geometry, at.mean - self.mean
        inverse = layout.inverse(at.covariance.factor)
        half = layout.half_log_det(at.covariance.factor, self.mean.shape[-1])
        # an absent component may hold anything
        logs = jnp.sum(jnp.where(mass > 0, mass * half, 0))
        square = 0.5 * layout.trace_with(inverse, statistics.second)
        cross = statistics.first - 0.5 * statistics.mass[:, None] * shift
        pulled = jnp.sum(layout.precision(inverse, shift) * cross, axis=-1)
        return logs + square - jnp.sum(jnp.where(mass > 0, pulled, 0))

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`: means are the pivots. Latent scales, and what missing cells were
        expected to be, stay as these parameters have them.
        """
        # an absent component may hold anything
        shift = jnp.where(mass[:, None] > 0, onto.mean - self.mean, 0)
        return statistics.about(shift, self.covariance.geometry)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        return self.mean, self.matrices()

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        # by the factor: a variance underflows where its square root does not
        layout, factor = self.covariance.geometry, self.covariance.factor
        deviation = layout.colour(factor, jnp.ones_like(self.mean))[:, 0]
        return self.radial_cdf((x[:, None] - self.mean[:, 0]) / deviation)

    def marginal(self: _Self, columns: Iterable[Any]) -> _Self:
        """See `Answers.marginal`; elliptical again."""
        which = np.asarray(read_columns(self, columns))
        return replace(self, mean=self.mean[:, which], covariance=self._restricted(which))

    def condition(self: _Self, values: Mapping[Any, Any]) -> tuple[Float[Array, " k"], _Self]:
        """See `Answers.condition`."""
        given, rest, row = read_values(self, values)
        margin, which = self.marginal(given), np.asarray(rest)
        row = row.astype(self.mean.dtype)[None]
        mean = self.mean[:, which]
        if self._is_axis_aligned:
            covariance = self._restricted(which)
        else:
            g = len(given)
            lower = regular_cholesky(self._ordered(np.asarray(given + rest)))
            pull = multiply(lower[:, g:, :g], inverse_triangle(lower[:, :g, :g]))
            mean = mean + einsum("kab,kb->ka", pull, row - margin.mean)
            covariance = self._of_factor(lower[:, g:, g:])
        law = replace(self, mean=mean, covariance=covariance)
        return -margin.cost(row)[0], self.knowing(law, margin, row)

    def knowing(self, law: Any, margin: Any, row: Float[Array, "1 g"]) -> Any:
        """`law`, corrected for how far the given row lies from the margin's centre."""
        del margin, row
        return law

    def ascend(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Float[Array, "n d"]:
        """The mean of the components' means, weighted by plan, latent scale and precision.

        Source: Carreira-Perpinan (2000), IEEE Trans. PAMI 22, eq. (10).
        """
        inverse = inverse_triangle(regular_cholesky(self.matrices()))
        precision = multiply(jnp.swapaxes(inverse, 1, 2), inverse)
        difference = self.mean - x[:, None, :]
        half = 0.5 * einsum("nkd,kde,nke->nk", difference, precision, difference)
        share = plan * self.latent_scale(half) if self.scaled else plan
        pooled = einsum("nk,kde->nde", share, precision)
        pull = einsum("nk,kde,nke->nd", share, precision, difference)
        root = inverse_triangle(regular_cholesky(pooled))
        return x + einsum("nba,nbc,nc->na", root, root, pull)

    def half_square(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """|L_j^-1 (x_i - mu_j)|^2 / 2."""
        raise NotImplementedError

    def stretched(self: _Self, scale: Float[Array, " k"]) -> _Self:
        """Each component's law, wider by its own factor."""
        factor = self.covariance.factor
        if self.covariance.geometry is geometry.pooled:
            factor = jnp.broadcast_to(factor, (len(scale), *factor.shape))
        kind = type(self.covariance) if self._is_axis_aligned else Full
        return replace(self, covariance=kind(along(scale, factor) * factor))

    @property
    def _is_axis_aligned(self) -> bool:
        return self.covariance.geometry in (geometry.axes, geometry.isotropic)

    def _ordered(self, which: np.ndarray) -> Float[Array, "k m m"]:
        return self.matrices()[:, which[:, None], which]

    def _restricted(self, which: np.ndarray) -> Covariance:
        """The covariance of some columns."""
        if self.covariance.geometry is geometry.axes:
            return Diagonal(self.covariance.factor[:, which])
        if self.covariance.geometry is geometry.isotropic:
            return Spherical(self.covariance.factor)
        return self._of_factor(regular_cholesky(self._ordered(which)))

    def _of_factor(self, lower: Float[Array, "k m m"]) -> Covariance:
        return Tied(lower[0]) if self.covariance.geometry is geometry.pooled else Full(lower)
