"""Proportions on a fixed dictionary, against SciPy, CVXPY, mixsqp and the conditions by hand."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import status
from scipy.optimize import minimize, nnls
from scipy.stats import norm, poisson

import otmix_jax as om
from otmix_jax.core.tree import replace
from otmix_jax.engine import Engine, Reference, Tiled, rows_of
from otmix_jax.infinite import Dictionary, optimal_weights, weigh
from otmix_jax.infinite.quadratic import nonnegative_quadratic

REFERENCE = Path(__file__).parent / "data" / "reference"
ENTRIES = json.loads((REFERENCE / "reference.json").read_text())

best = jax.jit(optimal_weights)
inside = jax.jit(nonnegative_quadratic)


def equal(n):
    return np.full(n, 1 / n)


def loss(weights, table, a):
    """F by NumPy alone."""
    with np.errstate(divide="ignore"):
        return -np.sum(a * np.logaddexp.reduce(table + np.log(weights), axis=1))


def multipliers(weights, table, a):
    """D by NumPy alone."""
    shifted = np.exp(table - table.max(axis=1, keepdims=True))
    return (a / (shifted @ weights)) @ shifted


def assert_optimal(found, table, a, tolerance=1e-9):
    """The conditions of Karush, Kuhn and Tucker, and what the answer says of itself."""
    weights = np.asarray(found.weights)
    d = multipliers(weights, table, a)
    assert status(found) == "CONVERGED"
    assert np.all(weights >= 0)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert d.max() <= 1 + 1.01 * tolerance
    assert np.all(weights * np.abs(d - 1) <= 2 * tolerance)
    np.testing.assert_allclose(found.value, loss(weights, table, a), rtol=1e-13)
    np.testing.assert_allclose(found.gap, np.log(d.max()), atol=1e-12)
    np.testing.assert_allclose(np.exp(found.log_multipliers), d, atol=1e-10)


def normals(n=40, k=12, seed=0):
    """Log-densities of overlapping normals on a grid."""
    x = np.random.default_rng(seed).normal(size=n) * 2
    return norm.logpdf(x[:, None], np.linspace(-5, 5, k))


def tables():
    """Small dictionaries [40, 12] of every kind: of one shape, so compiled once."""
    rng = np.random.default_rng(1)
    twice = np.tile(normals(k=6), 2)
    wins = rng.normal(size=(40, 12))
    wins[:, 3] += 30
    sparse = np.where(rng.random((40, 12)) < 0.7, -np.inf, rng.normal(size=(40, 12)))
    sparse[:, 0] = np.where(np.isinf(sparse).all(axis=1), 0.0, sparse[:, 0])
    padded = normals()
    padded[:, 5:] = -np.inf
    return {
        "overlapping": normals(),
        "columns of nothing": padded,
        "noise": rng.normal(size=(40, 12)),
        "columns twice": twice,
        "one column wins": wins,
        "out of reach": sparse,
        "far apart": 1e3 * rng.normal(size=(40, 12)),
        "next to 0": normals() - 1e4,
    }


@pytest.mark.parametrize("name", tables())
def test_it_is_the_optimum(name):
    table, a = tables()[name], equal(40)
    found = best(table, a)
    assert_optimal(found, table, a)
    if name not in ("far apart", "columns of nothing"):
        # a solver that knows nothing of mixtures, from the middle
        start = equal(12)
        there = minimize(
            loss, start, (table, a), method="SLSQP", bounds=[(1e-12, 1)] * 12,
            jac=lambda w, t, a: -multipliers(w, t, a),
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        assert float(found.value) <= there.fun + 1e-10
        assert float(found.value) >= there.fun - 1e-5


def test_against_a_conic_solver():
    cvxpy = pytest.importorskip("cvxpy")
    table = normals(200, 30)
    w = cvxpy.Variable(30, nonneg=True)
    value = -cvxpy.sum(cvxpy.log(np.exp(table) @ w)) / 200
    problem = cvxpy.Problem(cvxpy.Minimize(value), [cvxpy.sum(w) == 1])
    problem.solve(solver="CLARABEL")
    found = best(table, equal(200))
    np.testing.assert_allclose(found.value, problem.value, atol=1e-7)
    np.testing.assert_allclose(found.weights, w.value, atol=2e-3)


def test_the_orthant_alone():
    """The inner program against active sets: nnls of a factor, with columns nearly the same."""
    rng = np.random.default_rng(0)
    for m, near in ((5, 1.0), (20, 1e-3), (49, 1e-2)):
        factor = np.abs(rng.normal(size=(60, 1)) + near * rng.normal(size=(60, m)))
        matrix, linear = factor.T @ factor, factor.T @ np.abs(rng.normal(size=60))
        found = np.asarray(inside(jnp.asarray(matrix), jnp.asarray(linear), jnp.ones(m)))
        slack = matrix @ found - linear
        scale = np.abs(linear).max()
        assert np.all(found >= 0)
        assert slack.min() >= -1e-9 * scale
        assert np.abs(slack * found).max() <= 1e-9 * scale
        there = nnls(factor, np.linalg.lstsq(factor.T, linear)[0])[0]
        reached = [0.5 * u @ matrix @ u - linear @ u for u in (found, there)]
        assert reached[0] <= reached[1] + 1e-9 * scale


def test_mixsqp_on_candy():
    """mixsqp's value on Boehning's counts, weighted rows, 400 columns that hardly differ."""
    candy = np.loadtxt(REFERENCE / "candy.csv", delimiter=",", skiprows=1)
    entry = ENTRIES["npmle_poisson_candy"]
    table = poisson.logpmf(candy[:, :1], np.arange(1, 401) * 0.05)
    found = om.proportions(log_likelihood=table, sample_weight=candy[:, 1])
    a = candy[:, 1] / candy[:, 1].sum()
    assert_optimal(found, table, a)
    assert -candy[:, 1].sum() * float(found.value) == pytest.approx(entry["loglik"], abs=1e-6)
    assert int(found.n_passes) <= 8
    components = om.families.Poisson(jnp.arange(1, 401)[:, None] * 0.05)
    same = om.proportions(components, candy[:, :1], sample_weight=candy[:, 1])
    np.testing.assert_allclose(same.value, found.value, rtol=1e-12)
    np.testing.assert_allclose(same.mixture.log_prob(candy[:, :1]) @ a, -found.value, rtol=1e-12)


def test_mixsqp_on_its_own_benchmark():
    """mixsqp stops .24 nats short; its weights have the value that it reports."""
    entry = ENTRIES["mixsqp_sim20000x100"]
    x = np.loadtxt(REFERENCE / "mixsqp_x.csv.gz", skiprows=1)
    table = norm.logpdf(x[:, None], 0, np.sqrt(1 + np.asarray(entry["sd"]) ** 2))
    table -= table.max(axis=1, keepdims=True)
    theirs = np.zeros(100)
    theirs[np.asarray(entry["nonzero"]) - 1] = entry["polished_parameters"]["weights"]
    a = equal(len(x))
    assert -len(x) * loss(theirs, table, a) == pytest.approx(entry["loglik"], abs=1e-5)
    found = best(table, a)
    assert_optimal(found, table, a)
    assert int(found.n_passes) <= 8
    proven = entry["certified_optimum"]
    reached = -len(x) * float(found.value)
    assert proven["loglik"] <= reached <= proven["loglik"] + proven["gap"]
    assert reached == pytest.approx(-12260.7689365, abs=1e-6)


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_the_gap_bounds_what_is_lost(passes):
    """F - inf F <= log max D wherever it stops, and a pass never raises F."""
    table, a = normals(60, 80, seed=3), equal(60)
    early, late = best(table, a, None, 1e-9, passes), best(table, a)
    assert status(early) in ("MAX_STEPS", "CONVERGED")
    assert int(early.n_passes) <= passes
    lost = float(early.value - late.value)
    assert 0 <= lost <= float(early.gap)
    if passes > 1:
        before = best(table, a, None, 1e-9, passes - 1)
        assert early.value <= before.value


def test_a_support_wider_than_the_working_set():
    """120 groups that overlap, each with weight: more than any working set holds."""
    rng = np.random.default_rng(0)
    place = 2.5 * np.arange(120)
    x = place[rng.choice(120, 1500, p=rng.dirichlet(np.full(120, 2.0)))] + rng.normal(size=1500)
    order = rng.permutation(120)  # no order of the columns helps
    table = norm.logpdf(x[:, None], place[order])
    found = best(table, equal(1500))
    assert_optimal(found, table, equal(1500))
    assert np.sum(np.asarray(found.weights) > 0) > 60
    assert int(found.n_passes) <= 12


@pytest.mark.parametrize(("n", "k", "spread"), [(7, 1, 1), (5, 60, 1), (1, 9, 1), (120, 60, 1e4)])
def test_narrow_short_and_far_apart(n, k, spread):
    table = spread * np.random.default_rng(2).normal(size=(n, k))
    assert_optimal(best(table, equal(n)), table, equal(n))


def test_weights_are_repeated_rows_and_absent_rows_hold_anything():
    table, rng = normals(), np.random.default_rng(0)
    count = rng.integers(0, 4, size=40)
    a = count / count.sum()
    repeated = np.repeat(table, count, axis=0)
    found = best(table, a)
    there = best(repeated, equal(len(repeated)))
    np.testing.assert_allclose(found.value, there.value, rtol=1e-12)
    np.testing.assert_allclose(found.weights, there.weights, atol=1e-6)
    for holds in (np.nan, np.inf, -np.inf):
        odd = np.where(count[:, None] == 0, holds, table)
        np.testing.assert_allclose(best(odd, a).weights, found.weights, atol=1e-6)
        same = om.proportions(log_likelihood=odd, sample_weight=count)
        np.testing.assert_allclose(same.value, found.value, rtol=1e-12)


def test_a_constant_per_row_moves_nothing():
    table, a = normals(), equal(40)
    shift = 100 * np.random.default_rng(0).normal(size=(40, 1))
    one, other = best(table, a), best(table + shift, a)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)
    np.testing.assert_allclose(other.value, one.value - shift.mean(), rtol=1e-12)


def test_a_batch_is_one_by_one():
    batch = np.stack([normals(seed=seed) for seed in range(3)])
    a = np.stack([np.random.default_rng(seed).dirichlet(np.ones(40)) for seed in range(3)])
    together = jax.jit(jax.vmap(optimal_weights))(batch, a)
    for i in range(3):
        alone = best(batch[i], a[i])
        np.testing.assert_allclose(together.value[i], alone.value, rtol=1e-12)
        np.testing.assert_allclose(together.weights[i], alone.weights, atol=1e-6)


@jax.jit
def _all_of(table, a):
    found = optimal_weights(table, a, None, 1e-13)
    return found.weights, found.value, found.gap


@pytest.mark.slow
def test_derivatives_are_those_of_differences():
    """In likelihoods and row weights, where a few of the columns have weight."""
    table, rng = normals(40, 5, seed=4), np.random.default_rng(0)
    a = rng.dirichlet(np.full(40, 5.0))
    table_dot, a_dot = rng.normal(size=(40, 5)), rng.normal(size=40) / 40
    a_dot -= a_dot.mean()
    _, dots = jax.jvp(_all_of, (table, a), (table_dot, a_dot))
    step = 1e-5
    up, down = (_all_of(table + s * table_dot, a + s * a_dot) for s in (step, -step))
    support = np.asarray(up[0]) > 0
    assert 1 < support.sum() < 5
    assert np.all(support == (np.asarray(down[0]) > 0))
    for dot, high, low in zip(dots[:2], up[:2], down[:2], strict=True):
        np.testing.assert_allclose(dot, (high - low) / (2 * step), atol=2e-7)
    # reverse mode is the transpose
    _, pull = jax.vjp(_all_of, table, a)
    by = rng.normal(size=5), rng.normal(), 0.0
    back = pull(tuple(map(jnp.asarray, by)))
    pairs = np.sum(back[0] * table_dot) + np.sum(back[1] * a_dot)
    np.testing.assert_allclose(pairs, by[0] @ dots[0] + by[1] * dots[1], rtol=1e-9)
    # the envelope: the value's is minus the plan
    plan = a[:, None] * np.exp(table) * np.asarray(up[0])
    plan /= np.sum(np.exp(table) * np.asarray(up[0]), axis=1, keepdims=True)
    gradient = jax.grad(lambda t: _all_of(t, a)[1])(jnp.asarray(table))
    np.testing.assert_allclose(gradient, -plan, atol=1e-6)


def test_equal_columns_have_finite_derivatives():
    table = np.repeat(normals(40, 5, seed=4), 2, axis=1)
    found = jax.grad(lambda t: jnp.sum(_all_of(t, equal(40))[0][::2] ** 2))(jnp.asarray(table))
    assert np.all(np.isfinite(found))


def test_derivatives_go_through_components():
    """In the means of a dictionary, by way of its tiles."""
    x = np.random.default_rng(4).normal(size=(40, 1)) * 2
    a = equal(40)
    engine = Engine(Reference, Tiled(16))

    @jax.jit
    def weights(mean):
        spread = om.families.Spherical(jnp.ones(3))
        components = om.families.Gaussian(mean[:, None], spread)
        rows = rows_of(jnp.asarray(x), jnp.asarray(a))
        return weigh(Dictionary(rows, components, engine), None, 1e-13).weights

    mean, moved = jnp.array([-2.0, 0.3, 2.0]), jnp.array([0.3, -1.0, 0.5])
    _, dot = jax.jvp(weights, (mean,), (moved,))
    difference = (weights(mean + 1e-5 * moved) - weights(mean - 1e-5 * moved)) / 2e-5
    np.testing.assert_allclose(dot, difference, atol=1e-7)


@pytest.mark.slow
def test_components_are_read_tile_by_tile():
    """The same as their matrix, which the tiles never hold; and the value is that of transport."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 2)) * [2, 1]
    mean = np.stack(np.meshgrid(np.linspace(-4, 4, 9), np.linspace(-2, 2, 5)), -1).reshape(-1, 2)
    components = om.families.Gaussian(jnp.asarray(mean), om.families.Spherical(jnp.ones(45)))
    weight = rng.random(700)
    found = om.proportions(components, x, sample_weight=weight)
    table, a = -np.asarray(components.cost(jnp.asarray(x))), weight / weight.sum()
    assert_optimal(found, table, a)
    rows = rows_of(jnp.asarray(x), jnp.asarray(a))
    tiled = weigh(Dictionary(rows, components, Engine(Reference, Tiled(64))))
    np.testing.assert_allclose(tiled.value, found.value, rtol=1e-12)
    plan = om.plan(found.mixture, x, sample_weight=weight)
    np.testing.assert_allclose(plan.value, found.value, rtol=1e-10)
    np.testing.assert_allclose(plan.column_marginal, found.weights, atol=1e-9)


