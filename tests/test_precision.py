"""float32 in, float32 out, and right."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import status

import otmix_jax as om


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal", "spherical"])
def test_float32_reaches_the_float64_value(faithful, covariance):
    wide = om.fit(faithful, 2, key=0, covariance=covariance)
    narrow = om.fit(faithful.astype(np.float32), 2, key=0, covariance=covariance)
    assert narrow.mixture.components.mean.dtype == jnp.float32
    assert narrow.value.dtype == narrow.history.dtype == jnp.float32
    assert status(narrow) == "CONVERGED"
    assert abs(float(narrow.value) - float(wide.value)) < 1e-4


@pytest.mark.parametrize("k", [2, 3])
def test_a_shift_of_1e4_does_not_break_float32(faithful, k):
    """The shifted rows have a rounding of 5e-4 minutes; the fit must lose no more than that."""
    shifted = (faithful + 1e4).astype(np.float32)
    wide = om.fit(shifted.astype(np.float64), k, key=0, covariance="tied")
    narrow = om.fit(shifted, k, key=0, covariance="tied")
    assert status(narrow) == "CONVERGED"
    assert abs(float(narrow.value) - float(wide.value)) < 1e-4
    truth = om.fit(faithful, k, key=0, covariance="tied")
    np.testing.assert_allclose(
        np.sort(narrow.mixture.weights), np.sort(truth.mixture.weights), atol=5e-3
    )
    # The mixture in the rows' own coordinates, where a mean carries the rounding of 1e4.
    loss = float(om.negative_log_likelihood(narrow.mixture, shifted))
    assert abs(loss - float(wide.value)) < 1e-4


def test_solve_keeps_float32_too(faithful):
    """The pure path does not centre; its moments are taken about the current means."""
    import jax

    shifted = jnp.asarray(faithful + 1e4, jnp.float32)
    problem = om.Problem(shifted)
    initial = om.initializers.kmeans_plus_plus(jax.random.key(0), problem, n_components=2)
    solution = om.solve(problem, initial)
    wide = om.fit(np.asarray(shifted, np.float64), 2, key=0)
    assert solution.value.dtype == jnp.float32
    assert abs(float(solution.value) - float(wide.value)) < 1e-3


def test_integers_and_other_floats(faithful):
    counts = np.round(faithful * 10).astype(np.int64)
    a, b = om.fit(counts, 2, key=0), om.fit(counts.astype(float), 2, key=0)
    assert float(a.value) == float(b.value)
    half = faithful.astype(np.float16)
    assert (
        abs(float(om.fit(half, 2, key=0).value - om.fit(half.astype(float), 2, key=0).value)) == 0
    )
