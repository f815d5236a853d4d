"""The peers, each from a given start for a given number of iterations; None where not installed."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import otmix_jax as om

try:
    import gmmx
except ImportError:
    gmmx = None
try:
    from ott.tools.gaussian_mixture import fit_gmm, gaussian_mixture
except ImportError:
    fit_gmm = gaussian_mixture = None
try:
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel
except ImportError:
    torch = None

SKLEARN = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def sklearn_model(start: om.Mixture, covariance: str, steps: int) -> GaussianMixture:
    """scikit-learn's model at a start."""
    precisions = np.linalg.inv(start.components.matrices())
    shaped = {
        "full": precisions,
        "tied": precisions[0],
        "diagonal": np.diagonal(precisions, axis1=1, axis2=2),
        "spherical": precisions[:, 0, 0],
    }[covariance]
    return GaussianMixture(
        len(precisions), covariance_type=SKLEARN[covariance], tol=0, reg_covar=0, max_iter=steps,
        weights_init=np.asarray(start.weights), means_init=np.asarray(start.components.mean),
        precisions_init=shaped, init_params="random_from_data",
    )  # fmt: skip


def sklearn_fit(x: Any, start: om.Mixture, covariance: str, steps: int) -> Callable[[], Any]:
    """A run of scikit-learn."""
    model, x = sklearn_model(start, covariance, steps), np.asarray(x)

    def run() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(x).means_

    return run


def gmmx_fit(x: jax.Array, start: om.Mixture, covariance: str, steps: int) -> Any:
    """A run of gmmx, which knows float32 alone, whatever the others compute in."""
    if gmmx is None or covariance not in ("full", "diagonal"):
        return None
    matrices = np.asarray(start.components.matrices(), np.float32)
    diagonal = covariance == "diagonal"
    with jax.enable_x64(False):
        model = gmmx.GaussianMixtureModelJax.from_squeezed(
            means=np.asarray(start.components.mean, np.float32),
            covariances=np.diagonal(matrices, axis1=1, axis2=2) if diagonal else matrices,
            weights=np.asarray(start.weights, np.float32),
            covariance_type="diag" if diagonal else "full",
        )
        rows = jnp.asarray(np.asarray(x), jnp.float32)
    fitter = gmmx.EMFitter(max_iter=steps, tol=-np.inf)

    def run() -> jax.Array:
        with jax.enable_x64(False):
            return fitter.fit(x=rows, gmm=model).gmm.means

    return run


def ott_fit(x: jax.Array, start: om.Mixture, covariance: str, steps: int) -> Any:
    """A run of OTT-JAX's Gaussian mixture tools."""
    if fit_gmm is None or covariance != "full":
        return None
    model = gaussian_mixture.GaussianMixture.from_mean_cov_component_weights(
        mean=start.components.mean, cov=start.components.matrices(),
        component_weights=start.weights,
    )  # fmt: skip
    return lambda: fit_gmm.fit_model_em(model, x, None, steps=steps).loc


def pomegranate_fit(x: jax.Array, start: om.Mixture, covariance: str, steps: int) -> Any:
    """A run of pomegranate on PyTorch, on the GPU if the rows are on one."""
    if torch is None or covariance != "full":
        return None
    on_gpu = next(iter(x.devices())).platform == "gpu" and torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    components = start.components
    weights, means, matrices = (
        torch.tensor(np.asarray(part))
        for part in (start.weights, components.mean, components.matrices())
    )
    parts = [Normal(mean, matrix) for mean, matrix in zip(means, matrices, strict=True)]
    model = GeneralMixtureModel(
        parts, priors=weights, max_iter=steps, tol=-np.inf, check_data=False
    ).to(device)
    rows = torch.tensor(np.asarray(x), device=device)

    def run() -> np.ndarray:
        return copy.deepcopy(model).fit(rows).priors.detach().cpu().numpy()

    return run
