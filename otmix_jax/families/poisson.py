"""Poisson components: counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaincc
from jaxtyping import Float, Int, PRNGKeyArray

from ..core.counting import log_factorial_of_count, log_poisson
from ..core.tree import parameter, pytree
from .coordinates import POSITIVE
from .independent import Independent, floored


@pytree
class Poisson(Independent):
    """K products of Poisson laws. `rate`: [k, d], expected counts, per unit of exposure.

    Rows are counts, or {"x": counts, "exposure": e} with means e times the rate.
    """

    rate: Array = parameter(POSITIVE)
    beside = "exposure"
    cancels = True
    needs = "counts 0, 1, 2, ..."

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Whole numbers >= 0."""
        return (x >= 0) & (whole(x)) & (size > 0)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The counts."""
        return (x,)

    def natural(self) -> tuple[Array, ...]:
        """Log rate."""
        return (jnp.log(self.rate),)

    def log_partition(self) -> Float[Array, "k d"]:
        """The rate."""
        return self.rate

    def base(self, x: Array, size: Any) -> Array:
        """Of counts in a time e: x log e - log x!."""
        return x * jnp.log(size) - log_factorial_of_count(x)

    def log_cells(self, x: Array, size: Array) -> Array:
        """See `Independent.log_cells`."""
        return log_poisson(x, size * self.rate)

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """The mean; above 0, or a component of zeros would make 0 * inf of the next row."""
        del options
        return {"rate": floored(means[0])}

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> Float[Array, "n d"]:
        """Counts, as real numbers; `given` are exposures [n] or [n, d]."""
        rate = self.rate[labels] * beside(given)
        return jax.random.poisson(key, rate).astype(self.rate.dtype)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; at exposure 1."""
        return self.rate, self.rate

    def cdf(self, x: Float[Array, " n"]) -> Float[Array, "n k"]:
        """See `Answers.cdf`; at exposure 1."""
        # beyond 1 / eps the incomplete gamma function has no digits, and is NaN at last
        count = jnp.floor(jnp.clip(x, 0, 1 / jnp.finfo(x.dtype).eps))[:, None]
        return jnp.where(x[:, None] < 0, 0, gammaincc(count + 1, self.rate[:, 0]))

    @classmethod
    def examples(cls) -> dict[str, "Poisson"]:
        """Three components of two counts."""
        return {"counts": cls(jnp.array([[0.5, 3.0], [8.0, 1.0], [20.0, 30.0]]))}


def whole(x: Any) -> Any:
    """Which cells are whole numbers, of NumPy's and JAX's arrays alike."""
    return x == (jnp if isinstance(x, Array) else np).floor(x)


def beside(given: Any) -> Any:
    """Sizes as they multiply a table: 1, [n, 1] or [n, d]."""
    return 1.0 if given is None else given[:, None] if given.ndim == 1 else given
