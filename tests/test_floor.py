"""With defaults a healthy answer is the maximum of the likelihood; spurious ones are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import status
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

import otmix_jax as om
from otmix_jax.core.triangular import regular_cholesky

PLAIN = om.Goal(ridge=0.0)


def by_mean(mixture):
    """Weights, means and covariances, components by their first mean."""
    order = np.argsort(np.asarray(mixture.components.mean[:, 0]))
    parts = mixture.weights, mixture.components.mean, mixture.components.matrices()
    return [np.asarray(part)[order] for part in parts]


def two_groups(distance, d=1, n=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * n, d))
    x[n:] += distance
    return x


def test_two_values_far_apart_keep_their_own_variance():
    u = np.array([-1.0, 1.0] * 50)
    weights, means, variances = by_mean(om.fit(np.r_[u, u + 10000][:, None], 2, key=0).mixture)
    np.testing.assert_allclose(variances.ravel(), 1, rtol=1e-9)
    np.testing.assert_allclose(means.ravel(), [0, 10000], atol=1e-9)


@pytest.mark.parametrize("distance", [10.0, 1e4, 1e8])
def test_the_default_is_maximum_likelihood_at_any_separation(distance, structure):
    x = two_groups(distance, d=2)
    ours, plain = (
        by_mean(om.fit(x, 2, key=0, covariance=structure, goal=g).mixture)
        for g in (om.Goal(), PLAIN)
    )
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * distance * 1e-7)
    if structure == "full":
        rows = x[:200]
        np.testing.assert_allclose(ours[2][0], np.cov(rows.T, ddof=0), rtol=1e-5, atol=1e-6)


def test_the_choice_is_that_of_maximum_likelihood_far_apart():
    """BIC of K = 2 against scikit-learn's without its regularisation."""
    x = two_groups(1000.0)
    choice = om.select(x, [1, 2, 3], covariance="full", key=0)
    assert choice.best_candidate.n_components == 2
    peer = GaussianMixture(2, reg_covar=0, random_state=0, tol=1e-10).fit(x)
    np.testing.assert_allclose(choice.best_candidate.bic, peer.bic(x), rtol=1e-9)


@pytest.mark.parametrize("outlier", [-9999.0, 1e7, -1e12])
def test_one_far_cell_changes_no_other_group(outlier):
    x = two_groups(6.0, d=2, n=125)
    whole = np.r_[x, [[outlier, 0.5]]]
    initial = om.initializers.from_labels(om.Problem(x), np.repeat([0, 1], 125), 2)
    plain = om.fit(x, 2, key=0, starts=om.Starts(initial=initial), goal=PLAIN)
    far = om.Mixture(
        jnp.log(jnp.array([0.5, 0.49, 0.01])),
        om.families.Gaussian(
            jnp.r_[initial.components.mean, jnp.array([[outlier, 0.5]])],
            om.families.Full(jnp.tile(initial.components.covariance.factor[:1], (3, 1, 1))),
        ),
    )
    with pytest.warns(om.ConvergenceWarning, match=r"COLLAPSED.*Component 2"):
        solution = om.fit(whole, 3, key=0, starts=om.Starts(initial=far))
    np.testing.assert_allclose(
        solution.mixture.components.matrices()[:2],
        plain.mixture.components.matrices(),
        rtol=1e-6,
    )


def test_a_spike_is_named_and_another_start_preferred():
    """Iris, full, K = 3: petal widths repeat, and a component on 29 equal ones would win."""
    x = load_iris().data
    for key in range(3):
        solution = om.fit(x, 3, key=key)
        assert status(solution) == "CONVERGED"
        np.testing.assert_allclose(-150 * float(solution.value), -180.19, atol=0.02)
    labels = np.where(x[:, 3] == 0.2, 0, np.where(x[:, 3] < 1.75, 1, 2))
    spike = om.initializers.from_labels(om.Problem(x), labels, 3)
    # the labels alone make a spike or none, as rounding has it
    factor = np.array(spike.components.covariance.factor)
    factor[0, 3] = [0, 0, 0, 1e-20]
    narrow = om.families.Gaussian(spike.components.mean, om.families.Full(jnp.asarray(factor)))
    spike = om.Mixture(spike.log_weights, narrow)
    with pytest.warns(om.ConvergenceWarning, match=r"COLLAPSED.*Component 0\. .*fewer components"):
        solution = om.fit(x, 3, key=0, starts=om.Starts(initial=spike))
    assert np.asarray(solution.certificate.spurious).tolist() == [True, False, False]
    assert np.isfinite(solution.value)


