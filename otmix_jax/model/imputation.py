"""Numbers in the place of missing cells, by a mixture."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from ..core.tree import cast


def impute(mixture: Any, x: PyTree, key: PRNGKeyArray | None) -> PyTree:
    """Rows, as arrays, with their missing cells filled; see `Mixture.impute`."""
    share = mixture.responsibilities(x)
    x = cast(x, mixture.log_weights.dtype)
    if key is None:
        return mixture.components.impute(x, share)
    which, cells = jax.random.split(key)
    # log 0 is -inf, which is never drawn
    labels = jax.random.categorical(which, jnp.log(share))
    one_hot = jax.nn.one_hot(labels, share.shape[1], dtype=share.dtype)
    return mixture.components.impute(x, one_hot, cells)
