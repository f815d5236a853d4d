"""The infinite mixture: the maximum likelihood estimate among all laws of a latent location."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ..core.files import Saved
from ..core.status import Status
from ..core.tree import pytree, static
from ..families import Gaussian
from ..families.family import Description, describe
from ..fitting import ConvergenceWarning, edge
from ..model import Mixture
from .kernels import STABLE, LocationKernel
from .observed import KnownFamily, KnownNoise, Noise, read_noise
from .passes import log_likelihoods
from .posterior import Posterior
from .search import Sample, multipliers, reader, search

RIGOROUS, CANDIDATES = "rigorous", "over candidates"
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
LEAST = {"float64": 1e-12, "float32": 1e-5}
"""Tolerances below are lost in the rounding of D."""


@pytree
class SupremumCertificate:
    """How far an answer may be from the best of all laws, in nats per row.

    No law's mean log-likelihood exceeds that of the answer by more than log sup D.

    Attributes:
        upper: what log D exceeds nowhere where `kind` is "rigorous": a bound over the whole line
            that holds up to rounding, which is allowed for. "over candidates": the largest log D at
            rows, atoms and where climbs ended; higher peaks may have been missed.
        lower: the largest log D that was seen: the answer is no better than `upper` says, and a
            location was found at which D is this high.
        kind: "rigorous" for one column, "over candidates" beyond.
    """

    upper: Array
    lower: Array
    kind: str = static()


@pytree
class InfiniteMixture(Saved):
    """The law of latent locations that is most likely, of finitely many atoms, and what is known.

    Attributes:
        atoms: [m, d] locations, in the units of the rows; for a family its parameter [m, 1].
        weights: [m] their probabilities.
        mixture: the law of rows, with a component at each atom; where rows have noise of their own
            that of the locations, point masses (`families.Point`).
        value: the mean negative log-likelihood, in nats per row.
        certificate: how much any law may win.
        status: `Status`: CONVERGED where `certificate.upper` is at most the tolerance; MAX_STEPS.
        n_rounds: how often atoms were inserted, merged and moved, counting the first.
        n_passes: of Newton's method over the rows.
        origin: the rows' coordinates.
        kernel: the distinct rows.
        log_multipliers: [rows] log a_i / f(x_i), a the weights of rows.
        seen: the rows with weight and their noise, where they have noise of their own.
    """

    atoms: Array
    weights: Array
    mixture: Mixture
    value: Array
    certificate: SupremumCertificate
    status: Array
    n_rounds: Array
    n_passes: Array
    origin: KnownNoise | KnownFamily
    kernel: LocationKernel
    log_multipliers: Array
    seen: tuple[Any, Noise] | None

    def log_likelihood(self, total_weight: float | np.integer | np.floating) -> Float[Array, ""]:
        """Total log-likelihood of `total_weight` rows (n without sample weights)."""
        return -total_weight * self.value

    def multiplier(self, y: Any) -> Float[Array, " q"]:
        """Log D(y), D(y) = sum_i a_i p(x_i | y) / f(x_i), of Lindsay's function.

        At the optimum it is at most 0 everywhere, and 0 at the atoms: another atom at y would win
        D(y) - 1 nats per row and unit of its weight.

        Args:
            y: locations [q, d], or [q] of one column.
        """
        y = np.asarray(y, float)
        table = y.reshape(-1, 1) if self.atoms.shape[1] == 1 else np.atleast_2d(y)
        values = reader(self.kernel, self.log_multipliers)(self.origin.coordinates(table))
        return jnp.asarray(values, self.atoms.dtype)

    def posterior(self, x: Any = None, noise: Any = None) -> Posterior:
        """What is known of the locations of rows, given the estimated law of all.

        Args:
            x: rows as in `npmle`; None for those of the fit where they had noise of their own.
            noise: theirs; None for that of the fit, which has to be the same for all rows, unless
                these are the rows of the fit.

        Raises:
            ValueError: for rows that `npmle` would refuse, and where their noise is not known.
        """
        rows, told = self._observed(x, noise)
        dtype = self.atoms.dtype
        kernel = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.origin.kernel(rows, told))
        z = self.origin.coordinates(np.asarray(self.atoms, float))
        logits = log_likelihoods(kernel, jnp.asarray(z, dtype)) + jnp.log(self.weights)
        return Posterior(self.atoms, jax.nn.softmax(logits, axis=1))

    def _observed(self, x: Any, noise: Any) -> tuple[Any, Any]:
        """Rows and their noise."""
        if isinstance(self.origin, KnownFamily):
            if noise is not None:
                raise ValueError("a family has no noise: leave noise=None")
            return _rows(x, None, self.origin.described)[0], None
        if x is None and self.seen is not None:
            return self.seen
        rows, _ = _rows(x, None, describe(Gaussian))
        if rows.shape[1] != self.atoms.shape[1]:
            raise ValueError(f"x has {rows.shape[1]} columns, the atoms {self.atoms.shape[1]}")
        if noise is not None:
            return rows, read_noise(noise, *rows.shape)
        if self.origin.factor is not None:
            return rows, Noise(self.origin.factor, False)
        if self.seen is None or not np.array_equal(self.seen[0], rows):
            raise ValueError("rows had noise of their own in the fit: give the noise of these rows")
        return self.seen


def npmle(
    x: Any,
    *,
    noise: Any = None,
    kernel: Any = None,
    sample_weight: Any = None,
    tolerance: float | None = None,
    max_rounds: int = 12,
) -> InfiniteMixture:
    """The nonparametric maximum likelihood estimate of a law of latent locations.

    Every row has a location y_i of its own, drawn from an unknown law G, and was seen through a
    known kernel, p(x_i | y_i). Of all laws G, this finds one of the largest likelihood: it has at
    most as many atoms as there are distinct rows. No number of components, no start and no key are
    needed, as the problem is convex in G. docs/infinite.md has the method and the proofs.

    Args:
        x: [n, d] rows, or [n] of one column; for a family one column, or a dict of it and of its
            sizes, such as {"x": counts, "exposure": e}.
        noise: Gaussian, of known size: a standard deviation; [n], [d] or [n, d] of them; [d, d] or
            [n, d, d] covariances. Where n = d, shapes are read by row.
        kernel: in the place of noise a family of one parameter, its name or description:
            "poisson", "binomial", `families.Binomial.of(trials=9)`, "bernoulli", "geometric",
            "exponential".
        sample_weight: [n] weights >= 0; 0 leaves a row out, whatever it holds, 2 counts it twice.
        tolerance: what any other law may win at most, in nats per row; None is 1e-9. All is
            computed in float64 if JAX has it enabled; else in float32, where it is 1e-4.
        max_rounds: how often atoms are inserted, merged and moved, at most.

    Returns:
        Atoms and weights with a certificate: for one column a bound over the whole line.

    Raises:
        ValueError: for rows that cannot be fitted, noise that is not > 0 or positive definite, by
            row; a tolerance that rounding hides; two kernels, or none.
        TypeError: for traced rows.

    Warns:
        ConvergenceWarning: where the certificate is above the tolerance.

    Example:
        >>> import otmix_jax as om
        >>> velocities = om.datasets.galaxies().x / 1000
        >>> fit = om.npmle(velocities, noise=1.0)
        >>> len(fit.weights), round(float(fit.log_likelihood(82)), 4), fit.certificate.kind
        (6, -199.3424, 'rigorous')

    Source: Kiefer and Wolfowitz (1956); Lindsay, Ann. Stat. 11 (1983), for D and the number of
        atoms; Koenker and Mizera (2014); Wang (2007), for atoms inserted at peaks of D.
    """
    dtype = jax.dtypes.canonicalize_dtype(float)
    tolerance = _tolerance(tolerance, dtype.name)
    max_rounds = edge.check_count(max_rounds, "max_rounds")
    described = _described(noise, kernel)
    rows, weights = _rows(x, sample_weight, described)
    present, told = weights > 0, None
    if kernel is None:
        told = read_noise(noise, len(rows), rows.shape[1], present).take(present)
    rows, weights = jax.tree.map(lambda leaf: leaf[present], rows), weights[present]
    origin: Any = KnownFamily.of(described, rows) if told is None else KnownNoise.of(rows, told)
    sample = Sample.of(origin.kernel(rows, told), origin.own(rows), weights, dtype)
    found, rounds = search(sample, tolerance, max_rounds)
    seen = (rows, told) if told is not None and told.by_row else None
    fit = _answer(sample, found, rounds, origin, tolerance, seen)
    if int(fit.status) != Status.CONVERGED:
        warnings.warn(
            f"MAX_STEPS after {rounds} rounds: another law may win {found.upper:.1e} nats per row "
            f"({fit.certificate.kind}), more than the tolerance {tolerance:.1e}. Raise "
            "tolerance or max_rounds; in several columns and little noise, every row becomes an "
            "atom, and there is little to estimate.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return fit


def _answer(
    sample: Sample, found: Any, rounds: int, origin: Any, tolerance: float, seen: tuple | None
) -> InfiniteMixture:
    dtype = sample.dtype
    places = origin.locations(found.z)
    order = np.lexsort(places.T[::-1])
    atoms, weights = (jnp.asarray(a[order], dtype) for a in (places, found.w))
    value = -jnp.sum(jnp.where(sample.row_weight > 0, sample.row_weight * found.log_f, 0))
    kind = RIGOROUS if atoms.shape[1] == 1 else CANDIDATES
    status = Status.CONVERGED if found.upper <= tolerance else Status.MAX_STEPS
    return InfiniteMixture(
        atoms=atoms,
        weights=weights,
        mixture=origin.mixture(weights, atoms),
        value=value,
        certificate=SupremumCertificate(
            jnp.asarray(found.upper, dtype), jnp.asarray(found.reached, dtype), kind
        ),
        status=jnp.asarray(status.code),
        n_rounds=jnp.asarray(rounds),
        n_passes=jnp.asarray(found.n_passes),
        origin=origin,
        kernel=sample.kernel,
        log_multipliers=multipliers(sample, found.log_f),
        seen=seen,
    )


def _described(noise: Any, kernel: Any) -> Description:
    """What rows are of."""
    if (noise is None) == (kernel is None):
        raise ValueError(
            "give noise, the standard deviation of Gaussian noise, or a kernel such as 'poisson', "
            f"not {'both' if kernel is not None else 'neither'}"
        )
    if kernel is None:
        return describe(Gaussian)
    described = describe(kernel)
    if described.family not in STABLE:
        names = ", ".join(sorted(family.__name__ for family in STABLE))
        raise ValueError(f"kernel must be one of {names}, not {described.family.__name__}")
    return described


def _rows(x: Any, sample_weight: Any, described: Description) -> tuple[Any, np.ndarray]:
    """Rows in NumPy, one column as a table, and weights."""
    if isinstance(x, dict):
        x = {name: _table(column) if name == "x" else column for name, column in x.items()}
    rows, weights = edge.check_data(_table(x), sample_weight, described)
    rows = jax.tree.map(lambda leaf: np.asarray(leaf, float), rows)
    return rows, np.ones(len(jax.tree.leaves(rows)[0])) if weights is None else weights


def _table(x: Any) -> Any:
    """One column [n] as [n, 1]."""
    if hasattr(x, "columns") or isinstance(x, dict):
        return x
    x = x if hasattr(x, "ndim") else np.asarray(x)
    return x[:, None] if x.ndim == 1 else x


def _tolerance(tolerance: float | None, precision: str) -> float:
    """A number that rounding does not hide.

    Raises:
        ValueError: for a smaller one.
    """
    if tolerance is None:
        return TOLERANCE[precision]
    tolerance = edge.check_number(tolerance, "tolerance")
    if tolerance < LEAST[precision]:
        remedy = (
            "enable float64 by jax.config.update('jax_enable_x64', True)"
            if precision == "float32"
            else "leave it out"
        )
        raise ValueError(
            f"tolerance={tolerance:g} is lost in the rounding of {precision}, where at least "
            f"{LEAST[precision]:g} can be proved: {remedy}"
        )
    return tolerance
