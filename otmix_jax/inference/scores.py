"""Per-row scores: the gradients of which the likelihood's gradient is the mean."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._numerics import matmul
from .._typing import AnyArray
from ..adjoints.optimality import Optimality
from ..mixture import Mixture
from ..oracle import Oracle
from ..problem import Problem

_TILE = 1024


def _tile_scores(here: Optimality, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
    def log_density(z: Array, row: Array) -> Array:
        return here.at(z).log_prob(row[None])[0]

    return jax.vmap(jax.grad(log_density), in_axes=(None, 0))(here.zeros, x)


def _tiled(x: Array, row_weight: Array) -> tuple[Array, Array]:
    """Tiles of rows [t, size, d] and their weights, padded with the first row at weight 0."""
    size = min(_TILE, max(x.shape[0], 1))
    padding = -x.shape[0] % size
    x = jnp.concatenate([x, jnp.broadcast_to(x[:1], (padding, x.shape[1]))])
    row_weight = jnp.pad(row_weight, (0, padding))
    return x.reshape(-1, size, x.shape[1]), row_weight.reshape(-1, size)


def scores(mixture: Mixture, x: Float[AnyArray, "n d"]) -> Float[Array, "n p"]:
    """Gradient of each row's log-density in the mixture's unconstrained coordinates.

    Args:
        mixture: the model.
        x: [n, d] rows.

    Returns:
        [n, p], in the order of `ravel_pytree` of the coordinates (`Mixture.constrain`).
    """
    x = jnp.asarray(x)
    here = Optimality(Oracle(Problem(x).checked()), mixture)
    tiles, _ = _tiled(x, jnp.zeros(x.shape[0], x.dtype))
    rows = jax.lax.map(lambda tile: _tile_scores(here, tile), tiles)
    return rows.reshape(-1, rows.shape[-1])[: x.shape[0]]


def score_outer_product(here: Optimality) -> Float[Array, "p p"]:
    """The sum over rows of a_i s_i s_i^T, holding the scores of one tile of rows at a time."""
    tiles = _tiled(*here.oracle.problem.rows())

    def add(total: Array, tile: tuple[Array, Array]) -> tuple[Array, None]:
        x, row_weight = tile
        present = (row_weight > 0)[:, None]
        rows = jnp.where(present, _tile_scores(here, x), 0)
        return total + matmul((row_weight[:, None] * rows).T, rows), None

    p = here.zeros.shape[0]
    return jax.lax.scan(add, jnp.zeros((p, p), here.zeros.dtype), tiles)[0]
