"""Laws of positive numbers, by column: exponential, gamma, inverse Gaussian.

Source: Johnson, Kotz and Balakrishnan (1994), Continuous Univariate Distributions, volume 1.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammainc, gammaln, log_ndtr, ndtr
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..core.counting import deviance, peak
from ..core.tree import parameter, pytree
from ..priors import Prior
from .concentration import gamma_shape, log_ratio, narrowest
from .coordinates import POSITIVE
from .independent import Independent
from .shaped import Shaped

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Positive(Shaped):
    """`Shaped` laws of positive numbers."""

    needs = "finite numbers > 0 (a zero has no logarithm: leave it out, or fit an exponential)"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Numbers > 0."""
        del size
        return (x > 0) & (x < math.inf)

    @classmethod
    def spread(cls, x: Array, size: Any) -> Array:
        """Logarithms."""
        del size
        return jnp.log(x)


@pytree
class Exponential(Independent):
    """K products of exponential laws: log p = log rate - rate x for x >= 0.

    Attributes:
        rate: [k, d], in inverse units of the rows.
    """

    rate: Array = parameter(POSITIVE)
    needs = "finite numbers >= 0"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Numbers >= 0."""
        del size
        return (x >= 0) & (x < math.inf)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The cell."""
        return (x,)

    def natural(self) -> tuple[Array, ...]:
        """Minus the rate."""
        return (-self.rate,)

    def log_partition(self) -> Float[Array, "k d"]:
        """Minus log rate."""
        return -jnp.log(self.rate)

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """One over the mean, which is bounded: of zeros alone the rate would be infinite."""
        del options
        return {"rate": 1 / jnp.maximum(means[0], jnp.finfo(means[0].dtype).tiny)}

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """Components of zeros alone."""
        del prior, n_rows
        at_bound = self.rate * jnp.finfo(self.rate.dtype).tiny > 0.5
        return (weights > 0) & jnp.any(at_bound, axis=1)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        return 1 / self.rate, 1 / self.rate**2

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        return -jnp.expm1(-jnp.maximum(x, 0)[:, None] * self.rate[:, 0])

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Numbers > 0."""
        del given
        rate = self.rate[labels]
        return jax.random.exponential(key, rate.shape, rate.dtype) / rate

    @classmethod
    def examples(cls) -> dict[str, "Exponential"]:
        """Three components of two columns."""
        return {"rates": cls(jnp.array([[0.5, 3.0], [8.0, 1.0], [20.0, 0.1]]))}


@pytree
class Gamma(Positive):
    """K products of gamma laws: log p = a log b - log Gamma(a) + (a - 1) log x - b x.

    Attributes:
        shape: [k, d] a.
        rate: [k, d] b, in inverse units of the rows; the mean is a / b.
    """

    shape: Array = parameter(POSITIVE)
    rate: Array = parameter(POSITIVE)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The cell and its logarithm."""
        return x, jnp.log(x)

    def natural(self) -> tuple[Array, ...]:
        """Minus the rate, and the shape."""
        return -self.rate, self.shape

    def log_partition(self) -> Float[Array, "k d"]:
        """Log Gamma(a) - a log b."""
        return gammaln(self.shape) - self.shape * jnp.log(self.rate)

    def base(self, x: Array, size: Any) -> Array:
        """-log x."""
        del size
        return -jnp.log(x)

    def log_cells(self, x: Array, size: Any) -> Array:
        """By u = x / mean: -a (u - 1 - log u), what Stirling leaves of Gamma(a), and -log x."""
        del size
        a, mean = self.shape, self.shape / self.rate
        near = deviance(jnp.ones_like(x), x / mean, (mean - x) / mean)
        return peak(a) + jnp.log(a) - a * near - jnp.log(x)

    def about(self, x: Array) -> tuple[Array, ...]:
        """Ratio u to the mean, less 1, and its logarithm."""
        mean = self.shape / self.rate
        return (x - mean) / mean, log_ratio(x, mean)

    def shifted(self, size: Array | float, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.shifted`."""
        mean = self.shape / self.rate
        return sums[0] / mean - size, sums[1] - size * jnp.log(mean)

    def carried(self, onto: Any, size: Array, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.carried`."""
        ratio = (self.shape / self.rate) / (onto.shape / onto.rate)
        return ratio * sums[0] + (ratio - 1) * size, sums[1] + size * jnp.log(ratio)

    def around(self, *means: Array) -> dict[str, Array]:
        """The mean is that of the rows; log a - psi(a) = log mean(x) - mean(log x)."""
        shape = gamma_shape(jnp.log1p(means[0]) - means[1])
        return {"shape": shape, "rate": shape / self.shape * self.rate / (1 + means[0])}

    def width(self) -> Float[Array, "k d"]:
        """The coefficient of variation."""
        return 1 / jnp.sqrt(self.shape)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        return self.shape / self.rate, self.shape / self.rate**2

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        scaled = jnp.maximum(x, 0)[:, None] * self.rate[:, 0]
        return gammainc(jnp.broadcast_to(self.shape[:, 0], scaled.shape), scaled)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Numbers > 0."""
        del given
        shape = self.shape[labels]
        drawn = jnp.exp(jax.random.loggamma(key, shape)) / self.rate[labels]
        # a small shape draws numbers below the smallest
        return jnp.maximum(drawn, jnp.finfo(drawn.dtype).tiny)

    @classmethod
    def examples(cls) -> dict[str, "Gamma"]:
        """Three components of two columns."""
        shape = jnp.array([[2.0, 5.0], [9.0, 0.8], [30.0, 60.0]])
        return {"shapes": cls(shape, jnp.array([[1.0, 3.0], [3.0, 0.5], [2.0, 4.0]]))}


@pytree
class InverseGaussian(Positive):
    """K products of inverse Gaussian (Wald) laws.

        log p = log(shape / (2 pi x^3)) / 2 - shape (x - mean)^2 / (2 mean^2 x)

    Attributes:
        mean: [k, d], in the units of the rows.
        shape: [k, d], in the units of the rows; the variance is mean^3 / shape.
    """

    mean: Array = parameter(POSITIVE)
    shape: Array = parameter(POSITIVE)
    needs = "finite numbers > 0, with a finite reciprocal"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Numbers > 0 of which the reciprocal does not overflow."""
        return super().inside(x, size) & (x > jnp.finfo(x.dtype).tiny)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The cell and its reciprocal."""
        return x, 1 / x

    def natural(self) -> tuple[Array, ...]:
        """See `Independent.natural`."""
        return -0.5 * self.shape / self.mean**2, -0.5 * self.shape

    def log_partition(self) -> Float[Array, "k d"]:
        """-shape / mean - log(shape) / 2."""
        return -self.shape / self.mean - 0.5 * jnp.log(self.shape)

    def base(self, x: Array, size: Any) -> Array:
        """-3/2 log x, and a constant."""
        del size
        return -1.5 * jnp.log(x) - HALF_LOG_TAU

    def log_cells(self, x: Array, size: Any) -> Array:
        """By the difference from the mean."""
        v = (x - self.mean) / self.mean
        square = 0.5 * (self.shape / self.mean) * v**2 * (self.mean / x)
        return self.base(x, size) + 0.5 * jnp.log(self.shape) - square

    def about(self, x: Array) -> tuple[Array, ...]:
        """Ratio to the mean and its inverse, both less 1."""
        return (x - self.mean) / self.mean, (self.mean - x) / x

    def shifted(self, size: Array | float, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.shifted`."""
        return sums[0] / self.mean - size, sums[1] * self.mean - size

    def carried(self, onto: Any, size: Array, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.carried`."""
        there, back = self.mean / onto.mean, onto.mean / self.mean
        return there * sums[0] + (there - 1) * size, back * sums[1] + (back - 1) * size

    def around(self, *means: Array) -> dict[str, Array]:
        """The mean is that of the rows; 1 / shape = mean(1 / x) - 1 / mean(x)."""
        mean = self.mean * (1 + means[0])
        # the squared coefficient of variation
        square = (1 + means[0]) * means[1] + means[0]
        return {
            "mean": mean,
            "shape": mean / jnp.maximum(square, narrowest(square.dtype) ** 2),
        }

    def width(self) -> Float[Array, "k d"]:
        """The coefficient of variation."""
        return jnp.sqrt(self.mean / self.shape)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        return self.mean, self.mean**3 / self.shape

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        mean, shape = self.mean[:, 0], self.shape[:, 0]
        inside = x[:, None] > 0
        x = jnp.where(inside, x[:, None], 1)
        root = jnp.sqrt(shape / x)
        # as one exponential: exp(2 shape / mean) alone overflows
        mirrored = jnp.exp(2 * shape / mean + log_ndtr(-root * (x / mean + 1)))
        return jnp.where(inside, ndtr(root * (x / mean - 1)) + mirrored, 0)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Numbers > 0.

        Source: Michael, Schucany and Haas (1976), The American Statistician 30.
        """
        del given
        mean, shape = self.mean[labels], self.shape[labels]
        keys = jax.random.split(key)
        square = jax.random.normal(keys[0], mean.shape, mean.dtype) ** 2
        # the smaller root in a form that does not cancel; their product is mean^2
        half = 0.5 * square * mean / shape
        ratio = 1 / (1 + half + jnp.sqrt(half * (2 + half)))
        lower = jax.random.uniform(keys[1], mean.shape, mean.dtype) * (1 + ratio) <= 1
        return mean * jnp.where(lower, ratio, 1 / ratio)

    @classmethod
    def examples(cls) -> dict[str, "InverseGaussian"]:
        """Three components of two columns."""
        mean = jnp.array([[1.0, 2.0], [3.0, 0.5], [5.0, 1.0]])
        return {"walds": cls(mean, jnp.array([[2.0, 9.0], [20.0, 1.0], [40.0, 3.0]]))}
