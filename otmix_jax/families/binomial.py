"""Bernoulli, binomial and geometric components: trials, and how many succeed."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import betainc
from jaxtyping import Float, Int, PRNGKeyArray

from ..core.counting import log_binomial, log_choose
from ..core.tree import parameter, pytree, static
from .coordinates import UNIT
from .family import Description
from .independent import Independent, floored
from .poisson import beside, whole


def between(p: Array) -> Array:
    """Probabilities strictly between 0 and 1: logarithms of both sides are finite."""
    return jnp.minimum(floored(p), 1 - float(jnp.finfo(p.dtype).epsneg))


@pytree
class Bernoulli(Independent):
    """K products of Bernoulli laws of zeros and ones.

    Attributes:
        probability: [k, d] of a one. A component of zeros alone keeps the least number above 0.
    """

    probability: Array = parameter(UNIT)
    needs = "zeros and ones"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """0 or 1."""
        del size
        return (x == 0) | (x == 1)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """Successes."""
        return (x,)

    def natural(self) -> tuple[Array, ...]:
        """The log odds."""
        p = between(self.probability)
        return (jnp.log(p) - jnp.log1p(-p),)

    def log_partition(self) -> Float[Array, "k d"]:
        """-log(1 - p)."""
        return -jnp.log1p(-between(self.probability))

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """The share of ones."""
        del options
        return {"probability": between(means[0])}

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> Float[Array, "n d"]:
        """Zeros and ones, as real numbers."""
        del given
        p = self.probability[labels]
        return jax.random.bernoulli(key, p).astype(p.dtype)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        return self.probability, self.probability * (1 - self.probability)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        x = x[:, None]
        return jnp.where(x < 0, 0, jnp.where(x < 1, 1 - self.probability[:, 0], 1))

    @classmethod
    def examples(cls) -> dict[str, Any]:
        """Three components of three items."""
        p = [[0.1, 0.8, 0.5], [0.7, 0.3, 0.9], [0.4, 0.05, 0.2]]
        return {"items": cls(jnp.array(p))}


@pytree
class Binomial(Bernoulli):
    """K products of binomial laws.

    Rows are successes, each of `trials` trials, or {"x": successes, "trials": t} with t [n] or
    [n, d].

    Attributes:
        probability: [k, d] of a success in one trial.
        trials: of every cell, where the rows name none.

    Example:
        >>> import numpy as np, otmix_jax as om
        >>> rng = np.random.default_rng(0)
        >>> trials = rng.integers(20, 60, 300)
        >>> x = rng.binomial(trials, np.where(np.arange(300) < 120, 0.1, 0.4))
        >>> solution = om.fit({"x": x[:, None], "trials": trials}, 2, family="binomial", key=0)
        >>> sorted(solution.mixture.components.probability[:, 0].round(2).tolist())
        [0.1, 0.4]
    """

    trials: int = static(default=1, kw_only=True)
    beside = "trials"
    cancels = True
    needs = "successes 0, 1, 2, ... up to the trials: give trials in Binomial.of or beside the rows"

    @classmethod
    def of(cls, trials: int = 1) -> Description:
        """Binomial components of so many trials in every cell.

        Raises:
            ValueError: for no whole number >= 1.
        """
        if trials < 1 or trials != int(trials):
            raise ValueError(f"trials must be a whole number >= 1, not {trials}")
        return Description(cls, (("trials", int(trials)),))

    def options(self) -> dict[str, Any]:
        """The trials."""
        return {"trials": self.trials}

    @classmethod
    def size(cls, **options: Any) -> float:
        """The trials."""
        return float(options.get("trials", 1))

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Whole numbers from 0 to the trials, which are whole numbers too."""
        return (x >= 0) & (x <= size) & whole(x) & (size == size // 1)

    def base(self, x: Array, size: Any) -> Array:
        """The binomial coefficient."""
        return log_choose(jnp.broadcast_to(size, x.shape), x)

    def log_cells(self, x: Array, size: Array) -> Array:
        """See `Independent.log_cells`."""
        return log_binomial(x, size, between(self.probability))

    @classmethod
    def inner_point(cls, x: Any) -> Any:
        """0, of any number of trials."""
        return jnp.zeros_like(x)

    @classmethod
    def spread(cls, x: Array, size: Any) -> Array:
        """Shares of successes."""
        return x / jnp.where(size > 0, size, 1)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> Float[Array, "n d"]:
        """Successes, as real numbers; `given` are trials [n] or [n, d]."""
        p = self.probability[labels]
        trials = jnp.broadcast_to(self.trials if given is None else beside(given), p.shape)
        return jax.random.binomial(key, trials.astype(p.dtype), p, dtype=p.dtype)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; of `trials` trials."""
        p = self.probability
        return self.trials * p, self.trials * p * (1 - p)

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`; of `trials` trials."""
        count = jnp.floor(x)[:, None]
        within = jnp.clip(count, 0, self.trials - 1)
        share = betainc(self.trials - within, within + 1, 1 - self.probability[:, 0])
        return jnp.where(count < 0, 0, jnp.where(count >= self.trials, 1, share))

    @classmethod
    def examples(cls) -> dict[str, Any]:
        """Three components of two counts of 12 trials; the same with cells of their own."""
        p = jnp.array([[0.1, 0.8], [0.7, 0.3], [0.4, 0.05]])
        return {"counts": cls(p, trials=12), "cells": cls(p, trials=12, by_cell=True)}


@pytree
class Geometric(Independent):
    """K products of geometric laws: failures 0, 1, 2, ... before the first success.

    Attributes:
        probability: [k, d] of a success in one trial; the mean is (1 - p) / p.
    """

    probability: Array = parameter(UNIT)
    needs = "counts 0, 1, 2, ... of failures before the first success"

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Whole numbers >= 0."""
        del size
        return (x >= 0) & whole(x)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """Failures."""
        return (x,)

    def natural(self) -> tuple[Array, ...]:
        """The logarithm of a failure's probability."""
        return (jnp.log1p(-between(self.probability)),)

    def log_partition(self) -> Float[Array, "k d"]:
        """-log p."""
        return -jnp.log(between(self.probability))

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """One success in 1 + mean trials."""
        del options
        return {"probability": between(1 / (1 + means[0]))}

    @classmethod
    def spread(cls, x: Array, size: Any) -> Array:
        """Logarithms: the standard deviation grows as the mean."""
        del size
        return jnp.log1p(x)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> Float[Array, "n d"]:
        """Counts, as real numbers."""
        del given
        p = self.probability[labels]
        # the whole part of an exponential time
        rate = -jnp.log1p(-between(p))
        return jnp.floor(jax.random.exponential(key, p.shape, p.dtype) / rate)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`."""
        mean = (1 - self.probability) / self.probability
        return mean, mean / self.probability

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`."""
        trials = jnp.maximum(jnp.floor(x)[:, None] + 1, 0)
        return -jnp.expm1(trials * jnp.log1p(-between(self.probability[:, 0])))

    @classmethod
    def examples(cls) -> dict[str, Any]:
        """Three components of two counts."""
        return {"counts": cls(jnp.array([[0.2, 0.8], [0.7, 0.3], [0.4, 0.5]]))}
