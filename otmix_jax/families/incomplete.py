"""Gaussians of rows whose cells may be missing, with what is missing integrated out exactly.

With M = diag(1 where row i has a cell, else 0), V the covariance of component j and mu its mean,

    V~ = M V M + I - M            r = M (x_i - mu)            n_i = tr M
    C_ij = r^T V~^-1 r / 2 + log det V~ / 2 + n_i log(2 pi) / 2
    b = E[x - mu | row, j] = V M V~^-1 r
    B = Cov[x | row, j] = V - V M V~^-1 M V

so that b b^T + B takes the place of (x - mu)(x - mu)^T in the moments of the M-step. Nothing
depends on why cells are missing, as long as that does not depend on what they would have held.

Source: Ghahramani and Jordan (1994), Supervised learning from incomplete data via an EM approach;
Little and Rubin (2019), Statistical Analysis with Missing Data, section 11.2.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, PRNGKeyArray

from ..core.numerics import einsum, matmul, safe_divide
from ..core.tree import pytree
from ..core.triangular import diagonal, inverse_triangle, multiply, regular_cholesky
from ..core.typing import AnyArray
from . import geometry
from .coordinates import Affine
from .covariance import Covariance
from .elliptical import Gaussian, structure
from .family import Description
from .quadratic import Moments


@pytree
class Observed(Affine):
    """An affine frame of rows that miss cells: what is not there grows by no unit.

    Attributes:
        origin: see `Affine`.
        unit: see `Affine`.
        share: [d] of the rows that have a cell, for each column.
    """

    share: Any

    @property
    def log_volume(self) -> Float[Array, "*b"]:
        """See `Frame.log_volume`: on the average of the rows."""
        return jnp.sum(self.share * self.log_units, axis=-1)

    @property
    def inverse(self) -> "Observed":
        """See `Frame.inverse`."""
        back = super().inverse
        return Observed(back.origin, back.unit, self.share)


@pytree
class Incomplete(Gaussian):
    """K Gaussian components of rows whose cells may be missing: NaN, which is integrated out.

    What `fit(..., missing="ignore")` fits. Parameters, priors and draws are those of `Gaussian`.

    Example:
        >>> import jax.numpy as jnp, otmix_jax as om
        >>> from otmix_jax.families import Full, Incomplete
        >>> covariance = Full.from_matrices(jnp.array([[[1.0, 0.5], [0.5, 1.0]]]))
        >>> mixture = om.Mixture(jnp.zeros(1), Incomplete(jnp.zeros((1, 2)), covariance))
        >>> mixture.impute(jnp.array([[1.0, jnp.nan]])).tolist()
        [[1.0, 0.5]]
    """

    @classmethod
    def of(cls, covariance: str | type[Covariance] = "full") -> Description:
        """Such Gaussians of a covariance structure; see `Gaussian.of`.

        Raises:
            ValueError: for a name that is no covariance structure.
        """
        structure(covariance)
        return Description(cls, (("covariance", covariance), ("missing", True)))

    def described(self) -> Description:
        """See `Family.described`."""
        return self.of(type(self.covariance))

    @property
    def _has_independent_columns(self) -> bool:
        return self._layout in (geometry.axes, geometry.shared_axes, geometry.isotropic)

    def _spread(self) -> Array:
        """[k, d] standard deviations where columns are independent, else [k, d, d] matrices."""
        if self._has_independent_columns:
            return jnp.broadcast_to(self._layout.pivots(*self._factor), self.mean.shape)
        return self.matrices()

    def cost(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """C_ij = -log of the density of the cells that row i has, in nats; 0 if it has none."""
        return _cost(self.mean, self._spread(), x)

    def prepared_cost(self) -> Partial:
        """`cost` with the matrices multiplied out."""
        return Partial(_cost, self.mean, self._spread())

    def linear_form(self) -> None:  # type: ignore[override]
        """None."""

    def location_form(self) -> None:
        """None."""

    def statistics(self, x: Float[Array, "n d"], plan: Float[Array, "n k"]) -> Moments:
        """Moments about the current means, expected where cells are missing."""
        there, known = _known(x)
        mass = jnp.sum(plan, axis=0)
        if self._has_independent_columns:
            cell, difference = there[:, None], known[:, None, :] - self.mean
            first = einsum("nk,nkd->kd", plan, jnp.where(cell, difference, 0))
            # a missing cell adds its variance, as if it lay one deviation off
            second = self._layout.scatter(jnp.where(cell, difference, self._spread()), plan)
            return Moments(mass, first, second)

        patterns, which = _patterns(there)

        def one(component: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            mean, matrix, share = component
            pull, left = _pull(patterns, matrix)
            lie = _times(pull[which], jnp.where(there, known - mean, 0))
            own = jnp.zeros(len(patterns), share.dtype).at[which].add(share)
            return matmul(share, lie), matmul((share[:, None] * lie).T, lie) + einsum(
                "p,pde->de", own, left
            )

        first, second = jax.lax.map(one, (self.mean, self._spread(), plan.T))
        return self.location_statistics(mass, first, second)

    def impute(
        self, x: Float[Array, "n d"], share: Float[Array, "n k"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "n d"]:
        """See `Family.impute`."""
        there, known = _known(x)
        patterns, which = _patterns(there)
        n, k = share.shape
        if key is None:
            centres = jnp.broadcast_to(self.mean[:, None], (k, n, known.shape[1]))
        else:
            # a draw, moved by what the row's own cells say: its law is the conditional one
            drawn = self.sample(key, jnp.argmax(share, axis=1))
            centres = jnp.broadcast_to(drawn, (k, *drawn.shape))

        def one(total: Array, component: tuple[Array, Array, Array]) -> tuple[Array, None]:
            spread, centre, own = component
            lie = jnp.where(there, known - centre, 0)
            if not self._has_independent_columns:
                lie = _times(_pull(patterns, spread)[0][which], lie)
            return total + own[:, None] * (centre + lie), None

        each = self._spread(), centres, share.T
        mean = jax.lax.scan(one, jnp.zeros_like(known), each)[0]
        return jnp.where(there, known, mean)

    @classmethod
    def initial(
        cls, x: Float[Array, "n d"], plan: Float[Array, "n k"], covariance: Any = "full", **_: Any
    ) -> "Incomplete":
        """As `Gaussian.initial`, of rows with their component's means in the place of NaN."""
        there, known = _known(x)
        count = matmul(plan.T, there.astype(plan.dtype))
        everywhere = safe_divide(jnp.sum(matmul(plan.T, known), axis=0), jnp.sum(count, axis=0))
        # about the centre: far from 0, float32 sums lose the digits that tell means apart
        sums = matmul(plan.T, jnp.where(there, known - everywhere, 0))
        mean = everywhere + safe_divide(sums, count)
        share = safe_divide(plan, jnp.sum(plan, axis=1, keepdims=True))
        return cls(*cls._start(jnp.where(there, known, matmul(share, mean)), plan, covariance))

    @classmethod
    def embed(cls, x: Float[Array, "n d"], **options: Any) -> Float[Array, "n d"]:
        """See `Family.embed`; a missing cell stands at its column's median."""
        del options
        middle = jnp.nanmedian(x, axis=0)
        return jnp.where(jnp.isnan(x), jnp.where(jnp.isnan(middle), 0, middle), x)

    @classmethod
    def frame(
        cls, x: Any, weight: Any, begins: Any = None, covariance: Any = "full", **options: Any
    ) -> Observed:
        """As `Gaussian.frame`, of the cells that are there."""
        del options
        filled, share = _filled(x, weight, begins)
        frame = super().frame(filled, weight, begins, covariance=covariance)
        return Observed(frame.origin, frame.unit, share)

    @classmethod
    def examples(cls) -> dict[str, Gaussian]:
        """One of each way to integrate cells out."""
        every = Gaussian.examples()
        return {n: cls(every[n].mean, every[n].covariance) for n in ("full", "diagonal")}


