"""One EM step: against scikit-learn, and against the note's formulas written out in NumPy."""

import warnings

import numpy as np
import pytest
from helpers import parameters, start
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import otmix_jax as om

SKLEARN = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def sklearn_precisions(matrices, structure):
    inverse = np.linalg.inv(matrices)
    return {
        "full": inverse,
        "tied": inverse[0],
        "diagonal": np.diagonal(inverse, axis1=1, axis2=2),
        "spherical": inverse[:, 0, 0],
    }[structure]


def sklearn_matrices(model, structure, k, d):
    c = model.covariances_
    return {
        "full": lambda: c,
        "tied": lambda: np.broadcast_to(c, (k, d, d)),
        "diagonal": lambda: np.stack([np.diag(v) for v in c]),
        "spherical": lambda: np.stack([v * np.eye(d) for v in c]),
    }[structure]()


@pytest.mark.parametrize("steps", [1, 7])
def test_equals_scikit_learn(faithful, structure, steps):
    initial = start(faithful, covariance=structure, seed=2)
    weights, means, matrices = parameters(initial)
    model = GaussianMixture(
        3, covariance_type=SKLEARN[structure], max_iter=steps, tol=0, reg_covar=0,
        weights_init=weights, means_init=means, init_params="random_from_data",
        precisions_init=sklearn_precisions(matrices, structure), random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(faithful)
    solution = om.solve(om.Problem(faithful), initial, tolerance=0.0, max_steps=steps)
    assert int(solution.n_steps) == steps
    expected = model.weights_, model.means_, sklearn_matrices(model, structure, 3, 2)
    for ours, theirs in zip(parameters(solution.mixture), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    np.testing.assert_allclose(-solution.value, model.score(faithful), rtol=1e-12)
    np.testing.assert_allclose(
        solution.mixture.responsibilities(faithful), model.predict_proba(faithful), atol=1e-10
    )


def test_equals_the_three_blocks_written_out(blobs):
    """Plan (3.2), proportions, means (3.5), tied covariance (3.4) without its printed 1/n."""
    initial = start(blobs, covariance="tied")
    weights, means, matrices = parameters(initial)
    n = len(blobs)
    distance = np.einsum(
        "nkd,de,nke->nk", blobs[:, None] - means, np.linalg.inv(matrices[0]), blobs[:, None] - means
    )
    unnormalised = weights * np.exp(-distance / 2)
    plan = unnormalised / unnormalised.sum(1, keepdims=True) / n
    proportions = plan.sum(0)
    new_means = plan.T @ blobs / proportions[:, None]
    difference = blobs[:, None] - new_means
    covariance = np.einsum("nk,nkd,nke->de", plan, difference, difference)
    solution = om.solve(om.Problem(blobs), initial, tolerance=0.0, max_steps=1)
    ours = parameters(solution.mixture)
    np.testing.assert_allclose(ours[0], proportions, rtol=1e-12)
    np.testing.assert_allclose(ours[1], new_means, rtol=1e-11)
    np.testing.assert_allclose(ours[2][0], covariance, rtol=1e-11)


@pytest.mark.slow
def test_the_ridge_is_the_map_step(blobs, structure):
    """K = 1 has a closed form: (S + r D) / (1 + r) in the structure, in one step."""
    strength = 0.3
    prior = om.priors.Ridge.of(blobs, np.full(len(blobs), 1 / len(blobs)), np.array(strength))
    problem = om.Problem(blobs, prior=prior)
    solution = om.solve(problem, start(blobs, 1, structure), tolerance=1e-14)
    d = np.diag(blobs.var(0))
    full = (np.cov(blobs.T, bias=True) + strength * d) / (1 + strength)
    expected = {
        "full": full,
        "tied": full,
        "diagonal": np.diag(np.diag(full)),
        "spherical": np.eye(2) * np.diag(full).mean(),
    }[structure]
    np.testing.assert_allclose(parameters(solution.mixture)[2][0], expected, rtol=1e-12)
    # The penalty is strength * KL(N(0, D) | N(0, Sigma)), from scipy-free first principles.
    sigma = expected
    kl = 0.5 * (
        np.trace(np.linalg.solve(sigma, d))
        - 2
        + np.linalg.slogdet(sigma)[1]
        - np.linalg.slogdet(d)[1]
    )
    np.testing.assert_allclose(
        solution.objective - solution.value, strength * kl, rtol=1e-9, atol=1e-15
    )
