"""Response laws of regressions: given the linear predictor, what is observed."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import xlogy
from jaxtyping import PRNGKeyArray

from ..core.counting import log_factorial, peak
from ..core.numerics import safe_divide
from ..core.tree import parameter, pytree
from ..priors import Prior
from .coordinates import POSITIVE, REAL
from .regression import Regression, Slopes


def _mean(values: Array, weight: Array) -> Array:
    """The weighted mean of all entries."""
    return safe_divide(jnp.sum(weight * values), jnp.sum(weight))


class _Real(Regression):
    """A normal response with identity link."""

    deviation: Any
    dispersion: ClassVar[str] = "deviation"
    power: ClassVar[int] = -2
    residual: ClassVar[bool] = True
    priors = frozenset({"floor"})

    @staticmethod
    def law(y: Array, eta: Array, dispersion: Any, trials: Array) -> Array:
        del trials
        return (
            0.5 * ((y - eta) / dispersion) ** 2 + jnp.log(dispersion) + 0.5 * math.log(2 * math.pi)
        )

    @staticmethod
    def response(eta: Array, trials: Array) -> Array:
        del trials
        return eta

    @staticmethod
    def working(y: Array, trials: Array) -> tuple[Array, Array]:
        return y, jnp.ones_like(trials)

    @staticmethod
    def first(y: Array, eta: Array, weight: Array) -> Any:
        square = _mean((y - eta) ** 2, weight)
        return jnp.sqrt(jnp.where(square > 0, square, 1))

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Array, dispersion: Any, trials: Array) -> Array:
        del trials
        return eta + dispersion * jax.random.normal(key, eta.shape, eta.dtype)

    @staticmethod
    def refuse(y: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, str]:
        del trials
        return ~np.isfinite(y), "real numbers"

    @property
    def spread(self) -> Array:
        return jnp.broadcast_to(self.deviation, (self.n_components,))

    def _dispersion_slopes(
        self, slopes: Any, total: Any, y: Array, eta: Array, plan: Array
    ) -> tuple[Array, Array]:
        del slopes, total
        # squares, not their excess over the mass: that would cancel
        square = jnp.where(plan > 0, plan * ((y - eta) / self.deviation) ** 2, 0)
        return jnp.sum(square, axis=0), jnp.zeros_like(plan[0])

    def _next_dispersion(
        self, statistics: Slopes, mass: Array, change: Array, prior: Prior | None
    ) -> Array:
        """The root mean square about the new fit, over the mass: maximum likelihood."""
        squares = jnp.maximum(statistics.slope + 2 * change, 0)
        if self.tied:
            squares, mass = jnp.sum(squares), jnp.sum(mass)
        ratio = jnp.where(mass > 0, safe_divide(squares, mass), 1)
        variance = self.deviation**2 * ratio
        floor = None if prior is None else prior.floor
        variance = variance if floor is None else jnp.maximum(variance, jnp.max(floor))
        return jnp.sqrt(variance)


@pytree
class LinearRegression(_Real):
    """K linear regressions, each of its own deviation.

        y_i | j ~ N(features_i . b_j + shared_i . c + offset_i, deviation_j^2)

    The deviations are those of maximum likelihood: squares are divided by the component's rows,
    not by its degrees of freedom.

    Attributes:
        coefficients: [k, p] b.
        shared: [s] c, effects that all components share; s may be 0.
        deviation: [k] > 0, in the unit of y.

    Source: DeSarbo and Cron (1988), J. Classification 5.
    """

    coefficients: Array = parameter(REAL)
    shared: Array = parameter(REAL, shared=True)
    deviation: Array = parameter(POSITIVE, axes=0)

    @classmethod
    def examples(cls) -> dict[str, "LinearRegression"]:
        """Three lines."""
        return {"lines": cls(jnp.asarray(_SLOPES), jnp.zeros(0), jnp.array([0.5, 1.0, 2.0]))}


@pytree
class TiedLinearRegression(_Real):
    """As `LinearRegression`, of one deviation for all components. `deviation`: a number."""

    coefficients: Array = parameter(REAL)
    shared: Array = parameter(REAL, shared=True)
    deviation: Array = parameter(POSITIVE, axes=0, shared=True)
    tied: ClassVar[bool] = True

    @property
    def exact_m_step(self) -> bool:  # type: ignore[override]
        """Also where components share effects: the deviation does not weigh them."""
        return True

    @classmethod
    def examples(cls) -> dict[str, "TiedLinearRegression"]:
        """Three lines with an effect in common."""
        return {"lines": cls(jnp.asarray(_SLOPES), jnp.array([0.7]), jnp.asarray(0.8))}


class _Count(Regression):
    """A count, of a mean with log link."""

    @staticmethod
    def response(eta: Array, trials: Array) -> Array:
        del trials
        return jnp.exp(eta)

    @staticmethod
    def refuse(y: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, str]:
        del trials
        return (y < 0) | (y != np.floor(y)), "counts 0, 1, 2, ..."


@pytree
class PoissonRegression(_Count):
    """K Poisson regressions: log E y = features . b_j + shared . c + offset.

    Attributes:
        coefficients: [k, p] b.
        shared: [s] c, effects that all components share; s may be 0.

    Source: Wang, Puterman, Cockburn and Le (1996), Biometrics 52.
    """

    coefficients: Array = parameter(REAL)
    shared: Array = parameter(REAL, shared=True)

    @staticmethod
    def law(y: Array, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.law`."""
        del dispersion, trials
        seen = jnp.where(y > 0, y, 1)
        # about the peak: at large counts all other terms are large and cancel
        above = eta - jnp.log(seen)
        positive = seen * (jnp.expm1(above) - above) - peak(seen)
        return jnp.where(y > 0, positive, jnp.where(y < 0, jnp.inf, jnp.exp(eta)))

    @staticmethod
    def working(y: Array, trials: Array) -> tuple[Array, Array]:
        """See `Regression.working`."""
        del trials
        return jnp.log(y + 0.5), y + 0.5

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.draw`."""
        del dispersion, trials
        return jax.random.poisson(key, jnp.exp(eta))

    @classmethod
    def examples(cls) -> dict[str, "PoissonRegression"]:
        """Three log-linear means, alone and with an effect in common."""
        return {
            "counts": cls(jnp.asarray(0.5 * _SLOPES), jnp.zeros(0)),
            "shared": cls(jnp.asarray(0.5 * _SLOPES), jnp.array([0.3])),
        }


@pytree
class BinomialRegression(Regression):
    """K logistic regressions: logit p = features . b_j + shared . c + offset, of `trials` each.

    Without `trials` in the rows each is a single one, y being 0 or 1. Where features separate the
    responses of a component the likelihood has no maximum: coefficients grow until nothing is won,
    and come back finite and large, their standard errors too.

    Attributes:
        coefficients: [k, p] b.
        shared: [s] c, effects that all components share; s may be 0.

    Source: Aitkin (1999), Statistics in Medicine 18.
    """

    coefficients: Array = parameter(REAL)
    shared: Array = parameter(REAL, shared=True)

    @staticmethod
    def law(y: Array, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.law`."""
        del dispersion
        within = (y >= 0) & (y <= trials)
        seen = jnp.where(within, y, 0)
        rest = trials - seen
        most = xlogy(seen, seen / trials) + xlogy(rest, rest / trials)
        ways = peak(seen) + peak(rest) - peak(trials)
        return jnp.where(within, trials * jax.nn.softplus(eta) - seen * eta + most - ways, jnp.inf)

    @staticmethod
    def response(eta: Array, trials: Array) -> Array:
        """See `Regression.response`."""
        return trials * jax.nn.sigmoid(eta)

    @staticmethod
    def working(y: Array, trials: Array) -> tuple[Array, Array]:
        """See `Regression.working`."""
        share = (y + 0.5) / (trials + 1)
        return jnp.log(share) - jnp.log1p(-share), trials * share * (1 - share)

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.draw`."""
        del dispersion
        return jax.random.binomial(key, trials, jax.nn.sigmoid(eta), dtype=eta.dtype)

    @staticmethod
    def refuse(y: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, str]:
        """See `Regression.refuse`."""
        whole = (y == np.floor(y)) & (trials == np.floor(trials))
        return ~(whole & (y >= 0) & (y <= trials)), "whole, from 0 to the number of trials"

    @classmethod
    def examples(cls) -> dict[str, "BinomialRegression"]:
        """Three logits with an effect in common."""
        return {"shares": cls(jnp.asarray(_SLOPES), jnp.array([0.4]))}


