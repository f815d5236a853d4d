"""What kind of rows a family is of, asked through its contract: no family is named."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from ..core.buckets import bucket, cut, filled
from ..families.coordinates import SIMPLEX, learned


@jax.jit
def _costs(components: Any, x: PyTree) -> Array:
    return components.cost(x)


def costs(components: Any, x: PyTree) -> Float[np.ndarray, "n k"]:
    """-log p(x_i | theta_j); infinite off the support."""
    n = jax.tree.leaves(x)[0].shape[0]
    # in buckets, so that grids of about one size share a program
    x = jax.tree.map(jnp.asarray, filled(x, bucket(n)))
    return np.asarray(cut(_costs(components, x), n), float)


def densities(components: Any, x: PyTree) -> Float[np.ndarray, "n k"]:
    """p(x_i | theta_j), or the probability of a discrete row; 0 off the support."""
    cost = costs(components, x)
    there = np.isfinite(cost)
    # 700: a spike's density is drawn as very high, not as infinite
    return np.where(there, np.exp(np.minimum(-np.where(there, cost, 0), 700)), 0)


def support(components: Any, width: int) -> str:
    """Kind of rows: "real", "angles", "counts", "shares", "directions" or "other".

    By what `check` lets pass: halves, ones, rows of sum 1 (shares) or of length 1 (directions).

    Args:
        components: a family.
        width: how many columns the rows have; 0 for rows that are no table.
    """
    if not width:
        return "other"

    def accepts(value: float) -> bool:
        try:
            components.described().check(np.full((2, width), value))
        except (TypeError, ValueError, KeyError):
            return False
        return True

    if accepts(0.5):
        return "angles" if _periodic(components, width) else "real"
    # in this order: of one column, ones are also rows of sum 1 and of length 1
    probes = (1.0, "counts"), (1 / width, "shares"), (width**-0.5, "directions")
    return next((kind for value, kind in probes if accepts(value)), "other")


def _periodic(components: Any, width: int) -> bool:
    """Whether the density repeats itself after a turn, and is not flat."""
    starts = np.array([0.3, 1.3, 2.9, 4.2])
    turns = (starts + 2 * np.pi * np.arange(2)[:, None]).reshape(-1, 1) * np.ones(width)
    # logarithms: far from everything densities are alike, being 0
    cost = costs(components, turns).reshape(2, len(starts), -1)
    if not np.isfinite(cost).all():
        return False
    here, around = cost
    repeated = np.allclose(here, around, rtol=1e-3, atol=1e-3)
    return repeated and not np.allclose(here, here[:1], rtol=1e-3, atol=1e-3)


def levels(components: Any) -> np.ndarray | None:
    """Probabilities of levels, [k, items, levels], of a family that has them; else None."""
    for field in learned(components):
        if field.metadata["domain"] is SIMPLEX:
            found = np.asarray(getattr(components, field.name), float)
            return found[:, None] if found.ndim == 2 else found
    return None


def outlined(components: Any, first: int = 0) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Centre [d] and scale matrix [d, d] of each component that has them, by its number."""
    kinds = getattr(components, "kinds", None)
    if kinds is not None:
        found = {}
        for kind in kinds:
            found |= outlined(kind, first)
            first += kind.n_components
        return found
    if not hasattr(components, "matrices"):
        return {}
    pairs = zip(np.asarray(components.mean), np.asarray(components.matrices()), strict=True)
    return {
        first + j: (centre, matrix)
        for j, (centre, matrix) in enumerate(pairs)
        if np.isfinite(centre).all() and np.isfinite(matrix).all()
    }
