"""Normal-Wishart laws of Gaussian components, of four structures.

The model is the same for all structures: component j has a mean and a full precision matrix of
its own, Lambda_j ~ Wishart(W_0, nu_0), mu_j given Lambda_j ~ N(m_0, (beta_0 Lambda_j)^-1). The
structure says which posteriors are tried: Normal-Wishart laws whose W_j is free ("full"), one for
all ("tied"), diagonal, or a multiple of the identity. So every update is exact, the bound is one of
the same evidence, and it never falls.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import digamma, gammaln
from jaxtyping import Float

from ..core.numerics import matmul, sum_slices
from ..core.tree import pytree, replace
from ..core.typing import AnyArray
from ..families import (
    Description,
    Diagonal,
    Frame,
    Full,
    Gaussian,
    Spherical,
    StudentT,
    Tied,
    geometry,
)
from ..families.elliptical import structure
from ..families.quadratic import Moments
from ..priors import Ridge
from .law import ConjugateLaw, ConjugatePrior, check_positive

STRUCTURES = (Full, Tied, Diagonal, Spherical)
"""Structures with an exact update."""


@pytree
class ExpectedGaussian(Gaussian):
    """Gaussians whose cost is larger by `gap` [k] >= 0: the expected cost under a law of them.

        E C_ij = C_ij at E[Lambda_j] and m_j, + (d / beta + d log(nu / 2) - psi_d(nu / 2)) / 2

    the gap being Jensen's, of the log-partition, at the expected natural parameters.
    """

    gap: Array

    def _half_log_det(self) -> Float[Array, " k"]:
        return super()._half_log_det() + self.gap


@pytree
class NormalWishart(ConjugateLaw):
    """Lambda_j ~ Wishart(W_j, nu_j), mu_j given Lambda_j ~ N(m_j, (beta_j Lambda_j)^-1).

    Attributes:
        mean: [k, d] m, in the units of the rows.
        covariance: (nu_j W_j)^-1, the inverse of the expected precision; one of `Full`, `Tied`,
            `Diagonal`, `Spherical`.
        precision: [k] beta > 0, in rows.
        degrees: [k] nu > d - 1, in rows.

    Source: Bishop (2006), section 10.2, eq. (10.58) to (10.65), (10.81), (B.82).
    """

    mean: Array
    covariance: Any
    precision: Array
    degrees: Array

    @property
    def _shape(self) -> tuple[int, int]:
        return self.mean.shape[-2], self.mean.shape[-1]

    @property
    def _layout(self) -> Any:
        return self.covariance.geometry

    def updated(
        self, components: Any, statistics: Moments, counts: Float[Array, " k"]
    ) -> "NormalWishart":
        """See `ConjugateLaw.updated`."""
        k, layout = components.n_components, self._layout
        # m_0 as beta_0 rows: through the components, whose pivots the sums share
        pseudo = components.statistics(self.mean, jnp.broadcast_to(self.precision, (1, k)))
        precision = self.precision + counts
        shift = (statistics.first + pseudo.first) / precision[:, None]
        scatter = layout.central(statistics.second + pseudo.second, shift, precision)
        if layout is geometry.pooled:
            # one W for all: the mean of what each would have
            degrees = self.degrees[0] + jnp.sum(counts) / k
            scatter = scatter / k
        else:
            degrees = self.degrees + counts
        covariance = components.covariance.maximize(self._spread() + scatter, degrees)
        degrees = jnp.broadcast_to(degrees, (k,))
        return NormalWishart(components.mean + shift, covariance, precision, degrees)

    def _spread(self) -> Array:
        """W^-1 of a prior, in the layout of a scatter."""
        d, layout = self._shape[1], self._layout
        whole = self.degrees[:, None, None] * layout.matrices(self.covariance.factor, d)
        nothing = jnp.zeros((1, d), whole.dtype), jnp.zeros(1, whole.dtype)
        return layout.central(layout.of_second(whole), *nothing)

    def expected(self) -> ExpectedGaussian:
        """See `ConjugateLaw.expected`."""
        d = self._shape[1]
        logs = d * jnp.log(0.5 * self.degrees) - _multivariate(digamma, self.degrees, d)
        return ExpectedGaussian(self.mean, self.covariance, 0.5 * (d / self.precision + logs))

    def divergence(self, other: "NormalWishart") -> Float[Array, ""]:
        """See `ConjugateLaw.divergence`."""
        d, layout = self._shape[1], self._layout
        inverse = layout.inverse(self.covariance.factor)
        distance = layout.whiten(inverse, (self.mean - other.mean)[None])[0]
        square = jnp.sum(distance**2, axis=-1)
        # tr(other's expected covariance times own expected precision)
        roots = jnp.broadcast_to(other._roots(), (d, *self.mean.shape))
        trace = jnp.sum(layout.whiten(inverse, roots) ** 2, axis=(0, 2))
        ratio = other.precision / self.precision
        means = d * (ratio - 1 - jnp.log(ratio)) + other.precision * square
        # log det of own W times other's W^-1
        logs = self._log_det() - other._log_det()
        moved = (self.degrees - other.degrees) * _multivariate(digamma, self.degrees, d)
        shapes = other.degrees * (trace - logs) - self.degrees * d + moved
        gammas = _multivariate(gammaln, other.degrees, d) - _multivariate(gammaln, self.degrees, d)
        return jnp.sum(0.5 * (means + shapes) + gammas)

    def log_normalizer(self) -> Float[Array, ""]:
        """The logarithms of the laws' integrals, summed, without powers of pi and 2 pi."""
        d = self._shape[1]
        shapes = 0.5 * self.degrees * (self._log_det() + d * math.log(2))
        gammas = _multivariate(gammaln, self.degrees, d)
        return jnp.sum(shapes + gammas - 0.5 * d * jnp.log(self.precision))

    def _roots(self) -> Float[Array, "m k d"]:
        """Vectors whose outer products sum to the expected covariances."""
        factor, layout = self.covariance.factor, self._layout
        if layout is geometry.pooled:
            factor = factor[None]
        if layout in (geometry.pooled, geometry.free):
            return jnp.moveaxis(jnp.tril(factor), -1, 0)
        return jnp.moveaxis(layout.dense(factor, self.mean), -1, 0)

    def _log_det(self) -> Float[Array, " k"]:
        """Log det W."""
        k, d = self._shape
        halves = jnp.broadcast_to(self._layout.half_log_det(self.covariance.factor, d), (k,))
        return -d * jnp.log(self.degrees) - 2 * halves

    def plug_in(self) -> Gaussian:
        """See `ConjugateLaw.plug_in`; at the expected means and precisions."""
        return Gaussian(self.mean, self.covariance)

    def predictive(self) -> StudentT:
        """See `ConjugateLaw.predictive`; of nu + 1 - d degrees of freedom."""
        degrees = self.degrees + 1 - self._shape[1]
        scale = self.degrees * (1 + self.precision) / (self.precision * degrees)
        return StudentT(self.mean, self.covariance, degrees).stretched(jnp.sqrt(scale))

    def out_of(self, frame: Frame) -> "NormalWishart":
        """See `ConjugateLaw.out_of`."""
        moved = self.plug_in().out_of(frame)
        return replace(self, mean=moved.mean, covariance=moved.covariance)


