"""The fitted object: proportions and components."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from ._numerics import logsumexp, normalize, safe_log
from ._pytree import pytree, replace
from ._typing import AnyArray
from .engine import Columns, Ready, Rows, choose
from .families.base import Family


@pytree
class Mixture:
    """p(x) = sum_j pi_j p(x | theta_j).

    Attributes:
        log_weights: [k] log pi, normalised; -inf marks an absent component.
        components: the K components, a `Family`, for example a `Gaussian`.

    Example:
        >>> import jax.numpy as jnp
        >>> from otmix_jax import Mixture
        >>> from otmix_jax.families import Gaussian, Spherical
        >>> components = Gaussian(jnp.array([[0.0], [4.0]]), Spherical(jnp.array([1.0, 1.0]), 1))
        >>> mixture = Mixture.from_weights(jnp.array([0.25, 0.75]), components)
        >>> mixture.predict(jnp.array([[0.1], [3.9]])).tolist()
        [0, 1]
    """

    log_weights: Array
    components: Any

    @classmethod
    def from_weights(cls, weights: Float[AnyArray, " k"], components: Family) -> "Mixture":
        """A mixture from proportions, which are divided by their sum; 0 is allowed."""
        return cls(safe_log(normalize(jnp.asarray(weights))), components)

    @property
    def weights(self) -> Float[Array, "*batch k"]:
        """The proportions pi [k]; of a batch of mixtures [batch, k]."""
        return jnp.exp(self.log_weights)

    @property
    def n_components(self) -> int:
        """K."""
        return self.components.n_components

    @property
    def n_parameters(self) -> int:
        """Free parameters: the components' and K - 1 proportions."""
        return self.components.n_parameters + self.n_components - 1

    def log_prob(self, x: Float[AnyArray, "n d"]) -> Float[Array, " n"]:
        """Log-density of each row [n], in nats; -f of the note's plan at epsilon = 1."""
        return -_by_row(self, x, _potential)

    def responsibilities(self, x: Float[AnyArray, "n d"]) -> Float[Array, "n k"]:
        """P(component | row) [n, k]: the note's plan (3.2) with each row divided by its weight.

        Rows sum to 1; a row beyond the reach of floating point follows the proportions.
        """
        return _by_row(self, x, _conditional)

    def predict(self, x: Float[AnyArray, "n d"]) -> Int[Array, " n"]:
        """The most probable component of each row [n]."""
        return _by_row(self, x, _label)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent rows [n, d]; `n` is static under jit."""
        label_key, row_key = jax.random.split(key)
        labels = jax.random.categorical(label_key, self.log_weights, shape=(n,))
        return self.components.sample(row_key, labels)

    def affine(self, scale: Any, shift: Any) -> "Mixture":
        """The law of `scale * X + shift`, scale > 0, for families that are closed under it."""
        scale, shift = (jnp.asarray(a, self.log_weights.dtype) for a in (scale, shift))
        return replace(self, components=self.components.affine(scale, shift))

    def constrain(self, coordinates: dict) -> "Mixture":
        """The mixture at unconstrained `coordinates` about this one; zeros give this one."""
        moved = self.log_weights + coordinates["log_weights"]
        # Relative to this mixture's own sum, so that zeros move no bit.
        excess = logsumexp(moved, axis=0) - logsumexp(self.log_weights, axis=0)
        log_weights = moved - excess
        return replace(
            self,
            log_weights=log_weights,
            components=self.components.constrain(coordinates["components"]),
        )

    def unconstrained(self, origin: "Mixture") -> dict:
        """The coordinates of this mixture about `origin`, which has the same absent components."""
        present = self.log_weights > -jnp.inf
        difference = jnp.where(present, self.log_weights, 0) - jnp.where(
            origin.log_weights > -jnp.inf, origin.log_weights, 0
        )
        return {
            "log_weights": difference,
            "components": self.components.unconstrained(origin.components),
        }


def _potential(ready: Ready, x: Array) -> Array:
    return ready.potential(x)


def _conditional(ready: Ready, x: Array) -> Array:
    return ready.rows(x)[1]


def _label(ready: Ready, x: Array) -> Array:
    return jnp.argmax(ready.rows(x)[1], axis=1)


def _by_row(mixture: Mixture, x: AnyArray, tile: Callable[[Ready, Array], Array]) -> Array:
    x = jnp.asarray(x)
    chex.assert_rank(x, 2)
    chex.assert_axis_dimension(x, 1, mixture.components.n_features)
    return _tile_by_tile(mixture, x, tile)


@functools.partial(jax.jit, static_argnums=2)
def _tile_by_tile(mixture: Mixture, x: Array, tile: Callable[[Ready, Array], Array]) -> Array:
    x = x.astype(jnp.promote_types(x.dtype, mixture.log_weights.dtype))
    engine = choose(mixture.components, x.shape[0], x.dtype)
    ready = engine.ready(Columns(mixture.log_weights), mixture.components)
    rows = Rows.of(x, jnp.ones_like(x[:, 0]), complete=True)
    return engine.execution.map(lambda x, _: tile(ready, x), rows)
