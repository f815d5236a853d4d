"""The host's part of a batch: ragged data sets to flat rows, standardised, and padded on demand.

All of it is NumPy over the rows of all data sets at once; nothing loops over data sets but the
reading of a list.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from ..core.reading import is_iterator, numbers, read_rows
from ..core.status import Status
from ..core.tree import index, is_float, is_plain
from ..families import Description
from ..families.coordinates import Frame
from .directions import Directions, looks, sample_of, shared, suspicious
from .options import Goal


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Data sets behind one another.

    Attributes:
        rows: [n, ...] the rows of all data sets that can be fitted, each in its frame.
        weights: [n] their weights, > 0.
        offsets: [p + 1] where each of those data sets begins.
        position: [p] which data set of the input each is.
        frame: the frame of each, with leading axis p.
        status: [b] of every data set of the input: CONVERGED, or why it cannot be fitted.
        blank: no rows, of the columns that were given.
        directions: of each data set that can be fitted, where columns are left out of all.
    """

    rows: PyTree
    weights: np.ndarray
    offsets: np.ndarray
    position: np.ndarray
    frame: Frame
    status: np.ndarray
    blank: PyTree
    directions: list[Directions] | None = None

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each data set that can be fitted."""
        return np.diff(self.offsets)


def _sets(x: Any, family: Description, sample_weight: Any) -> tuple[list[PyTree], PyTree]:
    """The data sets, and no rows of the same columns; one column where nothing says more."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x, is_leaf=is_iterator)):
        raise TypeError(
            "fit_batch cannot be traced: inside jit or grad use vmap of otmix_jax.solve"
        )
    if isinstance(x, dict):  # columns [b, n, ...]
        whole = {str(name): _whole(column) for name, column in x.items()}
        count = len(next(iter(whole.values()), ()))
        x = [index(whole, number) for number in range(count)]
    elif not isinstance(x, Sequence):
        kind, x = type(x).__name__, _whole(x)
        if x.ndim != 3:
            raise ValueError(
                f"x must be a list of tables (n, d), or one array (b, n, d), not shape {x.shape} "
                f"({kind})"
            )
        if not len(x):
            return [], np.zeros((0, x.shape[-1]))
    given = [None] * len(x) if sample_weight is None else list(sample_weight)
    if len(given) != len(x):
        raise ValueError(f"sample_weight holds {len(given)} entries for {len(x)} data sets")
    pairs = zip(x, given, strict=True)
    sets = [_columns(*pair, number, family) for number, pair in enumerate(pairs)]
    for number, rows in enumerate(sets):
        if _widths(rows) != _widths(sets[0]):
            raise ValueError(
                f"x[{number}] has {_widths(rows)} columns, x[0] has {_widths(sets[0])}: "
                "all data sets of a batch need the same ones"
            )
    return sets, index(sets[0], slice(0, 0)) if sets else np.zeros((0, 1))


def _whole(x: Any) -> np.ndarray:
    """An array; one with a mask keeps it."""
    return x if isinstance(x, np.ndarray) else np.asarray(x)


def _columns(rows: Any, sample_weight: Any, number: int, family: Description) -> PyTree:
    table = family.table
    try:
        if not is_plain(rows):
            told = {"table": table, "missing": family.missing}
            rows = read_rows(rows, sample_weight=sample_weight, **told)
    except (TypeError, ValueError) as error:
        raise type(error)(f"x[{number}]: {error}") from None
    leaves = jax.tree.map(np.asarray, rows)
    with_sizes = isinstance(leaves, dict) and family.family.beside and "x" in leaves
    if isinstance(leaves, dict) == table and not with_sizes:
        wanted = "a table of real numbers (n, d)" if table else "a dict of columns"
        have = f"a dict of {sorted(leaves)}" if isinstance(leaves, dict) else "a table"
        raise ValueError(f"x[{number}] must be {wanted}, not {have}")
    for leaf in jax.tree.leaves(leaves):
        flat = table and not with_sizes and leaf.ndim != 2
        if leaf.ndim < 1 or flat or 0 in leaf.shape[1:]:
            hint = f"; for one feature use x[{number}][:, None]" if leaf.ndim == 1 else ""
            raise ValueError(
                f"x[{number}] must be a table of real numbers (n, d), not shape {leaf.shape}{hint}"
            )
    return leaves


def _widths(rows: PyTree) -> Any:
    return (
        {n: leaf.shape[1:] for n, leaf in rows.items()} if isinstance(rows, dict) else rows.shape[1]
    )


def _length(rows: PyTree) -> int:
    return len(jax.tree.leaves(rows)[0])


def _weights(sample_weight: Any, sizes: list[int]) -> np.ndarray:
    if sample_weight is None:
        return np.ones(sum(sizes))
    named = ((one, f"sample_weight[{number}]") for number, one in enumerate(sample_weight))
    weights = [np.asarray(numbers(*pair), np.float64) for pair in named]
    for number, (one, size) in enumerate(zip(weights, sizes, strict=True)):
        if one.shape != (size,):
            raise ValueError(
                f"sample_weight[{number}] must be {size} numbers, one per row of x[{number}], "
                f"not shape {one.shape}"
            )
    return np.concatenate([np.zeros(0), *weights])


