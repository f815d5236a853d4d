"""jit, vmap and retracing of `solve`; what a change of numbers must not compile anew."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import start

import otmix_jax as om
from otmix_jax.fitting.solving import _run

SOLVERS = [
    om.solvers.EM(),
    om.solvers.Gradient(optax.lbfgs()),
    om.solvers.Gradient(optax.adam(0.01)),
]
IDS = ["em", "lbfgs", "adam"]


@pytest.mark.parametrize("solver", SOLVERS, ids=IDS)
def test_jit_equals_plain(blobs, solver):
    problem, initial = om.Problem(blobs), start(blobs)
    plain = om.solve(problem, initial, solver, max_steps=30)
    jitted = jax.jit(om.solve)(problem, initial, solver, max_steps=30)
    chex.assert_trees_all_close(plain, jitted, rtol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS, ids=IDS)
def test_vmap_equals_a_loop(solver):
    """Lanes that need different numbers of steps, one of them broken, do not disturb each other."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 40, 2)) + 2 * rng.integers(0, 2, size=(5, 40, 1))
    x[3, 7, 0] = np.nan

    def one(rows, key):
        problem = om.Problem(rows)
        initial = om.initializers.kmeans_plus_plus(key, problem, n_components=2, covariance="tied")
        return om.solve(problem, initial, solver, tolerance=1e-3, max_steps=200)

    keys = jax.random.split(jax.random.key(0), 5)
    batch = jax.vmap(one)(x, keys)
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(one, jnp.asarray(x), keys))
    np.testing.assert_array_equal(batch.status, loop.status)
    np.testing.assert_array_equal(batch.n_steps, loop.n_steps)
    assert om.Status(int(batch.status[3])) == om.Status.NON_FINITE
    chex.assert_tree_all_finite(batch.mixture)
    assert len(set(np.asarray(batch.n_steps).tolist())) > 2
    chex.assert_trees_all_close(batch.mixture, loop.mixture, rtol=1e-9, atol=1e-9)
    chex.assert_trees_all_close(batch.history, loop.history, rtol=1e-9)


def test_a_batch_of_mixtures_can_be_read(blobs, structure):
    """Weights and covariance matrices keep the batch axis in front."""
    starts = [start(blobs, seed=s, covariance=structure) for s in range(4)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    for i, one in enumerate(starts):
        np.testing.assert_array_equal(batch.weights[i], one.weights)
        ours = batch.components.matrices()[i]
        np.testing.assert_allclose(ours, one.components.matrices(), rtol=1e-15)
    assert batch.n_parameters == starts[0].n_parameters


def test_new_numbers_compile_nothing_anew(blobs):
    jax.clear_caches()
    traced = jax.jit(chex.assert_max_traces(_run, n=1), static_argnums=7)
    initial = start(blobs)
    for x, tolerance, steps in [(blobs, 1e-8, 50), (blobs + 1, 1e-3, 7), (blobs * 2, 0.0, 900)]:
        solution = traced(
            om.Problem(x),
            initial,
            om.solvers.EM(),
            tolerance,
            steps,
            om.adjoints.Implicit(),
            None,
            100,
        )
        assert int(solution.n_steps) <= steps


def test_solve_and_fit_keep_their_programs(blobs):
    from otmix_jax.fitting.single import _best_of_starts
    from otmix_jax.fitting.solving import _solve

    initial = start(blobs)
    om.solve(om.Problem(blobs), initial)
    om.fit(blobs, 2, key=0, starts=om.Starts(n_init=2), limits=om.Limits(tolerance=1e-8))
    sizes = _solve._cache_size(), _best_of_starts._cache_size()
    om.solve(om.Problem(blobs + 1), initial, tolerance=1e-4, max_steps=11)
    om.fit(
        blobs * 3,
        2,
        key=1,
        starts=om.Starts(n_init=2),
        limits=om.Limits(tolerance=1e-5, max_steps=900),
    )
    assert (_solve._cache_size(), _best_of_starts._cache_size()) == sizes


def test_the_dtype_is_that_of_the_rows(blobs):
    for rows, start_dtype in [(jnp.float32, jnp.float64), (jnp.float64, jnp.float32)]:
        initial = jax.tree.map(lambda leaf, d=start_dtype: leaf.astype(d), start(blobs))
        for solver in SOLVERS[:2]:
            solution = om.solve(om.Problem(jnp.asarray(blobs, rows)), initial, solver, max_steps=3)
            floats = (solution.mixture, solution.value, solution.objective, solution.history)
            assert {leaf.dtype for leaf in jax.tree.leaves(floats)} == {jnp.dtype(rows)}


def test_tolerance_and_max_steps_can_be_traced(blobs):
    problem, initial = om.Problem(blobs), start(blobs)

    def steps(tolerance, limit):
        return om.solve(problem, initial, tolerance=tolerance, max_steps=limit).n_steps

    batch = jax.vmap(steps)(jnp.array([1e-2, 1e-8, 1e-8]), jnp.array([500, 500, 3]))
    assert batch[0] < batch[1]
    assert batch[2] == 3


def test_fit_is_the_best_of_its_starts(faithful):
    """The vmapped restarts, done one by one on the same rows."""
    fit = om.fit(
        faithful,
        3,
        covariance="tied",
        key=5,
        starts=om.Starts(n_init=4),
        goal=om.Goal(ridge=0.0),
        limits=om.Limits(tolerance=1e-12),
    )
    standard = faithful - faithful.mean(0)
    values = []
    for key in jax.random.split(jax.random.key(5), 4):
        problem = om.Problem(standard)
        initial = om.initializers.kmeans_plus_plus(key, problem, n_components=3, covariance="tied")
        values.append(float(om.solve(problem, initial, tolerance=1e-12).value))
    np.testing.assert_allclose(fit.value, min(values), rtol=1e-12)
    assert max(values) - min(values) > 1e-5, "the starts should differ, or the test shows nothing"
