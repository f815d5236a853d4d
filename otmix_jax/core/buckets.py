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
    """The next of 16, 24, 32, ... rows, in multiples of 8; from 64 on at most 12 % are added."""
    if n > MOST:
        return n
    size = 16
    while size < n:
        size = max(size + 8, 8 * int(STEP * size / 8))
    return size


def on_host(rows: PyTree) -> bool:
    """Whether these are rows of NumPy's, at least one, and as many in each column."""
    leaves = jax.tree.leaves(rows)
    numbers = {len(leaf) if isinstance(leaf, np.ndarray) else 0 for leaf in leaves}
    return len(numbers) == 1 and 0 not in numbers


def filled(rows: PyTree, size: int) -> PyTree:
    """Rows of the host, and copies of the first up to `size` rows."""
    if len(jax.tree.leaves(rows)[0]) == size:
        return rows

    def fill(leaf: np.ndarray) -> np.ndarray:
        whole = np.empty((size, *leaf.shape[1:]), leaf.dtype)
        whole[: len(leaf)], whole[len(leaf) :] = leaf, leaf[:1]
        return whole

    return jax.tree.map(fill, rows)


def padded(rows: PyTree, weights: np.ndarray | None = None) -> tuple[PyTree, np.ndarray]:
    """Rows of the host up to their bucket, and weights: 0 for those that are added."""
    n = len(jax.tree.leaves(rows)[0])
    size, weights = bucket(n), np.ones(n) if weights is None else weights
    return filled(rows, size), np.append(weights, np.zeros(size - n))


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