def _known(x: Float[Array, "n d"]) -> tuple[Bool[Array, "n d"], Float[Array, "n d"]]:
    """Which cells are there, and the rows with 0 in the place of the others."""
    there = ~jnp.isnan(x)
    return there, jnp.where(there, x, 0)


def _cost(mean: Float[Array, "k d"], spread: Array, x: Float[Array, "n d"]) -> Array:
    there, known = _known(x)
    constant = 0.5 * math.log(2 * math.pi) * jnp.sum(there, axis=1, dtype=x.dtype)[:, None]
    if spread.ndim == mean.ndim:
        whitened = jnp.where(there[:, None], (known[:, None, :] - mean) / spread, 0)
        logs = matmul(there.astype(mean.dtype), jnp.log(spread).T)
        return constant + 0.5 * jnp.sum(whitened**2, axis=-1) + logs
    patterns, which = _patterns(there)

    def one(component: tuple[Array, Array]) -> Array:
        centre, matrix = component
        factor, inverse = _factors(patterns, matrix)
        whitened = _times(inverse[which], jnp.where(there, known - centre, 0))
        logs = jnp.sum(jnp.log(diagonal(factor)), axis=-1)
        return 0.5 * jnp.sum(whitened**2, axis=-1) + logs[which]

    # component by component: side by side they would hold [n, k, d, d]
    return constant + jax.lax.map(one, (mean, spread)).T