def test_iris_stays_at_two_components():
    best = om.select(load_iris().data, range(1, 5), covariance="full", key=0).best_candidate
    assert best.n_components == 2
    np.testing.assert_allclose(best.bic, 574.02, atol=0.01)


@pytest.mark.slow
def test_three_parallel_cigars_stay_three():
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [np.c_[rng.normal(0, 10, 150), rng.normal(3 * j, 0.3, 150)] for j in (0, 1, 2)]
    )
    assert (
        om.select(x, range(1, 6), covariance=("full", "tied"), key=0).best_candidate.n_components
        == 3
    )


def test_a_few_rows_close_together_are_no_component():
    """Three of three hundred normal rows within 1e-4 of each other: regular, and by chance."""
    x = np.random.default_rng(3).normal(size=(300, 1))
    x = np.sort(x, axis=0)
    gaps = x[2:, 0] - x[:-2, 0]
    first = int(np.argmin(gaps))
    labels = np.zeros(300, int)
    labels[first : first + 3] = 1
    initial = om.initializers.from_labels(om.Problem(x), labels, 2)
    with pytest.warns(om.ConvergenceWarning, match="COLLAPSED"):
        om.fit(x, 2, key=0, starts=om.Starts(initial=initial))


def test_a_peak_of_many_rows_is_a_component():
    """As narrow, on a broad background: forty rows are not there by chance."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=260), rng.normal(0.3, 1e-4, 40)][:, None]
    labels = (np.arange(300) >= 260).astype(int)
    initial = om.initializers.from_labels(om.Problem(x), labels, 2)
    solution = om.fit(x, 2, key=0, starts=om.Starts(initial=initial))
    assert status(solution) == "CONVERGED"
    sd = np.sqrt(by_mean(solution.mixture)[2].ravel())
    np.testing.assert_allclose(min(sd), x[260:].std(), rtol=0.05)


@pytest.mark.parametrize("d", [2, 9])
def test_the_lifted_factor_is_the_best_one_above_the_floor(d):
    """Among factors whose pivots are not below it: no other has a lower expected cost."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(d, d - 1))
    scatter = half @ half.T / d
    floor = jnp.full(d, 1e-3)
    factor = np.asarray(regular_cholesky(jnp.asarray(scatter), floor))
    assert (np.diag(factor) ** 2 >= 1e-3 * (1 - 1e-12)).all()

    def cost(lower):
        covariance = lower @ lower.T
        return 0.5 * (
            np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, scatter))
        )

    least = cost(factor)
    for _ in range(200):
        other = factor + 0.03 * np.tril(rng.normal(size=(d, d))) * rng.choice([0.01, 0.1, 1])
        np.fill_diagonal(other, np.maximum(np.abs(np.diag(other)), np.sqrt(1e-3)))
        assert cost(other) >= least - 1e-6
    regular = scatter + 0.1 * np.eye(d)
    np.testing.assert_allclose(
        regular_cholesky(jnp.asarray(regular), floor),
        np.linalg.cholesky(regular),
        rtol=1e-12,
        atol=1e-14,
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fewer_rows_than_columns_fit_with_a_warning(dtype):
    x = np.random.default_rng(0).normal(size=(20, 30)).astype(dtype)
    with pytest.warns(om.ConvergenceWarning, match=r"COLLAPSED.*20 rows in 30 columns: take diag"):
        solution = om.fit(x, 1, key=0)
    assert np.isfinite(solution.value)
    np.testing.assert_allclose(solution.mixture.components.mean[0], x.mean(0), atol=1e-5)
    assert int(solution.n_steps) < 200


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_on_the_floor_stops(dtype):
    x = np.random.default_rng(0).normal(size=(60, 24)).astype(dtype)
    with pytest.warns(om.ConvergenceWarning, match="COLLAPSED"):
        solution = om.fit(x, 4, key=0)
    assert int(solution.n_steps) <= 200


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_column_has_its_own_unit(dtype):
    """GHz beside pF: columns of 1e9 and 1e-12."""
    units = np.array([1e9, 1e-12])
    x = two_groups(8.0, d=2)
    plain = om.fit(x.astype(dtype), 2, key=0).mixture
    scaled = om.fit((x * units).astype(dtype), 2, key=0).mixture
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    order = [np.argsort(np.asarray(m.components.mean[:, 0])) for m in (plain, scaled)]
    sds = [
        np.sqrt(np.asarray(jnp.sum(m.components.covariance.factor**2, -1), np.float64))[o]
        for m, o in zip((plain, scaled), order, strict=True)
    ]
    np.testing.assert_allclose(sds[1] / units, sds[0], rtol=tolerance)


@pytest.mark.slow
def test_float32_says_where_it_cannot_hold_the_rows():
    """Unix time: the fit is right inside, its rounded means would contradict it."""
    x = 1.7e9 + two_groups(8.0)
    with jax.enable_x64(False):
        with pytest.raises(om.FitError, match=r"IMPRECISE.*Subtract an offset.*float64"):
            om.fit(x, 2, key=0)
        near = om.fit(x - 1.7e9, 2, key=0)
        with pytest.warns(om.ConvergenceWarning, match="1 IMPRECISE; the first is problem 1"):
            batch = om.fit_batch([x - 1.7e9, x], 2, key=0, starts=om.Starts(n_init=2))
        assert [om.Status(int(s)).name for s in batch.status] == ["CONVERGED", "IMPRECISE"]
    wide = om.fit(x, 2, key=0)
    np.testing.assert_allclose(wide.value, -wide.mixture.log_prob(x).mean(), rtol=1e-7)
    np.testing.assert_allclose(near.value, wide.value, rtol=1e-5)


def test_a_value_agrees_with_its_mixture_where_float32_holds_the_rows():
    x = (5e6 + 1e3 * two_groups(8.0)).astype(np.float64)
    with jax.enable_x64(False):
        solution = om.fit(x, 2, key=0)
        np.testing.assert_allclose(solution.value, -solution.mixture.log_prob(x).mean(), atol=1e-3)


def test_the_density_is_the_one_of_scipy(faithful):
    mixture = om.fit(faithful, 2, key=0).mixture
    density = sum(
        w * multivariate_normal(m, c).pdf(faithful)
        for w, m, c in zip(*by_mean(mixture), strict=True)
    )
    np.testing.assert_allclose(mixture.log_prob(faithful), np.log(density), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sizes_that_no_plan_meets_are_not_blamed_on_the_data(dtype):
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(60, 1)), rng.normal(1000, 1, (40, 1))].astype(dtype)
    sizes = om.Goal(coupling=om.couplings.Balanced(np.array([0.5, 0.5])))
    with pytest.raises(om.FitError, match=r"NON_FINITE.*prescribed sizes.*Penalized\(rho\)"):
        om.fit(x, 2, key=0, goal=sizes, starts=om.Starts(n_init=1))


