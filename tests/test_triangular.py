"""Factors and inverses in array operations, of widths that are written out and others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

import otmix_jax as om
from otmix_jax.core.triangular import UNROLLED, inverse_triangle, regular_cholesky

WIDTHS = [1, UNROLLED, UNROLLED + 1, 33]


def matrices(d, count=3):
    """Positive definite, and not well conditioned."""
    half = np.random.default_rng(d).normal(size=(count, d, d))
    return jnp.asarray(half @ half.swapaxes(1, 2) + 0.1 * np.eye(d))


@pytest.mark.parametrize("d", WIDTHS)
def test_factors_and_inverses_equal_scipys(d):
    given = matrices(d)
    factor = jax.jit(regular_cholesky)(given)
    inverse = jax.jit(inverse_triangle)(factor)
    for one, mine, back in zip(given, factor, inverse, strict=True):
        np.testing.assert_allclose(mine, scipy.linalg.cholesky(one, lower=True), atol=1e-12 * d)
        expected = scipy.linalg.solve_triangular(mine, np.eye(d), lower=True)
        np.testing.assert_allclose(back, expected, atol=1e-12 * np.abs(expected).max())
    assert not np.triu(factor, 1).any()
    assert not np.triu(inverse, 1).any()


@pytest.mark.slow
@pytest.mark.parametrize("d", [UNROLLED, UNROLLED + 1])
def test_derivatives(d):
    """To second order, of several at once."""
    given = matrices(d, 2)
    factor = regular_cholesky(given)
    of_symmetric = jax.jit(lambda m: regular_cholesky(0.5 * (m + m.mT)))
    check_grads(of_symmetric, (given,), 2, atol=1e-5, rtol=1e-5)
    of_lower = jax.jit(lambda f: inverse_triangle(jnp.tril(f)))
    check_grads(of_lower, (factor,), 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("d", WIDTHS)
def test_a_singular_matrix_gives_nan_and_spares_the_others(d):
    given = matrices(d).at[1].set(0)
    factor = regular_cholesky(given)
    assert np.isnan(np.tril(factor[1])[np.tril_indices(d)]).all()
    assert np.isfinite(factor[jnp.array([0, 2])]).all()


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_no_fit_calls_lapack(covariance):
    """Two batched calls at a time block each other forever on two cores (jaxlib 0.10)."""
    x = np.random.default_rng(0).normal(size=(600, UNROLLED + 2))
    problem = om.Problem(x)
    start = om.initializers.kmeans_plus_plus(
        jax.random.key(0), problem, n_components=3, covariance=covariance
    )
    program = jax.jit(om.solve).lower(problem, start).as_text()
    assert "lapack" in jax.jit(jnp.linalg.cholesky).lower(np.eye(3)).as_text()
    assert "lapack" not in program


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_wide_fits_end(covariance):
    """Many wide components at once, as they hung."""
    x = np.random.default_rng(0).normal(size=(2000, 40))
    ridge = om.priors.Ridge.of(x, np.full(2000, 1 / 2000), 1e-2)  # 125 rows for each
    problem = om.Problem(x, prior=ridge)
    start = om.initializers.random_rows(
        jax.random.key(0), problem, n_components=16, covariance=covariance
    )
    solution = om.solve(problem, start, max_steps=30, tolerance=0.0)
    assert int(solution.n_steps) == 30
    assert np.isfinite(solution.value)