def _joined(sets: list[PyTree], blank: PyTree) -> PyTree:
    """The rows of all data sets: float32 if all of them are, else float64; codes stay codes."""

    def join(*leaves: np.ndarray) -> np.ndarray:
        whole = np.concatenate(leaves)
        narrow = whole.dtype.kind == "f" and whole.dtype in (np.float32, np.float64)
        codes = whole.dtype.kind in "iub" and isinstance(blank, dict)
        return whole if narrow or codes else whole.astype(np.float64)

    return jax.tree.map(join, blank, *sets) if sets else jax.tree.map(join, blank)


def _readable(rows: PyTree, n: int) -> np.ndarray:
    sound = np.ones(n, bool)
    for leaf in jax.tree.leaves(rows):
        if is_float(leaf):
            sound &= np.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))
    return sound


def _seen(rows: PyTree, present: np.ndarray, owner: np.ndarray, n_sets: int) -> np.ndarray:
    """Which data sets have a cell in every column."""
    found = np.ones(n_sets, bool)
    for leaf in jax.tree.leaves(rows):
        for column in leaf.reshape(len(leaf), -1).T:
            there = present & ~np.isnan(column) if is_float(leaf) else present
            found &= np.bincount(owner, there, n_sets) > 0
    return found


def _diagnose(
    rows: PyTree,
    weights: np.ndarray,
    owner: np.ndarray,
    n_sets: int,
    least: int,
    family: Description,
) -> np.ndarray:
    """The status of each data set; a row of weight 0 is absent, whatever it holds."""
    readable = _readable(family.without_missing(rows), len(weights)) | (weights == 0)
    readable &= np.isfinite(weights) & (weights >= 0)
    broken = np.bincount(owner, ~readable, n_sets) > 0
    if family.missing:
        broken |= ~_seen(rows, weights > 0, owner, n_sets)
    present = np.bincount(owner, weights > 0, n_sets)
    status = np.where(present < least, int(Status.EMPTY_COMPONENT), int(Status.CONVERGED))
    return np.where(broken, int(Status.NON_FINITE), status).astype(np.int32)


def read_batch(
    x: Any, sample_weight: Any, *, n_components: int, family: Description, goal: Goal | None = None
) -> Ragged:
    """Checks, concatenates and frames a batch.

    Args:
        x: a sequence of tables [n, d] or dicts of columns, or one array [b, n, d].
        sample_weight: for each data set its weights [n]; or None.
        n_components: the fewest rows with weight that a data set needs.
        family: in whose frames they are fitted.
        goal: decides whether columns that say nothing in any data set are left out.

    Raises:
        ValueError: where shapes or types do not fit, or values are off the family's support;
            never for other values of one data set.
        TypeError: for a traced x.
    """
    sets, blank = _sets(x, family, sample_weight)
    n_sets, sizes = len(sets), [_length(one) for one in sets]
    rows, weights = _joined(sets, blank), _weights(sample_weight, sizes)
    owner = np.repeat(np.arange(n_sets), sizes)
    status = _diagnose(rows, weights, owner, n_sets, n_components, family)
    kept = (status == int(Status.CONVERGED))[owner] & (weights > 0)
    rows, weights, owner = index(rows, kept), weights[kept], owner[kept]
    family.check(rows)
    rows = family.reals(rows)
    position, owner = np.unique(owner, return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(position)))])
    begins = offsets[:-1]
    if len(position):
        # by the largest: sums neither over- nor underflow, whatever the unit of the weights
        weights = weights / np.maximum.reduceat(weights, begins)[owner]
    directions = None
    looked_at = goal is not None and len(position) and looks(goal, family) and rows.shape[1] > 1
    if looked_at and suspicious(sample_of(rows[: offsets[1]], None)):
        directions = shared(rows, offsets)
    if directions is not None:
        rows = directions[0].of(rows)
    frame = family.frame(rows, weights, begins)
    framed = index(frame, owner).into(rows)
    # framed in float64, then rounded: the other way round a large offset costs digits
    rows = jax.tree.map(lambda new, old: new.astype(old.dtype), framed, rows)
    return Ragged(rows, weights, offsets, position, frame, status, blank, directions)


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


def pad(ragged: Ragged, members: np.ndarray, size: int, n_places: int) -> tuple[PyTree, np.ndarray]:
    """Rows [n_places, size, ...] and weights [n_places, size] of some sets, 0 where absent."""
    sizes = ragged.sizes[members]
    place = np.repeat(np.arange(len(members)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    source = np.repeat(ragged.offsets[members], sizes) + within

    def padded(leaf: np.ndarray, dtype: Any) -> np.ndarray:
        blank = np.zeros((n_places, size, *leaf.shape[1:]), dtype)
        blank[place, within] = leaf[source]
        return blank

    x = jax.tree.map(lambda leaf: padded(leaf, leaf.dtype), ragged.rows)
    real = [leaf.dtype for leaf in jax.tree.leaves(ragged.rows) if is_float(leaf)]
    return x, padded(ragged.weights, np.result_type(*real) if real else np.float64)
