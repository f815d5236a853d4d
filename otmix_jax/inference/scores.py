"""Per-row scores: the gradients of which the likelihood's gradient is the mean."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._numerics import matmul
from .._typing import AnyArray
from ..adjoints.optimality import Optimality
from ..engine import Rows, Tiled
from ..mixture import Mixture
from ..oracle import Oracle
from ..problem import Problem

_TILES = Tiled(1024)


def _tile_scores(here: Optimality, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
    def log_density(z: Array, row: Array) -> Array:
        return here.at(z).log_prob(row[None])[0]

    return jax.vmap(jax.grad(log_density), in_axes=(None, 0))(here.zeros, x)


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
    rows = Rows.of(x, jnp.ones_like(x[:, 0]), complete=True)
    return _TILES.map(lambda x, _: _tile_scores(here, x), rows)


def score_outer_product(here: Optimality) -> Float[Array, "p p"]:
    """The sum over rows of a_i s_i s_i^T, holding the scores of one tile of rows at a time."""

    def tile(x: Array, row_weight: Array) -> Array:
        present = (row_weight > 0)[:, None]
        rows = jnp.where(present, _tile_scores(here, x), 0)
        return matmul((row_weight[:, None] * rows).T, rows)

    return _TILES.sum(tile, here.oracle.problem.rows())
