"""Peaks of Lindsay's D in several columns, by climbs from where it is high: no bound."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from ..core.numerics import einsum
from . import passes
from .kernels import LocationKernel

STEPS = 25
"""Of a climb."""


@jax.jit
def climbed(
    kernel: LocationKernel, log_c: Float[Array, " n"], z: Float[Array, "m d"]
) -> tuple[Float[Array, "m d"], Float[Array, " m"]]:
    """Locations after steps that never lower D, and log D there.

    A Newton step where D is concave and that wins more; else a step of EM, the mean shift
    (Fukunaga and Hostetler 1975), which never loses.
    """

    def body(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        z, value = state
        at = passes.slope(kernel, log_c, z)
        shift = jnp.linalg.solve(at.information, at.gradient[..., None])[..., 0]
        values, vectors = jnp.linalg.eigh(-at.hessian)
        concave = values[:, :1] > 1e-6
        along = einsum("mba,mb->ma", vectors, at.gradient) / jnp.where(concave, values, 1)
        newton = jnp.where(concave, einsum("mab,mb->ma", vectors, along), shift)
        best = z, value
        for step in (shift, newton):
            tried = z + step
            reached = passes.log_lindsay(kernel, log_c, tried)
            higher = reached > best[1]
            best = jnp.where(higher[:, None], tried, best[0]), jnp.where(higher, reached, best[1])
        return best

    return jax.lax.fori_loop(0, STEPS, body, (z, passes.log_lindsay(kernel, log_c, z)))
