"""Whether a tight component holds no more rows than others put into some place by chance."""

import math

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ..core.numerics import logsumexp, safe_log


def log_ball(d: int) -> float:
    """The volume of the ellipsoid of the same covariance, over that of the standard density."""
    return 0.5 * d * math.log(math.pi * (d + 2)) - math.lgamma(0.5 * d + 1)


def by_chance(
    weights: Float[Array, " k"],
    at_centres: Float[Array, "k k"],
    log_volume: Float[Array, " k"],
    spanned: Array | int,
    n_rows: Array | float,
) -> Bool[Array, " k"]:
    """Whether other components put as many rows into a place as small as this, somewhere.

    The others' rows in component j's own place are about Poisson with mean r_j. Through some of
    them it can be laid at will, as many as span its thinnest shape; the others are there by chance
    with probability at most exp(-r) (e r / excess)^excess, at any of the places that those span.

    Args:
        weights: [k] proportions.
        at_centres: [k, k] costs of each component's centre, a row.
        log_volume: [k] of the place that a component takes.
        spanned: rows that a singular shape can be laid through at will.
        n_rows: how many rows there are.
    """
    excess = n_rows * weights - spanned
    others = jnp.where((weights > 0) & ~jnp.eye(len(weights), dtype=bool), weights, 0)
    costs = jnp.where(others > 0, at_centres, 0)
    density = logsumexp(safe_log(others) - costs, axis=1)
    log_rate = jnp.log(n_rows) + density + log_volume
    ratio = jnp.log(jnp.where(excess > 0, excess, 1)) - log_rate
    chance = excess * (1 - ratio) - jnp.exp(jnp.minimum(log_rate, 80))
    unlikely = chance + spanned * jnp.log(n_rows) < math.log(0.05)
    return ~((excess > 0) & (ratio > 0) & unlikely)
