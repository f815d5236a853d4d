"""Student-t components: the Gaussian's moments, each row counted by how near it lies."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from ..core import student
from ..core.special import student_cdf
from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from .coordinates import NESTED, POSITIVE, REAL
from .covariance import Covariance
from .elliptical import Elliptical, examples, structure
from .family import Description
from .quadratic import Moments

LEAST_DEGREES, MOST_DEGREES = 2.0**-4, 2.0**27
"""Between these degrees are learned; at either end they stay. At the upper one, about 1e8, the law
is the Gaussian: the log-density of a row at distance z differs by z^4 / 4 nu."""
FIRST_DEGREES = 10.0
"""Where learned degrees start."""
LONGEST = 4.0, 1 / 60
"""The factor by which 1 / nu + 1 / 60 may change in a step: from 20 the Gaussian can be reached."""


@pytree
class StudentT(Elliptical):
    """K multivariate Student-t components of fixed degrees of freedom; `of` has learned ones.

    Attributes:
        mean: [k, d] locations, in the units of the rows.
        covariance: the scale matrices, of any covariance structure; the law's covariance is
            nu / (nu - 2) times them, for nu > 2.
        degrees: [k] nu > 0.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> family = om.families.StudentT.of("tied", degrees=5)
        >>> om.fit(x, 2, family=family, key=0).mixture.components.degrees.tolist()
        [5.0, 5.0]

    Source: Peel and McLachlan (2000), Statistics and Computing 10, section 3.
    """

    mean: Array = parameter(REAL)
    covariance: Covariance = parameter(NESTED)
    # no domain: not learned; still a leaf, so that another value needs no other program
    degrees: Array
    scaled = True
    priors = frozenset({"covariance", "floor"})

    @classmethod
    def of(
        cls, covariance: str | type[Covariance] = "full", degrees: float | str = 4.0
    ) -> Description:
        """Student-t components of a scale structure and of degrees of freedom.

        Args:
            covariance: "full", "tied", "diagonal", "spherical" or another structure.
            degrees: a number that all keep; "learn" or "own" learns each component's, "shared" one
                of all.

        Raises:
            ValueError: for a name that is no structure, or degrees that are neither.
        """
        structure(covariance)
        if isinstance(degrees, str):
            if degrees not in LEARNED:
                names = ", ".join(map(repr, LEARNED))
                raise ValueError(f"degrees must be a number or one of {names}, not {degrees!r}")
            return Description(LEARNED[degrees], (("covariance", covariance),))
        if not degrees > 0:
            raise ValueError(f"degrees must be > 0, not {degrees}")
        return Description(StudentT, (("covariance", covariance), ("degrees", float(degrees))))

    def radial_cost(self, half_square: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """See `Elliptical.radial_cost`; log1p keeps the digits near the mean."""
        nu, d = self.degrees, self.n_features
        constant = student.log_constant(1 / nu, d) + 0.5 * d * math.log(2 * math.pi)
        return constant + 0.5 * (nu + d) * jnp.log1p(2 * half_square / nu)

    def latent_scale(self, half_square: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """(nu + d) / (nu + |z|^2), the mean of the row's latent precision."""
        return (self.degrees + self.n_features) / (self.degrees + 2 * half_square)

    def radial_cdf(self, z: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """See `EllipticalAnswers.radial_cdf`."""
        return student_cdf(z, self.degrees)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; NaN means at nu <= 1, and NaN covariances at nu <= 2."""
        nu = jnp.broadcast_to(self.degrees, self.mean.shape[:1])[:, None]
        wide, heavy = nu > 1, (nu <= 2)[..., None]
        stretch = jnp.where(heavy, jnp.nan, nu[..., None] / jnp.where(heavy, 1, nu[..., None] - 2))
        return jnp.where(wide, self.mean, jnp.nan), stretch * self.matrices()

    def knowing(self, law: Any, margin: Any, row: Float[Array, "1 g"]) -> Any:
        """Degrees nu + g, and scales larger the farther the row lies from the centre.

        Source: Ding (2016), The American Statistician 70, On the conditional distribution of the
        multivariate t distribution.
        """
        nu, g = self.degrees, margin.n_features
        square = 2 * margin.half_square(row)[0]
        stretch = jnp.sqrt((nu + square) / (nu + g))
        return replace(law.stretched(stretch), degrees=nu + g)

    def _noise(self, key: PRNGKeyArray, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        # drawn from one key, the two would depend on each other
        normal, gamma = jax.random.split(key)
        half = 0.5 * jnp.broadcast_to(self.degrees, self.mean.shape[:1])[labels]
        scale = jax.random.gamma(gamma, half, dtype=self.mean.dtype) / half
        return super()._noise(normal, labels) / jnp.sqrt(scale)[:, None]

    @classmethod
    def initial(
        cls,
        x: Float[Array, "n d"],
        plan: Float[Array, "n k"],
        covariance: Any = "full",
        degrees: float = 4.0,
    ) -> "StudentT":
        """As `Gaussian.initial`, with its covariance for the scale."""
        return cls(*cls._start(x, plan, covariance), jnp.full(plan.shape[1], degrees, x.dtype))

    @classmethod
    def examples(cls) -> dict[str, "StudentT"]:
        """One per scale structure, of 3, 5 and 30 degrees of freedom."""
        degrees = jnp.array([3.0, 5.0, 30.0])
        return {name: cls(*parts, degrees) for name, parts in examples().items()}


@pytree
class RadialMoments(Moments):
    """Moments, and how the expected cost changes with 1 / nu, but for the law's constant.

    Attributes:
        slope: [k] its derivative.
        curvature: [k] its second derivative.
    """

    slope: Array
    curvature: Array


@pytree
class LearnedStudentT(StudentT):
    """K Student-t components of learned degrees, each its own: `StudentT.of(degrees="learn")`.

    Means and scales take EM's step, degrees one of Newton's in 1 / nu on the likelihood of the
    component's rows, with the latent scales integrated out: there EM would need about nu steps to
    leave nu behind. Degrees stay between `LEAST_DEGREES` and `MOST_DEGREES`; a component that goes
    to the latter is Gaussian, and its degrees then have no derivative.

    Attributes:
        degrees: [k] nu > 0.

    Source: Liu and Rubin (1995), Statistica Sinica 5, section 4 (ECME), by one step of Lange's
    EM-gradient for the degrees.
    """

    degrees: Array = parameter(POSITIVE, axes=0)
    exact_m_step = False
    holds = frozenset({"mean", "covariance", "degrees"})

    @classmethod
    def of(
        cls, covariance: str | type[Covariance] = "full", degrees: float | str = ""
    ) -> Description:
        """See `StudentT.of`."""
        own = next(name for name, kind in LEARNED.items() if kind is cls)
        return StudentT.of(covariance, degrees or own)

    def completed(
        self, moments: Moments, plan: Float[Array, "n k"], half_square: Float[Array, "n k"]
    ) -> Moments:
        """See `Elliptical.completed`."""
        slope, curvature = (
            jnp.sum(plan * part, axis=0)
            for part in student.by_inverse(half_square, 1 / self.degrees, self.n_features)
        )
        return RadialMoments(moments.mass, moments.first, moments.second, slope, curvature)

    def maximize(
        self,
        statistics: Any,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "LearnedStudentT":
        """Means and scales as with fixed degrees, and a Newton step on the degrees beside."""
        moved = super().maximize(statistics, mass, prior, held)
        if "degrees" in held:
            return moved
        slope, curvature, total = self._pooled(statistics.slope, statistics.curvature, mass)
        inverse = 1 / self.degrees

        def constant(at: Array) -> Array:
            return student.log_constant(at, self.n_features)

        def first(at: Array) -> Array:
            return jax.jvp(constant, (at,), (jnp.ones_like(at),))[1]

        own_slope, own_curvature = jax.jvp(first, (inverse,), (jnp.ones_like(inverse),))
        slope, curvature = slope + total * own_slope, curvature + total * own_curvature
        # where the curvature is no guide, as far as a step may go
        convex = curvature > 0
        step = jnp.where(convex, slope / jnp.where(convex, curvature, 1), jnp.sign(slope) * jnp.inf)
        factor, beside = LONGEST
        low, high = (inverse + beside) / factor - beside, (inverse + beside) * factor - beside
        inverse = jnp.clip(inverse - step, low, high)
        inverse = jnp.clip(inverse, 1 / MOST_DEGREES, 1 / LEAST_DEGREES)
        return replace(moved, degrees=jnp.where(total > 0, 1 / inverse, self.degrees))

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`."""
        inverse = 1 / at.degrees
        own = statistics.slope * inverse + mass * student.log_constant(inverse, self.n_features)
        # an absent component may hold anything
        own = jnp.sum(jnp.where(mass > 0, own, 0))
        touching: Any = super().expected_cost(statistics, mass, at)
        return touching + own

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Any:
        """See `Pivots.recentred`; the slopes in 1 / nu to first order."""
        moved = super().recentred(statistics, mass, onto)
        step = jnp.where(mass > 0, 1 / onto.degrees - 1 / self.degrees, 0)
        return replace(moved, slope=moved.slope + step * moved.curvature)

    def _pooled(self, slope: Array, curvature: Array, mass: Array) -> tuple[Array, ...]:
        """What each number of degrees is learned from, and its mass."""
        return slope, curvature, mass

    def constrain(self, coordinates: dict[str, Any]) -> "LearnedStudentT":
        """As `Elliptical.constrain`; degrees through the logarithm of the ratio, within bounds."""
        moved = super().constrain(coordinates)
        if "degrees" not in coordinates:
            return moved
        # at a bound the likelihood knows nothing of them: exactly no derivative, not almost none
        free = (self.degrees > LEAST_DEGREES) & (self.degrees < MOST_DEGREES)
        furthest = math.log(MOST_DEGREES / LEAST_DEGREES)
        step = jnp.clip(jnp.where(free, coordinates["degrees"], 0), -furthest, furthest)
        degrees = jnp.clip(self.degrees * jnp.exp(step), LEAST_DEGREES, MOST_DEGREES)
        return replace(moved, degrees=jnp.where(free, degrees, self.degrees))

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """See `Elliptical.unconstrained`."""
        ratio = jnp.log(self.degrees / origin.degrees)
        return {**super().unconstrained(origin), "degrees": ratio}

    @classmethod
    def initial(
        cls,
        x: Float[Array, "n d"],
        plan: Float[Array, "n k"],
        covariance: Any = "full",
        degrees: float = FIRST_DEGREES,
    ) -> "LearnedStudentT":
        """As `StudentT.initial`; from there the degrees are learned."""
        start = StudentT.initial(x, plan, covariance, degrees)
        return cls(start.mean, start.covariance, cls._spread(start.degrees))

    @classmethod
    def _spread(cls, degrees: Float[Array, " k"]) -> Array:
        return degrees

    @classmethod
    def examples(cls) -> dict[str, "StudentT"]:
        """Two scale structures, one of them shared."""
        given = StudentT.examples()
        return {
            name: cls(given[name].mean, given[name].covariance, cls._spread(given[name].degrees))
            for name in ("full", "tied")
        }


@pytree
class SharedStudentT(LearnedStudentT):
    """K Student-t components of one learned number of degrees: `StudentT.of(degrees="shared")`.

    Attributes:
        degrees: nu > 0, a single number.
    """

    degrees: Array = parameter(POSITIVE, axes=0, shared=True)

    def _pooled(self, slope: Array, curvature: Array, mass: Array) -> tuple[Array, ...]:
        # an absent component may hold anything
        parts = (jnp.where(mass > 0, part, 0) for part in (slope, curvature, mass))
        return tuple(jnp.sum(part) for part in parts)

    @classmethod
    def _spread(cls, degrees: Float[Array, " k"]) -> Array:
        return degrees[0]


LEARNED: dict[str, type[LearnedStudentT]] = {
    "learn": LearnedStudentT,
    "own": LearnedStudentT,
    "shared": SharedStudentT,
}
