"""Negative binomial components: counts that vary more than Poisson's."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betainc
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.counting import log_negative_binomial
from ..core.numerics import matmul, safe_divide
from ..core.tree import parameter, pytree, replace, static
from ..priors import Prior
from .coordinates import POSITIVE, unconstrained
from .family import Description
from .independent import Independent, floored
from .poisson import whole

LARGEST = 1e6
"""The largest dispersion in units of 1 + mean, which stands for infinity: the law is Poisson's, its
variance a millionth larger."""
LONGEST = 2.0
"""The largest step of log dispersion."""


@pytree
class NegativeBinomial(Independent):
    """K products of negative binomial laws of variance mean + mean^2 / dispersion.

    The mean's M-step is exact, whatever the dispersion; that of a learned dispersion is a guarded
    Newton step on its expected cost at the new mean. Where rows vary no more than Poisson's it
    grows to `LARGEST`.

    Attributes:
        mean: [k, d], expected counts.
        dispersion: [k, d] r > 0, the size; infinity is Poisson.
        fixed: the dispersion of all cells, where it is not learned.

    Source: Lawless (1987), Canadian Journal of Statistics 15, Negative binomial and mixed Poisson
    regression.
    """

    mean: Array = parameter(POSITIVE)
    dispersion: Array = parameter(POSITIVE)
    fixed: float | None = static(default=None, kw_only=True)
    cancels = True
    needs = "counts 0, 1, 2, ..."

    @classmethod
    def of(cls, dispersion: float | str = "learn") -> Description:
        """Negative binomial components of a fixed dispersion, or of learned ones.

        Raises:
            ValueError: for anything but a number > 0 or "learn".
        """
        if dispersion == "learn":
            return Description(cls)
        if isinstance(dispersion, str) or not dispersion > 0:
            raise ValueError(f'dispersion must be a number > 0 or "learn", not {dispersion!r}')
        return Description(cls, (("fixed", float(dispersion)),))

    def options(self) -> dict[str, Any]:
        """The dispersion, where it is fixed."""
        return {} if self.fixed is None else {"fixed": self.fixed}

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """Where the dispersion is fixed."""
        return self.fixed is not None

    @property
    def n_parameters(self) -> int:
        """The means, and the dispersions that are learned."""
        k, d = self.mean.shape[-2:]
        return k * d * (2 if self.fixed is None else 1)

    def unconstrained(self, origin: Any) -> dict[str, Any]:
        """See `Family.unconstrained`."""
        found = unconstrained(self, origin)
        return found if self.fixed is None else {"mean": found["mean"]}

    @property
    def holds(self) -> frozenset[str]:  # type: ignore[override]
        """Either."""
        return frozenset({"mean", "dispersion"})

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Whole numbers >= 0."""
        del size
        return (x >= 0) & whole(x)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The counts and their squares, for a start by moments."""
        return x, x**2

    def natural(self) -> tuple[Array, ...]:
        """None: the law is no exponential family in its dispersion."""
        return ()

    def log_partition(self) -> Float[Array, "k d"]:
        """None: see `natural`."""
        return jnp.zeros_like(self.mean)

    def linear_form(self) -> None:  # type: ignore[override]
        """None: see `natural`."""

    def log_cells(self, x: Array, size: Array | float) -> Array:
        """See `Independent.log_cells`."""
        del size
        return log_negative_binomial(x, self.mean, self.dispersion)

    def statistics(  # type: ignore[override]
        self, x: PyTree, plan: Float[Array, "n k"]
    ) -> "Dispersed":
        """Sums of the counts, and derivatives in log dispersion at the current parameters."""
        cells, _, there, sound = self.read(x)
        size = matmul(plan.T, there.astype(plan.dtype))
        first = matmul(plan.T, jnp.where(sound, cells, 0))
        if self.fixed is not None:
            blank = jnp.zeros_like(first)
            return Dispersed(size, first, blank, blank)

        def slope(log_dispersion: Array) -> Array:
            def law(s: Array) -> Array:
                return log_negative_binomial(cells[:, None], self.mean, jnp.exp(s))

            ones = jnp.ones_like(log_dispersion)
            return jax.jvp(law, (log_dispersion,), (ones,))[1]

        at = jnp.log(self.dispersion)
        each = jax.jvp(slope, (at,), (jnp.ones_like(at),))
        share = plan[:, :, None] * sound[:, None]
        return Dispersed(size, first, *(jnp.sum(share * one, axis=0) for one in each))

    def maximize(  # type: ignore[override]
        self,
        statistics: "Dispersed",
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "NegativeBinomial":
        """The mean of the rows, and a step of the dispersion."""
        del prior, mass
        there = statistics.size > 0
        mean = self.mean
        if "mean" not in held:
            mean = jnp.where(there, safe_divide(statistics.first, statistics.size), self.mean)
            mean = floored(mean)
        if self.fixed is not None or "dispersion" in held:
            return replace(self, mean=mean)
        slope, curvature = (safe_divide(d, statistics.size) for d in self._at(statistics, mean))
        step = jnp.clip(safe_divide(slope, jnp.abs(curvature)), -LONGEST, LONGEST)
        dispersion = within(self.dispersion * jnp.exp(step), mean)
        return replace(self, mean=mean, dispersion=jnp.where(there, dispersion, self.dispersion))

    def expected_cost(self, statistics: Any, mass: Float[Array, " k"], at: Any) -> Any:
        """See `Pivots.expected_cost`; what touches it."""
        del mass
        size, own = statistics.size, safe_divide(statistics.first, statistics.size)
        # of log p in the mean: x log mean - (x + r) log(r + mean)
        slope = size * (own / self.mean - (own + self.dispersion) / (self.dispersion + self.mean))
        along = slope * (at.mean - self.mean)
        along += statistics.slope * jnp.log(at.dispersion / self.dispersion)
        # an absent component may hold anything
        return -jnp.sum(jnp.where(size > 0, along, 0))

    def recentred(self, statistics: Any, mass: Float[Array, " k"], onto: Any) -> "Dispersed":
        """See `Pivots.recentred`: exact in the mean, to first order in the log dispersion."""
        del mass
        if self.fixed is not None:
            return statistics
        there, step = statistics.size > 0, jnp.log(onto.dispersion / self.dispersion)
        slope, curvature = self._at(statistics, onto.mean)
        # an absent component may hold anything
        slope = jnp.where(there, slope + curvature * step, statistics.slope)
        curvature = jnp.where(there, curvature, statistics.curvature)
        return replace(statistics, slope=slope, curvature=curvature)

    def _at(self, statistics: "Dispersed", mean: Array) -> tuple[Array, Array]:
        """Derivatives in log dispersion at another mean."""
        slope, curvature, size = statistics.slope, statistics.curvature, statistics.size
        # the derivatives were taken at the old mean; what the move adds is linear in the counts
        r, own = self.dispersion, safe_divide(statistics.first, size)
        old, new = ((own - m) / (r + m) for m in (self.mean, mean))
        moved = jnp.log1p((mean - self.mean) / (r + self.mean))
        gain = old - new - moved
        bend = -old / (r + self.mean) + new / (r + mean)
        bend = bend + (mean - self.mean) / ((r + mean) * (r + self.mean))
        return slope + size * r * gain, curvature + size * (r * gain + r**2 * bend)

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """The mean, and the dispersion by moments."""
        mean = floored(means[0])
        given = options.get("fixed")
        if given is not None:
            return {"mean": mean, "dispersion": jnp.full_like(mean, given)}
        excess = means[1] - mean**2 - mean
        found = safe_divide(mean**2, jnp.maximum(excess, 0))
        return {"mean": mean, "dispersion": within(jnp.where(excess > 0, found, jnp.inf), mean)}

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> Float[Array, "n d"]:
        """Counts, as real numbers: Poisson with gamma rates."""
        del given
        rate_key, count_key = jax.random.split(key)
        mean, r = self.mean[labels], self.dispersion[labels]
        rate = jax.random.gamma(rate_key, r) * (mean / r)
        return jax.random.poisson(count_key, rate).astype(mean.dtype)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        return self.mean, self.mean + self.mean**2 / self.dispersion

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        mean, r, count = self.mean[:, 0], self.dispersion[:, 0], jnp.floor(x)[:, None]
        share = betainc(r, jnp.maximum(count, 0) + 1, r / (r + mean))
        return jnp.where(count < 0, 0, share)

    @classmethod
    def examples(cls) -> dict[str, Any]:
        """Three components of two counts."""
        mean = jnp.array([[0.5, 3.0], [8.0, 1.0], [20.0, 30.0]])
        dispersion = jnp.array([[2.0, 0.7], [5.0, 1.5], [3.0, 20.0]])
        alike = jnp.full_like(mean, 2.5)
        return {"learned": cls(mean, dispersion), "fixed": cls(mean, alike, fixed=2.5)}


def within(dispersion: Array, mean: Array) -> Array:
    """Dispersions within the bounds."""
    return jnp.clip(dispersion, 1 / LARGEST, LARGEST * (1 + mean))


@pytree
class Dispersed:
    """Sums over rows, weighted by the plan: additive.

    Attributes:
        size: [k, d] of the rows whose cell is there.
        first: [k, d] of the counts.
        slope: [k, d] of d log p / d log r.
        curvature: [k, d] of the second derivative.
    """

    size: Array
    first: Array
    slope: Array
    curvature: Array
