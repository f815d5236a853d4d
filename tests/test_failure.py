"""Failure is a status inside jit and a sentence at the host edge; nothing finite is lost."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_mixture, start, status

import otmix_jax as om

SOLVERS = [om.solvers.EM(), om.solvers.Gradient(optax.lbfgs())]


def is_finite(mixture):
    components = jax.tree.leaves(mixture.components)
    return (
        all(np.isfinite(leaf).all() for leaf in components)
        and not np.isnan(mixture.log_weights).any()
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_cell_is_a_status(blobs, solver, bad):
    x = blobs.copy()
    x[7, 1] = bad
    initial = start(x)
    assert is_finite(initial)
    solution = om.solve(om.Problem(x), initial, solver)
    assert status(solution) == "NON_FINITE"
    assert int(solution.n_steps) == 0
    assert_same_mixture(solution.mixture, initial)


def test_a_weight_that_is_not_a_number_is_a_status(blobs):
    weight = np.ones(len(blobs))
    weight[3] = np.nan
    assert status(om.solve(om.Problem(blobs, weight), start(blobs))) == "NON_FINITE"


def test_a_component_on_one_row_collapses(structure):
    """Without a ridge: the last regular parameters come back."""
    x = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), [[100.0, 100.0]]])
    labels = jnp.append(jnp.zeros(30, int), 1)
    initial = om.initializers.from_labels(om.Problem(x), labels, 2, covariance=structure)
    solution = om.solve(om.Problem(x), initial, max_steps=500)
    assert is_finite(solution.mixture)
    assert np.isfinite(solution.value)
    assert status(solution) == ("CONVERGED" if structure == "tied" else "COLLAPSED")


@pytest.mark.slow
def test_collinear_columns_collapse_without_a_ridge_and_not_with_one():
    line = np.random.default_rng(0).normal(size=(50, 1))
    x = np.hstack([line, 2 * line])
    with pytest.raises(om.FitError, match=r"COLLAPSED.*ridge") as caught:
        om.fit(x, 2, key=0, goal=om.Goal(ridge=0.0))
    assert is_finite(caught.value.solution.mixture)
    # by the gap it runs on until the second component holds nothing
    short = {"starts": om.Starts(n_init=8), "limits": om.Limits(tolerance=1e-8)}
    again = om.fit(x, 2, key=0, goal=om.Goal(ridge=1e-6), solver=om.solvers.EM(), **short)
    assert status(again) == "CONVERGED"


@pytest.mark.parametrize("k", [1, 3])
def test_identical_rows_stay_finite(k):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", om.ConvergenceWarning)
        solution = om.fit(np.ones((20, 2)), k, key=0)
    assert is_finite(solution.mixture)
    assert status(solution) == "COLLAPSED"


def test_an_empty_component_is_a_status_and_a_warning(blobs):
    components = start(blobs, 2).components
    initial = om.Mixture.from_weights(jnp.array([1.0, 0.0]), components)
    solution = om.solve(om.Problem(blobs), initial)
    assert status(solution) == "EMPTY_COMPONENT"
    assert is_finite(solution.mixture)
    assert float(solution.mixture.weights[1]) == 0
    with pytest.warns(om.ConvergenceWarning, match=r"EMPTY_COMPONENT.*n_components"):
        om.fit(np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0), 3, key=0)


def test_a_start_out_of_reach_stays_finite(blobs):
    components = start(blobs, 2).components
    for far in (1e6, 1e300):
        moved = om.families.Gaussian(
            components.mean + jnp.array([[0.0], [far]]), components.covariance
        )
        solution = om.solve(om.Problem(blobs), om.Mixture(jnp.log(jnp.array([0.5, 0.5])), moved))
        assert status(solution) == "EMPTY_COMPONENT"
        assert is_finite(solution.mixture)


def test_a_step_that_is_too_long_keeps_the_last_finite_mixture(blobs):
    solution = om.solve(om.Problem(blobs), start(blobs), om.solvers.Gradient(optax.sgd(1e9)))
    assert status(solution) == "NON_FINITE"
    assert is_finite(solution.mixture)
    np.testing.assert_allclose(
        solution.value, om.negative_log_likelihood(solution.mixture, blobs), rtol=1e-12
    )


def test_max_steps_is_a_warning(faithful):
    with pytest.warns(om.ConvergenceWarning, match=r"MAX_STEPS after 3 steps.*raise max_steps"):
        om.fit(faithful, 3, key=0, limits=om.Limits(max_steps=3))


BAD = {
    "nan": (lambda x: np.where(np.arange(len(x))[:, None] == 4, np.nan, x), {}, r"row 4, column 0"),
    "inf": (lambda x: np.where(x == x[9, 1], np.inf, x), {}, r"infinite cells"),
    "one dimension": (lambda x: x[:, 0], {}, r"x\[:, None\]"),
    "three dimensions": (lambda x: x[None], {}, r"two dimensions"),
    "no rows": (lambda x: x[:0], {}, r"empty"),
    "no columns": (lambda x: x[:, :0], {}, r"empty"),
    "ragged": (lambda x: [[1.0], [1.0, 2.0]], {}, r"ragged"),
    "strings": (lambda x: x.astype(str), {}, r"real numbers"),
    "complex": (lambda x: x + 1j, {}, r"real numbers"),
    "none": (lambda x: None, {}, r"real numbers"),
    "K > n": (lambda x: x[:5], {"n_components": 6}, r"exceeds the 5 rows"),
    "K > rows present": (
        lambda x: x[:5],
        {"sample_weight": [1, 1, 0, 0, 0]},
        r"exceeds the 2 rows",
    ),
    "K = 0": (lambda x: x, {"n_components": 0}, r"n_components must be >= 1"),
    "K = -1": (lambda x: x, {"n_components": -1}, r"n_components must be >= 1"),
    "K = 2.0": (lambda x: x, {"n_components": 2.0}, r"must be an integer"),
    "K = True": (lambda x: x, {"n_components": True}, r"must be an integer"),
    "K = '2'": (lambda x: x, {"n_components": "2"}, r"must be an integer"),
    "weights short": (lambda x: x, {"sample_weight": np.ones(3)}, r"60 numbers, one per row"),
    "weights 2-D": (lambda x: x, {"sample_weight": np.ones((60, 1))}, r"60 numbers"),
    "weights < 0": (lambda x: x, {"sample_weight": -np.ones(60)}, r"row 0"),
    "weights nan": (lambda x: x, {"sample_weight": np.full(60, np.nan)}, r"finite and >= 0"),
    "weights zero": (lambda x: x, {"sample_weight": np.zeros(60)}, r"zero for every row"),
    "n_init": (lambda x: x, {"starts": om.Starts(n_init=0)}, r"n_init must be >= 1"),
    "max_steps": (lambda x: x, {"limits": om.Limits(max_steps=-1)}, r"max_steps must be >= 0"),
    "tolerance": (
        lambda x: x,
        {"limits": om.Limits(tolerance=float("nan"))},
        r"tolerance must be a finite",
    ),
    "ridge": (lambda x: x, {"goal": om.Goal(ridge=-1.0)}, r"ridge must be a finite"),
    "covariance": (lambda x: x, {"covariance": "fill"}, r"'full', 'tied', 'diagonal', 'spherical'"),
}


@pytest.mark.parametrize("case", BAD)
def test_fit_says_what_is_wrong(blobs, case):
    change, options, message = BAD[case]
    as_users_call_it = inspect.unwrap(om.fit)  # without the suite's own type checks
    with pytest.raises(ValueError, match=message):
        as_users_call_it(change(blobs), **{"n_components": 3, "key": 0, **options})


def test_fit_sends_tracers_to_solve(blobs):
    with pytest.raises(TypeError, match=r"use otmix_jax\.solve"):
        jax.jit(lambda x: om.fit(x, 2, key=0).value)(blobs)


def test_shapes_raise_at_trace_time(blobs):
    initial = start(blobs)
    for problem in (
        om.Problem(blobs[:, :1]),
        om.Problem(blobs[:, 0]),
        om.Problem(blobs, np.ones(3)),
    ):
        with pytest.raises(ValueError, match="columns, the mixture 2|two dimensions|60 numbers"):
            om.solve(problem, initial)


def test_inputs_are_not_changed(blobs):
    before, weight = blobs.copy(), np.arange(len(blobs), dtype=float)
    x = blobs.copy()
    x.flags.writeable = weight.flags.writeable = False
    om.fit(x, 2, key=0, sample_weight=weight, starts=om.Starts(n_init=1))
    np.testing.assert_array_equal(x, before)


def test_every_status_has_a_remedy():
    for value in om.Status:
        assert bool(value.remedy) == (value != om.Status.CONVERGED)
    assert sorted(om.Status) == list(om.Status)
    assert om.Status.STALLED.healthy
    assert not om.Status.EMPTY_COMPONENT.healthy
