"""Location-scale families: means, covariance objects, and a law of the whitened distance.

With h_ij = |L_j^-1 (x_i - mu_j)|^2 / 2,

    C_ij = radial_cost(h_ij) + log det L_j

The Gaussian's radial cost is h + (d / 2) log 2 pi. Others are scale mixtures of it: a row counts
with a latent scale u(h), and moments weighted by u take the place of moments.
"""

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..core.numerics import (
    einsum,
    matmul,
    pooled_scatter,
    positive_variance,
    safe_divide,
    sum_slices,
)
from ..core.tree import is_float, parameter, pytree, replace
from ..core.triangular import pivot_floor
from ..priors import Prior, Ridge
from .chance import by_chance, log_ball
from .coordinates import NESTED, REAL, Affine, Frame, Identity
from .covariance import STRUCTURES, Covariance
from .elliptical_answers import EllipticalAnswers
from .family import FAMILIES, Description
from .forms import LocationForm
from .quadratic import Moments, QuadraticForm

_Self = TypeVar("_Self", bound="Elliptical")

EXAMPLES = ("full", "tied", "diagonal", "spherical")
"""The structures of examples; the others have tests of their own."""


def structure(covariance: str | type[Covariance]) -> type[Covariance]:
    """The structure that a name means; a structure is itself.

    Raises:
        ValueError: for a name that is no structure.
    """
    if not isinstance(covariance, str):
        return covariance
    if covariance not in STRUCTURES:
        names = ", ".join(map(repr, STRUCTURES))
        raise ValueError(f"covariance must be one of {names}, not {covariance!r}")
    return STRUCTURES[covariance]


