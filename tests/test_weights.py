"""Sample weights: repetition and absence, exactly."""

import jax
import numpy as np
import pytest
from helpers import assert_same_mixture, start, status

import otmix_jax as om


@pytest.fixture
def counts(blobs):
    return np.random.default_rng(3).integers(0, 4, size=len(blobs))


def test_integer_weights_are_repetition(blobs, counts, structure):
    repeated = np.repeat(blobs, counts, axis=0)
    initial = start(repeated, covariance=structure)
    np.testing.assert_allclose(
        om.negative_log_likelihood(initial, blobs, counts.astype(float)),
        om.negative_log_likelihood(initial, repeated),
        rtol=1e-13,
    )
    for steps in (1, 300):
        a = om.solve(om.Problem(blobs, counts.astype(float)), initial, max_steps=steps)
        b = om.solve(om.Problem(repeated), initial, max_steps=steps)
        assert int(a.n_steps) == int(b.n_steps)
        assert_same_mixture(a.mixture, b.mixture, rtol=1e-9, atol=1e-9)


def test_integer_weights_are_repetition_in_fit(blobs, counts):
    """From the same key, through the random seeding as well, to the end of the runs."""
    options = {"starts": om.Starts(n_init=3), "limits": om.Limits(tolerance=1e-10)}
    a = om.fit(blobs, 3, key=0, sample_weight=counts, **options)
    b = om.fit(np.repeat(blobs, counts, axis=0), 3, key=0, **options)
    assert_same_mixture(a.mixture, b.mixture, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-12)


@pytest.mark.parametrize("starts", [om.Starts(), om.Starts(n_init=3)])
def test_integer_weights_are_repetition_up_to_the_gap(blobs, counts, starts):
    """By default runs stop by the gap of Kish's number of rows; a race draws other starts, too."""
    a = om.fit(blobs, 3, key=0, sample_weight=counts, starts=starts)
    b = om.fit(np.repeat(blobs, counts, axis=0), 3, key=0, starts=starts)
    assert status(a) == status(b) == "CONVERGED"
    assert abs(counts.sum() * (a.objective - b.objective)) < om.Limits().gap


def test_weight_zero_is_absence_in_fit(blobs):
    keep = np.arange(len(blobs)) % 5 > 0
    a = om.fit(blobs, 2, key=1, sample_weight=keep.astype(float), starts=om.Starts(n_init=3))
    b = om.fit(blobs[keep], 2, key=1, starts=om.Starts(n_init=3))
    assert_same_mixture(a.mixture, b.mixture, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-300, 1e-5, 1e300])
def test_only_ratios_of_weights_matter(blobs, counts, scale):
    weight = counts / 3.0
    initial = start(blobs)
    a = om.solve(om.Problem(blobs, weight), initial, max_steps=20)
    b = om.solve(om.Problem(blobs, weight * scale), initial, max_steps=20)
    assert_same_mixture(a.mixture, b.mixture, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_a_fully_masked_lane(blobs):
    """No row at all: a status for that lane, finite parameters, and nothing for the others."""
    weights = np.stack([np.ones(len(blobs)), np.zeros(len(blobs))])

    def one(weight):
        problem = om.Problem(blobs, weight)
        initial = om.initializers.kmeans_plus_plus(jax.random.key(0), problem, n_components=2)
        return om.solve(problem, initial)

    batch = jax.vmap(one)(weights)
    full = one(weights[0])
    assert om.Status(int(batch.status[1])) == om.Status.EMPTY_COMPONENT
    assert np.isfinite(batch.mixture.components.mean).all()
    assert status(full) == "CONVERGED"
    np.testing.assert_allclose(batch.value[0], full.value, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-50, 1e300])
def test_only_ratios_of_weights_matter_in_float32_too(blobs, scale):
    x = blobs.astype(np.float32)
    weight = 1.0 + np.arange(len(x))
    a = om.fit(x, 2, key=0, starts=om.Starts(n_init=2), sample_weight=weight)
    b = om.fit(x, 2, key=0, starts=om.Starts(n_init=2), sample_weight=weight * scale)
    np.testing.assert_allclose(a.value, b.value, rtol=1e-5)


def test_one_row_with_weight_is_one_row(blobs):
    weight = np.zeros(len(blobs))
    weight[7] = 2.0
    solution = om.fit(
        blobs, 1, key=0, sample_weight=weight, covariance="spherical", goal=om.Goal(ridge=0.5)
    )
    np.testing.assert_allclose(solution.mixture.components.mean[0], blobs[7], rtol=1e-12)
