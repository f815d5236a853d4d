"""What laws of directions share: the fitted concentration, draws, components on a few rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, PRNGKeyArray

from ..core.bessel import concentration_of
from ..priors import Prior
from .chance import by_chance, log_ball


def least_spread(dtype: Any) -> Prior:
    """The floor at the rounding of unit vectors: 1 / kappa is a variance along the sphere."""
    return Prior(floor=jnp.asarray((4 * jnp.finfo(dtype).eps) ** 2, dtype))


def about_pivot(along: Array, square: Array, versine: Array) -> tuple[Array, Array]:
    """Length of a mean of unit vectors, and what it lacks to 1, which keeps its digits.

    Args:
        along: squared length of the mean.
        square: squared length of the mean's difference from a unit vector p.
        versine: the mean of 1 - p.x.
    """
    lacks = jnp.clip(2 * versine - square, 0, 1)  # 1 - r^2
    length = jnp.sqrt(jnp.where(along > 0, along, 1)) * (along > 0)
    return length, lacks / (1 + length)


def bounded_concentration(
    cosine: Array, versine: Array, d: int, prior: Prior | None
) -> Float[Array, "*shape"]:
    """Kappa with mean cosine `cosine`, at most 1 over the prior's floor.

    Without a floor, NaN (a collapse) where rows are equal up to rounding.
    """
    kappa = concentration_of(cosine, versine, d)
    if prior is not None and prior.floor is not None:
        return jnp.minimum(kappa, 1 / jnp.max(prior.floor))
    floor: Any = least_spread(kappa.dtype).floor
    return jnp.where(kappa < 1 / floor, kappa, jnp.nan)


def on_few_rows(
    concentration: Float[Array, "k m"],
    d: int,
    at_centres: Float[Array, "k k"],
    prior: Prior | None,
    weights: Float[Array, " k"],
    n_rows: Array | float,
) -> Bool[Array, " k"]:
    """See `Family.spurious`, for m spheres in R^d each: kappa at its bound, or large by chance."""
    if prior is None or prior.floor is None:
        return jnp.zeros(weights.shape, bool)
    present = weights > 0
    kappa = jnp.where(present[:, None], concentration, 1)  # an absent component may hold anything
    held = jnp.any(kappa * jnp.max(prior.floor) > 0.99, axis=1)
    dimensions = (d - 1) * kappa.shape[1]  # of the tangents, in which 1 / kappa is the variance
    pooled = jnp.sum(jnp.where(present, weights, 0)[:, None] / kappa, axis=0)
    tight = (d - 1) * jnp.sum(pooled * kappa, axis=1) > 100 + dimensions
    volume = log_ball(dimensions) - 0.5 * (d - 1) * jnp.sum(jnp.log(kappa), axis=1)
    return present & (held | (tight & by_chance(weights, at_centres, volume, 1, n_rows)))


def sample_versines(key: PRNGKeyArray, kappa: Float[Array, " n"], d: int) -> Float[Array, " n"]:
    """Draws of 1 - mu.x, with all their digits, by rejection.

    Source: Wood (1994), Commun. Statist. Simul. 23, algorithm VM*, in terms of 1 - w.
    """
    a = d - 1
    b = a / (2 * kappa + jnp.hypot(2 * kappa, jnp.asarray(a, kappa.dtype)))
    peak = 2 * b / (1 + b)  # 1 - x_0

    def draw(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, drawn, found = state
        key, first, second = jax.random.split(key, 3)
        z = jax.random.beta(first, 0.5 * a, 0.5 * a, kappa.shape, kappa.dtype)
        versine = 2 * b * z / (1 - (1 - b) * z)
        # of 1 - x_0 w and 1 - x_0^2
        ratio = (peak + (1 - peak) * versine) / (peak * (2 - peak))
        log_accept = kappa * (peak - versine) + a * jnp.log(ratio)
        threshold = jnp.log(1 - jax.random.uniform(second, kappa.shape, kappa.dtype))
        taken = ~found & (log_accept >= threshold)
        return key, jnp.where(taken, versine, drawn), found | taken

    # NaN would never be accepted
    lost = ~jnp.isfinite(kappa)
    start = key, jnp.where(lost, jnp.nan, jnp.zeros_like(kappa)), lost
    return jax.lax.while_loop(lambda state: ~jnp.all(state[2]), draw, start)[1]
