"""Sizes that programs are made for: rows of another number then need no other program.

What is added are copies of a row, never zeros: those might be off a family's support.
"""

from typing import Any

import jax
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import PyTree

STEP = 1.12
"""From each bucket to the next: so many absent rows at most."""
MOST = 100_000
"""Rows from which on a fit takes longer than its compilation, and none are added."""


def bucket(n: int) -> int:
    """The next of 16, 24, ... rows, in multiples of 8; from 64 on at most an eighth is added."""
    if n > MOST:
        return n
    size = 16.0
    while 8 * int(size / 8) < n:
        size *= STEP
    return 8 * int(size / 8)


def on_host(rows: PyTree) -> bool:
    """Whether these are NumPy's rows, at least one."""
    leaves = jax.tree.leaves(rows)
    return all(isinstance(leaf, np.ndarray) for leaf in leaves) and len(leaves[0]) > 0


def filled(rows: PyTree, size: int) -> PyTree:
    """Rows of the host, and copies of the first up to `size` rows."""

    def fill(leaf: np.ndarray) -> np.ndarray:
        whole = np.empty((size, *leaf.shape[1:]), leaf.dtype)
        whole[: len(leaf)], whole[len(leaf) :] = leaf, leaf[:1]
        return whole

    return jax.tree.map(fill, rows)


def cut(result: Array, n: int) -> Array:
    """The first n of a program's results, by no program of its own where they are at hand."""
    if len(result) == n:
        return result
    if isinstance(result, Tracer) or len(result.devices()) > 1:
        return result[:n]
    return returned(np.asarray(result)[:n], result)


def returned(host: np.ndarray, like: Any) -> Array:
    """An array of the host on the device of another one."""
    return jax.device_put(host, like.sharding if like.committed else None)
