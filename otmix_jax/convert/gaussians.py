"""Gaussian mixtures of scikit-learn and OTT-JAX."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core.status import Status
from ..families import Diagonal, Full, Gaussian, Incomplete, Spherical, Tied
from ..model import Mixture, Solution
from .laws import unwrapped

TYPES = {"full": Full, "tied": Tied, "diag": Diagonal, "spherical": Spherical}
"""Scikit-learn's covariance types."""


def to_sklearn(mixture: Mixture | Solution) -> Any:
    """A fitted `sklearn.mixture.GaussianMixture`, which predicts, scores and draws.

    Structures that scikit-learn does not have become "full". A solution also gives `converged_`,
    `n_iter_` and `lower_bound_`; a mixture has 0 steps and a NaN there.

    Args:
        mixture: of Gaussians, or the solution that holds it.

    Raises:
        TypeError: for another family.
        ImportError: without scikit-learn.

    Example:
        >>> import otmix_jax as om
        >>> x = om.datasets.old_faithful().x
        >>> solution = om.fit(x, 2, key=0)
        >>> model = om.convert.to_sklearn(solution)
        >>> bool((model.predict(x) == solution.mixture.predict(x)).all())
        True
    """
    from sklearn.mixture import GaussianMixture

    solution = mixture if isinstance(mixture, Solution) else None
    mixture = mixture.mixture if isinstance(mixture, Solution) else mixture
    components = _gaussian(mixture)
    structure = {cls: name for name, cls in TYPES.items()}.get(type(components.covariance), "full")
    matrices = np.asarray(components.matrices())
    k, d = components.mean.shape
    # P with P P^T the precision: the transposed inverse of the lower factor
    factors = np.linalg.inv(np.linalg.cholesky(matrices)).transpose(0, 2, 1)
    precisions = factors @ factors.transpose(0, 2, 1)
    diagonal = np.arange(d)
    narrow = {
        "full": lambda a: a,
        "tied": lambda a: a[0],
        "diag": lambda a: a[:, diagonal, diagonal],
        "spherical": lambda a: a[:, 0, 0],
    }[structure]
    model: Any = GaussianMixture(k, covariance_type=structure)
    model.weights_ = np.asarray(mixture.weights)
    model.means_ = np.asarray(components.mean)
    model.covariances_ = narrow(matrices)
    model.precisions_ = narrow(precisions)
    model.precisions_cholesky_ = narrow(factors)
    model.n_features_in_ = d
    model.converged_ = solution is None or int(solution.status) == Status.CONVERGED
    model.n_iter_ = 0 if solution is None else int(solution.n_steps)
    model.lower_bound_ = np.nan if solution is None else -float(solution.value)
    model.lower_bounds_ = [] if solution is None else _history(solution)
    return model


def from_sklearn(model: Any) -> Mixture:
    """The mixture of a fitted `sklearn.mixture.GaussianMixture`.

    Raises:
        TypeError: for another model: the density of a `BayesianGaussianMixture` is no mixture of
            Gaussians of its `covariances_`.
        ValueError: for one that is not fitted.
    """
    structure = getattr(model, "covariance_type", None)
    if structure not in TYPES or hasattr(model, "weight_concentration_prior_type"):
        raise TypeError(f"a GaussianMixture is needed, not {type(model).__name__}")
    if not hasattr(model, "covariances_"):
        raise ValueError("the GaussianMixture has no parameters yet: fit it first")
    means, given = np.asarray(model.means_), np.asarray(model.covariances_)
    (k, d), identity = means.shape, np.eye(means.shape[1], dtype=means.dtype)
    matrices = {
        "full": lambda: given,
        "tied": lambda: np.broadcast_to(given, (k, d, d)),
        "diag": lambda: given[:, None, :] * identity,
        "spherical": lambda: given[:, None, None] * identity,
    }[structure]()
    return _mixture(model.weights_, means, matrices, structure)


def to_ott(mixture: Mixture) -> Any:
    """An `ott.tools.gaussian_mixture.gaussian_mixture.GaussianMixture`, its covariances full.

    Raises:
        TypeError: for another family than Gaussians.
        ValueError: for a component of weight 0, which OTT's mixtures cannot have.
        ImportError: without OTT-JAX.
    """
    from ott.tools.gaussian_mixture.gaussian_mixture import GaussianMixture

    components = _gaussian(mixture)
    weights = mixture.weights
    if bool(jnp.any(weights == 0)):
        raise ValueError(
            "OTT's mixtures have no component of weight 0: leave it out, "
            "mixture.take(numpy.flatnonzero(mixture.weights))"
        )
    return GaussianMixture.from_mean_cov_component_weights(
        components.mean, components.matrices(), weights
    )


def from_ott(model: Any) -> Mixture:
    """The mixture of OTT-JAX's `GaussianMixture`.

    Raises:
        TypeError: for another object.
    """
    needed = ("component_weights", "loc", "covariance")
    if not all(hasattr(model, name) for name in needed):
        raise TypeError(f"OTT's GaussianMixture is needed, not {type(model).__name__}")
    return _mixture(model.component_weights, model.loc, model.covariance, "full")


def _mixture(weights: Any, means: Any, matrices: Any, structure: str) -> Mixture:
    covariance = TYPES[structure].from_matrices(jnp.asarray(matrices))
    return Mixture.from_weights(jnp.asarray(weights), Gaussian(jnp.asarray(means), covariance))


def _gaussian(mixture: Mixture) -> Any:
    """The Gaussians of a mixture.

    Raises:
        TypeError: for others.
        ValueError: for a batch.
    """
    components = unwrapped(mixture.components)
    if type(components) not in (Gaussian, Incomplete):
        raise TypeError(f"Gaussian components are needed, not {type(components).__name__}")
    if components.mean.ndim > 2:
        raise ValueError("the mixture is a batch: take one, such as batch[0].mixture")
    return components


def _history(solution: Solution) -> list[float]:
    """The lower bound after each step that was recorded."""
    values = -np.asarray(solution.history, float)[1:]
    return values[~np.isnan(values)].tolist()
