"""Multinomial components: counts of each level, whose total is known."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from ..core.counting import log_factorial_of_count, log_poisson, peak
from ..core.numerics import safe_divide
from ..core.tree import parameter, pytree
from .coordinates import SIMPLEX
from .independent import Independent, floored
from .poisson import whole


@pytree
class Multinomial(Independent):
    """K multinomial laws of counts [n, levels]; the total may differ from row to row.

    Attributes:
        probability: [k, levels], of sum 1.
    """

    probability: Array = parameter(SIMPLEX)
    cancels = True
    separable = False  # the counts of a row add up
    needs = "counts 0, 1, 2, ..."

    @classmethod
    def inside(cls, x: Any, size: Any) -> Any:
        """Whole numbers >= 0."""
        del size
        return (x >= 0) & whole(x)

    def sufficient(self, x: Array) -> tuple[Array, ...]:
        """The counts."""
        return (x,)

    def natural(self) -> tuple[Array, ...]:
        """Log probabilities."""
        return (jnp.log(floored(self.probability)),)

    def log_partition(self) -> Float[Array, "k d"]:
        """0: the probabilities add up to 1."""
        return jnp.zeros_like(self.probability)

    def base(self, x: Array, size: Any) -> Array:
        """The multinomial coefficient, that of the total in the first cell."""
        del size
        return (
            (-log_factorial_of_count(x)).at[..., 0].add(log_factorial_of_count(jnp.sum(x, axis=-1)))
        )

    def log_cells(self, x: Array, size: Array) -> Array:
        """Poisson laws given their total."""
        del size
        total = jnp.sum(x, axis=-1, keepdims=True)
        # a row of zeros has probability 1, and no mean above 0
        mean = jnp.where(total > 0, total * floored(self.probability), 1)
        cells = log_poisson(x, mean).at[..., 0].add(-peak(total[..., 0]))
        return jnp.where(total > 0, cells, 0)

    @classmethod
    def of_means(cls, *means: Array, **options: Any) -> dict[str, Array]:
        """The share of each level in all counts."""
        del options
        total = jnp.sum(means[0], axis=-1, keepdims=True)
        share = jnp.where(total > 0, safe_divide(means[0], total), 1 / means[0].shape[-1])
        return {"probability": floored(share)}

    @classmethod
    def embed(cls, x: Any, missing: bool = False, **options: Any) -> Float[Array, "n e"]:
        """The levels' shares of a row."""
        counts = super().embed(x, missing, **options)
        return safe_divide(counts, jnp.sum(counts, axis=1, keepdims=True))

    @classmethod
    def incomplete(cls, **options: Any) -> NoReturn:
        """Without one count a row's total is not known."""
        del options
        raise TypeError("Multinomial needs all counts of a row: a missing one is part of its total")

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: Any = None
    ) -> Float[Array, "n d"]:
        """Counts; `given` are totals [n], by default 10."""
        p = self.probability[labels]
        totals = jnp.full(len(labels), 10) if given is None else given
        return jax.random.multinomial(key, totals.astype(p.dtype), p, dtype=p.dtype)

    def moments(self) -> tuple[Array, Array]:
        """See `Answers.moments`; of a total of 1."""
        p = self.probability
        return p, p[:, :, None] * (jnp.eye(p.shape[1], dtype=p.dtype) - p[:, None, :])

    @classmethod
    def examples(cls) -> dict[str, Any]:
        """Three components of four levels."""
        logits = jnp.sin(jnp.arange(12.0) ** 2).reshape(3, 4)
        return {"counts": cls(jax.nn.softmax(1.5 * logits))}
