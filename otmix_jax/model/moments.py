"""Moments of a whole mixture: the laws of total mean and total covariance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from ..core.numerics import einsum, matmul, proportions
from ..core.tree import is_float
from ..families.family import Family


def sound(components: Family) -> Family:
    """The components with 1 for what is not finite: not selected, NaN still has derivatives."""
    return jax.tree.map(
        lambda leaf: jnp.where(jnp.isfinite(leaf), leaf, 1) if is_float(leaf) else leaf, components
    )


def of_present(log_weights: Array, components: Family, law: Callable[[Family], PyTree]) -> PyTree:
    """What a law says of each component, leaves [k, ...]; 0 of an absent one that says NaN or inf.

    An absent component may hold anything.
    """
    absent = log_weights == -jnp.inf

    def choose(value: Array, said: Array) -> Array:
        gone = absent.reshape(-1, *(1,) * (value.ndim - 1))
        return jnp.where(jnp.isfinite(said), value, jnp.where(gone, 0, said))

    plain = jax.lax.stop_gradient(law(components))
    return jax.tree.map(choose, law(sound(components)), plain)


def _moments(mixture: Any) -> tuple[Array, PyTree, PyTree]:
    log_weights, components = mixture.log_weights, mixture.components
    means, spreads = of_present(log_weights, components, lambda family: family.moments())
    return proportions(log_weights), means, spreads


@jax.jit
def mean(mixture: Any) -> PyTree:
    """sum_j pi_j mu_j, leaf by leaf."""
    weights, means, _ = _moments(mixture)
    return jax.tree.map(lambda each: matmul(weights, each), means)


@jax.jit
def covariance(mixture: Any) -> PyTree:
    """sum_j pi_j (Sigma_j + (mu_j - m)(mu_j - m)^T); of a dict of parts, a block for each pair."""
    weights, means, spreads = _moments(mixture)
    leaves, structure = jax.tree.flatten(means)
    own = jax.tree.leaves(spreads)
    centred = [each - matmul(weights, each) for each in leaves]

    def block(a: int, b: int) -> Array:
        between = einsum("k,kd,ke->de", weights, centred[a], centred[b])
        if a != b:
            return between
        if own[a].ndim == 2:
            return between + jnp.diag(matmul(weights, own[a]))
        return between + einsum("k,kde->de", weights, own[a])

    numbers = range(len(leaves))
    rows = [structure.unflatten([block(a, b) for b in numbers]) for a in numbers]
    return structure.unflatten(rows)
