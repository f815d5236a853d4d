"""`fit` against the best optima known (scikit-learn 1.9.1, many starts, tol 1e-12, no ridge)."""

import numpy as np
import pytest

import otmix_jax as om

FAITHFUL = [  # covariance, K, total log-likelihood, BIC in mclust's sign, weights
    ("tied", 1, -1289.7967, -2607.6225, [1]),
    ("tied", 2, -1140.1868, -2325.2199, [0.3592, 0.6408]),
    ("tied", 3, -1126.3159, -2314.2957, [0.1686, 0.3564, 0.4750]),
    ("full", 2, -1130.2640, -2322.1917, [0.3559, 0.6441]),
    ("diagonal", 2, -1147.8064, -2346.0649, [0.3565, 0.6435]),
    ("spherical", 2, -1709.5293, -3458.2992, [0.3671, 0.6329]),
]


@pytest.mark.parametrize(("covariance", "k", "log_likelihood", "bic", "weights"), FAITHFUL)
def test_old_faithful(faithful, covariance, k, log_likelihood, bic, weights):
    solution = om.fit(faithful, k, covariance=covariance, key=0)
    n = len(faithful)
    assert abs(float(solution.log_likelihood(n)) - log_likelihood) < 1e-4
    assert abs(-float(solution.bic(n)) - bic) < 2e-4
    # The value is that of the mixture itself, evaluated by its own density.
    again = -float(np.mean(solution.mixture.log_prob(faithful)))
    assert abs(again - float(solution.value)) < 1e-12
    if (covariance, k) != ("tied", 3):  # a flat optimum: the tolerance leaves 1e-3 in the weights
        np.testing.assert_allclose(np.sort(solution.mixture.weights), weights, atol=6e-5)
    tight = om.fit(faithful, k, covariance=covariance, key=0, limits=om.Limits(tolerance=1e-12))
    np.testing.assert_allclose(np.sort(tight.mixture.weights), weights, atol=6e-5)


@pytest.mark.parametrize(
    ("covariance", "log_likelihood"), [("full", -203.1792), ("tied", -212.3519)]
)
def test_galaxies(covariance, log_likelihood):
    x = om.datasets.galaxies().x / 1000
    solution = om.fit(x, 3, covariance=covariance, key=0)
    assert abs(float(solution.log_likelihood(len(x))) - log_likelihood) < 1e-4


def test_the_optimum_does_not_hang_on_the_seed(faithful):
    values = [om.fit(faithful, 3, covariance="tied", key=seed).value for seed in range(5)]
    assert max(values) - min(values) < 1e-6
