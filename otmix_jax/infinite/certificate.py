"""How far Lindsay's D exceeds 1 on a line, everywhere: a bound, not a look at a grid.

Cells of the line are first bounded by chords (`LocationKernel.ceiling`). Where that is not enough,
D is read at 17 Chebyshev points: it is analytic in a strip about the line, so its interpolant is D
up to rounding, and costs no pass over the rows. Chords on a grid as fine as needed do the rest.
docs/infinite.md has the proof.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from .kernels import LocationKernel

DEGREE = 16
POINTS = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
TO_COEFFICIENTS = np.linalg.inv(np.polynomial.chebyshev.chebvander(POINTS, DEGREE))
EVERYWHERE = 4096
"""Cells that cover the whole range, rather than what is near rows."""
PIECES = 16
"""Into how many a part of a cell is cut at a time."""
MOST = 4_000_000
"""Parts of cells at most."""
MOST_BISECTIONS = 100
CHUNK = 200_000

Reader = Callable[[np.ndarray], np.ndarray]
"""Locations [m] to log D [m]."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """Log D on the whole line.

    Attributes:
        kernel: the rows.
        left: [cells] where cells of interest begin.
        right: [cells] where they end.
        coefficients: [cells, 17] of D in Chebyshev polynomials, over `level`.
        level: [cells] the largest log D among those read in a cell.
        error: [cells] of the polynomials, in units of exp(level).
        elsewhere: what log D cannot exceed outside of the cells.
        seen: the largest log D that was read.
    """

    kernel: LocationKernel
    left: np.ndarray
    right: np.ndarray
    coefficients: np.ndarray
    level: np.ndarray
    error: np.ndarray
    elsewhere: float
    seen: float

    def values(self, cell: np.ndarray, t: np.ndarray, above: bool = True) -> np.ndarray:
        """Log D [m] at t [m] in [-1, 1] of these cells, rounded up by its error or not."""
        found = np.empty(len(t))
        for begin in range(0, len(t), CHUNK):
            part = slice(begin, begin + CHUNK)
            found[part] = _clenshaw(self.coefficients[cell[part]], t[part])
        error = self.error[cell] if above else np.finfo(float).tiny
        return np.log(np.maximum(found, 0) + error) + self.level[cell]

    def at(self, cell: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Where t is."""
        return self.left[cell] + 0.5 * (1 + t) * (self.right - self.left)[cell]

    def peaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Local maxima of log D in the cells: locations and values."""
        grid = np.linspace(-1, 1, 65)
        n = len(self.left)
        cell = np.repeat(np.arange(n), len(grid))
        values = self.values(cell, np.tile(grid, n), False).reshape(n, len(grid))
        # ends of a cell count as lower than their neighbours within; cells share their ends
        inner = np.pad(values, ((0, 0), (1, 1)), constant_values=-np.inf)
        top = (values >= inner[:, :-2]) & (values >= inner[:, 2:])
        cell, index = np.nonzero(top)
        t, width = grid[index], grid[1] - grid[0]
        for _ in range(3):
            near = np.clip(t[:, None] + width * np.linspace(-1, 1, 33), -1, 1)
            value = self.values(np.repeat(cell, 33), near.reshape(-1), False).reshape(near.shape)
            best = np.argmax(value, axis=1)
            t, width = near[np.arange(len(t)), best], width / 16
        return self.at(cell, t), self.values(cell, t, False)

    def bound(self, target: float) -> float:
        """What log D exceeds nowhere, cut down to `target` if that can be."""
        n = len(self.left)
        cell, ends = np.arange(n), np.tile([-1.0, 1.0], (n, 1))
        values = np.stack([self.values(cell, t) for t in ends.T], axis=1)
        upper, spent = self.elsewhere, 0
        while len(cell):
            spent += PIECES * len(cell)
            if spent > MOST:
                upper = max(upper, self._ceiling(cell, ends, values).max())
                break
            cell, ends, values = self._cut(cell, ends, values)
            # where D is above the target there is nothing to prove but by how much
            enough = max(target, 1.05 * values.max())
            ceiling = self._ceiling(cell, ends, values)
            open_ = ceiling > enough
            upper = max(upper, ceiling[~open_].max(initial=-np.inf))
            cell, ends, values = cell[open_], ends[open_], values[open_]
        return float(upper)

    def _ceiling(self, cell: np.ndarray, ends: np.ndarray, values: np.ndarray) -> np.ndarray:
        places = (self.at(cell, t) for t in ends.T)
        return self.kernel.ceiling(*places, *values.T)

    def _cut(self, cell: np.ndarray, ends: np.ndarray, values: np.ndarray) -> tuple:
        share = np.arange(1, PIECES) / PIECES
        inner = ends[:, :1] + share * (ends[:, 1:] - ends[:, :1])
        own = np.repeat(cell, PIECES - 1)
        middle = self.values(own, inner.reshape(-1)).reshape(inner.shape)
        t = np.concatenate([ends[:, :1], inner, ends[:, 1:]], axis=1)
        level = np.concatenate([values[:, :1], middle, values[:, 1:]], axis=1)
        pairs = (np.stack([a[:, :-1], a[:, 1:]], axis=-1).reshape(-1, 2) for a in (t, level))
        return (np.repeat(cell, PIECES), *pairs)


def survey(
    kernel: LocationKernel, read: Reader, nodes: np.ndarray, rounding: float, least: float
) -> Survey:
    """Reads D wherever it may exceed `least`.

    Args:
        kernel: the rows.
        read: log D at locations.
        nodes: [m] increasing locations, beyond the first and last of which D is no larger.
        rounding: of D, relative to its largest value.
        least: what log D is allowed to be.
    """
    values = read(nodes)
    seen = float(values.max())
    left, right, before, after = nodes[:-1], nodes[1:], values[:-1], values[1:]
    elsewhere, cells = seen if len(nodes) == 1 else -np.inf, []
    for _ in range(MOST_BISECTIONS):
        ceiling = kernel.ceiling(left, right, before, after)
        open_, wide = ceiling > least, right - left > 2.001 * kernel.half_width
        elsewhere = max(elsewhere, ceiling[~open_].max(initial=-np.inf))
        narrow = open_ & ~wide
        cells.append(np.stack([left[narrow], right[narrow], ceiling[narrow]], axis=1))
        left, right, before, after = (a[open_ & wide] for a in (left, right, before, after))
        if not len(left):
            break
        middle = 0.5 * (left + right)
        between = read(middle)
        seen = max(seen, float(between.max()))
        left, right = np.append(left, middle), np.append(middle, right)
        before, after = np.append(before, between), np.append(between, after)
    else:
        elsewhere = max(elsewhere, kernel.ceiling(left, right, before, after).max())
    begin, end, ceiling = np.concatenate(cells).T
    order = np.argsort(begin)
    begin, end = begin[order], end[order]
    highest = max(elsewhere, ceiling.max(initial=-np.inf))
    places = begin[:, None] + 0.5 * (1 + POINTS) * (end - begin)[:, None]
    found = read(places.reshape(-1)).reshape(places.shape)
    level = found.max(axis=1, initial=-np.inf)
    coefficients = np.exp(found - level[:, None]) @ TO_COEFFICIENTS.T
    half = 0.5 * (end - begin).max(initial=0.0)
    with np.errstate(over="ignore"):
        error = (interpolation_error(kernel, half) + rounding) * np.exp(highest - level)
    seen = max(seen, float(level.max(initial=-np.inf)))
    return Survey(kernel, begin, end, coefficients, level, error, elsewhere, seen)


def interpolation_error(kernel: LocationKernel, half_width: float) -> float:
    """Of D by its values at the Chebyshev points of a cell, in units of sup D.

    Source: Trefethen, Approximation Theory and Approximation Practice (2013), theorem 8.2.
    """
    ellipse = np.geomspace(1.5, 100, 400)
    height = 0.5 * half_width * (ellipse - 1 / ellipse)
    logs = kernel.growth(height) - DEGREE * np.log(ellipse) - np.log(ellipse - 1)
    return 4 * float(np.exp(logs.min()))


def covering(rows: np.ndarray, low: float, high: float, width: float) -> np.ndarray:
    """[m] ends of cells no wider than `width`: of all the range, or of what is near rows."""
    count = max(int(np.ceil((high - low) / width)), 1)
    if high <= low:
        return np.array([low])
    if count <= EVERYWHERE:
        return np.linspace(low, high, count + 1)
    index = np.unique(np.floor((rows - low) / width))
    ends = low + width * np.unique(np.concatenate([index, index + 1]))
    return np.unique(np.clip(np.append(ends, [low, high]), low, high))


def _clenshaw(coefficients: np.ndarray, t: np.ndarray) -> np.ndarray:
    """sum_k c_k T_k(t), row by row."""
    one = two = np.zeros_like(t)
    for k in range(DEGREE, 0, -1):
        one, two = coefficients[:, k] + 2 * t * one - two, one
    return coefficients[:, 0] + t * one - two
