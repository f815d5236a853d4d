"""Gaussian components: one class over the covariance structures of `covariance.py`."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from .._numerics import matmul, safe_divide
from .._pytree import pytree, replace
from ..priors import Prior, split
from .base import Family
from .covariance import STRUCTURES, CentredSums, Covariance, Full, Ridge
from .natural import LocationForm, NaturalForm
from .triangular import diagonal

_HIGHEST = jax.lax.Precision.HIGHEST


@pytree
class Moments:
    """Sums over rows about the pivots p_j (the current means): additive.

    Attributes:
        first: [k, d] sum_i P_ij (x_i - p_j).
        second: sum_i P_ij (x_i - p_j)(x_i - p_j)^T, as the covariance structure needs it.
    """

    first: Array
    second: Array


def _pooled_scatter(x: Array, plan: Array, mean: Array) -> Float[Array, "d d"]:
    """sum_ij P_ij (x_i - mu_j)(x_i - mu_j)^T, component by component: no [n, k, d] array."""

    def add(pooled: Array, component: tuple[Array, Array]) -> tuple[Array, None]:
        mass, centre = component
        within = x - centre
        return pooled + matmul((mass[:, None] * within).T, within), None

    zeros = jnp.zeros((x.shape[1], x.shape[1]), x.dtype)
    return jax.lax.scan(add, zeros, (plan.T, mean))[0]


def _structure(covariance: str | type[Covariance] | None) -> type[Covariance]:
    if covariance is None:
        return Full
    if not isinstance(covariance, str):
        return covariance
    if covariance not in STRUCTURES:
        names = ", ".join(map(repr, STRUCTURES))
        raise ValueError(f"covariance must be one of {names}, not {covariance!r}")
    return STRUCTURES[covariance]


@pytree
class Gaussian(Family):
    """K Gaussian components.

    Attributes:
        mean: [k, d], in the units of the rows.
        covariance: one of `Full`, `Tied`, `Diagonal`, `Spherical`.

    Example:
        >>> import jax.numpy as jnp
        >>> from otmix_jax.families import Gaussian, Spherical
        >>> components = Gaussian(jnp.array([[0.0], [2.0]]), Spherical(jnp.array([1.0, 1.0]), 1))
        >>> components.cost(jnp.array([[0.0]])).round(4).tolist()
        [[0.9189..., 2.9189...]]

    Source: Vayer and Lasalle, arXiv 2501.12005, section 3.
    """

    mean: Array
    covariance: Covariance
    equivariant: ClassVar[bool] = True

    @property
    def n_components(self) -> int:
        """K."""
        return self.mean.shape[-2]

    @property
    def n_features(self) -> int:
        """The width d of a row."""
        return self.mean.shape[-1]

    @property
    def n_parameters(self) -> int:
        """K d for the means, and the covariance structure's own."""
        return self.n_components * self.n_features + self.covariance.n_parameters

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = (|L_j^-1 (x_i - mu_j)|^2 + d log 2 pi) / 2 + log det L_j, in nats."""
        whitened = self.covariance.whiten(x[:, None, :] - self.mean)
        return 0.5 * jnp.sum(whitened**2, axis=-1) + (
            self.covariance.half_log_det() + self._constant
        )

    @property
    def _constant(self) -> float:
        return 0.5 * self.n_features * math.log(2 * math.pi)

    def prepared(self) -> "Gaussian":
        """With the covariances' whitening at hand."""
        return replace(self, covariance=self.covariance.prepared())

    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Moments:
        """First and second moments about the current means; the pivot keeps the digits."""
        difference = x[:, None, :] - self.mean
        first = jnp.einsum("nk,nkd->kd", plan, difference, precision=_HIGHEST)
        return Moments(first, self.covariance.scatter(difference, plan))

    def location_form(self) -> LocationForm:
        """Whitened differences from the means."""
        constant = self.covariance.half_log_det() + self._constant
        return LocationForm(self.mean, self.covariance.whitening(), constant)

    def location_statistics(self, first: Array, second: Array) -> Moments:
        """Moments about the means, of which the covariance keeps what it needs."""
        return Moments(first, self.covariance.of_second_moments(second))

    def natural(self) -> "NaturalGaussian":
        """Quadratic features about the midpoint of the means."""
        # An absent component may hold anything.
        finite = jnp.all(jnp.isfinite(self.mean), axis=1, keepdims=True)
        total = jnp.sum(jnp.where(finite, self.mean, 0), axis=0)
        centre = jax.lax.stop_gradient(total / jnp.maximum(jnp.sum(finite), 1))
        shift, covariance = self.mean - centre, self.covariance.prepared()
        linear = covariance.precision(shift)
        squares = jnp.sum(linear * shift, axis=-1)
        constant = -0.5 * squares - covariance.half_log_det() - self._constant
        quadratic = -covariance.quadratic_coefficients()
        coefficients = jnp.concatenate([constant[:, None], linear, quadratic], axis=1)
        return NaturalGaussian(coefficients, centre, shift, covariance)

    def maximize(
        self, statistics: Moments, mass: Float[Array, " k"], prior: Ridge | Prior | None = None
    ) -> "Gaussian":
        """Means, then covariances about the *new* means: the note's (3.5) and (3.4), corrected."""
        parts = split(prior)
        if parts.mean is not None:
            statistics, mass = parts.mean.observe(self, statistics, mass)
        ridge = parts.covariance
        if ridge is None:
            zero = jnp.zeros((), self.mean.dtype)
            ridge = Ridge(zero, jnp.ones_like(self.mean[0]))
        shift = safe_divide(statistics.first, mass[:, None])
        covariance = self.covariance.maximize(statistics.second, shift, mass, ridge)
        return replace(self, mean=self.mean + shift, covariance=covariance)

    def penalty(self, prior: Ridge | Prior | None) -> Float[Array, ""] | float:
        """The priors' share of the objective, on means and covariances; 0 without one."""
        parts = split(prior)
        ridge = 0.0 if parts.covariance is None else self.covariance.penalty(parts.covariance)
        return ridge if parts.mean is None else ridge + parts.mean.penalty(self)

    def constrain(self, coordinates: PyTree) -> "Gaussian":
        """Means move in units of their own covariance factor, factors by a right multiplication.

        So the coordinates have no units, and a gradient step means the same in metres and miles.
        """
        mean = self.mean + self.covariance.colour(coordinates["mean"])
        return replace(
            self, mean=mean, covariance=self.covariance.constrain(coordinates["covariance"])
        )

    def unconstrained(self, origin: Any) -> dict[str, Array]:
        """The coordinates of this family about `origin`."""
        shift = origin.covariance.whiten((self.mean - origin.mean)[None])[0]
        return {"mean": shift, "covariance": self.covariance.unconstrained(origin.covariance)}

    def sample(self, key: PRNGKeyArray, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        """Draws from N(mu_j, Sigma_j), j = labels_i."""
        noise = jax.random.normal(key, (labels.shape[0], self.n_features), self.mean.dtype)
        return self.mean[labels] + self.covariance.colour_rows(noise, labels)

    def affine(self, scale: Float[Array, ""], shift: Float[Array, " d"]) -> "Gaussian":
        """The law of `scale * X + shift`."""
        return replace(
            self, mean=scale * self.mean + shift, covariance=self.covariance.scale(scale)
        )

    @classmethod
    def initial(
        cls,
        x: Float[Array, "n d"],
        plan: Float[Array, "n k"],
        covariance: str | type[Covariance] | None = None,
    ) -> "Gaussian":
        """Means of the assigned rows, and the pooled within-component covariance for each.

        Pooling makes every start regular, also where a component holds one row; EM then finds each
        component's own shape. The tiny ridge covers rows that span no volume at all.

        Raises:
            ValueError: for a name that is no covariance structure.
        """
        structure = _structure(covariance)
        mass = jnp.sum(plan, axis=0)
        row_weight = jnp.sum(plan, axis=1)
        centre = matmul(row_weight, x)
        mean = centre + safe_divide(matmul(plan.T, x - centre), mass[:, None])
        pooled = _pooled_scatter(x, plan, mean)
        ridge = Ridge.of(x, row_weight, 0.0)
        pooled += 64 * jnp.finfo(x.dtype).eps * x.shape[1] * jnp.diag(ridge.variance)
        matrices = jnp.broadcast_to(pooled, (plan.shape[1], *pooled.shape))
        return cls(mean, structure.from_matrices(matrices))

    @classmethod
    def weak_prior(cls, variance: Float[Array, " d"], strength: Array) -> Ridge:
        """The scale-relative `Ridge` of the data."""
        return Ridge.from_variance(variance, strength)

    @classmethod
    def examples(cls) -> dict[str, "Gaussian"]:
        """One per covariance structure: K = 3 in two dimensions."""
        mean = jnp.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 2.0]])
        shapes = jnp.array(
            [[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.1], [-0.1, 0.8]], [[1.5, 0.0], [0.0, 0.3]]]
        )
        return {name: cls(mean, s.from_matrices(shapes)) for name, s in STRUCTURES.items()}


