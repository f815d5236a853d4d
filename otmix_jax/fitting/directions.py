"""Columns that say nothing about groups: constants, copies, what follows from other columns.

Where a column never varies, or follows from others, every covariance is singular and no likelihood
is finite. One of two values is little better: a group that has one of them is as singular, and
wins. Such columns are left out of a fit, and its answer is spread out over them again.
"""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.numerics import SLICE
from ..core.tree import replace
from ..families import Description, Subspace
from ..families.coordinates import power_of_two
from ..model import Mixture, Solution
from .options import Goal
from .programs import frame_of

WIDEST = 512
"""Columns up to which combinations are looked for; beyond, only constants."""


@dataclasses.dataclass(frozen=True)
class Directions:
    """Which columns are kept, and what the others are: intercept + x[kept] @ slopes, and noise.

    Attributes:
        kept: indices of columns.
        slopes: [d', d]
        intercept: [d]
        noise: [d] standard deviation of columns that follow from nothing, and 0.
        reasons: a few words for each column left out, by index.
    """

    kept: tuple[int, ...]
    slopes: np.ndarray
    intercept: np.ndarray
    noise: np.ndarray
    reasons: dict[int, str]

    def of(self, x: Any) -> Any:
        """The rows' columns that are kept."""
        return x[..., list(self.kept)]

    def goal(self, goal: Any) -> Any:
        """A goal whose prior, a whole one, is on the columns that are kept."""
        prior = goal.prior
        if prior is None:
            return goal
        mean, floor = prior.mean, prior.floor
        if mean is not None:
            mean = replace(mean, centre=self.of(jnp.asarray(mean.centre)))
        if floor is not None and np.ndim(floor):
            floor = self.of(jnp.asarray(floor))
        return replace(goal, prior=replace(prior, mean=mean, floor=floor))

    def starts(self, initial: Any) -> Any:
        """Each mixture of a tree of them, or none, for the columns that are kept."""
        return jax.tree.map(self.start, initial, is_leaf=lambda node: isinstance(node, Mixture))

    def start(self, mixture: Mixture) -> Mixture:
        """The law of the columns that are kept."""
        components = mixture.components
        if isinstance(components, Subspace) and components.kept == self.kept:
            return replace(mixture, components=components.inner)
        return replace(mixture, components=_marginal(components, list(self.kept)))

    def spread(self, solution: Solution) -> Solution:
        """The solution with the law of all columns, from that of the ones kept."""
        mixture = solution.mixture
        dtype = mixture.log_weights.dtype
        rest = [jnp.asarray(part, dtype) for part in (self.slopes, self.intercept, self.noise)]
        components = Subspace(mixture.components, *rest, kept=self.kept)
        return replace(solution, mixture=replace(mixture, components=components))

    def warn(self, names: Any = None, stacklevel: int = 3) -> None:
        """Names the columns."""
        called = [str(name) for name in names] if names is not None else None
        which = "; ".join(
            f"column {i if called is None else repr(called[i])} {reason}"
            for i, reason in self.reasons.items()
        )
        warnings.warn(
            f"{which}: left out of the fit, for they say nothing about groups. Densities, criteria "
            "and parameter counts are those of the other columns.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _marginal(components: Any, kept: list[int]) -> Any:
    inner = getattr(components, "inner", components)
    matrices = components.matrices()[..., kept, :][..., kept]
    covariance = type(inner.covariance).from_matrices(matrices)
    narrow = replace(inner, mean=components.mean[..., kept], covariance=covariance)
    # Frozen components stay so
    wrapped = inner is not components and not isinstance(components, Subspace)
    return replace(components, inner=narrow) if wrapped else narrow


def informative(x: Any, weights: np.ndarray | None, sample: np.ndarray) -> Directions | None:
    """The columns that say something, or None if all do, or none does.

    A column says nothing if, over the rows present, it varies by no more than its own rounding,
    takes two values only, or differs from a combination of others by no more than what a
    factorisation can tell from 0. That is measured against the column's own texture, not against
    its range: the distance between groups is no reason to call a column a copy of another.

    Args:
        x: [n, d] rows, on the host or on a device.
        weights: [n] or None.
        sample: some of the rows, see `single.sample_of`; what they suggest is checked on all.
    """
    search = _Search(sample, x.dtype)
    if search.plain.all():
        return None
    reasons = search.reasons()
    if reasons and len(x) > len(sample):
        reasons = _confirmed(search, reasons, x, weights)
    return search.directions(reasons) if reasons else None


def shared(x: np.ndarray, offsets: np.ndarray) -> list[Directions] | None:
    """Those of data sets behind one another, if each leaves out the same columns."""
    found: list[Directions] = []
    for begin, end in zip(offsets[:-1], offsets[1:], strict=True):
        one = informative(x[begin:end], None, x[begin:end].astype(np.float64))
        # the first settles it for most batches, which have no such columns
        if one is None or one.kept != (found or [one])[0].kept:
            return None
        found.append(one)
    return found


def spread_batch(found: list[Directions], solution: Solution, position: np.ndarray) -> Solution:
    """The solutions of all columns; a data set that could not be fitted holds NaN."""
    mixture, n_sets = solution.mixture, solution.status.shape[0]

    def whole(parts: list[np.ndarray]) -> Any:
        blank = np.full((n_sets, *parts[0].shape), np.nan)
        blank[position] = parts
        return jnp.asarray(blank, mixture.log_weights.dtype)

    rest = [whole([getattr(f, name) for f in found]) for name in ("slopes", "intercept", "noise")]
    components = Subspace(mixture.components, *rest, kept=found[0].kept)
    return replace(solution, mixture=replace(mixture, components=components))


def _confirmed(
    search: "_Search", reasons: dict[int, str], x: Any, weights: np.ndarray | None
) -> dict[int, str]:
    """Without the columns that rows outside of the sample speak for."""
    directions, off = search.directions(reasons), np.zeros(x.shape[1])
    for i in range(0, len(x), SLICE):
        rows = np.asarray(x[i : i + SLICE], np.float64)
        rows = rows if weights is None else rows[weights[i : i + SLICE] > 0]
        told = directions.of(rows) @ directions.slopes + directions.intercept
        distance = np.where(search.two, search.from_values(rows), np.abs(rows - told))
        off = np.maximum(off, distance.max(axis=0, initial=0))
    return {i: why for i, why in reasons.items() if off[i] <= 8 * (search.unit * search.blur)[i]}


class _Search:
    """A sample of the rows, and what follows from what in it."""

    def __init__(self, sample: np.ndarray, given: Any):
        # rows are centred before they are cast: what they lost is their own dtype's, what a
        # factorisation can tell that of the fit
        own, fitted = (jnp.finfo(t).eps for t in (given, jax.dtypes.canonicalize_dtype(given)))
        # squares of rows may leave the range of floating point
        self.unit = power_of_two(0.5 * np.abs(sample).max(axis=0))
        self.sample = sample = sample / self.unit
        rounding = float(own) * np.abs(sample).max(axis=0)
        distinct = [np.unique(column) for column in sample.T]
        self.constant = np.ptp(sample, axis=0) <= 8 * rounding
        self.two = ~self.constant & np.array([len(one) == 2 < len(sample) // 2 for one in distinct])
        self.plain = self.constant | self.two
        self.centre = sample.mean(axis=0)
        self.scale = np.where(self.constant, 1, sample.std(axis=0))
        self.columns = np.where(self.plain, 0, (sample - self.centre) / self.scale)
        # half of what `core.triangular` lifts pivots to
        texture = np.array([_texture(one) for one in distinct])
        self.rounding = 8 * float(own) * np.sqrt(np.mean(sample**2, axis=0))
        self.blur = np.maximum(self.rounding, np.sqrt(sample.shape[1] * float(fitted)) * texture)

    def from_values(self, rows: np.ndarray) -> np.ndarray:
        """How far each cell is from the nearer end of its column."""
        low, high = self.unit * self.sample.min(axis=0), self.unit * self.sample.max(axis=0)
        return np.minimum(np.abs(rows - low), np.abs(rows - high))

    def reasons(self) -> dict[int, str]:
        """The columns to leave out, and why."""
        reasons = {int(i): "is constant" for i in np.flatnonzero(self.constant)}
        reasons |= {int(i): "takes two values only" for i in np.flatnonzero(self.two)}
        few = self.sample.shape[1] <= WIDEST
        return dict(sorted((reasons | (self._combinations() if few else {})).items()))

    def _combinations(self) -> dict[int, str]:
        """The columns that follow from others, and from which."""
        z, blur, rounding = self.columns, self.blur / self.scale, self.rounding / self.scale
        kept: list[int] = []
        reasons = {}
        correlation = z.T @ z / len(z)
        left = correlation.copy()
        for i in map(int, np.flatnonzero(~self.plain)):
            # products have half of the digits: what they suggest is looked at in the rows
            suspect = left[i, i] < max(1e-6, 4 * blur[i] ** 2)
            basis = self._basis(kept, correlation[i], len(z)) if suspect else []
            slopes = np.linalg.lstsq(z[:, basis], z[:, i], rcond=None)[0]
            # the rounding of those that it is told from, too
            most = blur[i] + np.abs(slopes) @ rounding[basis]
            follows = np.sqrt(np.mean((z[:, i] - z[:, basis] @ slopes) ** 2)) <= most
            kept.append(i)
            if not basis or not follows:
                if left[i, i] > 1e-9:
                    left[i:, i:] -= np.outer(left[i:, i], left[i, i:]) / left[i, i]
                continue
            # the one that leaves the others least alike, wherever it stands; of equals the last
            involved = [b for b, s in zip(basis, slopes, strict=True) if abs(s) > 1e-6]
            largest = int(np.argmax(np.abs(slopes)))
            out = basis[largest] if abs(slopes[largest]) > 1 + 1e-6 else i
            kept.remove(out)
            others = [j for j in [*involved, i] if j != out]
            reasons[out] = f"follows from {', '.join(map(str, others))}"
        return reasons

    @staticmethod
    def _basis(kept: list[int], correlation: np.ndarray, n: int) -> list[int]:
        """The columns to try: all, or where rows are few only a near copy, which is no chance."""
        if len(kept) + 2 < n:
            return list(kept)
        if n < 3:  # two rows always lie on a line
            return []
        copies = [k for k in kept if abs(correlation[k]) > 1 - 1e-6]
        return copies[:1]

    def directions(self, reasons: dict[int, str]) -> Directions:
        """What the columns with reasons are, from the others."""
        z, d = self.columns, self.sample.shape[1]
        kept = [i for i in range(d) if i not in reasons]
        slopes, intercept, noise = np.zeros((len(kept), d)), np.zeros(d), np.zeros(d)
        slopes[np.arange(len(kept)), kept] = 1
        for i in reasons:
            intercept[i] = self.sample[0, i] if self.constant[i] else self.centre[i]
            noise[i] = self.scale[i] if self.two[i] else 0
            if self.plain[i]:
                continue
            basis = self._basis(kept, z.T @ z[:, i] / len(z), len(z))
            own = np.linalg.lstsq(z[:, basis], z[:, i], rcond=None)[0]
            own = np.where(np.abs(own) > 1e-9, own, 0) * self.scale[i] / self.scale[basis]
            slopes[[kept.index(b) for b in basis], i] = own
            intercept[i] -= own @ self.centre[basis]
        slopes = slopes * self.unit / self.unit[kept][:, None]
        return Directions(tuple(kept), slopes, intercept * self.unit, noise * self.unit, reasons)


def _texture(values: np.ndarray) -> float:
    """The range that distinct values would have without gaps between groups."""
    gaps = np.diff(values)
    return float(np.median(gaps) * len(gaps)) if len(gaps) else 0.0


SAMPLE = 8192
"""Rows that are looked at for columns that say nothing; what they suggest is checked on all."""


def left_out(
    rows: Any, weights: np.ndarray | None, goal: Goal, *families: Description, names: Any = None
) -> Directions | None:
    """The columns that say nothing, with a warning that names them; None where all say something.

    None too where something was asked for that keeps covariances regular, or a family needs none.
    """
    if not looks(goal, *families) or rows.shape[1] < 2:
        return None
    sample = sample_of(rows, weights)
    if not suspicious(sample):
        return None
    frame_of(rows, weights, families[0])  # what cannot be fitted at all is refused first
    found = informative(rows, weights, sample)
    if found is not None:
        found.warn(names, stacklevel=4)
    return found


def looks(goal: Goal, *families: Description) -> bool:
    """Whether columns that say nothing are to be looked for."""
    given = goal.ridge is not None or getattr(goal.prior, "covariance", None) is not None
    # a column that follows from others may be what tells of their missing cells
    plain = all(
        "floor" in family.priors and family.table and not family.missing for family in families
    )
    return not given and plain


def suspicious(sample: np.ndarray) -> bool:
    """Whether a column may say nothing, so that `directions` are worth a closer look."""
    # relative to the largest: squares of rows may leave the range of floating point
    reach = np.abs(sample).max(axis=0)
    sample = sample / np.where(reach > 0, reach, 1)
    low, high = sample.min(axis=0), sample.max(axis=0)
    ends = ((sample == low) | (sample == high)).all(axis=0)
    flat = ends | (high - low <= 1e-5)
    if flat.any() or sample.shape[1] > WIDEST:
        return bool(flat.any())
    z = (sample - sample.mean(axis=0)) / sample.std(axis=0)
    least = np.linalg.eigvalsh(z.T @ z / len(z))[0]
    return bool(least < 1e-4)


def sample_of(x: Any, weights: np.ndarray | None) -> np.ndarray:
    """Up to `SAMPLE` evenly spaced rows that are present, in float64 on the host."""
    every = slice(None, None, -(-len(x) // SAMPLE))
    rows = np.asarray(x[every], np.float64)
    return rows if weights is None else rows[np.asarray(weights)[every] > 0]
