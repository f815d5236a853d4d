"""Proportions of a mixture once some columns are known."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..core.numerics import normalize_log, proportions
from ..core.tree import replace
from .moments import sound


@jax.jit
def condition(mixture: Any, values: Any) -> Any:
    """The mixture of the other columns: proportions pi_j p_j(values), conditional components."""
    # of an absent component that holds NaN nothing is told, and so no derivative is NaN
    plain = jax.lax.stop_gradient(mixture.components.condition(values))
    told = sound(mixture.components).condition(values)
    density, components = jax.tree.map(
        lambda own, said: jnp.where(jnp.isfinite(said), own, said), told, plain
    )
    return replace(
        mixture, log_weights=_updated(mixture.log_weights, density), components=components
    )


def _updated(log_weights: Float[Array, " k"], density: Float[Array, " k"]) -> Float[Array, " k"]:
    """The logarithms of pi_j p_j(values), normalised; pi where none of them reaches the values."""
    present = proportions(log_weights) > 0
    # by `where`: the density under an absent component may be NaN
    joint = jnp.where(present, log_weights + jnp.where(present, density, 0), -jnp.inf)
    lost = jnp.max(joint) == -jnp.inf
    # twice `where`: nothing may be normalised without mass, or its derivative is NaN
    return jnp.where(lost, log_weights, normalize_log(jnp.where(lost, log_weights, joint)))
