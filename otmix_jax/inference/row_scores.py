"""Per-row scores: the gradients of which the likelihood's gradient is the mean."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float, PyTree

from ..core.buckets import bucket, cut, filled, on_host
from ..core.compiling import Quick, is_traced
from ..core.numerics import matmul
from ..engine import Columns, Reference, Tiled
from ..model import Mixture, Objective, Problem
from ..model.mixtures import rows_for
from ..model.optimality import Optimality
from .counts import engine_of

_TILES = Tiled(1024)


def _tile_scores(here: Optimality, x: PyTree, a: Array) -> Float[Array, "t p"]:
    del a

    def log_density(z: Array, row: PyTree) -> Array:
        mixture = here.at(z)
        kernel = Reference.of(Columns(mixture.log_weights), mixture.components)
        return -kernel.potential(jax.tree.map(lambda leaf: leaf[None], row))[0]

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
    x = rows_for(mixture, x)
    n = jax.tree.leaves(x)[0].shape[0]
    if on_host(x) and not is_traced(mixture):
        x = filled(x, bucket(n))
    problem = Problem(x).checked(mixture)
    return cut(_by_row(engine_of(mixture, problem) is not None, mixture, problem), n)


def _scores(mixture: Mixture, problem: Problem) -> Float[Array, "n p"]:
    here = Optimality(Objective.of(problem), mixture)
    return _TILES.map(Partial(_tile_scores, here), here.objective.rows)


_by_row = Quick(_scores, level=0)


def _outer(here: Optimality, x: PyTree, row_weight: Array) -> Float[Array, "p p"]:
    present = (row_weight > 0)[:, None]
    # an absent row's score may be infinite, and 0 * inf is NaN
    rows = jnp.where(present, _tile_scores(here, x, row_weight), 0)
    return matmul((row_weight[:, None] * rows).T, rows)


def score_outer_product(here: Optimality) -> Float[Array, "p p"]:
    """The sum over rows of a_i s_i s_i^T, holding the scores of one tile of rows at a time."""
    return _TILES.reduce(Partial(_outer, here), here.objective.rows)
