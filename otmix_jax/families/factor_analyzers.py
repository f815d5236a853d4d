"""Factor analysers: covariances of low rank plus a diagonal, for hundreds of columns."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from ..core.numerics import einsum, matmul, pooled_scatter, safe_divide
from ..core.rotations import lower_form
from ..core.tree import parameter, pytree, replace
from ..core.triangular import inverse_triangle, log_diagonal_sum, regular_cholesky
from ..priors import Prior
from .coordinates import LOADINGS, POSITIVE, REAL, Affine, Frame, Identity
from .elliptical import Elliptical
from .family import Description, Family
from .geometry import axes

BEGIN = 6
"""Subspace iterations of a start."""
UNIQUE = 0.05
"""Share of a column's variance that a start leaves to its noise at least."""


@pytree
class Projections:
    """Sums over rows about the means, with z_ij = E[factors | x_i, j]: additive, no d x d matrix.

    Attributes:
        mass: [k] sum_i P_ij.
        first: [k, d] sum_i P_ij u_ij, u_ij = x_i - mu_j.
        square: [k, d] sum_i P_ij u_ij^2.
        cross: [k, d, q] sum_i P_ij u_ij z_ij^T.
    """

    mass: Array
    first: Array
    square: Array
    cross: Array


@pytree
class _Woodbury:
    """What costs and projections need of the parameters; no row. All by component.

    Attributes:
        mean: [k, d]
        noise: [k, d]
        white: [k, d, q] loadings over the noise, A.
        back: [k, d, q] A (1 + A^T A)^-1: a whitened row times it is the mean of its factors.
        spread: [k, q, q] (1 + A^T A)^-1, the covariance of the factors given a row.
        constant: [k]
    """

    mean: Array
    noise: Array
    white: Array
    back: Array
    spread: Array
    constant: Array


