"""The host's part of a batch: ragged data sets to flat rows, standardised, and padded on demand.

All of it is NumPy over the rows of all data sets at once; nothing loops over data sets but the
reading of a list.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.core import Tracer

from ..status import Status


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Data sets behind one another.

    Attributes:
        rows: [n, d] the rows of all data sets that can be fitted, standardised.
        weights: [n] their weights, > 0.
        offsets: [p + 1] where each of those data sets begins.
        position: [p] which data set of the input each is.
        scale: [p] what its rows were divided by.
        centre: [p, d] what was taken from its rows first.
        status: [b] of every data set of the input: CONVERGED, or why it cannot be fitted.
    """

    rows: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    position: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    status: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each data set that can be fitted."""
        return np.diff(self.offsets)


def _arrays(x: Any) -> tuple[list[np.ndarray], int]:
    """The data sets, and how many columns they have; 1 where nothing says it."""
    if isinstance(x, Tracer):
        raise TypeError(
            "fit_batch cannot be traced: inside jit or grad use vmap of otmix_jax.solve"
        )
    if not isinstance(x, Sequence):
        x = np.asarray(x)
        if x.ndim != 3:
            raise ValueError(
                f"x must be a list of tables (n, d), or one array (b, n, d), not shape {x.shape}"
            )
    arrays = [np.asarray(rows) for rows in x]
    for number, rows in enumerate(arrays):
        if rows.dtype.kind not in "fiub" or rows.ndim != 2 or rows.shape[1] == 0:
            raise ValueError(
                f"x[{number}] must be a table of real numbers (n, d), "
                f"not shape {rows.shape} of {rows.dtype}"
            )
        if rows.shape[1] != arrays[0].shape[1]:
            raise ValueError(
                f"x[{number}] has {rows.shape[1]} columns, x[0] has {arrays[0].shape[1]}: "
                "all data sets of a batch need the same ones"
            )
    return arrays, (arrays[0].shape[1] if arrays else getattr(x, "shape", (1,))[-1])


def _weights(sample_weight: Any, arrays: list[np.ndarray]) -> np.ndarray:
    sizes = [len(rows) for rows in arrays]
    if sample_weight is None:
        return np.ones(sum(sizes))
    if len(sample_weight) != len(arrays):
        raise ValueError(
            f"sample_weight holds {len(sample_weight)} entries for {len(arrays)} data sets"
        )
    weights = [np.asarray(one, np.float64) for one in sample_weight]
    for number, (one, size) in enumerate(zip(weights, sizes, strict=True)):
        if one.shape != (size,):
            raise ValueError(
                f"sample_weight[{number}] must be {size} numbers, one per row of x[{number}], "
                f"not shape {one.shape}"
            )
    return np.concatenate([np.zeros(0), *weights])


def _floating(arrays: list[np.ndarray], width: int) -> np.ndarray:
    """The rows of all data sets: float32 if all of them are, else float64."""
    rows = np.concatenate(arrays) if arrays else np.zeros((0, width))
    return rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)


def _diagnose(
    rows: np.ndarray, weights: np.ndarray, owner: np.ndarray, n_sets: int, least: int
) -> np.ndarray:
    """The status of each data set; a row of weight 0 is absent, whatever it holds."""
    readable = np.isfinite(rows).all(axis=1) | (weights == 0)
    readable &= np.isfinite(weights) & (weights >= 0)
    broken = np.bincount(owner, ~readable, n_sets) > 0
    present = np.bincount(owner, weights > 0, n_sets)
    status = np.where(present < least, Status.EMPTY_COMPONENT.code, Status.CONVERGED.code)
    return np.where(broken, Status.NON_FINITE.code, status).astype(np.int32)


def _standardise(
    rows: np.ndarray, weights: np.ndarray, begins: np.ndarray, owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows about their mean over a power of two, as `fit` has it, for all data sets at once."""
    wide = rows.astype(np.float64)
    total = np.add.reduceat(weights, begins)
    centre = np.add.reduceat(weights[:, None] * wide, begins) / total[:, None]
    wide -= centre[owner]
    largest = np.maximum.reduceat(np.abs(wide).max(axis=1), begins)
    scale = np.exp2(np.round(np.log2(np.where(largest > 0, largest, 1))))
    return (wide / scale[owner, None]).astype(rows.dtype), scale, centre


def read(x: Any, sample_weight: Any, *, n_components: int, standardise: bool) -> Ragged:
    """Checks, concatenates and standardises a batch.

    Args:
        x: a sequence of tables [n, d], or one array [b, n, d].
        sample_weight: for each data set its weights [n]; or None.
        n_components: the fewest rows with weight that a data set needs.
        standardise: whether to centre and scale.

    Raises:
        ValueError: where shapes or types do not fit; never for the values of one data set.
        TypeError: for a traced x.
    """
    arrays, width = _arrays(x)
    n_sets = len(arrays)
    rows, weights = _floating(arrays, width), _weights(sample_weight, arrays)
    owner = np.repeat(np.arange(n_sets), [len(one) for one in arrays])
    status = _diagnose(rows, weights, owner, n_sets, n_components)
    kept = (status == Status.CONVERGED.code)[owner] & (weights > 0)
    rows, weights, owner = rows[kept], weights[kept], owner[kept]
    position, owner = np.unique(owner, return_inverse=True)
    sizes = np.bincount(owner, minlength=len(position))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    scale, centre = np.ones(len(position)), np.zeros((len(position), rows.shape[1]))
    if len(position):
        weights = weights / np.maximum.reduceat(weights, offsets[:-1])[owner]
        if standardise:
            rows, scale, centre = _standardise(rows, weights, offsets[:-1], owner)
    return Ragged(rows, weights, offsets, position, scale, centre, status)


MERGE = 2**20  # rows of lanes: below, computing with absent rows is cheaper than compiling


def ladder(sizes: np.ndarray) -> np.ndarray:
    """The next of 16, 24, 32, 48, 64, 96, ... for each size."""
    power = np.exp2(np.ceil(np.log2(np.maximum(sizes, 16))))
    between = 0.75 * power
    return np.where((sizes <= between) & (between >= 16), between, power).astype(int)


def buckets(sizes: np.ndarray, n_init: int) -> np.ndarray:
    """The padded size of each data set: a step of the ladder, or the next where few need it."""
    padded = ladder(sizes)
    steps = np.unique(padded)
    for small, large in zip(steps[:-1], steps[1:], strict=True):
        mine = padded == small
        if np.sum(mine) * n_init * (large - small) < MERGE:
            padded[mine] = large
    return padded


def pad(
    ragged: Ragged, members: np.ndarray, size: int, n_places: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n_places, size, d] and weights [n_places, size] of some data sets, 0 where absent."""
    sizes = ragged.sizes[members]
    place = np.repeat(np.arange(len(members)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    source = np.repeat(ragged.offsets[members], sizes) + within
    x = np.zeros((n_places, size, ragged.rows.shape[1]), ragged.rows.dtype)
    weights = np.zeros((n_places, size), ragged.rows.dtype)
    x[place, within] = ragged.rows[source]
    weights[place, within] = ragged.weights[source]
    return x, weights