def _patterns(there: Bool[Array, "n d"]) -> tuple[Bool[AnyArray, "p d"], Any]:
    """Masks of which each row has one, and an index that says which."""
    n, d = there.shape
    if 4 * 2**d > n:
        return there, slice(None)
    # of few columns each mask is factorised once, however many rows have it
    every = np.arange(2**d)[:, None] >> np.arange(d) & 1 == 1
    return every, jnp.sum(jnp.where(there, 1 << np.arange(d), 0), axis=1)


def _factors(
    there: Bool[AnyArray, "p d"], matrix: Float[Array, "d d"]
) -> tuple[Float[Array, "p d d"], Float[Array, "p d d"]]:
    """The lower factor of V~ for each pattern, and its inverse W."""
    both = there[:, :, None] & there[:, None, :]
    factor = regular_cholesky(jnp.where(both, matrix, jnp.eye(len(matrix), dtype=matrix.dtype)))
    return factor, inverse_triangle(factor)


def _times(matrices: Float[Array, "n d d"], rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return multiply(matrices, rows[..., None])[..., 0]


def _pull(
    there: Bool[AnyArray, "p d"], matrix: Float[Array, "d d"]
) -> tuple[Float[Array, "p d d"], Float[Array, "p d d"]]:
    """What the cells that are there say of the others: A with b = A r, and B.

    Args:
        there: patterns.
        matrix: V.
    """
    _, inverse = _factors(there, matrix)
    half = multiply(inverse, jnp.where(there[:, :, None], matrix, 0))
    transposed = jnp.swapaxes(half, 1, 2)
    # what is there is known to the last digit
    pull = jnp.where(there[:, :, None], jnp.eye(len(matrix)), multiply(transposed, inverse))
    hidden = ~(there[:, :, None] | there[:, None, :])
    left = jnp.where(hidden, matrix - multiply(transposed, half), 0)
    return pull.astype(matrix.dtype), left


def _filled(x: AnyArray, weight: Any, begins: Any) -> tuple[AnyArray, AnyArray]:
    """Rows with their columns' means in the place of NaN, and the share of rows with a cell.

    Both in each group of rows.
    """
    module = jnp if isinstance(x, Array) else np
    there = ~module.isnan(x)
    own = (there if weight is None else there * module.asarray(weight)[:, None]) * 1.0
    known = module.where(there, x, 0)
    if begins is None or weight is None:
        whole = len(x) if weight is None else module.sum(module.asarray(weight))
        total, count = module.sum(own * known, axis=0), module.sum(own, axis=0)
        mean = total / module.where(count > 0, count, 1)
        return module.where(there, x, mean).astype(x.dtype), count / whole
    total, count = (np.add.reduceat(a, begins) for a in (own * known, own))
    owner = np.repeat(np.arange(len(begins)), np.diff([*begins, len(x)]))
    mean = (total / np.where(count > 0, count, 1))[owner]
    share = count / np.add.reduceat(weight, begins)[:, None]
    return np.where(there, x, mean).astype(x.dtype), share
