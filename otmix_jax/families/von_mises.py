"""Von Mises components: columns of independent angles."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray, PyTree

from ..core.bessel import log_normalizer
from ..core.numerics import einsum, safe_divide
from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from .coordinates import POSITIVE, REAL
from .directional import (
    about_pivot,
    bounded_concentration,
    least_spread,
    on_few_rows,
    sample_versines,
)
from .independent import Independent, IndependentForm, Sums


@pytree
class VonMises(Independent):
    """K products of von Mises laws of angles in radians, whatever their turn; per radian.

        log p(x | j) = sum_a kappa_ja (cos(x_a - mu_ja) - 1) - log_normalizer(kappa_ja, 2)

    Attributes:
        direction: [k, d] mean angles mu in radians, up to whole turns.
        concentration: [k, d] kappa > 0; 1 / kappa is about the variance.

    Source: Mardia and Jupp (2000), Directional Statistics, section 3.5.4.
    """

    direction: Array = parameter(REAL)
    concentration: Array = parameter(POSITIVE)
    priors = frozenset({"floor"})
    separable = True
    cancels = True
    needs = "angles in radians, finite numbers"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Finite numbers."""
        del size
        return abs(x) < math.inf

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The cosine and the sine."""
        return jnp.cos(x), jnp.sin(x)

    def natural(self) -> tuple[Array, ...]:
        """Kappa cos mu and kappa sin mu."""
        return tuple(self.concentration * part for part in self.sufficient(self.direction))

    def log_partition(self) -> Float[Array, "k d"]:
        """Log 2 pi I_0(kappa)."""
        return self.concentration + log_normalizer(self.concentration, 2)

    def base(self, x: Array, size: Any) -> Array:
        """Nothing: densities are per radian."""
        del size
        return jnp.zeros_like(x)

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """The direction of the mean vector, and the concentration with its length for A."""
        del options
        cosine, sine = means
        length = jnp.minimum(jnp.sqrt(cosine**2 + sine**2), 1)
        versine = jnp.maximum(1 - length, 64 * jnp.finfo(cosine.dtype).eps)
        kappa = bounded_concentration(1 - versine, versine, 2, None)
        return {"direction": jnp.arctan2(sine, cosine), "concentration": kappa}

    def _differences(self, x: PyTree) -> tuple[Array, Array, Array, Array]:
        """Sizes [n, d], sines and versines [n, k, d] of x - mu, and log h by row.

        By differences of points on the circle: 1 - cos would cancel near mu.
        """
        size, points, base = self.features(x)
        cosine, sine = self.sufficient(self.direction)
        u, v = points[0][:, None] - cosine, points[1][:, None] - sine
        return size, v * cosine - u * sine, 0.5 * (u**2 + v**2), base

    def cost(self, x: PyTree) -> Float[Array, "n k"]:
        """C_ij = -log p(x_i | theta_j), in nats."""
        return self._prepared(log_normalizer(self.concentration, 2), x)

    def prepared_cost(self) -> Partial:
        """`cost` with the normalisers computed."""
        return Partial(type(self)._prepared, self, log_normalizer(self.concentration, 2))

    def _prepared(self, normalizer: Array, x: PyTree) -> Float[Array, "n k"]:
        size, _, versine, base = self._differences(x)
        each = self.concentration * versine + normalizer
        return jnp.sum(size[:, None] * each, axis=-1) - base[:, None]

    def linear_form(self) -> "VonMisesForm":
        """T(x) = (1, cos x, sin x); see `Independent.linear_form`."""
        form = super().linear_form()
        return VonMisesForm(form.natural_parameters, self)

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> Sums:
        """Sums of sin(x - mu) and of 1 - cos(x - mu), about the current directions."""
        size, sine, versine, _ = self._differences(x)
        sums = (einsum("nk,nd,nkd->kd", plan, size, part) for part in (sine, versine))
        return Sums(einsum("nk,nd->kd", plan, size) if self.by_cell else None, tuple(sums))

    def maximize(
        self,
        statistics: Sums,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "VonMises":
        """The mean vector's direction, and the concentration with its length for A."""
        if held:
            return self
        size = mass[:, None] if statistics.size is None else statistics.size
        sine, versine = (safe_divide(part, size) for part in statistics.terms)
        cosine = 1 - versine
        along = cosine**2 + sine**2
        length, lacks = about_pivot(along, versine**2 + sine**2, versine)
        kappa = bounded_concentration(length, lacks, 2, prior)
        there = jnp.broadcast_to(size > 0, along.shape)
        # an angle of (0, 0) has no derivative
        turned = there & (along > 0)
        turn = jnp.arctan2(jnp.where(turned, sine, 0), jnp.where(turned, cosine, 1))
        # from where it was, so that it never jumps by a turn
        direction = jnp.where(turned, self.direction + turn, self.direction)
        return replace(
            self,
            direction=direction,
            concentration=jnp.where(there, kappa, self.concentration),
        )

    def expected_cost(self, statistics: Sums, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; the whole."""
        size = mass[:, None] if statistics.size is None else statistics.size
        turn = at.direction - self.direction
        sine, versine = statistics.terms
        # of 1 - cos about the directions of `at`
        versine = size - (size - versine) * jnp.cos(turn) - sine * jnp.sin(turn)
        each = at.concentration * versine + size * log_normalizer(at.concentration, 2)
        # an absent component may hold anything
        return jnp.sum(jnp.where(size > 0, each, 0))

    def recentred(self, statistics: Sums, mass: Float[Array, " k"], onto: Any) -> Sums:
        """See `Pivots.recentred`: sums are turned."""
        size = mass[:, None] if statistics.size is None else statistics.size
        turn = jnp.where(size > 0, onto.direction - self.direction, 0)
        sine, versine = statistics.terms
        cosine, across = jnp.cos(turn), jnp.sin(turn)
        own = 2 * jnp.sin(0.5 * turn) ** 2  # 1 - cosine, which would cancel
        turned = sine * cosine - across * (size - versine)
        return Sums(statistics.size, (turned, versine * cosine + own * size - across * sine))

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """See `Family.spurious`."""
        at_centres = self.cost(self.direction)
        return on_few_rows(self.concentration, 2, at_centres, prior, weights, n_rows)

    @classmethod
    def spread(cls, x: Array, size: Any) -> Array:
        """Cosines and sines."""
        del size
        return jnp.concatenate([jnp.cos(x), jnp.sin(x)], axis=1)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Angles within half a turn of the component's."""
        del given
        first, second = jax.random.split(key)
        kappa = self.concentration[labels]
        versine = sample_versines(first, kappa.ravel(), 2).reshape(kappa.shape)
        angle = 2 * jnp.arcsin(jnp.sqrt(0.5 * versine))
        sign = jnp.where(jax.random.bernoulli(second, shape=kappa.shape), 1, -1)
        return self.direction[labels] + sign * angle

    @classmethod
    def least(cls, dtype: Any, *_: Any, **options: Any) -> Prior:
        """The floor at the rounding of points on the circle."""
        del options
        return least_spread(dtype)

    @classmethod
    def examples(cls) -> dict[str, "VonMises"]:
        """Three components of two angles."""
        direction = jnp.array([[0.0, 1.0], [2.5, -2.0], [-1.5, 3.0]])
        concentration = jnp.array([[0.5, 2.0], [20.0, 3.0], [5.0, 40.0]])
        return {"angles": cls(direction, concentration)}


@pytree
class VonMisesForm(IndependentForm):
    """Angles, linear in cosines and sines."""

    def statistics(self, sums: Float[Array, "k f"], total: None) -> Sums:
        """Sums about the current directions."""
        own = self.components
        plain = super().statistics(sums, total)
        (cos, sin), (cosine, sine) = plain.terms, own.sufficient(own.direction)
        size = sums[:, :1] if plain.size is None else plain.size
        about = sin * cosine - cos * sine, size - (cos * cosine + sin * sine)
        return Sums(plain.size, about)
