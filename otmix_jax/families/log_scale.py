"""Laws of which the logarithm has a location and a scale, by column: log-normal and Weibull.

Source: Johnson, Kotz and Balakrishnan (1994), Continuous Univariate Distributions, volume 1.
"""

import abc
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import gammaln, ndtr
from jaxtyping import Float, Int, PRNGKeyArray, PyTree

from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from . import em_gradient
from .concentration import EULER, log_ratio, narrowest
from .coordinates import POSITIVE, REAL
from .pivots import Pivots
from .positive import HALF_LOG_TAU, Positive


@pytree
class LogScale(Positive):
    """Positive numbers by their logarithm and its square."""

    @property
    @abc.abstractmethod
    def centre(self) -> Float[Array, "k d"]:
        """A location of log x."""

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The logarithm and its square."""
        return jnp.log(x), jnp.log(x) ** 2

    def about(self, x: Array) -> tuple[Array, ...]:
        """The difference of logarithms, and its square."""
        difference = jnp.log(x) - self.centre
        return difference, difference**2

    def shifted(self, size: Array | float, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.shifted`."""
        return _from(self.centre, size, *sums)

    def carried(self, onto: Any, size: Array, *sums: Array) -> tuple[Array, ...]:
        """See `Shaped.carried`."""
        return _from(onto.centre - self.centre, size, *sums)


def _from(origin: Array, size: Array | float, *sums: Array) -> tuple[Array, ...]:
    """Sums of y - origin and of its square, from those of y."""
    first = sums[0] - size * origin
    return first, sums[1] - origin * (sums[0] + first)


@pytree
class LogNormal(LogScale):
    """K products of laws of which the logarithm is Gaussian.

    Attributes:
        location: [k, d] mean of log x.
        scale: [k, d] deviation of log x.
    """

    location: Array = parameter(REAL)
    scale: Array = parameter(POSITIVE)

    @property
    def centre(self) -> Array:
        """See `LogScale.centre`."""
        return self.location

    def natural(self) -> tuple[Array, ...]:
        """Those of a Gaussian."""
        return self.location / self.scale**2, -0.5 / self.scale**2

    def log_partition(self) -> Float[Array, "k d"]:
        """That of a Gaussian."""
        return 0.5 * (self.location / self.scale) ** 2 + jnp.log(self.scale)

    def base(self, x: Array, size: Any) -> Array:
        """-log x, and the Gaussian's constant."""
        del size
        return -jnp.log(x) - HALF_LOG_TAU

    def log_cells(self, x: Array, size: Any) -> Array:
        """By the difference of logarithms."""
        del size
        z = (jnp.log(x) - self.location) / self.scale
        return -0.5 * z**2 - jnp.log(self.scale) - jnp.log(x) - HALF_LOG_TAU

    def around(self, *means: Array) -> dict[str, Array]:
        """Mean and deviation of the logarithm."""
        least = narrowest(means[0].dtype) ** 2
        scale = jnp.sqrt(jnp.maximum(means[1] - means[0] ** 2, least))
        return {"location": self.location + means[0], "scale": scale}

    def width(self) -> Float[Array, "k d"]:
        """The scale."""
        return self.scale

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        half = 0.5 * self.scale**2
        mean = jnp.exp(self.location + half)
        return mean, mean**2 * jnp.expm1(2 * half)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        inside = x[:, None] > 0
        logs = jnp.log(jnp.where(inside, x[:, None], 1))
        return jnp.where(inside, ndtr((logs - self.location[:, 0]) / self.scale[:, 0]), 0)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Numbers > 0."""
        del given
        location, scale = self.location[labels], self.scale[labels]
        return jnp.exp(location + scale * jax.random.normal(key, scale.shape, scale.dtype))

    @classmethod
    def examples(cls) -> dict[str, "LogNormal"]:
        """Three components of two columns."""
        location = jnp.array([[0.0, 1.0], [1.5, -1.0], [-1.0, 0.0]])
        return {"logs": cls(location, jnp.array([[0.5, 0.3], [0.8, 0.5], [0.3, 1.0]]))}


@pytree
class Weibull(LogScale):
    """K products of Weibull laws: with y = shape log(x / scale), log p = log(shape / x) + y - e^y.

    No exponential family in the shape: the M-step is EM-gradient's Newton step.

    Attributes:
        shape: [k, d]
        scale: [k, d], in the units of the rows.
    """

    shape: Array = parameter(POSITIVE)
    scale: Array = parameter(POSITIVE)
    exact_m_step = False

    @property
    def centre(self) -> Array:
        """See `LogScale.centre`."""
        return jnp.log(self.scale)

    def linear_form(self) -> None:
        """None."""

    def natural(self) -> tuple[Array, ...]:
        """None."""
        return ()

    def log_partition(self) -> Float[Array, "k d"]:
        """Of no exponential family: 0."""
        return jnp.zeros_like(self.shape)

    def log_cells(self, x: Array, size: Any) -> Array:
        """By the difference of logarithms."""
        del size
        y = self.shape * log_ratio(x, self.scale)
        return jnp.log(self.shape) - jnp.log(x) + y - jnp.exp(y)

    def around(self, *means: Array) -> dict[str, Array]:
        """From mean and variance of the logarithm, -gamma / shape and pi^2 / (6 shape^2)."""
        variance = jnp.maximum(means[1] - means[0] ** 2, narrowest(means[0].dtype) ** 2)
        shape = math.pi / jnp.sqrt(6 * variance)
        return {"shape": shape, "scale": self.scale * jnp.exp(means[0] + EULER / shape)}

    def statistics(self, x: PyTree, plan: Float[Array, "n k"]) -> Any:
        """Those of EM-gradient."""
        return em_gradient.statistics(self, x, plan)

    def maximize(
        self,
        statistics: Any,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> Any:
        """EM-gradient's step, to no narrower law than there is."""
        del prior
        moved = em_gradient.maximize(self, statistics, mass, held)
        most = math.pi / math.sqrt(6) / narrowest(moved.shape.dtype)
        return replace(moved, shape=jnp.minimum(moved.shape, most))

    recentred = Pivots.recentred

    def width(self) -> Float[Array, "k d"]:
        """The deviation of the logarithm."""
        return math.pi / math.sqrt(6) / self.shape

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        first, second = (gammaln(1 + i / self.shape) for i in (1, 2))
        mean = self.scale * jnp.exp(first)
        return mean, mean**2 * jnp.expm1(second - 2 * first)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        inside = x[:, None] > 0
        ratio = log_ratio(jnp.where(inside, x[:, None], 1), self.scale[:, 0])
        return jnp.where(inside, -jnp.expm1(-jnp.exp(self.shape[:, 0] * ratio)), 0)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Numbers > 0."""
        del given
        shape, scale = self.shape[labels], self.scale[labels]
        return scale * jax.random.exponential(key, shape.shape, shape.dtype) ** (1 / shape)

    @classmethod
    def examples(cls) -> dict[str, "Weibull"]:
        """Three components of two columns."""
        shape = jnp.array([[1.0, 4.0], [3.0, 0.8], [8.0, 1.5]])
        return {"lives": cls(shape, jnp.array([[1.0, 3.0], [5.0, 0.5], [2.0, 4.0]]))}
