"""The conjugate prior of Gaussian components that weighs as few rows do: mclust's default."""

from typing import Any

import numpy as np

from ..core.reading import read_rows
from ..priors import NormalMean, Prior, Ridge
from . import geometry
from .covariance import Covariance
from .elliptical import structure


def conjugate_prior(
    x: Any,
    n_components: int,
    covariance: str | type[Covariance] = "full",
    shrinkage: float = 0.01,
    dof: float | None = None,
) -> Prior:
    """A normal law of the means, inverse-Wishart ones of the covariances, by the data's spread.

    mu_j given Sigma_j is N(c, Sigma_j / shrinkage), c being the data's mean. Sigma_j is inverse
    Wishart with `dof` degrees of freedom and scale S / n_components^(2 / d), S being the data's
    covariance with n - 1. Where the structure is axis-aligned, the variance of each column is
    inverse gamma of shape dof / 2 and scale s / 2, s being the mean of the columns' variances over
    n_components^(2 / d); where it is isotropic, the one variance is. A covariance that components
    share has one such law. So none collapses, and components of many rows hardly move.

    Args:
        x: [n, d] the rows that are to be fitted, all cells known.
        n_components: K of the fit.
        covariance: the structure of the fit. One that shares parts of the covariances (VEI, VVE,
            ...) has the law on each of them: there mclust has rules of its own, or none.
        shrinkage: pseudo-rows at c in each component; 0 for no prior on the means.
        dof: degrees of freedom; None is d + 2.

    Returns:
        For `Goal(prior=...)`.

    Raises:
        ValueError: for numbers out of range, cells that are not finite, and fewer than two rows.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> prior = om.families.conjugate_prior(x, 2)
        >>> solution = om.fit(x, 2, key=0, goal=om.Goal(prior=prior))
        >>> round(float(solution.log_likelihood(len(x))), 2)
        -1130.5...

    Source: Fraley and Raftery (2007), J. Classification 24, 155-181, section 3.
    """
    rows = np.asarray(read_rows(x, table=True), np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"x must be a table (n, d) of two rows or more, not of shape {rows.shape}")
    unknown = np.argwhere(~np.isfinite(rows))
    if len(unknown):
        i, j = unknown[0]
        raise ValueError(f"x[{i}, {j}] is {rows[i, j]}: give the rows that are known in full alone")
    n, d = rows.shape
    kind = structure(covariance)
    strength = _strength(kind, d, n_components, shrinkage, d + 2 if dof is None else dof)
    spread = np.atleast_2d(np.cov(rows.T)) / n_components ** (2 / d)
    if not _has_matrices(kind):
        # one variance stands for all columns, each of which has its part of the one law
        spread = np.full(d, np.trace(spread) / d / (d if kind.one_unit else 1))
    mean = NormalMean(rows.mean(axis=0), shrinkage / n) if shrinkage else None
    return Prior(covariance=Ridge(strength / n, spread / strength), mean=mean)


def _has_matrices(kind: type[Covariance]) -> bool:
    return kind.geometry in (geometry.free, geometry.pooled)


def _strength(
    kind: type[Covariance], d: int, n_components: int, shrinkage: float, dof: float
) -> float:
    """Rows that the prior is worth: the power of each standard deviation in its density.

    Raises:
        ValueError: for what goes with no law.
    """
    least = d - 1 if _has_matrices(kind) else 0
    if not (n_components >= 1 and shrinkage >= 0 and least < dof < np.inf):
        raise ValueError(
            f"n_components must be >= 1, shrinkage >= 0 and dof finite and > {least}, not "
            f"{n_components}, {shrinkage} and {dof}"
        )
    if _has_matrices(kind):
        rows = dof + d + 1
    else:
        rows = (dof + 2) / (d if kind.one_unit else 1)
    if shrinkage:
        shared = kind.geometry in (geometry.pooled, geometry.shared_axes)
        # a mean's normal law counts as one row, its pseudo-rows, which scatter, as `shrinkage`
        rows += (n_components if shared else 1) * (1 - shrinkage)
    if rows <= 0:
        raise ValueError(f"shrinkage {shrinkage} outweighs all other rows of the prior: take 0.01")
    return rows