def scikit_learn_bound(solution: Any) -> Float[Array, ""]:
    """The `lower_bound_` of scikit-learn's `BayesianGaussianMixture` after the same steps.

    That is `update_bound` without what depends on the prior and the number of rows alone. Of one
    solution: under `vmap` for a batch.
    """
    prior, d = solution.prior, solution.prior.components.mean.shape[-1]
    k, count = solution.counts.shape[0], jnp.sum(solution.counts)
    normalizers = k * prior.components.log_normalizer() + prior.weights.log_normalizer()
    return solution.update_bound + normalizers + 0.5 * count * d * math.log(2 * math.pi)


def _multivariate(function: Any, degrees: Float[Array, " k"], d: int) -> Float[Array, " k"]:
    """sum_i f((nu - i) / 2), i = 0 .. d - 1: of the multivariate gamma function."""
    return jnp.sum(function(0.5 * (degrees[:, None] - np.arange(d))), axis=-1)


@pytree
class NormalWishartPrior(ConjugatePrior):
    """The hyperparameters of a Normal-Wishart law, by default those of scikit-learn.

    Attributes:
        mean: [d] m_0; None is the rows' mean.
        precision: beta_0 > 0, in rows.
        degrees: nu_0 > d - 1, in rows; None is d.
        spread: W_0^-1, in squared units of the rows: [d, d], or [d] or one number for a diagonal
            one. A structure takes of it what it has room for: the diagonal, or its mean. None is
            the rows' covariance, with n - 1.
    """

    mean: AnyArray | None = None
    precision: AnyArray | float = 1.0
    degrees: AnyArray | float | None = None
    spread: AnyArray | float | None = None

    def law(
        self, x: Array, row_weight: Float[Array, " n"], count: Any, described: Description
    ) -> NormalWishart:
        """See `ConjugatePrior.law`."""
        kind, (_, d), dtype = _kind(described), x.shape, row_weight.dtype
        centre = matmul(row_weight, x)
        if self.spread is None:
            spread = _second(x, row_weight, centre) * count / (count - 1)
        else:
            given = jnp.asarray(self.spread, dtype)
            spread = given if given.ndim == 2 else jnp.diag(jnp.broadcast_to(given, (d,)))
        mean = centre if self.mean is None else jnp.asarray(self.mean, dtype)
        precision = jnp.asarray(self.precision, dtype)
        degrees = jnp.asarray(d if self.degrees is None else self.degrees, dtype)
        covariance = kind.from_matrices(spread[None] / degrees)
        return NormalWishart(mean[None], covariance, precision[None], degrees[None])

    def into(self, frame: Any) -> "NormalWishartPrior":
        """See `ConjugatePrior.into`."""
        mean, spread = self.mean, self.spread
        mean = None if mean is None else frame.into(np.asarray(mean))
        if spread is not None:
            given = np.asarray(spread)
            variances = given if given.ndim else np.broadcast_to(given, np.shape(frame.origin))
            spread = Ridge(0.0, variances).into(frame).variance
        return replace(self, mean=mean, spread=spread)

    def check(self, described: Description, n_features: int) -> None:
        """See `ConjugatePrior.check`.

        Raises:
            TypeError: for a structure without an exact update.
        """
        _kind(described)
        check_positive(self.precision, "precision")
        if self.degrees is not None:
            check_positive(np.asarray(self.degrees) - (n_features - 1), "degrees - d + 1")
        if self.spread is not None and np.ndim(self.spread) < 2:
            check_positive(self.spread, "spread")


def _kind(described: Description) -> Any:
    told: dict[str, Any] = dict(described.options)
    kind = structure(told.get("covariance", "full"))
    if kind not in STRUCTURES:
        names = ", ".join(each.__name__ for each in STRUCTURES)
        raise TypeError(f"variational Gaussians have covariances of {names}, not {kind.__name__}")
    return kind


def _second(x: Array, row_weight: Array, centre: Array) -> Float[Array, "d d"]:
    def about(x: Array, weight: Array) -> Array:
        return matmul((weight * (x - centre)).T, x - centre)

    return sum_slices(about, x, row_weight[:, None])
