"""Von Mises-Fisher components: unit vectors about a mean direction."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..core.bessel import cosine_variance, log_normalizer, mean_cosine
from ..core.numerics import einsum, matmul, safe_divide
from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from .coordinates import POSITIVE, SPHERE
from .directional import (
    about_pivot,
    bounded_concentration,
    least_spread,
    on_few_rows,
    sample_versines,
)
from .family import Description, Family
from .forms import LinearForm
from .frozen import Frozen
from .quadratic import largest_amplification

UNIT = 1e-6
"""How far a row's length may be from 1; within that, its direction is what counts."""


def unit(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Vectors over their lengths; 0 stays 0."""
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.where(square > 0, square, 1))


@pytree
class Resultants:
    """Sums over rows about the pivots p_j (the current directions): additive.

    Attributes:
        first: [k, d] sum_i P_ij (x_i - p_j).
        versine: [k] sum_i P_ij (1 - p_j.x_i).
    """

    first: Array
    versine: Array


@pytree
class VonMisesFisher(Family):
    """K von Mises-Fisher laws of unit vectors in R^d, d >= 2; densities in the sphere's own area.

        log p(x | j) = kappa_j (mu_j.x - 1) - log_normalizer(kappa_j, d)

    Attributes:
        direction: [k, d] mean directions mu, of length 1.
        concentration: [k] kappa > 0; 1 / kappa is about the variance along the sphere.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 3)) + np.where(np.arange(200) < 80, 6, -6)[:, None]
        >>> x /= np.linalg.norm(x, axis=1, keepdims=True)
        >>> fit = om.fit(x, 2, family="von_mises_fisher", key=0).mixture
        >>> sorted(round(float(weight), 1) for weight in fit.weights)
        [0.4, 0.6]

    Source: Banerjee, Dhillon, Ghosh and Sra (2005), J. Mach. Learn. Res. 6, section 3.
    """

    direction: Array = parameter(SPHERE)
    concentration: Array = parameter(POSITIVE, axes=0)
    exact_m_step = True
    priors = frozenset({"floor"})
    holds = frozenset({"direction", "concentration"})

    @classmethod
    def of(cls, concentration: str | float = "own") -> Description:
        """Laws of an own or a common concentration, which is learned, or of a fixed one.

        Args:
            concentration: "own", "common", or a number that all keep.

        Raises:
            ValueError: for another name, or a number that is not finite and > 0.
        """
        if concentration in ("own", "common"):
            return Description(VonMisesFisher if concentration == "own" else CommonVonMisesFisher)
        if isinstance(concentration, str) or not 0 < concentration < np.inf:
            raise ValueError(
                f'concentration must be "own", "common" or a number > 0, not {concentration!r}'
            )
        return Description(cls, (("concentration", float(concentration)),))

    @property
    def n_features(self) -> int:
        """The width d of a row."""
        return self.direction.shape[-1]

    def _each(self, one: Array) -> Float[Array, " k"]:
        return jnp.broadcast_to(one, self.direction.shape[:-1])

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = kappa_j |x_i - mu_j|^2 / 2 + log_normalizer, in nats: by differences."""
        return self._prepared(log_normalizer(self.concentration, self.n_features), x)

    def prepared_cost(self) -> Partial:
        """`cost` with the normalisers computed."""
        normalizer = log_normalizer(self.concentration, self.n_features)
        return Partial(type(self)._prepared, self, normalizer)

    def _prepared(self, normalizer: Array, x: Array) -> Float[Array, "n k"]:
        half = 0.5 * jnp.sum((unit(x)[:, None, :] - self.direction) ** 2, axis=-1)
        return self.concentration * half + normalizer

    def linear_form(self) -> "VonMisesFisherForm":
        """T(x) = (1, x), eta = (-kappa - log_normalizer, kappa mu)."""
        kappa = self._each(self.concentration)
        constant = -kappa - log_normalizer(self.concentration, self.n_features)
        eta = jnp.concatenate([constant[:, None], kappa[:, None] * self.direction], axis=1)
        return VonMisesFisherForm(eta, self)

    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Resultants:
        """Resultants about the current directions; the pivot keeps the digits."""
        difference = unit(x)[:, None, :] - self.direction
        first = einsum("nk,nkd->kd", plan, difference)
        return Resultants(first, 0.5 * einsum("nk,nkd->k", plan, difference**2))

    def maximize(
        self,
        statistics: Resultants,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "VonMisesFisher":
        """The mean's direction, and the concentration with the mean's length for A_d."""
        present = mass > 0
        shift = safe_divide(statistics.first, mass[:, None])
        versine = safe_divide(statistics.versine, mass)
        mean = self.direction + shift
        along = jnp.sum(mean**2, axis=1)
        moved = replace(
            self,
            direction=jnp.where((present & (along > 0))[:, None], unit(mean), self.direction),
        )
        moved = self if "direction" in held else moved
        if "concentration" in held:
            return moved
        # along a direction that stays, the mean cosine is all that counts
        length, lacks = about_pivot(along, jnp.sum(shift**2, axis=1), versine)
        cosine, versine = (1 - versine, versine) if "direction" in held else (length, lacks)
        cosine, versine, share, kept = self._pooled(cosine, versine, mass)
        kappa = bounded_concentration(cosine, versine, self.n_features, prior)
        return replace(moved, concentration=jnp.where(share > 0, kappa, kept))

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the whole."""
        versine = self.recentred(statistics, mass, at).versine
        each = at.concentration * versine + mass * log_normalizer(at.concentration, self.n_features)
        # an absent component may hold anything
        return jnp.sum(jnp.where(mass > 0, each, 0))

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> Resultants:
        """See `Pivots.recentred`: directions are the pivots."""
        # an absent component may hold anything
        shift = jnp.where(mass[:, None] > 0, onto.direction - self.direction, 0)
        half = mass * 0.5 * jnp.sum(shift**2, axis=1)
        versine = statistics.versine - jnp.sum(shift * statistics.first, axis=1) + half
        return Resultants(statistics.first - mass[:, None] * shift, versine)

    def _pooled(self, cosine: Array, versine: Array, mass: Array) -> tuple[Array, ...]:
        """What each concentration is learned from, its mass, and what it is without."""
        return cosine, versine, mass, self.concentration

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """See `Family.spurious`."""
        kappa, d = self._each(self.concentration)[:, None], self.n_features
        return on_few_rows(kappa, d, self.cost(self.direction), prior, weights, n_rows)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`: A mu, and A / kappa across mu, its own variance along it."""
        kappa, mu, d = self._each(self.concentration), self.direction, self.n_features
        mean, outer = mean_cosine(kappa, d), mu[:, :, None] * mu[:, None, :]
        across = (mean / kappa)[:, None, None] * (jnp.eye(d, dtype=mu.dtype) - outer)
        return mean[:, None] * mu, across + cosine_variance(kappa, d)[:, None, None] * outer

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Unit vectors from the law of component labels_i, for each i."""
        del given
        first, second = jax.random.split(key)
        mu = self.direction[labels]
        versine = sample_versines(first, self._each(self.concentration)[labels], self.n_features)
        noise = jax.random.normal(second, mu.shape, mu.dtype)
        across = unit(noise - jnp.sum(noise * mu, axis=1, keepdims=True) * mu)
        sine = jnp.sqrt(versine * (2 - versine))
        return unit(mu - versine[:, None] * mu + sine[:, None] * across)

    @classmethod
    def initial(
        cls, x: Float[Array, "n d"], plan: Float[Array, "n k"], concentration: float | None = None
    ) -> Any:
        """Directions of the assigned rows, and their pooled concentration for each.

        Pooling makes every start regular, also where a component holds one row.
        """
        mass, total, d = jnp.sum(plan, axis=0), matmul(plan.T, unit(x)), x.shape[1]
        # what no row and no mean points to: the first axis
        direction = jnp.eye(1, d, dtype=x.dtype)
        for resultant in (jnp.sum(total, axis=0), total):
            points = jnp.sum(unit(resultant) ** 2, axis=-1, keepdims=True) > 0.5
            direction = jnp.where(points, unit(resultant), direction)
        length = jnp.sum(jnp.sqrt(jnp.sum(jnp.where(mass[:, None] > 0, total, 0) ** 2, axis=1)))
        versine = jnp.maximum(1 - length, 64 * jnp.finfo(x.dtype).eps * d)
        kappa = bounded_concentration(1 - versine, versine, d, None)
        if concentration is not None:
            kappa = jnp.asarray(concentration, x.dtype)
        start = cls(direction, cls._spread(kappa, plan.shape[1]))
        return start if concentration is None else Frozen(start, "concentration")

    @classmethod
    def _spread(cls, kappa: Array, k: int) -> Array:
        return jnp.broadcast_to(kappa, (k,))

    @classmethod
    def check(cls, x: Any, **options: Any) -> None:
        """Rows of length 1, in two or more columns.

        Raises:
            ValueError: naming the first row that is none.
        """
        if isinstance(x, dict) or np.ndim(x) != 2 or x.shape[1] < 2:
            raise ValueError(f"{cls.__name__} takes one table (n, d) of unit vectors, d >= 2")
        length = np.linalg.norm(np.asarray(x), axis=1)
        bad = ~(np.abs(length - 1) <= UNIT)
        if bad.any():
            row = int(np.argmax(bad))
            remedy = (
                "leave it out, as it has no direction"
                if length[row] == 0
                else "divide each row by its length: x / np.linalg.norm(x, axis=1, keepdims=True)"
            )
            raise ValueError(
                f"a {cls.__name__} family needs unit vectors; row {row} has length "
                f"{length[row]:.7g}: {remedy}"
            )

    @classmethod
    def least(cls, dtype: Any, **options: Any) -> Prior:
        """The floor at the rounding of unit vectors."""
        del options
        return least_spread(dtype)

    @classmethod
    def examples(cls) -> dict[str, "VonMisesFisher"]:
        """Three components in R^3."""
        direction = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [-0.48, 0.6, -0.64]])
        return {"three": cls(direction, jnp.array([2.0, 6.0, 15.0]))}


@pytree
class CommonVonMisesFisher(VonMisesFisher):
    """K von Mises-Fisher laws of one learned concentration: `VonMisesFisher.of("common")`.

    Attributes:
        direction: [k, d] mean directions mu, of length 1.
        concentration: kappa > 0, a single number.
    """

    concentration: Array = parameter(POSITIVE, axes=0, shared=True)

    @classmethod
    def of(cls, concentration: str | float = "common") -> Description:
        """See `VonMisesFisher.of`."""
        return VonMisesFisher.of(concentration)

    def _pooled(self, cosine: Array, versine: Array, mass: Array) -> tuple[Array, ...]:
        total = jnp.sum(mass)

        def mean(each: Array) -> Array:
            return safe_divide(jnp.sum(jnp.where(mass > 0, mass * each, 0)), total)

        return mean(cosine), mean(versine), total, self.concentration

    @classmethod
    def _spread(cls, kappa: Array, k: int) -> Array:
        del k
        return kappa

    @classmethod
    def examples(cls) -> dict[str, "VonMisesFisher"]:
        """Three components in R^3."""
        return {"three": cls(VonMisesFisher.examples()["three"].direction, jnp.array(6.0))}


@pytree
class VonMisesFisherForm(LinearForm):
    """Von Mises-Fisher laws, linear in the unit vectors.

    Attributes:
        natural_parameters: [k, 1 + d] eta.
        components: the family.
    """

    natural_parameters: Array
    components: Any
    guarded = True

    def sufficient_statistics(self, x: Float[Array, "n d"]) -> Float[Array, "n f"]:
        """1 and the directions."""
        return jnp.concatenate([jnp.ones_like(x[:, :1]), unit(x)], axis=1)

    def statistics(self, sums: Float[Array, "k f"], total: None) -> Resultants:
        """Resultants about the current directions."""
        del total
        mass, resultant, mu = sums[:, 0], sums[:, 1:], self.components.direction
        versine = mass - jnp.sum(mu * resultant, axis=1)
        return Resultants(resultant - mass[:, None] * mu, versine)

    def safe(self) -> Bool[Array, ""]:
        """Whether kappa mu.x loses no more digits than squares of Gaussians may."""
        kappa = jax.lax.stop_gradient(self.components.concentration)
        most = largest_amplification(kappa.dtype) * self.components.n_features
        return jnp.all(kappa <= most)

    def reaches(self, x: Float[Array, "n d"]) -> Bool[Array, ""]:
        """All rows: directions are bounded."""
        del x
        return jnp.asarray(True)