@pytree
class FactorAnalyzers(Family):
    """K Gaussians with covariances Lambda_j Lambda_j^T + diag(noise_j^2).

        x = mu_j + Lambda_j z + noise_j * e,  z ~ N(0, 1_q),  e ~ N(0, 1_d)

    Nothing of size d x d is made: costs by Woodbury's identity, statistics through the projections
    on q factors. The M-step is one of EM with the factors as missing data, parameter-expanded: it
    lowers the expected cost, and does not reach its minimum.

    Attributes:
        mean: [k, d], in the units of the rows.
        loadings: [k, d, q], in the units of the rows; any rotation of the q columns is the same.
        noise: [k, d] standard deviations of what the factors leave.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> family = om.families.FactorAnalyzers.of(n_factors=1)
        >>> om.fit(x, 2, family=family, key=0).mixture.components.loadings.shape
        (2, 2, 1)

    Source: Ghahramani and Hinton (1996), CRG-TR-96-1; McLachlan and Peel (2000), ch. 8; Liu, Rubin
    and Wu (1998), Biometrika 85, for the expansion.
    """

    mean: Array = parameter(REAL)
    loadings: Array = parameter(LOADINGS, axes=2)
    noise: Array = parameter(POSITIVE)
    priors = frozenset({"floor"})
    holds = frozenset({"mean", "loadings", "noise"})
    least = Elliptical.least  # type: ignore[assignment]

    @property
    def n_features(self) -> int:  # type: ignore[override]
        """The width d of a row."""
        return self.mean.shape[-1]

    def described(self) -> Description:
        """See `Family.described`."""
        return Description(type(self), (("n_factors", self.loadings.shape[-1]),))

    def matrices(self) -> Float[Array, "*batch k d d"]:
        """The covariance matrices: the only [d, d] there is, and only if it is asked for."""
        squares = self.noise**2
        low = einsum("...dq,...eq->...de", self.loadings, self.loadings)
        return low + squares[..., None] * jnp.eye(squares.shape[-1], dtype=squares.dtype)

    def _woodbury(self) -> _Woodbury:
        white = self.loadings / self.noise[..., None]
        q, d = white.shape[-1], white.shape[-2]
        inner = jnp.eye(q, dtype=white.dtype) + einsum("kdq,kdr->kqr", white, white)
        factor = regular_cholesky(inner)
        inverse = inverse_triangle(factor)
        spread = einsum("kqr,kqs->krs", inverse, inverse)
        constant = jnp.sum(jnp.log(self.noise), axis=-1) + log_diagonal_sum(factor)
        constant = constant + 0.5 * d * math.log(2 * math.pi)
        back = einsum("kdq,kqr->kdr", white, spread)
        return _Woodbury(self.mean, self.noise, white, back, spread, constant)

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = (|y - A z|^2 + |z|^2) / 2 + log det / 2, y being whitened by the noise, in nats.

        A sum of squares: Woodbury's difference would cancel.
        """
        return _costs(self._woodbury(), x)

    def prepared_cost(self) -> Partial:
        """`cost` with what depends on no row."""
        return Partial(_costs, self._woodbury())

    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Projections:
        """See `Projections`; a component at a time, which holds [n, d]."""

        def one(told: tuple[_Woodbury, Array]) -> tuple[Array, Array, Array]:
            own, share = told
            u = x - own.mean
            z = matmul(u / own.noise, own.back)
            weighed = share[:, None] * u
            square = jnp.sum(weighed * u, axis=0)
            return jnp.sum(weighed, axis=0), square, matmul(weighed.T, z)

        return Projections(jnp.sum(plan, axis=0), *jax.lax.map(one, (self._woodbury(), plan.T)))

    def maximize(
        self,
        statistics: Projections,
        mass: Float[Array, " k"],
        prior: Prior | None = None,
        held: frozenset[str] = frozenset(),
    ) -> "FactorAnalyzers":
        """Means; then loadings and noise about them, by one step of EM with missing factors."""
        present = mass > 0
        own, each = self._woodbury(), jnp.where(present, mass, 1)
        shift = jnp.where(present[:, None], statistics.first / each[:, None], 0)
        shift = jnp.zeros_like(shift) if "mean" in held else shift
        to_factors = own.back / own.noise[..., None]
        factors = einsum("kd,kdq->kq", shift, to_factors)
        # about the new means: the projection is linear, so the sums follow
        first, whole = (statistics.first / each[:, None], statistics.square / each[:, None])
        variance = whole - 2 * shift * first + shift**2
        cross = statistics.cross / each[:, None, None]
        if "mean" not in held:
            cross = cross - shift[..., None] * factors[:, None, :]
        second = own.spread + einsum("kdq,kdr->kqr", to_factors, cross)
        second = 0.5 * (second + jnp.swapaxes(second, 1, 2))
        root = regular_cholesky(second)
        inverse = inverse_triangle(root)
        # of factors with the covariance `second`: L = C second^-1, and L root of standard ones
        relative = einsum("kdq,krq->kdr", cross, inverse)
        plain = einsum("kdr,krq->kdq", relative, inverse)
        plain = self.loadings if "loadings" in held else plain
        told = jnp.sum(plain * (2 * cross - einsum("kdq,kqr->kdr", plain, second)), axis=-1)
        unique = jnp.maximum(variance - told, _least(variance, prior))
        positive = unique > 0
        noise = jnp.where(positive, jnp.sqrt(jnp.where(positive, unique, 1)), jnp.nan)
        found = {"mean": self.mean + shift, "loadings": lower_form(relative), "noise": noise}
        kept = {
            name: jnp.where(present.reshape(-1, *(1,) * (new.ndim - 1)), new, getattr(self, name))
            for name, new in found.items()
            if name not in held
        }
        return replace(self, **kept)

    def spurious(
        self, prior: Prior | None, weights: Float[Array, " k"], n_rows: Array | float
    ) -> Bool[Array, " k"]:
        """See `Family.spurious`: as much noise as rounding alone, or rows fewer than factors."""
        if prior is None or prior.floor is None:
            return jnp.zeros(weights.shape, bool)
        variance = jnp.sum(self.loadings**2, axis=-1) + self.noise**2
        held = jnp.any(self.noise**2 <= 1.01 * _least(variance, prior), axis=-1)
        few = n_rows * weights <= self.loadings.shape[-1] + 1
        return (weights > 0) & (held | few)

    def sample(
        self, key: PRNGKeyArray, labels: Int[Array, " n"], given: None = None
    ) -> Float[Array, "n d"]:
        """Draws from the law of component labels_i, for each i."""
        del given
        own, other = jax.random.split(key)
        n, dtype = labels.shape[0], self.mean.dtype
        z = jax.random.normal(own, (n, self.loadings.shape[-1]), dtype)
        noise = jax.random.normal(other, (n, self.n_features), dtype)

        def one(j: Array, rows: Array) -> Array:
            return jnp.where((labels == j)[:, None], matmul(z, self.loadings[j].T), rows)

        # component by component: a gather of loadings would hold [n, d, q]
        told = jax.lax.fori_loop(0, self.n_components, one, jnp.zeros_like(noise))
        return self.mean[labels] + told + self.noise[labels] * noise

    def out_of(self, frame: Frame) -> "FactorAnalyzers":
        """See `Family.out_of`."""
        if isinstance(frame, Identity):
            return self
        if not isinstance(frame, Affine):
            raise TypeError("FactorAnalyzers is closed under affine frames alone")
        unit = jnp.broadcast_to(frame.columns, self.mean.shape[-1:])
        mean = unit * self.mean + frame.origin
        return replace(
            self, mean=mean, loadings=unit[:, None] * self.loadings, noise=unit * self.noise
        )

    @classmethod
    def frame(cls, x: Any, weight: Any, begins: Any = None, **options: Any) -> Affine:
        """As the Gaussian's of free covariances."""
        del options
        return Affine.of(x, weight) if begins is None else Affine.of_groups(x, weight, begins)

    @classmethod
    def check(cls, x: Any, n_factors: int = 1, **options: Any) -> None:
        """One table of real numbers, of at least as many columns as factors.

        Raises:
            ValueError: for another, or less than one factor.
        """
        if isinstance(x, dict) or np.ndim(x) != 2:
            raise ValueError("FactorAnalyzers takes one table of real numbers (n, d) as its rows")
        if not 1 <= n_factors <= np.shape(x)[1]:
            raise ValueError(
                f"n_factors={n_factors} must be between 1 and the {np.shape(x)[1]} columns"
            )

    @classmethod
    def initial(
        cls, x: Float[Array, "n d"], plan: Float[Array, "n k"], n_factors: int = 1
    ) -> "FactorAnalyzers":
        """Means of the assigned rows, and the main directions of the pooled scatter for each."""
        mass, centre = jnp.sum(plan, axis=0), matmul(jnp.sum(plan, axis=1), x)
        mean = centre + safe_divide(matmul(plan.T, x - centre), mass[:, None])
        everywhere = matmul(jnp.sum(plan, axis=1), (x - centre) ** 2)
        within = pooled_scatter(axes.scatter, x, plan, mean)[0]
        tiny = 64 * jnp.finfo(x.dtype).eps * jnp.where(everywhere > 0, everywhere, 1)
        deviation = jnp.sqrt(within + tiny)
        begin = jax.random.normal(jax.random.key(0), (x.shape[1], n_factors), x.dtype)

        def correlate(basis: Array) -> Array:
            def part(u: Array, share: Array) -> Array:
                v = u[:, 0] / deviation
                return matmul((share * v).T, matmul(v, basis))

            return pooled_scatter(part, x, plan, mean)

        basis = jax.lax.fori_loop(0, BEGIN, lambda _, b: correlate(_orthonormal(b)), begin)
        basis = _orthonormal(basis)
        size = jnp.sum(basis * correlate(basis), axis=0)
        rest = (x.shape[1] - jnp.sum(size)) / max(x.shape[1] - n_factors, 1)
        told = basis * jnp.sqrt(jnp.maximum(size - jnp.maximum(rest, 0), 0.01 * size))
        share = jnp.sum(told**2, axis=1)
        told = told * jnp.sqrt(jnp.minimum(1, safe_divide(1 - UNIQUE + 0 * share, share)))[:, None]
        noise = deviation * jnp.sqrt(1 - jnp.sum(told**2, axis=1))
        loadings = lower_form(deviation[:, None] * told)
        copies = (len(mass), 1)
        return cls(mean, jnp.tile(loadings, (*copies, 1)), jnp.tile(noise, copies))

    @classmethod
    def examples(cls) -> dict[str, "FactorAnalyzers"]:
        """Three components of one factor in five columns."""
        mean = [[0.6, -1.6, -1.2, -7.3, 5.4], [3.4, -1, 2.3, 0.8, -1.7], [2.9, -0.9, -1, -2.4, 1.4]]
        loadings = [[1.1, -0.9, -1.2, -1, -1], [0.8, -0.8, -0.9, -1.2, -1], [1.1, 1.1, -1, -1, -1]]
        noise = [[0.6, 0.5, 0.6, 0.5, 0.6], [0.5, 0.5, 0.5, 0.5, 0.4], [0.4, 0.4, 0.5, 0.5, 0.6]]
        mean, loadings, noise = (jnp.array(part, float) for part in (mean, loadings, noise))
        return {"one factor": cls(mean, loadings[..., None], noise)}


def _costs(prepared: _Woodbury, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    def one(own: _Woodbury) -> Array:
        y = (x - own.mean) / own.noise
        z = matmul(y, own.back)
        left = y - matmul(z, own.white.T)
        return 0.5 * (jnp.sum(left**2, axis=-1) + jnp.sum(z**2, axis=-1)) + own.constant

    # a component at a time: [n, d], not [n, k, d]
    return jax.lax.map(one, prepared).T


def _least(variance: Float[Array, "k d"], prior: Prior | None) -> Float[Array, "k d"]:
    """What noise variances are lifted to; nothing without a floor."""
    if prior is None or prior.floor is None:
        return jnp.zeros_like(variance)
    return jnp.maximum(prior.floor, 4 * jnp.finfo(variance.dtype).eps * variance)


def _orthonormal(basis: Float[Array, "d q"]) -> Float[Array, "d q"]:
    """By Cholesky, of what is not far from singular."""
    floor = jnp.zeros((), basis.dtype)
    factor = regular_cholesky(matmul(basis.T, basis), floor)
    return matmul(basis, inverse_triangle(factor).T)
