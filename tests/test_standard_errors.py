"""Standard errors: closed forms, brute-force information, simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from helpers import start
from jax.flatten_util import ravel_pytree

import otmix_jax as om

pytestmark = pytest.mark.slow

inference = om.inference


def fitted(x, initial, sample_weight=None):
    problem = om.Problem(x, sample_weight)
    return om.solve(problem, initial, tolerance=1e-24, max_steps=5000)


@pytest.fixture(scope="module")
def pair():
    """Two overlapping components on the line: rows and their fit."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=120), rng.normal(size=80) * 0.6 + 3.0])[:, None]
    return x, fitted(x, start(x, 2))


def log_density(theta, x):
    """Log-density of two components in natural parameters (weight, means, variances)."""
    weight, means, variances = theta[0], theta[1:3], theta[3:5]
    density = scipy.stats.norm.pdf(x, means, np.sqrt(variances)) @ [weight, 1 - weight]
    return np.log(density)


def natural(mixture):
    matrices = mixture.components.matrices()[:, 0, 0]
    return jnp.concatenate([mixture.weights[:1], mixture.components.mean[:, 0], matrices])


def central(f, theta, h=1e-4):
    basis = np.eye(len(theta)) * h
    return np.stack([(f(theta + e) - f(theta - e)) / (2 * h) for e in basis], axis=-1)


def test_one_gaussian_has_the_closed_form():
    """Var(mean) = S / n, Var(S_ij) = (S_ii S_jj + S_ij^2) / n; robust: fourth moments."""
    rng = np.random.default_rng(0)
    n = 90
    x = rng.normal(size=(n, 2)) @ [[1.0, 0.5], [0.0, 0.7]]
    solution = fitted(x, start(x, 1))
    s = np.cov(x.T, bias=True)
    errors = om.standard_errors(solution, x)
    variance = np.diag(s)
    np.testing.assert_allclose(errors.means[0], np.sqrt(variance / n), rtol=1e-8)
    of_entries = np.sqrt((np.outer(variance, variance) + s**2) / n)
    np.testing.assert_allclose(errors.covariances[0], of_entries, rtol=1e-8)
    assert errors.weights[0] == 0
    robust = om.standard_errors(solution, x, robust=True)
    centred = x - x.mean(axis=0)
    products = centred[:, :, None] * centred[:, None, :]
    np.testing.assert_allclose(robust.means[0], np.sqrt(variance / n), rtol=1e-8)
    np.testing.assert_allclose(robust.covariances[0], products.std(axis=0) / np.sqrt(n), rtol=1e-8)


@pytest.mark.parametrize("robust", [False, True])
def test_two_gaussians_against_brute_force(pair, robust):
    """Information and sandwich in natural parameters, from differences of scipy's densities."""
    x, solution = pair
    theta, n = np.asarray(natural(solution.mixture)), len(x)

    def scores(t):
        return central(lambda u: log_density(u, x), t)

    information = -central(lambda t: scores(t).sum(axis=0), theta)
    expected = np.linalg.inv(information)
    if robust:
        s = scores(theta)
        expected = expected @ (s.T @ s) @ expected
    covariance = inference.parameter_covariance(solution.mixture, x, robust=robust)
    estimate = covariance.delta(natural)
    np.testing.assert_allclose(estimate.covariance, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(estimate.standard_error, np.sqrt(np.diag(expected)), rtol=1e-4)
    errors = om.standard_errors(solution, x, robust=robust)
    got = [errors.weights[0], *errors.means[:, 0], *errors.covariances[:, 0, 0]]
    np.testing.assert_allclose(got, estimate.standard_error, rtol=1e-10)
    assert n == 200


def test_counts_are_repeated_rows(pair):
    x, solution = pair
    counts = np.random.default_rng(0).integers(0, 3, size=len(x)).astype(float)
    with_nan = np.where(counts[:, None] > 0, x, np.nan)
    repeated = np.repeat(x, counts.astype(int), axis=0)
    for robust in (False, True):
        by_count = om.standard_errors(solution, with_nan, counts, robust=robust)
        by_row = om.standard_errors(solution, repeated, robust=robust)
        for a, b in zip(jax.tree.leaves(by_count), jax.tree.leaves(by_row), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_scores_are_the_rows_of_the_gradient(pair):
    """Across tiles too: they average to zero at the answer, each is a derivative of log p."""
    x, solution = pair
    many = np.tile(x, (7, 1))
    rows = np.asarray(inference.scores(solution.mixture, many))
    assert rows.shape == (1400, 6)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-10)
    origin = solution.mixture
    flat, unravel = ravel_pytree(origin.unconstrained(origin))

    def densities(z):
        return np.asarray(origin.constrain(unravel(jnp.asarray(z))).log_prob(x))

    np.testing.assert_allclose(rows[-200:], central(densities, np.asarray(flat)), atol=1e-7)


def test_frozen_proportions_leave_less_to_estimate(pair):
    """With the weight known, the information loses its row and column."""
    x, solution = pair
    theta = np.asarray(natural(solution.mixture))

    def total(t):
        return log_density(np.append(theta[0], t), x).sum()

    information = -central(lambda t: central(total, t), theta[1:])
    expected = np.sqrt(np.diag(np.linalg.inv(information)))
    errors = om.standard_errors(solution, x, learn_weights=False)
    got = [*errors.means[:, 0], *errors.covariances[:, 0, 0]]
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert not np.any(errors.weights)


def test_where_there_are_none_they_are_nan(pair):
    x, solution = pair
    one = fitted(x, start(x, 1)).mixture
    twice = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), one.components)
    merged = om.Mixture.from_weights(jnp.array([0.5, 0.5]), twice)
    covariance = inference.parameter_covariance(merged, x)
    assert np.isnan(covariance.matrix).all()
    assert covariance.condition_number > 1e7
    components = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, leaf[:1]]), solution.mixture.components
    )
    absent = om.Mixture(jnp.append(solution.mixture.log_weights, -jnp.inf), components)
    errors = om.standard_errors(om.solve(om.Problem(x), absent, max_steps=0), x)
    expected = om.standard_errors(solution, x)
    np.testing.assert_allclose(errors.means[:2], expected.means, rtol=1e-9)
    np.testing.assert_allclose(errors.weights[:2], expected.weights, rtol=1e-9)
    for last in (errors.weights[2], errors.means[2, 0], errors.covariances[2, 0, 0]):
        assert np.isnan(last)


