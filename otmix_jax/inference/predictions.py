"""The mean response given features, by component and over them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from ..core.numerics import matmul
from ..core.reading import read_rows
from ..model import Mixture


def predict_response(
    mixture: Mixture, rows: PyTree, responsibilities: Any = None
) -> Float[Array, " *n"]:
    """The mean of a new response given features: over components, by their proportions.

    By component it is `mixture.components.expected(rows)`.

    Args:
        mixture: of regressions.
        rows: features, and what else the predictor takes; a response is not read. Units of
            repeated measurements too.
        responsibilities: [n, k] what is known of the rows' components, such as those of earlier
            responses of the same units; None is nothing.

    Returns:
        [n], or [n, m] of units.

    Raises:
        TypeError: for a family that has no response.
    """
    expected = getattr(mixture.components, "expected", None)
    if expected is None:
        raise TypeError(f"{type(mixture.components).__name__} has no response to predict")
    means = expected(jax.tree.map(jnp.asarray, read_rows(rows, table=False)))
    if responsibilities is None:
        return matmul(means, mixture.weights)
    shares = jnp.asarray(responsibilities)
    shares = shares.reshape(len(shares), *(1,) * (means.ndim - 2), -1)
    return jnp.sum(means * shares, axis=-1)
