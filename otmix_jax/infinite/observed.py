"""How rows come about from a latent location: known noise, or a family. Checks, units, kernels."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..core.reading import numbers
from ..core.tree import pytree, static
from ..families import Diagonal, Gaussian, Point, Spherical, Tied
from ..families.coordinates import learned
from ..families.family import Description
from ..model import Mixture
from .kernels import NEAREST, STABLE, FamilyKernel, GaussianKernel, Stable

SHAPES = "a number, [n], [n, d] (standard deviations), or [n, d, d] (covariances)"


@pytree
class Noise:
    """Noise of known covariance.

    Attributes:
        factor: of all rows [d] or [d, d]; by row [n, d] or [n, d, d]: standard deviations, or lower
            Cholesky factors.
        by_row: whether rows have their own.
    """

    factor: np.ndarray
    by_row: bool = static()

    @property
    def full(self) -> bool:
        """Whether there are covariances, not standard deviations."""
        return self.factor.ndim == 2 + self.by_row

    def take(self, which: np.ndarray) -> "Noise":
        """That of some rows."""
        return Noise(self.factor[which], True) if self.by_row else self


def read_noise(noise: Any, n: int, d: int, present: np.ndarray | None = None) -> Noise:
    """Noise as a user gives it.

    Args:
        noise: a number, [d] or [d, d] of all rows; [n], [n, d] or [n, d, d] by row.
        n: rows.
        d: columns.
        present: [n] rows that count; what stands in others is not read.

    Raises:
        ValueError: for another shape, a standard deviation that is not finite and > 0, and a
            covariance that is not symmetric and positive definite, by row.
    """
    given: Any = np.asarray(numbers(noise, "noise"), float)
    by_row = given.shape in {(n,), (n, d), (n, d, d)}
    if not by_row and given.shape not in {(), (d,), (d, d)}:
        raise ValueError(f"noise must be {SHAPES}, for n = {n}, d = {d}; not shape {given.shape}")
    covariance = given.shape in {(n, d, d), (d, d)} and given.shape != (n, d)
    if given.ndim == 0 or given.shape == (n,):
        given = np.broadcast_to(given[..., None], (*given.shape, d))
    check = _cholesky if covariance else _deviations
    if not by_row:
        return Noise(check(given[None], None)[0], False)
    rows = np.arange(n) if present is None else np.flatnonzero(present)
    checked = check(given[rows], rows)
    if (checked == checked[:1]).all():  # one noise for all is a simpler problem
        return Noise(checked[0], False)
    factor = np.broadcast_to(checked[0], given.shape).copy()
    factor[rows] = checked
    return Noise(factor, True)


def _where(bad: np.ndarray, rows: np.ndarray | None) -> str:
    first, *column = np.argwhere(bad)[0].tolist()
    place = f", column {column[0]}" if column else ""
    return place if rows is None else f" at row {rows[first]}{place}"


def _deviations(given: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    bad = ~(np.isfinite(given) & (given > 0))
    if bad.any():
        raise ValueError(
            f"noise must be finite and > 0, but is {given[bad][0]}{_where(bad, rows)}: it is a "
            "standard deviation in the units of x; as it goes to 0 the likelihood has no maximum. "
            "Use sample_weight 0 to leave a row out"
        )
    return given


def _cholesky(given: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    size = np.abs(given).max(axis=(1, 2), keepdims=True)
    even = np.isfinite(given) & (np.abs(given - given.swapaxes(1, 2)) <= 1e-8 * size)
    sound = even.all(axis=(1, 2))
    values = np.linalg.eigvalsh(np.where(sound[:, None, None], given, np.eye(given.shape[1])))
    bad = ~(sound & (values[:, 0] > 1e-14 * values[:, -1]))
    if bad.any():
        raise ValueError(
            "noise must be covariances, symmetric and positive definite, but is not"
            f"{_where(bad, rows)}: standard deviations have the shape [n, d]. Add what is known of "
            "the noise to the diagonal, or use sample_weight 0 to leave a row out"
        )
    return np.linalg.cholesky(given)


@pytree
class KnownNoise:
    """x = y + noise. Coordinates z = B^-1 (y - origin), in which no row is more precise than 1.

    Attributes:
        origin: [d]
        basis: [d, d] B, lower.
        factor: of the noise of all rows, [d] or [d, d]; None where rows have their own.
    """

    origin: np.ndarray
    basis: np.ndarray
    factor: np.ndarray | None

    @classmethod
    def of(cls, x: np.ndarray, noise: Noise) -> "KnownNoise":
        """Coordinates for these rows."""
        origin = np.median(x, axis=0)
        if not noise.by_row:
            basis = noise.factor if noise.full else np.diag(noise.factor)
            return cls(origin, basis, noise.factor)
        if not noise.full:
            return cls(origin, np.diag(noise.factor.min(axis=0)), None)
        inverse = np.linalg.inv(noise.factor)
        units = 1 / np.sqrt((inverse**2).sum(axis=1)).max(axis=0)
        largest = np.linalg.norm(inverse * units, 2, axis=(1, 2)).max()
        return cls(origin, np.diag(units / largest), None)

    def kernel(self, x: np.ndarray, noise: Any) -> GaussianKernel:
        """Rows in these coordinates."""
        d = x.shape[1]
        whitening: np.ndarray | None = None
        if noise.by_row and noise.full:
            whitening = np.linalg.solve(
                noise.factor, np.broadcast_to(self.basis, noise.factor.shape)
            )
        elif noise.by_row:
            whitening = np.diag(self.basis) / noise.factor
        diagonal = np.diagonal(noise.factor, axis1=-2, axis2=-1) if noise.full else noise.factor
        constant = -0.5 * d * math.log(2 * math.pi) - np.log(diagonal).sum(axis=-1)
        z = self.coordinates(x)
        return GaussianKernel(z, whitening, np.broadcast_to(constant, len(x)).copy())  # type: ignore[arg-type]

    def own(self, x: np.ndarray) -> np.ndarray:
        """[n, d] the coordinates in which each row alone is most likely."""
        return self.coordinates(x)

    def coordinates(self, y: np.ndarray) -> np.ndarray:
        """Of locations [m, d]."""
        return np.linalg.solve(self.basis, (y - self.origin).T).T

    def locations(self, z: np.ndarray) -> np.ndarray:
        """Back."""
        return self.origin + z @ self.basis.T

    def mixture(self, weights: Array, atoms: Array) -> Mixture:
        """Of rows where all have the same noise; else of the latent locations themselves."""
        if self.factor is None:
            return Mixture.from_weights(weights, Point(atoms))
        factor = jnp.asarray(self.factor, atoms.dtype)
        if factor.ndim == 2:
            covariance: Any = Tied(factor)
        elif len(self.factor) == 1 or np.ptp(self.factor) == 0:
            covariance = Spherical(jnp.full(len(atoms), factor[0]))
        else:
            covariance = Diagonal(jnp.broadcast_to(factor, atoms.shape))
        return Mixture.from_weights(weights, Gaussian(atoms, covariance))


@pytree
class KnownFamily:
    """x of a one-parameter exponential family, whose parameter is the location.

    Attributes:
        described: the family.
        scale: see `FamilyKernel`.
    """

    described: Description = static()
    scale: float = static()

    @classmethod
    def of(cls, described: Description, x: Any) -> "KnownFamily":
        """Coordinates for these rows.

        Raises:
            ValueError: for several columns, and for zeros under an exponential law, whose density
                there has no bound.
        """
        family: Any = described.family
        cells, size = family.split(x, **dict(described.options))
        if cells.shape[1] != 1:
            raise ValueError(f"kernel={described} takes one column, x has {cells.shape[1]}")
        infinite = STABLE[family].ends[0] == -math.inf
        if infinite and (cells == 0).any():
            raise ValueError(
                f"x is 0 at row {int(np.argmax(cells[:, 0] == 0))}, where the density of "
                f"{family.__name__} has no bound: leave such rows out"
            )
        # powers of two: few numbers that programs are compiled for
        return cls(described, 2.0 ** math.ceil(math.log2(np.max(size)) / 2))

    @property
    def _family(self) -> Any:
        return self.described.family

    @property
    def _stable(self) -> Stable:
        return STABLE[self._family]

    def kernel(self, x: Any, noise: Any = None) -> FamilyKernel:
        """Rows in these coordinates."""
        del noise
        return FamilyKernel(x, self.described, self.scale)

    def own(self, x: Any) -> np.ndarray:
        """[n, 1] the coordinates in which each row alone is most likely."""
        cells, size = self._family.split(x, **dict(self.described.options))
        return self._of_means(np.asarray(cells, float) / size)

    def coordinates(self, y: np.ndarray) -> np.ndarray:
        """Of parameters [m, 1]."""
        options = dict(self.described.options)
        law = self._law({self._name: jnp.asarray(y)})
        return self._of_means(np.asarray(law.moments()[0], float) / law.size(**options))

    def locations(self, z: np.ndarray) -> np.ndarray:
        """Parameters [m, 1]; next to a degenerate law, that law's, but for a rounding error."""
        stable, v = self._stable, z / self.scale
        for end in stable.ends:
            v = np.where(np.abs(v - end) < 1e-6, end, v)
        options = dict(self.described.options)
        fields = self._family.of_means(jnp.asarray(stable.mean(v, np)), **options)
        return np.asarray(fields[self._name], float)

    def mixture(self, weights: Array, atoms: Array) -> Mixture:
        """Of rows."""
        return Mixture.from_weights(weights, self._law({self._name: atoms}))

    @property
    def _name(self) -> str:
        return learned(self._family)[0].name

    def _law(self, fields: dict[str, Any]) -> Any:
        return self._family(**fields, **dict(self.described.options))

    def _of_means(self, mean: np.ndarray) -> np.ndarray:
        stable = self._stable
        ends = stable.ends[0] + NEAREST, stable.ends[1] - NEAREST
        return self.scale * np.clip(stable.inverse(mean), *ends)
