"""What must not matter: units, origin, orientation, the order of rows and of components."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_mixture, parameters, start

import otmix_jax as om

TURN = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])


def solve_mapped(x, initial, matrix, shift):
    """Solves the mapped rows from the mapped start; returns it mapped back."""
    weights, means, matrices = parameters(initial)
    structure = type(initial.components.covariance)
    mapped = om.Mixture.from_weights(
        weights,
        om.families.Gaussian(
            jnp.asarray(means @ matrix.T + shift),
            structure.from_matrices(jnp.asarray(matrix @ matrices @ matrix.T)),
        ),
    )
    solution = om.solve(om.Problem(x @ matrix.T + shift), mapped, max_steps=40, tolerance=0.0)
    weights, means, matrices = parameters(solution.mixture)
    inverse = np.linalg.inv(matrix)
    back = weights, (means - shift) @ inverse.T, inverse @ matrices @ inverse.T
    return back, float(solution.value) - np.linalg.slogdet(matrix)[1]


MAPS = {
    "shift": (np.eye(2), np.array([1e3, -20.0]), {"full", "tied", "diagonal", "spherical"}),
    "scale": (1e-4 * np.eye(2), np.zeros(2), {"full", "tied", "diagonal", "spherical"}),
    "columns": (np.diag([1e-6, 1e6]), np.zeros(2), {"full", "tied", "diagonal"}),
    "rotation": (TURN, np.zeros(2), {"full", "tied", "spherical"}),
    "affine": (TURN @ np.diag([5.0, 0.1]), np.array([3.0, 1.0]), {"full", "tied"}),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_the_rows(blobs, structure, name):
    matrix, shift, allowed = MAPS[name]
    if structure not in allowed:
        return  # the structure is not closed under this map
    initial = start(blobs, covariance=structure)
    plain = om.solve(om.Problem(blobs), initial, max_steps=40, tolerance=0.0)
    back, value = solve_mapped(blobs, initial, matrix, shift)
    for ours, theirs in zip(back, parameters(plain.mixture), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(value, plain.value, rtol=1e-10)


def test_order_of_rows(blobs, structure):
    order = np.random.default_rng(0).permutation(len(blobs))
    initial = start(blobs, covariance=structure)
    a = om.solve(om.Problem(blobs), initial, max_steps=40)
    b = om.solve(om.Problem(blobs[order]), initial, max_steps=40)
    assert_same_mixture(a.mixture, b.mixture, rtol=1e-9, atol=1e-9)


def test_order_of_components(blobs, structure):
    initial = start(blobs, covariance=structure)
    weights, means, matrices = parameters(initial)
    order = np.array([2, 0, 1])
    covariance = type(initial.components.covariance).from_matrices(jnp.asarray(matrices[order]))
    turned = om.Mixture.from_weights(
        weights[order], om.families.Gaussian(jnp.asarray(means[order]), covariance)
    )
    a = om.solve(om.Problem(blobs), initial, max_steps=40)
    b = om.solve(om.Problem(blobs), turned, max_steps=40)
    for ours, theirs in zip(parameters(a.mixture), parameters(b.mixture), strict=True):
        np.testing.assert_allclose(ours[order], theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1e6, np.array([1e-3, 60.0])])
def test_fit_gives_the_same_clusters_in_any_unit(faithful, unit):
    """With the default ridge, through seeding and restarts: micrometres or metres."""
    a = om.fit(faithful, 3, key=0, covariance="tied")
    b = om.fit(faithful * unit, 3, key=0, covariance="tied")
    np.testing.assert_array_equal(a.mixture.predict(faithful), b.mixture.predict(faithful * unit))
    np.testing.assert_allclose(a.mixture.weights, b.mixture.weights, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-200, 1e155])
def test_fit_stands_where_squares_leave_the_floats(faithful, unit):
    a = om.fit(faithful, 2, key=0, covariance="spherical")
    b = om.fit(faithful * unit, 2, key=0, covariance="spherical")
    np.testing.assert_allclose(b.value, a.value + 2 * np.log(unit), rtol=1e-9)
    np.testing.assert_allclose(
        b.mixture.components.mean / unit, a.mixture.components.mean, rtol=1e-6
    )


def test_fit_keeps_its_digits_far_from_the_origin(faithful):
    a = om.fit(faithful, 2, key=0)
    b = om.fit(faithful + 1e8, 2, key=0)
    np.testing.assert_allclose(a.value, b.value, atol=1e-7)
    np.testing.assert_array_equal(a.mixture.predict(faithful), b.mixture.predict(faithful + 1e8))
