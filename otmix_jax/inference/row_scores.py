"""Per-row scores: the gradients of which the likelihood's gradient is the mean."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, PyTree

from ..adjoints.optimality import Optimality
from ..core.numerics import matmul
from ..engine import Tiled
from ..model import Mixture, Objective, Problem

_TILES = Tiled(1024)


def _tile_scores(here: Optimality, x: PyTree, a: Array) -> Float[Array, "t p"]:
    del a

    def log_density(z: Array, row: PyTree) -> Array:
        return here.at(z).log_prob(jax.tree.map(lambda leaf: leaf[None], row))[0]

    return jax.vmap(jax.grad(log_density), in_axes=(None, 0))(here.zeros, x)


def scores(mixture: Mixture, x: PyTree) -> Float[Array, "n p"]:
    """Gradient of each row's log-density in the mixture's unconstrained coordinates.

    Args:
        mixture: the model.
        x: [n, d] rows, or a dict of columns as the family wants them.

    Returns:
        [n, p], in the order of `ravel_pytree` of the coordinates (`Mixture.constrain`).

    Raises:
        ValueError: for rows that are not the mixture's; see `Mixture.log_prob`.
    """
    here = Optimality(Objective.of(Problem(x).checked(mixture)), mixture)
    return _TILES.map(Partial(_tile_scores, here), here.objective.rows)


def _outer(here: Optimality, x: PyTree, row_weight: Array) -> Float[Array, "p p"]:
    present = (row_weight > 0)[:, None]
    # an absent row's score may be infinite, and 0 * inf is NaN
    rows = jnp.where(present, _tile_scores(here, x, row_weight), 0)
    return matmul((row_weight[:, None] * rows).T, rows)


def score_outer_product(here: Optimality) -> Float[Array, "p p"]:
    """The sum over rows of a_i s_i s_i^T, holding the scores of one tile of rows at a time."""
    return _TILES.reduce(Partial(_outer, here), here.objective.rows)