@pytree
class NegativeBinomialRegression(_Count):
    """K negative binomial regressions: log E y = features . b_j + shared . c + offset.

    The variance is mu + mu^2 / size. As size grows the law becomes Poisson: a component whose
    counts vary no more than that ends with a large size, finite and not determined.

    Attributes:
        coefficients: [k, p] b.
        shared: [s] c, effects that all components share; s may be 0.
        size: [k] > 0; learned, unless given: `NegativeBinomialRegression.of(size=2)`.

    Source: Lawless (1987), Canadian J. Statistics 15.
    """

    coefficients: Array = parameter(REAL)
    shared: Array = parameter(REAL, shared=True)
    size: Array = parameter(POSITIVE, axes=0)
    dispersion: ClassVar[str] = "size"

    @staticmethod
    def law(y: Array, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.law`."""
        del trials
        size, seen = dispersion, jnp.maximum(y, 0)
        # log Gamma(size + y) - log Gamma(size) - y log size, digits kept as size grows
        both = size + seen
        rising = peak(size) - peak(both) + (both - 1) * jnp.log1p(seen / size) - seen
        spread = both * jax.nn.softplus(eta - jnp.log(size))
        return jnp.where(y >= 0, spread - seen * eta - rising + log_factorial(seen), jnp.inf)

    @staticmethod
    def working(y: Array, trials: Array) -> tuple[Array, Array]:
        """See `Regression.working`."""
        del trials
        return jnp.log(y + 0.5), jnp.ones_like(y)

    @staticmethod
    def first(y: Array, eta: Array, weight: Array) -> Any:
        """See `Regression.first`."""
        mean = jnp.exp(eta)
        excess = safe_divide(_mean((y - mean) ** 2 - mean, weight), _mean(mean**2, weight))
        return 1 / jnp.clip(excess, 0.01, 10)

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.draw`."""
        del trials
        rate, count = jax.random.split(key)
        scale = jax.random.gamma(rate, dispersion, eta.shape, eta.dtype) / dispersion
        return jax.random.poisson(count, scale * jnp.exp(eta))

    @classmethod
    def examples(cls) -> dict[str, "NegativeBinomialRegression"]:
        """Three log-linear means."""
        return {
            "counts": cls(jnp.asarray(0.5 * _SLOPES), jnp.zeros(0), jnp.array([2.0, 5.0, 30.0]))
        }


@pytree
class GammaRegression(Regression):
    """K gamma regressions of a positive response: log E y = features . b_j + shared . c + offset.

    The variance is mu^2 / shape.

    Attributes:
        coefficients: [k, p] b.
        shared: [s] c, effects that all components share; s may be 0.
        shape: [k] > 0; learned, unless given: `GammaRegression.of(shape=1)` is exponential.

    Source: McCullagh and Nelder (1989), chapter 8.
    """

    coefficients: Array = parameter(REAL)
    shared: Array = parameter(REAL, shared=True)
    shape: Array = parameter(POSITIVE, axes=0)
    dispersion: ClassVar[str] = "shape"
    power: ClassVar[int] = 1
    priors = frozenset({"floor"})

    @staticmethod
    def law(y: Array, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.law`."""
        del trials
        seen = jnp.where(y > 0, y, 1)
        ratio = jnp.log(seen) - eta
        within = dispersion * (jnp.expm1(ratio) - ratio) - peak(dispersion)
        within += jnp.log(seen) - jnp.log(dispersion)
        return jnp.where(y > 0, within, jnp.inf)

    @staticmethod
    def response(eta: Array, trials: Array) -> Array:
        """See `Regression.response`."""
        del trials
        return jnp.exp(eta)

    @staticmethod
    def working(y: Array, trials: Array) -> tuple[Array, Array]:
        """See `Regression.working`."""
        return jnp.log(jnp.where(y > 0, y, 1)), jnp.ones_like(trials)

    @staticmethod
    def first(y: Array, eta: Array, weight: Array) -> Any:
        """See `Regression.first`."""
        return 1 / jnp.clip(_mean((y * jnp.exp(-eta) - 1) ** 2, weight), 1e-3, 10)

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Array, dispersion: Any, trials: Array) -> Array:
        """See `Regression.draw`."""
        del trials
        return jax.random.gamma(key, dispersion, eta.shape, eta.dtype) / dispersion * jnp.exp(eta)

    @staticmethod
    def refuse(y: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, str]:
        """See `Regression.refuse`."""
        del trials
        return ~(y > 0), "> 0"

    @property
    def spread(self) -> Array:
        """See `Regression.spread`."""
        return 1 / jnp.sqrt(self.shape)

    def _next_dispersion(
        self, statistics: Slopes, mass: Array, change: Array, prior: Prior | None
    ) -> Array:
        shape = super()._next_dispersion(statistics, mass, change, prior)
        floor = None if prior is None else prior.floor
        return shape if floor is None else jnp.minimum(shape, 1 / jnp.max(floor))

    @classmethod
    def examples(cls) -> dict[str, "GammaRegression"]:
        """Three log-linear means."""
        return {"positive": cls(jnp.asarray(_SLOPES), jnp.zeros(0), jnp.array([2.0, 5.0, 30.0]))}


_SLOPES = np.array([[0.5, 1.0], [1.5, -0.8], [-1.0, 0.3]])