def test_single_precision_says_how_far_it_goes():
    table = normals(400, 60, seed=5).astype(np.float32)
    exact = best(table.astype(np.float64), equal(400))
    found = om.proportions(log_likelihood=table)
    assert found.weights.dtype == found.value.dtype == jnp.float32
    assert status(found) == "CONVERGED"
    assert float(found.gap) <= 1e-4
    assert abs(float(found.value) - float(exact.value)) <= 1e-5
    with pytest.warns(om.ConvergenceWarning, match="STALLED.*float64"):
        beyond = om.proportions(log_likelihood=table, tolerance=1e-9)
    assert float(beyond.gap) <= 1e-4


def test_what_is_refused():
    table = normals()
    components = om.families.Poisson(jnp.array([[1.0], [2.0]]))
    lost = table.copy()
    lost[7] = -np.inf
    assert status(best(lost, equal(40))) == "NON_FINITE"
    with pytest.raises(ValueError, match="row 7"):
        om.proportions(log_likelihood=lost)
    lost[7, 3] = np.nan
    assert status(best(lost, equal(40))) == "NON_FINITE"
    with pytest.raises(ValueError, match="row 7, column 3"):
        om.proportions(log_likelihood=lost)
    with pytest.raises(ValueError, match="components and x, or log_likelihood"):
        om.proportions(components)
    with pytest.raises(ValueError, match="alone"):
        om.proportions(components, [[1.0]], log_likelihood=table)
    with pytest.raises(ValueError, match="n, K"):
        om.proportions(log_likelihood=table[0])
    with pytest.raises(ValueError, match="row 1"):
        om.proportions(components, [[1.0], [-2.0]])
    with pytest.raises(ValueError, match="40 numbers"):
        om.proportions(log_likelihood=table, sample_weight=[1.0])
    with pytest.raises(TypeError, match="components must be"):
        om.proportions(table, table)
    with pytest.raises(TypeError, match="no components"):
        _ = om.proportions(log_likelihood=table).mixture
    with pytest.raises(TypeError, match="optimal_weights"):
        jax.jit(lambda t: om.proportions(log_likelihood=t))(table)
    with pytest.warns(om.ConvergenceWarning, match="MAX_STEPS.*max_passes"):
        om.proportions(log_likelihood=table, max_passes=1)


def test_a_start_is_used_and_zeros_in_it_are_no_trap():
    table, a = normals(), equal(40)
    cold = best(table, a)
    warm = best(table, a, cold.weights)
    assert int(warm.n_passes) == 1
    trapped = replace(cold, weights=jnp.eye(12)[0]).weights
    np.testing.assert_allclose(best(table, a, trapped).value, cold.value, rtol=1e-12)
