"""Poisson components: counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln
from jaxtyping import Float, Int, PRNGKeyArray, Shaped

from ..core.numerics import matmul, safe_divide
from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from .coordinates import POSITIVE
from .family import Family
from .forms import LinearForm


@pytree
class Poisson(Family):
    """K products of Poisson laws. `rate`: [k, d], expected counts."""

    rate: Array = parameter(POSITIVE)
    exact_m_step = True
    holds = frozenset({"rate"})

    @property
    def n_features(self) -> int:
        """The width d of a row."""
        return self.rate.shape[-1]

    def cost(self, x: Shaped[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = sum_a rate_ja - x_ia log rate_ja + log x_ia!, in nats."""
        return self.linear_form().costs(x)

    def statistics(self, x: Shaped[Array, "n d"], plan: Float[Array, "n k"]) -> Array:
        """[k, d] sum_i P_ij x_i."""
        return matmul(plan.T, x.astype(plan.dtype))

    def maximize(
        self,
        statistics: Array,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Poisson":
        """The mean count of the component's rows."""
        del prior
        if held:
            return self
        # Above 0, or a component of zeros would make 0 * inf of the next row.
        rate = jnp.maximum(safe_divide(statistics, mass[:, None]), jnp.finfo(mass.dtype).tiny)
        return replace(self, rate=jnp.where(mass[:, None] > 0, rate, self.rate))

    def linear_form(self) -> "PoissonForm":
        """T(x) = (1, x), eta = (-sum rate, log rate)."""
        constant = -jnp.sum(self.rate, axis=-1, keepdims=True)
        return PoissonForm(jnp.concatenate([constant, jnp.log(self.rate)], axis=1))

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Counts, as real numbers."""
        del given
        return jax.random.poisson(key, self.rate[labels]).astype(self.rate.dtype)

    @classmethod
    def initial(cls, x: Shaped[Array, "n d"], plan: Float[Array, "n k"]) -> "Poisson":
        """The mean counts of the assigned rows, drawn a little to that of all: none is 0."""
        x = x.astype(plan.dtype)
        everywhere = matmul(jnp.sum(plan, axis=1), x)
        own = safe_divide(matmul(plan.T, x), jnp.sum(plan, axis=0)[:, None])
        return cls(jnp.maximum(0.99 * own + 0.01 * everywhere, jnp.finfo(plan.dtype).tiny))

    @classmethod
    def check(cls, x: Any, **options: Any) -> None:
        """Whole numbers >= 0.

        Raises:
            ValueError: naming the first cell that is none.
        """
        bad = (x < 0) | (x != np.floor(x))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"a Poisson family needs counts 0, 1, 2, ...; row {row}, column {column} holds "
                f"{x[row, column]}"
            )

    @classmethod
    def examples(cls) -> dict[str, "Poisson"]:
        """Three components of two counts."""
        return {"counts": cls(jnp.array([[0.5, 3.0], [8.0, 1.0], [20.0, 30.0]]))}


@pytree
class PoissonForm(LinearForm):
    """Poisson laws, linear in the counts."""

    natural_parameters: Array

    def sufficient_statistics(self, x: Shaped[Array, "n d"]) -> Float[Array, "n f"]:
        """1 and the counts."""
        x = x.astype(self.natural_parameters.dtype)
        return jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1)

    def log_base_measure(self, x: Shaped[Array, "n d"]) -> Float[Array, " n"]:
        """Minus the logarithms of the factorials."""
        return -jnp.sum(gammaln(x.astype(self.natural_parameters.dtype) + 1), axis=1)

    def statistics(self, sums: Float[Array, "k f"], total: None) -> Array:
        """The sums of the counts."""
        del total
        return sums[:, 1:]