def test_few_distinct_rows_are_counted():
    pairs = np.repeat([[0.0, 0.0], [1.0, 2.0]], 10, axis=0)
    with pytest.warns(om.ConvergenceWarning, match=r"2 distinct rows for 3 components"):
        om.fit(pairs, 3, key=0, starts=om.Starts(n_init=1))
    triangle = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]])
    with pytest.warns(om.ConvergenceWarning, match=r"COLLAPSED.*one point per component"):
        om.fit(triangle, 3, key=0, starts=om.Starts(n_init=1))


@pytest.mark.parametrize("d", [6, 12])
def test_what_lies_below_a_lifted_pivot_does_not_grow(d):
    """Rank two and noise above the rounding, as in sums of float32: no entry above its column's."""
    rng = np.random.default_rng(0)
    half, noise = rng.normal(size=(d, 2)), rng.normal(size=(d, d))
    matrix = half @ half.T + 1e-6 * (noise + noise.T)
    factor = np.asarray(regular_cholesky(jnp.asarray(matrix), jnp.full(d, 1e-12)))
    assert np.isfinite(factor).all()
    np.testing.assert_allclose((factor**2).sum(1), np.diag(matrix), rtol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_float32_converges_where_its_values_are_rounded(seed):
    """A value that rises by its own rounding is no rise: the run goes on by its steps."""
    rng = np.random.default_rng(seed)
    x = np.r_[rng.normal(size=(100, 3)), rng.normal(size=(80, 3)) * [1, 2, 3] + 2 * seed]
    solution = om.fit(x.astype(np.float32), 3, key=0, covariance="tied")
    assert status(solution) == "CONVERGED"
