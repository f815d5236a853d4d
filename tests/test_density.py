"""Costs, densities, responsibilities, samples: against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import parameters
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal

import otmix_jax as om

EXAMPLES = om.families.Gaussian.examples()
WEIGHTS = np.array([0.2, 0.5, 0.3])


@pytest.fixture
def mixture(structure):
    return om.Mixture.from_weights(WEIGHTS, EXAMPLES[structure])


@pytest.fixture
def rows():
    return np.random.default_rng(1).normal(size=(50, 2)) * 3


def scipy_log_joint(mixture, x):
    weights, means, matrices = parameters(mixture)
    densities = [multivariate_normal(m, c).logpdf(x) for m, c in zip(means, matrices, strict=True)]
    return np.stack(densities, axis=1), np.log(weights)


def test_log_prob_and_responsibilities(mixture, rows):
    log_density, log_weights = scipy_log_joint(mixture, rows)
    joint = log_density + log_weights
    expected = logsumexp(joint, axis=1)
    np.testing.assert_allclose(mixture.components.cost(jnp.asarray(rows)), -log_density, rtol=1e-12)
    np.testing.assert_allclose(mixture.log_prob(rows), expected, rtol=1e-12)
    plan = np.exp(joint - expected[:, None])
    np.testing.assert_allclose(mixture.responsibilities(rows), plan, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(mixture.predict(rows), plan.argmax(1))
    loss = om.negative_log_likelihood(mixture, rows)
    np.testing.assert_allclose(loss, -expected.mean(), rtol=1e-13)


def test_the_density_integrates_to_one(mixture):
    axis = np.linspace(-15, 15, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    area = (axis[1] - axis[0]) ** 2
    assert abs(float(jnp.exp(mixture.log_prob(grid)).sum()) * area - 1) < 1e-6


def test_samples_follow_the_mixture(mixture):
    x = np.asarray(mixture.sample(jax.random.key(3), 20_000))
    weights, means, matrices = parameters(mixture)
    mean = weights @ means
    second = np.einsum("k,kde->de", weights, matrices + means[:, :, None] * means[:, None, :])
    covariance = second - np.outer(mean, mean)
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(x.mean(0), mean, atol=4 * deviation.max() / np.sqrt(len(x)))
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.05 * covariance.max())
    # One coordinate's whole law, against the mixture's own marginal distribution function.
    from scipy.stats import norm

    scale = np.sqrt(matrices[:, 0, 0])

    def cdf(t):
        return norm.cdf((np.asarray(t)[:, None] - means[:, 0]) / scale) @ weights

    assert kstest(x[:, 0], cdf).pvalue > 1e-3


def test_a_sample_says_its_labels(mixture):
    key = jax.random.key(5)
    rows, labels = mixture.sample(key, 50, labels=True)
    np.testing.assert_array_equal(rows, mixture.sample(key, 50))
    near = jnp.argmin(jnp.sum((rows[:, None] - mixture.components.mean) ** 2, axis=-1), axis=1)
    assert (near == labels).mean() > 0.6


def test_sample_of_nothing(mixture):
    assert mixture.sample(jax.random.key(0), 0).shape == (0, 2)


def test_a_row_out_of_reach_still_has_a_plan(mixture):
    far = np.full((1, 2), 1e200)
    plan = mixture.responsibilities(far)
    np.testing.assert_allclose(plan.sum(), 1, rtol=1e-14)
    assert float(mixture.log_prob(far)[0]) == -np.inf


def test_an_absent_component_is_not_read():
    components = om.families.Gaussian(
        jnp.array([[0.0], [jnp.nan]]), om.families.Spherical(jnp.array([1.0, jnp.nan]))
    )
    mixture = om.Mixture.from_weights(jnp.array([1.0, 0.0]), components)
    expected = multivariate_normal(0, 1).logpdf(0.3)
    np.testing.assert_allclose(mixture.log_prob(jnp.array([[0.3]])), expected, rtol=1e-14)
