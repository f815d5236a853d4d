"""The atoms: weights on a grid, near atoms merged, Newton's method, peaks of D inserted, again."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..core.buckets import bucket
from . import cloud, passes
from .certificate import covering, survey
from .kernels import GaussianKernel, LocationKernel
from .weights import optimal_weights

SPACING = 0.25
"""Of the first atoms, in units of the noise; twice that, and then less, of those merged."""
MOST_FIRST = 512
"""First atoms at most."""
FIRST = 1e-5
"""Nats per row to which the first weights are the best."""
FEW = 4096
"""Rows above which fewer, that stand for all, are fitted first."""
ROUGH = 1e-6
"""Nats per row to which they are."""
FINE = 1 / 16
"""The first width of bins of rows that stand for one, in units of the noise."""
MOST_PASSES = 10
"""Of Newton's method at a time: atoms that meet on the way are merged before it goes on."""
MOST_MEETINGS = 12
DAMPING, MOST_DAMPING = 1e-3, 1e6
FAR = 12.0
"""Standard deviations between rows that have no atom in common."""
LOOKS = 4096
"""Rows at which D is read in several columns."""
CLIMBS = 64
"""Climbs from them at a time."""
MOST_COUPLED = 1200
"""Weights and coordinates of a Newton step on all atoms together."""
ROUNDING = 64
"""Of D, in units of the dtype's."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows in coordinates, on the device, up to a multiple of a tile.

    Attributes:
        kernel: n rows.
        row_weight: [n] of sum 1; 0 of those that are added.
        own: [rows, d] where each row alone would have the location, NumPy.
        weight: [rows] of sum 1, NumPy.
        share: of all rows, where these are a part.
    """

    kernel: LocationKernel
    row_weight: Array
    own: np.ndarray
    weight: np.ndarray
    share: float = 1.0

    @classmethod
    def of(cls, kernel: Any, own: np.ndarray, weight: np.ndarray, dtype: Any) -> "Sample":
        """Equal rows are one row with their weight."""
        leaves, structure = jax.tree.flatten(kernel)
        table = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
        first, which = distinct(table[:, np.ptp(table, axis=0) > 0])
        weight = np.bincount(which, weight)
        share = float(weight.sum())
        weight, own, n = weight / share, own[first], len(first)
        # few sizes, for which programs are compiled: powers of two, then bucketed tiles
        size = 2 ** max(n - 1, 63).bit_length()
        size = size if n <= passes.TILE else passes.TILE * bucket(-(-n // passes.TILE))
        index = np.append(first, np.full(size - n, first[0]))
        rows = [jnp.asarray(leaf[index], dtype) for leaf in leaves]
        whole = np.append(weight, np.zeros(size - n))
        kernel = jax.tree.unflatten(structure, rows)
        return cls(kernel, jnp.asarray(whole, dtype), own, weight, share)

    @property
    def dtype(self) -> Any:
        """The precision."""
        return self.row_weight.dtype

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """[d] where atoms may be: of one column between the rows' own locations."""
        if self.own.shape[1] > 1:
            # with noise by row the best location may lie outside of all boxes
            return np.array([-np.inf]), np.array([np.inf])
        return self.own.min(axis=0), self.own.max(axis=0)


@dataclasses.dataclass(frozen=True)
class Found:
    """Atoms, and how far they are from the best.

    Attributes:
        z: [m, d] in coordinates, in order.
        w: [m] weights.
        log_f: [n] log-density of the sample's rows.
        upper: log D exceeds this nowhere, or at none of the candidates.
        reached: the largest log D that was seen.
        peaks: [p, d] where it may be larger than it should be.
        n_passes: over the rows, of Newton's method.
    """

    z: np.ndarray
    w: np.ndarray
    log_f: Array
    upper: float
    reached: float
    peaks: np.ndarray
    n_passes: int


def search(sample: Sample, tolerance: float, max_rounds: int) -> tuple[Found, int]:
    """The best atoms found, and the number of rounds."""
    parts = [thinned(sample)] if len(sample.own) > FEW else apart(sample)
    if parts:
        alone = [search(part, max(tolerance, ROUGH), max_rounds)[0] for part in parts]
        shares = [1.0] if len(parts) == 1 else [part.share for part in parts]
        z, radius = np.concatenate([one.z for one in alone]), 0.25 * SPACING
        w = np.concatenate([share * one.w for share, one in zip(shares, alone, strict=True)])
    else:
        _, z = cells(sample.own, sample.weight, SPACING, MOST_FIRST)
        w, radius = weigh(sample, z, np.full(len(z), 1 / len(z)), FIRST), 2 * SPACING
    best, n_passes, rounds = None, 0, 0
    while True:
        found = _refined(sample, z, w, radius, tolerance)
        n_passes, rounds = n_passes + found.n_passes, rounds + 1
        if best is None or found.upper < best.upper:
            best = found
        if best.upper <= tolerance or rounds == max_rounds or not len(found.peaks):
            return dataclasses.replace(best, n_passes=n_passes), rounds
        z = np.concatenate([found.z, found.peaks])
        share = 0.5 / len(z)
        w = np.append(found.w * (1 - share * len(found.peaks)), np.full(len(found.peaks), share))
        w, radius = weigh(sample, z, w, 0.1 * tolerance), 0.5 * radius


def _refined(
    sample: Sample, z: np.ndarray, w: np.ndarray, radius: float, tolerance: float
) -> Found:
    """Newton's method, and a look at D everywhere."""
    n_passes, enough, kept, damping = 0, max(0.1 * tolerance, 1e-14), None, DAMPING
    for _ in range(MOST_MEETINGS):
        merged = _merged(z, w, radius)
        if kept is not None and len(merged[0]) == len(z):
            break
        z, w, residual, taken, damping = _polished(sample, *merged, enough, damping)
        n_passes += taken
        if residual <= enough:
            kept = z, w
        elif damping > MOST_DAMPING:  # rounding, or two that are not to be told apart
            break
    z, w = (z, w) if kept is None else kept
    order = np.lexsort(z.T[::-1])
    z, w = z[order], w[order] / w.sum()
    told = (jnp.asarray(a, sample.dtype) for a in _padded(z, w))
    log_f = passes.log_mixture(sample.kernel, sample.row_weight, *told)
    explore = _line if z.shape[1] == 1 else _cloud
    upper, reached, peaks = explore(sample, multipliers(sample, log_f), z, tolerance)
    return Found(z, w, log_f, upper, reached, peaks, n_passes)


def _polished(
    sample: Sample, z: np.ndarray, w: np.ndarray, tolerance: float, damping: float
) -> tuple[np.ndarray, np.ndarray, float, int, float]:
    """Atoms that stay, how far D and its slope are from 1 and 0 there, passes, damping."""
    m, d, dtype = len(z), z.shape[1], sample.dtype
    log_w, places = (jnp.asarray(a, dtype) for a in _padded(z, w))
    rows = sample.kernel, sample.row_weight, log_w, places
    least = 1e-6 * sample.weight.min()
    if m * (1 + d) > MOST_COUPLED:
        log_w, places = passes.settle(*rows, jnp.asarray(MOST_PASSES))
        residual, taken = math.inf, MOST_PASSES
    else:
        bounds = tuple(jnp.asarray(end, dtype) for end in sample.bounds)
        told = (jnp.asarray(a, dtype) for a in (least, tolerance, damping))
        found = passes.polish(*rows, bounds, *told, jnp.asarray(MOST_PASSES))
        log_w, places, damping = found.log_w, found.z, float(found.damping)
        residual, taken = float(found.residual), int(found.n_passes)
    z, w = np.asarray(places, float)[:m], np.exp(np.asarray(log_w, float)[:m])
    stays = w > least
    return z[stays], w[stays], residual, taken, damping


def multipliers(sample: Sample, log_f: Array) -> Array:
    """[n] log a_i / f_i; -inf of rows that are absent."""
    absent = sample.row_weight == 0
    return jnp.where(absent, -jnp.inf, jnp.log(jnp.where(absent, 1, sample.row_weight)) - log_f)


def reader(kernel: LocationKernel, log_c: Array) -> Callable[[np.ndarray], np.ndarray]:
    """Log D [m] of locations [m, d], by few programs."""

    def read(z: np.ndarray) -> np.ndarray:
        n, found = len(log_c), []
        for begin in range(0, len(z), width := 64 if len(z) <= 64 or n > FEW else 1024):
            part = z[begin : begin + width]
            whole = np.concatenate([part, np.repeat(part[:1], width - len(part), axis=0)])
            values = passes.log_lindsay(kernel, log_c, jnp.asarray(whole, log_c.dtype))
            found.append(np.asarray(values, float)[: len(part)])
        return np.concatenate(found) if found else np.zeros(0)

    return read


def _line(sample: Sample, log_c: Array, z: np.ndarray, tolerance: float) -> tuple:
    """Bounds and peaks of log D between the rows' extremes; outside it falls."""
    read, kernel = reader(sample.kernel, log_c), sample.kernel
    rows = sample.own[:, 0]
    nodes = covering(rows, rows.min(), rows.max(), 2 * kernel.half_width)
    rounding = ROUNDING * float(jnp.finfo(sample.dtype).eps) + kernel.border
    looked = survey(kernel, lambda at: read(at[:, None]), nodes, rounding, 0.5 * tolerance)
    peaks, tops = looked.peaks()
    reached = max(looked.seen, tops.max(initial=-np.inf))
    return looked.bound(tolerance), reached, peaks[tops > 0.25 * tolerance, None]


def _cloud(sample: Sample, log_c: Array, z: np.ndarray, tolerance: float) -> tuple:
    """Peaks of log D that climbs from rows reach: of each cell, from its row of largest D."""
    own, kernel = sample.own, sample.kernel
    some = np.arange(len(own)) if len(own) <= LOOKS else np.linspace(0, len(own) - 1, LOOKS)
    own = own[some.astype(int)]
    values = reader(kernel, log_c)(own)
    which, _ = cells(own, np.ones(len(own)), 1.0, LOOKS)
    order = np.lexsort((values, which))
    highest = order[np.append(np.diff(which[order]) > 0, True)]
    starts = highest[np.argsort(-values[highest])][:CLIMBS]
    begin = np.concatenate([own[starts], np.repeat(own[:1], CLIMBS - len(starts), axis=0)])
    ends, tops = cloud.climbed(kernel, log_c, jnp.asarray(begin, sample.dtype))
    ends, tops = (np.asarray(a, float)[: len(starts)] for a in (ends, tops))
    at_atoms = reader(kernel, log_c)(z)
    upper = max(values.max(), tops.max(), at_atoms.max())
    high = tops > 0.25 * tolerance
    ends, tops = ends[high], tops[high]
    label = linked(ends, 0.1)
    peaks = [
        ends[label == j][np.argmax(tops[label == j])] for j in range(label.max(initial=-1) + 1)
    ]
    return upper, upper, np.array(peaks).reshape(-1, z.shape[1])


def cells(
    own: np.ndarray, weight: np.ndarray, width: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of this width, or of more, so that there are at most so many with rows.

    Returns:
        [n] which each row is in, and [K, d] the means.
    """
    while True:
        cell = np.floor((own - own.min(axis=0)) / width)
        _, which = distinct(cell[:, np.ptp(cell, axis=0) > 0])
        if which.max() < most:
            break
        width *= 2
    mass = np.bincount(which, weight)
    means = [np.bincount(which, weight * column) / mass for column in own.T]
    return which, np.stack(means, axis=1)


def distinct(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are the first of their kind, and of which kind each is."""
    if not table.shape[1]:
        return np.zeros(1, int), np.zeros(len(table), int)
    if table.shape[1] == 1:
        _, first, which = np.unique(table[:, 0], return_index=True, return_inverse=True)
    else:
        _, first, which = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def apart(sample: Sample) -> list["Sample"]:
    """Groups of rows too far from each other to share an atom, if all have too many atoms."""
    own, kernel = sample.own, sample.kernel
    wide = np.ptp(own[:, 0]) > SPACING * MOST_FIRST
    if own.shape[1] > 1 or not isinstance(kernel, GaussianKernel) or not wide:
        return []
    n, order = len(own), np.argsort(own[:, 0])
    reach = 1.0 if kernel.whitening is None else float(np.asarray(kernel.whitening)[:n].min())
    ends = np.flatnonzero(np.diff(own[order, 0]) > FAR / reach) + 1
    if not len(ends):
        return []
    leaves, structure = jax.tree.flatten(kernel)
    rows = [np.asarray(leaf)[:n] for leaf in leaves]
    return [
        Sample.of(
            jax.tree.unflatten(structure, [leaf[some] for leaf in rows]),
            own[some], sample.weight[some], sample.dtype,
        )
        for some in np.split(order, ends)
    ]  # fmt: skip


def thinned(sample: Sample) -> Sample:
    """At most `FEW` rows that stand for all: means of near rows of like noise; else some rows."""
    n, kernel = len(sample.own), sample.kernel
    leaves, structure = jax.tree.flatten(kernel)
    rows, own, weight = [np.asarray(leaf)[:n] for leaf in leaves], sample.own, sample.weight
    if isinstance(kernel, GaussianKernel):
        told = [own]
        if kernel.whitening is not None:
            # orders of magnitude of the precisions, and how the columns hang together
            told.append(np.arcsinh(1e3 * np.asarray(kernel.whitening)[:n].reshape(n, -1)))
        which, means = cells(np.concatenate(told, axis=1), weight, FINE, FEW)
        mass = np.bincount(which, weight)

        def mean(leaf: np.ndarray) -> np.ndarray:
            columns = [np.bincount(which, weight * one) / mass for one in leaf.reshape(n, -1).T]
            return np.stack(columns, axis=1).reshape(-1, *leaf.shape[1:])

        rows, own, weight = [mean(leaf) for leaf in rows], means[:, : own.shape[1]], mass
    else:
        some = np.linspace(0, n - 1, FEW).astype(int)
        rows, own, weight = [leaf[some] for leaf in rows], own[some], weight[some]
    return Sample.of(jax.tree.unflatten(structure, rows), own, weight, sample.dtype)


def weigh(sample: Sample, z: np.ndarray, w: np.ndarray, tolerance: float) -> np.ndarray:
    """The best weights of these atoms."""
    dtype = sample.dtype
    log_w, places = _padded(z, w)
    table = passes.log_likelihoods(sample.kernel, jnp.asarray(places, dtype))
    table = jnp.where(jnp.asarray(log_w > -np.inf), table, -jnp.inf)
    start = jnp.asarray(np.exp(log_w), dtype)
    found = optimal_weights(table, sample.row_weight, start, tolerance, 30)
    return np.asarray(found.weights, float)[: len(z)]


def _padded(z: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-weights and atoms, up to a number that programs are compiled for."""
    m, size = len(w), 8
    while size < m:
        size *= 2
    log_w = np.full(size, -np.inf)
    log_w[:m] = np.log(np.maximum(w / w.sum(), np.finfo(float).tiny))
    return log_w, np.concatenate([z, np.repeat(z[:1], size - m, axis=0)])


def _merged(z: np.ndarray, w: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Atoms with weight; those that are linked by steps shorter than the radius are one."""
    z, w = z[w > 0], w[w > 0]
    label = linked(z, radius)
    mass = np.bincount(label, w)
    return np.stack([np.bincount(label, w * one) / mass for one in z.T], axis=1), mass


def linked(z: np.ndarray, radius: float) -> np.ndarray:
    """[m] numbers of the groups that single linkage makes of atoms."""
    near = ((z[:, None] - z) ** 2).sum(axis=-1) < radius**2
    label = np.arange(len(z))
    while len(z):
        lowest = np.where(near, label, len(z)).min(axis=1)
        if (lowest == label).all():
            return np.unique(label, return_inverse=True)[1]
        label = lowest
    return label