@pytree
class NaturalGaussian(NaturalForm):
    """Gaussians as T(x) . eta, with T(x) = (1, u, quadratic features of u), u = x - centre.

    Attributes:
        coefficients: [k, 1 + d + q] eta, with the structure's q.
        centre: [d] the origin of u.
        shift: [k, d] means from the centre: the pivots of the statistics.
        covariance: the covariances.
    """

    coefficients: Array
    centre: Array
    shift: Array
    covariance: Covariance

    def features(self, x: Float[Array, "n d"]) -> Float[Array, "n f"]:
        """See `NaturalForm.features`."""
        u = x - jax.lax.stop_gradient(self.centre)  # as in `Gaussian.natural`
        return jnp.concatenate([jnp.ones_like(u[:, :1]), u, self.covariance.quadratic(u)], axis=1)

    def shared(self, x: Float[Array, "n d"]) -> Float[Array, " n"] | float:
        """The quadratic form of a covariance that all components share."""
        return self.covariance.shared(x - jax.lax.stop_gradient(self.centre))

    def total(self, x: Float[Array, "n d"], row_weight: Float[Array, " n"]) -> Array | None:
        """The scatter of all rows, where components share a covariance."""
        return self.covariance.total(x - self.centre, row_weight)

    def statistics(self, sums: Float[Array, "k f"], total: Array | None) -> Moments:
        """Moments about the current means."""
        d = self.shift.shape[1]
        mass, first, second = sums[:, 0], sums[:, 1 : d + 1], sums[:, d + 1 :]
        scatter = self.covariance.pivoted(CentredSums(mass, first, second), total, self.shift)
        return Moments(first - mass[:, None] * self.shift, scatter)

    def amplification(self) -> Float[Array, ""]:
        """The worst component's, per column: 1 where all is well."""
        return jnp.max(self.covariance.amplification(self.shift)) / self.shift.shape[1]

    def in_range(self) -> Bool[Array, ""]:
        """Standard deviations within the fourth root of the range of floating point."""
        largest = _fourth_root(self.centre)
        variance = diagonal(self.covariance.matrices())
        return jnp.all((variance < largest**2) & (variance > 1 / largest**2))

    def reaches(self, x: Float[Array, "n d"]) -> Bool[Array, ""]:
        """Rows within the fourth root of the range of floating point from the centre."""
        return jnp.all(jnp.abs(x - self.centre) < _fourth_root(x))


def _fourth_root(like: Array) -> float:
    """Of the largest number of this dtype."""
    return float(jnp.finfo(like.dtype).max) ** 0.25
