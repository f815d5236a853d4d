"""On an accelerator: `make gpu`. All but the first pass on a CPU too, where they say less."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import parameters, status

import otmix_jax as om
from otmix_jax.engine import Columns, Dense, Engine, Guarded, Linear, Reference, Tiled

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def rows():
    """[300k, 8], four overlapping groups."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300_000, 8))
    return x + 2 * rng.normal(size=(4, 8))[rng.integers(4, size=len(x))]


@pytest.fixture(scope="module")
def mixture(rows):
    """Away from the optimum, with covariances that differ."""
    rng = np.random.default_rng(1)
    factor = np.tril(0.3 * rng.normal(size=(4, 8, 8)), -1) + np.eye(8)
    components = om.families.Gaussian(jnp.asarray(rows[:4]), om.families.Full(jnp.asarray(factor)))
    return om.Mixture(jnp.log(jnp.full(4, 0.25)), components)


def narrow(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def test_the_default_device_is_an_accelerator():
    assert jax.default_backend() != "cpu"


@functools.partial(jax.jit, static_argnums=0)
def potentials(kernel, mixture, x):
    return kernel.of(Columns(mixture.log_weights), mixture.components).potential(x)


@pytest.mark.parametrize("kernel", [Linear, Reference], ids=["linear", "reference"])
def test_products_are_in_full_float32(rows, mixture, kernel):
    """TF32 keeps 10 bits: costs would be off by a thousandth, not by a millionth."""
    x = narrow(rows[:5000])
    single = narrow(mixture)
    double = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (single, x))
    precise = potentials(Reference, *double)
    f = potentials(kernel, single, x)
    assert f.dtype == jnp.float32
    np.testing.assert_allclose(f, precise, rtol=2e-5)


def test_a_step_is_that_of_numpy(rows, mixture):
    """One EM step in float32 against float64 formulas in NumPy."""
    x, start = np.asarray(rows[:50_000], np.float64), narrow(mixture)
    weights, means, covariances = (np.asarray(part, np.float64) for part in parameters(start))
    difference = x[:, None, :] - means
    squares = np.einsum("nkd,kde,nke->nk", difference, np.linalg.inv(covariances), difference)
    logits = np.log(weights) - 0.5 * (squares + np.linalg.slogdet(covariances)[1])
    plan = np.exp(logits - logits.max(axis=1, keepdims=True))
    plan /= plan.sum(axis=1, keepdims=True)
    mass = plan.sum(axis=0)
    solution = om.solve(om.Problem(narrow(x)), start, tolerance=0.0, max_steps=1)
    found = solution.mixture
    np.testing.assert_allclose(found.weights, mass / len(x), rtol=1e-5)
    expected = plan.T @ x / mass[:, None]
    np.testing.assert_allclose(found.components.mean, expected, atol=1e-5)
    difference = x[:, None, :] - expected
    scatter = np.einsum("nk,nkd,nke->kde", plan, difference, difference) / mass[:, None, None]
    np.testing.assert_allclose(found.components.matrices(), scatter, atol=2e-5)


def test_tiles_equal_all_rows_at_once(rows, mixture):
    """Value and gradient, by the kernel that is chosen for many rows."""
    x, start = narrow(rows), narrow(mixture)
    loss = jax.value_and_grad(om.negative_log_likelihood)
    value, slope = loss(start, x, engine=Engine(Guarded, Tiled(65_536)))
    same, expected = loss(start, x, engine=Engine(Linear, Dense()))
    np.testing.assert_allclose(value, same, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_fit_finds_the_reference_optimum(faithful):
    """Old Faithful, two full components: 1130.2640 nats in all."""
    solution = om.fit(faithful, 2, key=0, limits=om.Limits(tolerance=1e-12))
    assert status(solution) == "CONVERGED"
    loss = float(om.negative_log_likelihood(solution.mixture, faithful))
    assert abs(272 * loss - 1130.2640) < 1e-2