class Elliptical(EllipticalAnswers):
    """K elliptical components with `mean` [k, d] and `covariance`, L L^T."""

    mean: Any
    covariance: Any
    exact_m_step = True
    holds = frozenset({"mean", "covariance"})

    def radial_cost(self, half_square: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """-log of the standard density at |z|^2 / 2, in nats."""
        raise NotImplementedError

    @property
    def _layout(self) -> Any:
        return self.covariance.geometry

    @property
    def _factor(self) -> tuple[Array, int]:
        return self.covariance.factor, self.n_features

    def _inverse(self) -> Array:
        return self._layout.inverse(self.covariance.factor)

    def _half_log_det(self) -> Float[Array, " k"]:
        logs = self._layout.half_log_det(*self._factor)
        return jnp.broadcast_to(logs, (self.n_components,))

    def matrices(self) -> Float[Array, "*batch k d d"]:
        """The matrices L L^T, in squared units of the rows; also of a batch of mixtures."""
        matrices = self._layout.matrices(*self._factor)
        return jnp.broadcast_to(matrices, (*self.mean.shape, self.n_features))

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = radial_cost(|L_j^-1 (x_i - mu_j)|^2 / 2) + log det L_j, in nats."""
        return self._prepared(self._inverse(), self._half_log_det(), x)

    def prepared_cost(self) -> Partial:
        """`cost` with the factors inverted."""
        # Partial, not a closure: a PyTree can be an operand of `scan` and `cond`
        return Partial(type(self)._prepared, self, self._inverse(), self._half_log_det())

    def _prepared(self, inverse: Array, half_log_det: Array, x: Array) -> Float[Array, "n k"]:
        return self.radial_cost(self._half_square(inverse, x)) + half_log_det

    def half_square(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """See `EllipticalAnswers.half_square`."""
        return self._half_square(self._inverse(), x)

    def _half_square(self, inverse: Array, x: Array) -> Float[Array, "n k"]:
        # By differences: expanded, the square of a small number would cancel from large ones.
        whitened = self._layout.whiten(inverse, x[:, None, :] - self.mean)
        return 0.5 * jnp.sum(whitened**2, axis=-1)

    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Moments:
        """Moments about the current means; the pivot keeps the digits."""
        difference, share = x[:, None, :] - self.mean, plan
        half_square = self.half_square(x) if self.scaled else None
        if half_square is not None:
            share = plan * self.latent_scale(half_square)
        first = einsum("nk,nkd->kd", share, difference)
        scatter = self._layout.scatter(difference, share)
        moments = Moments(jnp.sum(share, axis=0), first, scatter)
        return moments if half_square is None else self.completed(moments, plan, half_square)

    def completed(
        self, moments: Moments, plan: Float[Array, "n k"], half_square: Float[Array, "n k"]
    ) -> Moments:
        """The moments with what parameters of the radial law need; only asked if `scaled`."""
        del plan, half_square
        return moments

    def linear_form(self) -> "QuadraticForm":
        """Quadratic features about the midpoint of the means."""
        # An absent component may hold anything.
        finite = jnp.all(jnp.isfinite(self.mean), axis=1, keepdims=True)
        total = jnp.sum(jnp.where(finite, self.mean, 0), axis=0)
        # any centre gives the same cost: its derivative would be nothing but rounding
        centre = jax.lax.stop_gradient(total / jnp.maximum(jnp.sum(finite), 1))
        shift, inverse = self.mean - centre, self._inverse()
        linear = self._layout.precision(inverse, shift)
        constant = -0.5 * jnp.sum(linear * shift, axis=-1)
        if not self.scaled:
            constant -= self._half_log_det() + self.radial_cost(jnp.zeros_like(constant))
        quadratic = -self._layout.coefficients(inverse, self.n_components)
        parameters = jnp.concatenate([constant[:, None], linear, quadratic], axis=1)
        return QuadraticForm(parameters, centre, shift, inverse, self)

    def location_form(self) -> LocationForm | None:
        """Whitened differences from the means, where the radial cost is the half square."""
        if self.scaled:
            return None
        constant = self._half_log_det() + self.radial_cost(jnp.zeros_like(self.mean[..., 0]))
        return LocationForm(self.mean, self._layout.dense(self._inverse(), self.mean), constant)

    def location_statistics(self, mass: Array, first: Array, second: Array) -> Moments:
        """Moments about the means, of which the layout keeps what it needs."""
        return Moments(mass, first, self._layout.of_second(second))

    def maximize(
        self: _Self,
        statistics: Moments,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> _Self:
        """Means, then covariances about the *new* means: the note's (3.5) and (3.4), corrected."""
        ridge, floor = (prior.covariance, prior.floor) if prior is not None else (None, None)
        if prior is not None and prior.mean is not None:
            statistics, mass = prior.mean.observe(self, statistics, mass)
        # About means that stay, the first moments lead nowhere.
        shift = safe_divide(statistics.first, statistics.mass[:, None])
        shift = jnp.zeros_like(shift) if "mean" in held else shift
        if "covariance" in held:
            return replace(self, mean=self.mean + shift)
        # pivots are the old means, so little cancels; raw moments could lose every digit
        scatter = self._layout.central(statistics.second, shift, statistics.mass)
        mass = self._layout.share(mass)
        if ridge is not None:
            mass = mass + ridge.strength
            scatter = scatter + ridge.strength * self._layout.of_spread(ridge.variance)
        if floor is not None:
            floor = jnp.broadcast_to(floor, self.mean.shape[-1:])
        covariance = self.covariance.maximize(scatter, mass, floor)
        return replace(self, mean=self.mean + shift, covariance=covariance)

    def penalty(self, prior: Prior | None) -> Float[Array, ""] | float:
        """The priors' share of the objective, on means and covariances; 0 without one."""
        total: Array | float = 0.0
        if prior is not None and prior.covariance is not None:
            ridge, logs = prior.covariance, self._layout.half_log_det(*self._factor)
            # once for each factor: components of a tied one share a single ridge
            constant = logs.size * (self.n_features + ridge.log_det)
            trace = self._layout.trace(self._inverse(), ridge.variance)
            total += ridge.strength * (0.5 * (trace - constant) + jnp.sum(logs))
        if prior is not None and prior.mean is not None:
            total += prior.mean.penalty(self)
        return total

    def constrain(self: _Self, coordinates: dict[str, Any]) -> _Self:
        """Means move in units of their own covariance factor, factors by a right multiplication.

        So the coordinates have no units, and a gradient step means the same in metres and miles.
        """
        moved = {}
        if "mean" in coordinates:
            step = self._layout.colour(self.covariance.factor, coordinates["mean"])
            moved["mean"] = self.mean + step
        if "covariance" in coordinates:
            moved["covariance"] = self.covariance.constrain(coordinates["covariance"])
        return replace(self, **moved)

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """The coordinates of this family about `origin`."""
        shift = self._layout.whiten(origin._inverse(), (self.mean - origin.mean)[None])[0]
        return {"mean": shift, "covariance": self.covariance.unconstrained(origin.covariance)}

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Draws from the law of component labels_i, for each i."""
        del given
        noise = self._noise(key, labels)
        return self.mean[labels] + self._layout.colour_rows(self.covariance.factor, noise, labels)

    def _noise(self, key: PRNGKeyArray, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        return jax.random.normal(key, (labels.shape[0], self.n_features), self.mean.dtype)

    def out_of(self: _Self, frame: Frame) -> _Self:
        """See `Family.out_of`."""
        if isinstance(frame, Identity):
            return self
        if not isinstance(frame, Affine):
            raise TypeError(f"{type(self).__name__} is closed under affine frames alone")
        unit = jnp.broadcast_to(frame.columns, self.mean.shape[-1:])
        mean = unit * self.mean + frame.origin
        return replace(self, mean=mean, covariance=self.covariance.scale(unit))

    @classmethod
    def frame(
        cls, x: Any, weight: Any, begins: Any = None, covariance: Any = "full", **options: Any
    ) -> Affine:
        """Rows about their mean, columns over powers of two near their largest deviations."""
        del options
        one_unit = structure(covariance).one_unit
        if begins is None:
            return Affine.of(x, weight, one_unit)
        return Affine.of_groups(x, weight, begins, one_unit)

    def described(self) -> Description:
        """See `Family.described`; rows of a covariance with one unit have another frame."""
        return Description(type(self), (("covariance", type(self.covariance)),))

    @classmethod
    def least(cls, dtype: Any, **options: Any) -> Prior:
        """The floor at the rounding of rows whose largest deviation is about 1."""
        del options
        return Prior(floor=jnp.asarray((4 * jnp.finfo(dtype).eps) ** 2, dtype))

    def imprecise(self) -> Bool[Array, " k"]:
        """See `Family.imprecise`: the means' rounding, in standard deviations."""
        step = 16 * jnp.finfo(self.mean.dtype).eps * jnp.abs(self.mean)
        return jnp.any(self._layout.whiten(jnp.abs(self._inverse()), step[None])[0] > 1, axis=-1)

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """See `Family.spurious`."""
        if prior is None or prior.floor is None:
            return jnp.zeros(self.n_components, bool)
        least = pivot_floor(self._layout.variances(*self._factor), prior.floor)
        # 1.01: what was lifted is compared with a floor that was computed again
        held = jnp.any(self._layout.pivots(*self._factor) ** 2 <= 1.01 * least, axis=-1)
        tight = self._layout.tightness(self.covariance.factor, self._inverse(), weights)
        tight = tight > 100 + self.n_features
        d = self.n_features
        volume = log_ball(d) + self._half_log_det()
        spanned = self.covariance.spanned(d)
        chance = by_chance(weights, self.cost(self.mean), volume, spanned, n_rows)
        return (weights > 0) & (held | (tight & chance))

    @classmethod
    def reals(cls, x: Any, **options: Any) -> Any:
        """All cells are numbers: as integers they would be rounded in their frame."""
        del options
        return x if is_float(x) else x.astype(float)

    @classmethod
    def check(cls, x: Any, **options: Any) -> None:
        """One table of real numbers.

        Raises:
            ValueError: for rows of several columns with names, or none.
        """
        if isinstance(x, dict) or np.ndim(x) != 2:
            raise ValueError(f"{cls.__name__} takes one table of real numbers (n, d) as its rows")

    @classmethod
    def _start(cls, x: Array, plan: Array, covariance: Any) -> tuple[Array, Covariance]:
        """Means of the assigned rows, and the pooled within-component covariance for each.

        Pooling makes every start regular, also where a component holds one row; EM then finds each
        component's own shape. The tiny ridge covers rows that span no volume at all.

        Raises:
            ValueError: for a name that is no covariance structure.
        """
        kind = structure(covariance)
        mass, row_weight = jnp.sum(plan, axis=0), jnp.sum(plan, axis=1)
        centre = matmul(row_weight, x)

        # about the centre: far from 0, float32 sums lose the digits that tell means apart
        def sums(x: Array, plan: Array) -> tuple[Array, Array]:
            return matmul(plan.T, x - centre), matmul(jnp.sum(plan, axis=1), (x - centre) ** 2)

        first, square = sum_slices(sums, x, plan)
        mean = centre + safe_divide(first, mass[:, None])
        # in the layout: where it holds no matrix, none is made
        layout, d = kind.geometry, x.shape[1]
        pooled = pooled_scatter(layout.scatter, x, plan, mean)
        pooled = layout.central(pooled, jnp.zeros((1, d), x.dtype), jnp.zeros(1, x.dtype))
        variance = positive_variance(square)
        pooled += 64 * jnp.finfo(x.dtype).eps * d * layout.of_spread(variance)
        return mean, kind.from_scatter(pooled, d).take(np.zeros(len(mean), int))

    @classmethod
    def weak_prior(cls, variance: Any, strength: Array, **options: Any) -> Prior:
        """The scale-relative `Ridge` of the data."""
        del options
        return Prior(covariance=Ridge(strength, positive_variance(variance)))


@pytree
class Gaussian(Elliptical):
    """K Gaussian components.

    Attributes:
        mean: [k, d], in the units of the rows.
        covariance: a `Covariance`: `Full`, `Tied`, `Diagonal`, `Spherical`, or `EII` to `EVV`.

    Example:
        >>> import jax.numpy as jnp
        >>> from otmix_jax.families import Gaussian, Spherical
        >>> components = Gaussian(jnp.array([[0.0], [2.0]]), Spherical(jnp.array([1.0, 1.0])))
        >>> components.cost(jnp.array([[0.0]])).round(4).tolist()
        [[0.9189..., 2.9189...]]

    Source: Vayer and Lasalle, arXiv 2501.12005, section 3.
    """

    mean: Array = parameter(REAL)
    covariance: Covariance = parameter(NESTED)
    priors = frozenset({"covariance", "floor", "mean"})

    @classmethod
    def of(cls, covariance: str | type[Covariance] = "full") -> Description:
        """Gaussians of a covariance structure, by our name or mclust's: see docs/covariances.md.

        Raises:
            ValueError: for a name that is no covariance structure.
        """
        structure(covariance)
        return Description(cls, (("covariance", covariance),))

    def radial_cost(self, half_square: Array) -> Array:
        """See `Elliptical.radial_cost`."""
        return half_square + 0.5 * self.n_features * math.log(2 * math.pi)

    def radial_cdf(self, z: Array) -> Array:
        """See `EllipticalAnswers.radial_cdf`."""
        return jax.scipy.special.ndtr(z)

    @classmethod
    def initial(
        cls,
        x: Float[Array, "n d"],
        plan: Float[Array, "n k"],
        covariance: str | type[Covariance] = "full",
    ) -> "Gaussian":
        """Means of the assigned rows, and the pooled within-component covariance for each."""
        return cls(*cls._start(x, plan, covariance))

    @classmethod
    def incomplete(cls, covariance: str | type[Covariance] = "full", **_: Any) -> Description:
        """See `Family.incomplete`; of every covariance structure."""
        # by name: that family is a Gaussian itself
        return FAMILIES["incomplete"].of(covariance)

    @classmethod
    def examples(cls) -> dict[str, "Gaussian"]:
        """One per covariance structure: K = 3 in two dimensions."""
        return {name: cls(*parts) for name, parts in examples().items()}


def examples() -> dict[str, tuple[Array, Covariance]]:
    """Means and covariances of every structure: K = 3 in two dimensions."""
    mean = jnp.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 2.0]])
    shapes = jnp.array(
        [[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.1], [-0.1, 0.8]], [[1.5, 0.0], [0.0, 0.3]]]
    )
    return {name: (mean, STRUCTURES[name].from_matrices(shapes)) for name in EXAMPLES}