def test_ellipses():
    """The outline lies where the quadratic form is the chi-squared quantile."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2)) @ [[1.0, 0.9], [0.0, 0.4]]
    mixture = fitted(x, start(x, 1)).mixture
    ellipses = inference.confidence_ellipses(inference.parameter_covariance(mixture, x), 0.9)
    offset = ellipses.outline(7)[0] - x.mean(axis=0)
    form = np.einsum("nd,de,ne->n", offset, np.linalg.inv(np.cov(x.T, bias=True) / 80), offset)
    np.testing.assert_allclose(form, scipy.stats.chi2.ppf(0.9, 2), rtol=1e-8)
    levels = jnp.array([0.01, 0.5, 0.95, 0.9999])
    for degrees in (1, 40):
        ours = jax.vmap(inference.ellipses.chi_squared_quantile, (0, None))(levels, degrees)
        np.testing.assert_allclose(ours, scipy.stats.chi2.ppf(levels, degrees), rtol=1e-9)


TRUTH = om.Mixture.from_weights(
    jnp.array([0.35, 0.65]),
    om.families.Gaussian(
        jnp.array([[0.0, 0.0], [3.0, 1.0]]),
        om.families.Full.from_matrices(
            jnp.array([[[1.0, 0.3], [0.3, 0.6]], [[0.5, -0.1], [-0.1, 0.9]]])
        ),
    ),
)


def numbers(mixture):
    """Every parameter, entries of the covariances once."""
    matrices = mixture.components.matrices()
    upper = matrices[:, *np.triu_indices(2)]
    return jnp.concatenate([mixture.weights[:1], mixture.components.mean.ravel(), upper.ravel()])


@pytest.mark.nightly
def test_they_agree_with_a_parametric_bootstrap():
    """500 fits at once. The spread of 500 draws is itself known to about 3 %."""
    n = 1500
    x = TRUTH.sample(jax.random.key(0), n)
    mixture = fitted(x, TRUTH).mixture
    batch = inference.parametric_bootstrap(jax.random.key(1), mixture, n, 500)
    assert not np.any(batch.status)
    spread = np.asarray(jax.vmap(numbers)(batch.mixture)).std(axis=0)
    expected = inference.parameter_covariance(mixture, x).delta(numbers).standard_error
    np.testing.assert_allclose(spread, expected, rtol=0.10)


@pytest.mark.nightly
def test_intervals_cover_the_truth():
    """95 % intervals of 500 replications: all parameters together between 92 and 97 %."""
    n = 600

    def one(key):
        x = TRUTH.sample(key, n)
        solution = om.solve(om.Problem(x), TRUTH, tolerance=1e-12, history_size=1)
        estimates = [
            inference.parameter_covariance(solution.mixture, x, robust=robust).delta(numbers)
            for robust in (False, True)
        ]
        return jnp.stack(
            [jnp.abs(e.value - numbers(TRUTH)) <= 1.959964 * e.standard_error for e in estimates]
        )

    covered = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 500)))
    assert np.all((covered.mean(axis=(0, 2)) > 0.92) & (covered.mean(axis=(0, 2)) < 0.97))
    # One parameter's share has a standard deviation of 1 %.
    assert np.all((covered.mean(axis=0) > 0.90) & (covered.mean(axis=0) < 0.98))
