"""Categorical components: coded items, latent class analysis."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray, Shaped

from ..core.numerics import einsum, safe_divide
from ..core.tree import parameter, pytree, replace
from ..priors import Prior
from .coordinates import SIMPLEX
from .family import Description, Family
from .forms import LinearForm


@pytree
class Categorical(Family):
    """K products of categorical laws over items of equally many levels, coded 0, 1, 2, ...

    Attributes:
        probability: [k, d, levels], of sum 1 over the levels.
    """

    probability: Array = parameter(SIMPLEX, axes=2)
    exact_m_step = True
    holds = frozenset({"probability"})

    @classmethod
    def of(cls, levels: int) -> Description:
        """Items of this many levels each."""
        return Description(cls, (("levels", int(levels)),))

    @property
    def n_features(self) -> int:
        """The number d of items."""
        return self.probability.shape[-2]

    def cost(self, x: Shaped[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = -sum_a log probability of item a's level, in nats."""
        return self.linear_form().costs(x)

    def statistics(self, x: Array, plan: Float[Array, "n k"]) -> Float[Array, "k d l"]:
        """How often each level occurs."""
        return einsum("nk,ndl->kdl", plan, _one_hot(x, self.probability))

    def maximize(
        self,
        statistics: Array,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "Categorical":
        """The share of each level among the component's rows."""
        del prior
        if held:
            return self
        # A level that no row has keeps a share that no sum feels, and a finite logarithm.
        share = safe_divide(statistics, jnp.sum(statistics, axis=-1, keepdims=True))
        share = jnp.maximum(share, jnp.finfo(share.dtype).tiny)
        present = mass[:, None, None] > 0
        return replace(self, probability=jnp.where(present, share, self.probability))

    def linear_form(self) -> "CategoricalForm":
        """T(x) = (1, one indicator for each item and level)."""
        # a constant of 0 must be there all the same: the linear kernel adds log pi to it
        logs = jnp.log(self.probability).reshape(self.n_components, -1)
        parameters = jnp.concatenate([jnp.zeros_like(logs[:, :1]), logs], axis=1)
        return CategoricalForm(parameters, self.probability)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Int[Array, "n d"]:
        """Codes."""
        del given
        return jax.random.categorical(key, jnp.log(self.probability)[labels])

    @classmethod
    def initial(cls, x: Array, plan: Float[Array, "n k"], levels: int) -> "Categorical":
        """Shares among the assigned rows, drawn a little to equal ones: none is 0."""
        blank = jnp.zeros((plan.shape[1], x.shape[1], levels), plan.dtype)
        counts = einsum("nk,ndl->kdl", plan, _one_hot(x, blank))
        mass = jnp.sum(plan, axis=0)[:, None, None]
        # 1e-6: a component without rows gets equal shares, not 0 / 0
        return cls((counts + 0.01 * mass / levels + 1e-6) / (1.01 * mass + 1e-6 * levels))

    @classmethod
    def embed(cls, x: Array, levels: int) -> Float[Array, "n e"]:
        """Indicators: two codes are equal or not, whatever their numbers."""
        return _one_hot(x, jnp.zeros(levels, float)).reshape(len(x), -1)

    @classmethod
    def check(cls, x: Any, levels: int) -> None:
        """Codes within the levels.

        Raises:
            ValueError: naming the first cell that is none.
        """
        bad = (x < 0) | (x >= levels) | (x != np.floor(x))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"a Categorical family of {levels} levels needs codes 0 to {levels - 1}; row "
                f"{row}, column {column} holds {x[row, column]}"
            )

    @classmethod
    def examples(cls) -> dict[str, "Categorical"]:
        """Three components of two items with three levels."""
        logits = jnp.sin(jnp.arange(18.0) ** 2).reshape(3, 2, 3)
        return {"items": cls(jax.nn.softmax(2 * logits))}


def _one_hot(x: Array, like: Array) -> Float[Array, "n d l"]:
    # a code out of range gives zeros without a word: `check` refuses it at the host edge
    return jax.nn.one_hot(jnp.asarray(x).astype(jnp.int32), like.shape[-1], dtype=like.dtype)


@pytree
class CategoricalForm(LinearForm):
    """Categorical laws, linear in indicators."""

    natural_parameters: Array
    probability: Array

    def sufficient_statistics(self, x: Array) -> Float[Array, "n f"]:
        """1 and the indicators."""
        hot = _one_hot(x, self.probability).reshape(len(x), -1)
        return jnp.concatenate([jnp.ones_like(hot[:, :1]), hot], axis=1)

    def statistics(self, sums: Float[Array, "k f"], total: None) -> Array:
        """How often each level occurs."""
        del total
        return sums[:, 1:].reshape(self.probability.shape)
