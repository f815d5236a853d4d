"""Conjugate laws of counts, of zeros and ones, and of codes.

An expected cost is a cost again, at the expected natural parameters E eta, with the expected
log-partition E A(eta) in the place of A.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import digamma, gammaln
from jaxtyping import Bool, Float, PyTree

from ..core.tree import pytree, replace, static
from ..core.typing import AnyArray
from ..families import Bernoulli, Categorical, Description, NegativeBinomial, Poisson
from ..families.independent import Sums
from .law import ConjugateLaw, ConjugatePrior, check_positive
from .proportions import beta_divergence, dirichlet_divergence, dirichlet_log


@pytree
class ExpectedPoisson(Poisson):
    """Poisson laws at exp E log rate, whose log-partition is E rate: `expected_rate` [k, d]."""

    expected_rate: Array

    def log_partition(self) -> Float[Array, "k d"]:
        """See `Independent.log_partition`."""
        return self.expected_rate

    def log_cells(self, x: Array, size: Array) -> Array:
        """See `Independent.log_cells`."""
        return super().log_cells(x, size) - size * (self.expected_rate - self.rate)


@pytree
class GammaRates(ConjugateLaw):
    """The rates of Poisson columns are Gamma.

    Attributes:
        shape: [k, d] > 0, in counts.
        rate: [k, d] > 0, in rows, or in units of exposure.
        by_cell: whether cells have exposures of their own, or may be missing.
    """

    shape: Array
    rate: Array
    by_cell: bool = static(default=False, kw_only=True)

    def updated(
        self, components: Any, statistics: Sums, counts: Float[Array, " k"]
    ) -> "GammaRates":
        """See `ConjugateLaw.updated`."""
        del components
        shape = self.shape + statistics.terms[0]
        rate = jnp.broadcast_to(self.rate + _sizes(statistics, counts), shape.shape)
        return replace(self, shape=shape, rate=rate)

    def expected(self) -> ExpectedPoisson:
        """See `ConjugateLaw.expected`."""
        rate = jnp.exp(digamma(self.shape)) / self.rate
        return ExpectedPoisson(rate, self.shape / self.rate, by_cell=self.by_cell)

    def divergence(self, other: "GammaRates") -> Float[Array, ""]:
        """See `ConjugateLaw.divergence`."""
        a, b, c, d = self.shape, self.rate, other.shape, other.rate
        shapes = (a - c) * digamma(a) - gammaln(a) + gammaln(c)
        return jnp.sum(shapes + c * jnp.log(b / d) + a * (d / b - 1))

    def plug_in(self) -> Poisson:
        """See `ConjugateLaw.plug_in`."""
        return Poisson(self.shape / self.rate, by_cell=self.by_cell)

    def predictive(self) -> NegativeBinomial:
        """See `ConjugateLaw.predictive`; of rows without exposures."""
        return NegativeBinomial(self.shape / self.rate, self.shape, by_cell=self.by_cell)


@pytree
class GammaPrior(ConjugatePrior):
    """Gamma laws of Poisson rates.

    Attributes:
        shape: [d] or one number, > 0, in counts.
        rate: [d] or one number, > 0, in rows; None is the shape over each column's mean.
    """

    shape: AnyArray | float = 1.0
    rate: AnyArray | float | None = None

    def law(
        self, x: PyTree, row_weight: Float[Array, " n"], count: Any, described: Description
    ) -> GammaRates:
        """See `ConjugatePrior.law`."""
        overall: Any = described.initial(x, row_weight[:, None])
        shape = jnp.broadcast_to(jnp.asarray(self.shape, row_weight.dtype), overall.rate.shape)
        # a column of zeros says that its mean is below one count
        rate = shape / jnp.maximum(overall.rate, 1 / count) if self.rate is None else self.rate
        rate = jnp.broadcast_to(jnp.asarray(rate, row_weight.dtype), shape.shape)
        return GammaRates(shape, rate, by_cell=overall.by_cell)

    def check(self, described: Description, n_features: int) -> None:
        """See `ConjugatePrior.check`."""
        del described, n_features
        check_positive(self.shape, "shape")
        if self.rate is not None:
            check_positive(self.rate, "rate")


@pytree
class ExpectedBernoulli(Bernoulli):
    """Bernoulli laws at the expected log odds, whose log-partition is -E log(1 - p).

    Attributes:
        log_odds: [k, d] E log(p / (1 - p)).
        partition: [k, d] -E log(1 - p).
    """

    log_odds: Array
    partition: Array

    def natural(self) -> tuple[Array, ...]:
        """See `Independent.natural`."""
        return (self.log_odds,)

    def log_partition(self) -> Float[Array, "k d"]:
        """See `Independent.log_partition`."""
        return self.partition


@pytree
class BetaProbabilities(ConjugateLaw):
    """The probabilities of Bernoulli columns are Beta.

    Attributes:
        ones: [k, d] > 0, in rows.
        zeros: [k, d] > 0, in rows.
        by_cell: whether cells may be missing.
    """

    ones: Array
    zeros: Array
    by_cell: bool = static(default=False, kw_only=True)

    def updated(
        self, components: Any, statistics: Sums, counts: Float[Array, " k"]
    ) -> "BetaProbabilities":
        """See `ConjugateLaw.updated`."""
        del components
        (ones,) = statistics.terms
        zeros = self.zeros + jnp.maximum(_sizes(statistics, counts) - ones, 0)
        return replace(self, ones=self.ones + ones, zeros=zeros)

    def expected(self) -> ExpectedBernoulli:
        """See `ConjugateLaw.expected`."""
        odds = digamma(self.ones) - digamma(self.zeros)
        partition = digamma(self.ones + self.zeros) - digamma(self.zeros)
        return ExpectedBernoulli(jax.nn.sigmoid(odds), odds, partition, by_cell=self.by_cell)

    def divergence(self, other: "BetaProbabilities") -> Float[Array, ""]:
        """See `ConjugateLaw.divergence`."""
        return jnp.sum(beta_divergence(self.ones, self.zeros, other.ones, other.zeros))

    def plug_in(self) -> Bernoulli:
        """See `ConjugateLaw.plug_in`."""
        return Bernoulli(self.ones / (self.ones + self.zeros), by_cell=self.by_cell)

    def predictive(self) -> Bernoulli:
        """See `ConjugateLaw.predictive`."""
        return self.plug_in()


@pytree
class BetaPrior(ConjugatePrior):
    """Beta laws of Bernoulli probabilities. `ones`, `zeros`: [d] or one number, > 0, in rows."""

    ones: AnyArray | float = 1.0
    zeros: AnyArray | float = 1.0

    def law(
        self, x: PyTree, row_weight: Float[Array, " n"], count: Any, described: Description
    ) -> BetaProbabilities:
        """See `ConjugatePrior.law`."""
        del count
        overall: Any = described.initial(x, row_weight[:, None])
        like = overall.probability
        ones, zeros = (
            jnp.broadcast_to(jnp.asarray(a, like.dtype), like.shape)
            for a in (self.ones, self.zeros)
        )
        return BetaProbabilities(ones, zeros, by_cell=overall.by_cell)

    def check(self, described: Description, n_features: int) -> None:
        """See `ConjugatePrior.check`."""
        del described, n_features
        check_positive(self.ones, "ones")
        check_positive(self.zeros, "zeros")


@pytree
class ExpectedCategorical(Categorical):
    """Categorical laws whose cost is -E log p: `expected_log` [k, d, l], in nats."""

    expected_log: Array

    def _logs(self) -> Float[Array, "k f"]:
        return self._flat(self.expected_log)


@pytree
class DirichletLevels(ConjugateLaw):
    """The probabilities of an item's levels are Dirichlet.

    Attributes:
        concentration: [k, d, l] > 0, in rows; 0 for levels that an item does not have.
        levels: as `Categorical.levels`.
        missing: as `Categorical.missing`.
    """

    concentration: Array
    levels: tuple[int, ...] | None = static(default=None, kw_only=True)
    missing: bool = static(default=False, kw_only=True)

    def _of(self, probability: Array) -> Categorical:
        return Categorical(probability, levels=self.levels, missing=self.missing)

    @property
    def _there(self) -> Bool[np.ndarray, "d l"]:
        return self._of(self.concentration)._there

    def updated(
        self, components: Any, statistics: Array, counts: Float[Array, " k"]
    ) -> "DirichletLevels":
        """See `ConjugateLaw.updated`."""
        del components, counts
        return replace(self, concentration=self.concentration + statistics)

    def expected(self) -> ExpectedCategorical:
        """See `ConjugateLaw.expected`."""
        logs, at = dirichlet_log(self.concentration, self._there), self.plug_in()
        told = {"levels": self.levels, "missing": self.missing}
        return ExpectedCategorical(at.probability, logs, **told)

    def divergence(self, other: "DirichletLevels") -> Float[Array, ""]:
        """See `ConjugateLaw.divergence`."""
        each = dirichlet_divergence(self.concentration, other.concentration, self._there)
        return jnp.sum(each)

    def plug_in(self) -> Categorical:
        """See `ConjugateLaw.plug_in`."""
        total = jnp.sum(self.concentration, axis=-1, keepdims=True)
        return self._of(self.concentration / total)

    def predictive(self) -> Categorical:
        """See `ConjugateLaw.predictive`."""
        return self.plug_in()


@pytree
class LevelsPrior(ConjugatePrior):
    """Dirichlet laws of items. `concentration`: one number, or [d, l], > 0, in rows."""

    concentration: AnyArray | float = 1.0

    def law(
        self, x: PyTree, row_weight: Float[Array, " n"], count: Any, described: Description
    ) -> DirichletLevels:
        """See `ConjugatePrior.law`."""
        del count
        overall: Any = described.initial(x, row_weight[:, None])
        given = jnp.asarray(self.concentration, row_weight.dtype)
        concentration = jnp.where(overall._there, given, 0)
        concentration = jnp.broadcast_to(concentration, overall.probability.shape)
        return DirichletLevels(concentration, levels=overall.levels, missing=overall.missing)

    def check(self, described: Description, n_features: int) -> None:
        """See `ConjugatePrior.check`."""
        del described, n_features
        check_positive(self.concentration, "concentration")


def _sizes(statistics: Sums, counts: Float[Array, " k"]) -> Array:
    """What was counted in: cells' sizes, or rows."""
    return counts[:, None] if statistics.size is None else statistics.size
