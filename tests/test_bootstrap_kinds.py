"""Standard errors by four bootstraps, and the bootstrap of the likelihood ratio."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import start

import otmix_jax as om
from otmix_jax.families import Categorical, Poisson

REFERENCE = json.loads((Path(__file__).parent / "data/reference/reference.json").read_text())
NAMES = {"resample": "bs", "weighted": "wlbs", "parametric": "pb", "jackknife": "jk"}


def one_gaussian(n=40):
    x = np.random.default_rng(0).normal(size=(n, 2)) @ [[1.0, 0.5], [0.0, 0.7]]
    return x, om.solve(om.Problem(x), start(x, 1), tolerance=1e-20)


@pytest.mark.slow
def test_the_jackknife_of_one_gaussian_has_a_closed_form():
    """Of a mean it is s / sqrt n; of the covariance, the spread of those without a row."""
    x, solution = one_gaussian()
    errors = om.inference.bootstrap(solution, x, kind="jackknife")
    n = len(x)
    np.testing.assert_allclose(errors.means[0], x.std(axis=0, ddof=1) / np.sqrt(n), rtol=1e-9)
    without = [np.cov(np.delete(x, i, axis=0).T, bias=True) for i in range(n)]
    expected = np.sqrt((n - 1) * np.var(without, axis=0))
    np.testing.assert_allclose(errors.covariances[0], expected, rtol=1e-9)
    assert errors.weights[0] == 0
    assert errors.healthy.shape == (n,)


@pytest.mark.slow
def test_counts_are_repeated_rows():
    x, solution = one_gaussian()
    counts = np.arange(40) % 3
    own = om.inference.bootstrap(solution, x, counts, kind="jackknife")
    repeated = om.inference.bootstrap(solution, np.repeat(x, counts, axis=0), kind="jackknife")
    np.testing.assert_allclose(own.means, repeated.means, rtol=1e-9)
    np.testing.assert_allclose(own.covariances, repeated.covariances, rtol=1e-9)


@pytest.mark.parametrize("kind", ["resample", "weighted", "parametric"])
def test_the_spread_of_a_mean(kind):
    """s / sqrt n, within 4 standard errors of a spread of 400; Dirichlet: times n / (n + 1)."""
    x, solution = one_gaussian()
    counts = np.where(np.arange(40) < 10, 0, 1)
    found = om.inference.bootstrap(solution, x, counts, kind=kind, n_replications=400, key=1)
    kept = x[10:]
    spread = kept.std(axis=0)
    if kind == "parametric":
        spread = np.sqrt(np.diagonal(solution.mixture.components.matrices()[0]))
    np.testing.assert_allclose(found.means[0], spread / np.sqrt(30), rtol=4 / np.sqrt(800))
    again = om.inference.bootstrap(solution, x, counts, kind=kind, n_replications=400, key=1)
    np.testing.assert_array_equal(found.means, again.means)


@pytest.mark.slow
def test_any_family_and_what_is_refused():
    counts = om.Mixture.from_weights(jnp.ones(2), Poisson(jnp.array([[2.0], [20.0]])))
    x = np.asarray(counts.sample(jax.random.key(0), 60))
    solution = om.fit(x, 2, family="poisson", key=0)
    errors = om.inference.bootstrap(solution, x, kind="weighted", n_replications=64)
    expected = om.standard_errors(solution, x)
    rate, weights = errors.leaves.components.rate, errors.weights
    np.testing.assert_allclose(rate, expected.leaves.components.rate, rtol=0.4)
    np.testing.assert_allclose(weights, expected.weights, rtol=0.4)
    assert errors.covariances is None
    with pytest.raises(ValueError, match="kind"):
        om.inference.bootstrap(solution, x, kind="wild")
    with pytest.raises(ValueError, match="sample_weight"):
        om.inference.bootstrap(solution, x, np.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_mclusts_standard_errors(faithful, kind):
    """999 replications each: the spread is known to 2.2 %, the ratio of two to 3.2 %.

    mclust's jackknife is of fits that stop early: its covariances are up to 3.5 % off those of
    converged ones, its means 2 %, its proportions .1 %.
    """
    solution = om.fit(faithful, 2, key=0, limits=om.Limits(gap=1e-9))
    errors = om.inference.bootstrap(solution, faithful, kind=kind, key=0)
    entry = REFERENCE[f"boot_faithful_VVV2_{NAMES[kind]}"]
    order = np.argsort(-np.asarray(solution.mixture.weights))
    within = 0.002 if kind == "jackknife" else 0.1
    np.testing.assert_allclose(errors.weights[order], entry["pro"], rtol=within)
    within = 0.04 if kind == "jackknife" else 0.1
    np.testing.assert_allclose(errors.means[order], entry["mean"], rtol=within)
    np.testing.assert_allclose(errors.covariances[order], entry["sigma"], rtol=within)
    assert np.all(errors.healthy)


@pytest.mark.slow
def test_the_jackknife_against_fits_one_by_one(faithful):
    x = faithful[::4]
    solution = om.fit(x, 2, key=0, limits=om.Limits(gap=1e-12))
    errors = om.inference.bootstrap(solution, x, kind="jackknife", tolerance=1e-16)
    run = jax.jit(lambda w: om.solve(om.Problem(x, w), solution.mixture, tolerance=1e-16).mixture)
    fits = [run(jnp.ones(len(x)).at[i].set(0)) for i in range(len(x))]
    means = np.stack([fit.components.mean for fit in fits])
    np.testing.assert_allclose(errors.means, np.sqrt((len(x) - 1) * means.var(axis=0)), rtol=1e-5)


@pytest.mark.nightly
def test_how_many_components(faithful):
    """mclust's statistics: 319.07, p = .005, for one or two; 6.13, p = .58, for two or three.

    The second rests on a poor optimum of three components (log-likelihood -1127.2): the best one
    is 12.8 nats higher, with which the ratio is 31.65.
    """
    entry = REFERENCE["lrt_faithful_VVV"]["statistic"]
    one = om.inference.bootstrap_lrt(faithful, 1, key=0, n_replications=19)
    np.testing.assert_allclose(one.statistic, entry[0], atol=0.01)
    assert one.p_value == 1 / 20
    two = om.inference.bootstrap_lrt(faithful, 2, key=0, n_replications=59)
    assert two.statistic > entry[1]
    assert two.statistic >= 2 * (-1114.4398729 + 1130.26396018) - 0.01
    assert two.p_value < 0.1


@pytest.mark.nightly
def test_p_values_under_the_null_hypothesis():
    """One component is enough for rows of one: p is uniform; and items have the test too."""
    x = np.random.default_rng(5).normal(size=(60, 1))
    test = om.inference.bootstrap_lrt(x, 1, key=0, n_replications=39, covariance="tied")
    assert 0.05 < test.p_value <= 1
    assert test.replicates.shape == (39,)
    # never below 0: one of two components may have any weight
    assert np.all(test.replicates > -1e-2)
    p = np.array([[[0.9, 0.1]] * 4, [[0.2, 0.8]] * 4])
    truth = om.Mixture.from_weights(jnp.ones(2), Categorical(jnp.asarray(p)))
    items = np.asarray(truth.sample(jax.random.key(0), 300))
    family = Categorical.of(levels=2)
    test = om.inference.bootstrap_lrt(items, 1, key=0, n_replications=19, family=family)
    assert test.p_value == 0.05
