"""Columns that say nothing decide nothing: not their presence, value, unit, number or place."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_mixture, status
from scipy.stats import multivariate_normal

import otmix_jax as om
from otmix_jax.families import Subspace, describe
from otmix_jax.fitting.edge import Goal
from otmix_jax.fitting.single import left_out

RNG = np.random.default_rng(0)
GROUPS = np.concatenate([RNG.normal(size=(150, 2)), RNG.normal(size=(150, 2)) + [8, 0]])
HOT = np.eye(3)[RNG.integers(0, 3, 300)]
GAUSSIAN = describe()
TABLES = {
    "constant": (np.c_[GROUPS, np.full(300, 7.0)], (0, 1)),
    "constant-with-rounding": (np.c_[np.full(300, 3.3), GROUPS], (1, 2)),
    "copy": (np.c_[GROUPS, GROUPS[:, 0]], (0, 1)),
    "copy-of-another-unit": (np.c_[GROUPS, 1e9 * GROUPS[:, 1] - 5], (0, 1)),
    "sum-to-one": (np.c_[GROUPS, 1 - GROUPS.sum(1)], (0, 1)),
    "sum-to-one-first": (np.c_[1 - GROUPS.sum(1), GROUPS], (1, 2)),
    "one-hot": (np.c_[GROUPS[:, :1], HOT, GROUPS[:, 1:]], (0, 4)),
    "all": (np.c_[np.full(300, -1e6), GROUPS, HOT[:, 0], GROUPS[:, 0] * 2], (1, 2)),
}


def informative(x, weights, family):
    """What `fit` finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return left_out(x, weights, Goal(), family)


def choose(x, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "column")
        return om.select(x, [1, 2, 3], key=0, starts=om.Starts(n_init=2), **options)


@pytest.fixture(scope="module")
def plain():
    """The choice without such columns."""
    return choose(GROUPS)


SLOW = {"constant-with-rounding", "copy-of-another-unit", "sum-to-one-first"}
NAMES = [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in TABLES]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_choice_is_the_one_without_the_column(plain, name):
    x, kept = TABLES[name]
    choice = choose(x)
    best, without = choice.best_candidate, plain.best_candidate
    assert (best.n_components, best.covariance) == (2, without.covariance)
    np.testing.assert_allclose(best.bic, without.bic, rtol=1e-9)
    for ours, theirs in zip(choice.candidates, plain.candidates, strict=True):
        np.testing.assert_allclose(ours.bic, theirs.bic, rtol=1e-6)
    mixture = choice.best.mixture
    np.testing.assert_array_equal(mixture.predict(x), plain.best.mixture.predict(GROUPS))
    columns = list(kept)
    np.testing.assert_allclose(
        mixture.components.mean[:, columns], plain.best.mixture.components.mean, atol=1e-8
    )
    np.testing.assert_allclose(
        mixture.components.matrices()[:, columns][:, :, columns],
        plain.best.mixture.components.matrices(),
        rtol=1e-6,
        atol=1e-8,
    )


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_kept(name, dtype):
    x, kept = TABLES[name]
    assert informative(x.astype(dtype), None, GAUSSIAN).kept == kept
    on_device = informative(jnp.asarray(x, dtype), None, GAUSSIAN)
    assert on_device.kept == kept


def test_columns_that_say_something_stay():
    """Far groups, an outlier, tight correlation, few rows, integers: no reason to leave any out."""
    noise = np.random.default_rng(0).normal(size=(300, 2))
    far = noise + 1e7 * (np.arange(300) < 150)[:, None]
    outlier = noise.copy()
    outlier[3] = -1e9
    tight = np.c_[noise[:, 0], noise[:, 0] + 1e-5 * noise[:, 1]]
    counts = np.random.default_rng(0).poisson(0.7, size=(300, 3)).astype(float)
    wide = np.random.default_rng(0).normal(size=(20, 30))
    for x in (noise, far, outlier, tight, counts, wide):
        assert informative(x, None, GAUSSIAN) is None
    assert informative(np.ones((30, 2)), None, GAUSSIAN) is None
    assert informative(noise, None, describe("poisson")) is None


def test_more_rows_than_the_sample_are_all_looked_at():
    """One cell in forty thousand speaks for its column."""
    x = np.c_[np.random.default_rng(0).normal(size=(40_001, 2)), np.full(40_001, 2.0)]
    assert informative(x, None, GAUSSIAN).kept == (0, 1)
    x[39_999, 2] = 3
    found = informative(x, None, GAUSSIAN)
    assert found is None or 2 not in found.reasons
    weight = np.ones(40_001)
    weight[39_999] = 0
    assert informative(x, weight, GAUSSIAN).kept == (0, 1)


def test_the_warning_names_the_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": GROUPS[:, 0], "flat": 1.0, "b": GROUPS[:, 1]})
    frame["sum"] = frame["a"] + frame["b"]
    with pytest.warns(
        UserWarning, match=r"column 'flat' is constant; column 'sum' follows from 0, 2"
    ):
        om.fit(frame, 2, key=0, starts=om.Starts(n_init=1))


@pytest.fixture(scope="module")
def answer():
    """A fit of two columns of five: a constant, a sum, two values."""
    x = np.c_[GROUPS, np.full(300, 7.0), GROUPS.sum(1), HOT[:, 0]]
    with pytest.warns(UserWarning, match="column 2 is constant"):
        return x, om.fit(x, 2, key=0)


def test_an_answer_has_all_columns(answer):
    x, solution = answer
    components = solution.mixture.components
    assert isinstance(components, Subspace)
    order = np.argsort(np.asarray(components.mean[:, 0]))
    for j, rows in zip(order, (x[:150], x[150:]), strict=True):
        np.testing.assert_allclose(components.mean[j, :4], rows[:, :4].mean(0), atol=0.02)
        np.testing.assert_allclose(
            components.matrices()[j, :4, :4], np.cov(rows[:, :4].T, ddof=0), atol=0.1
        )
    np.testing.assert_allclose(components.mean[:, 4], x[:, 4].mean())
    np.testing.assert_allclose(components.matrices()[:, 4, 4], x[:, 4].var(), rtol=1e-12)
    drawn = np.asarray(solution.mixture.sample(jax.random.key(0), 5000))
    np.testing.assert_allclose(drawn[:, 2], 7, rtol=1e-12)
    np.testing.assert_allclose(drawn[:, 3], drawn[:, 0] + drawn[:, 1], atol=1e-9)
    np.testing.assert_allclose(drawn.mean(0), x.mean(0), atol=0.3)
    np.testing.assert_allclose(drawn[:, 4].std(), x[:, 4].std(), rtol=0.05)


def test_densities_are_those_of_the_columns_kept(answer):
    x, solution = answer
    mixture = solution.mixture
    inner = mixture.components.inner
    density = sum(
        w * multivariate_normal(m, c).pdf(x[:, :2])
        for w, m, c in zip(mixture.weights, inner.mean, inner.matrices(), strict=True)
    )
    np.testing.assert_allclose(mixture.log_prob(x), np.log(density), rtol=1e-9)
    np.testing.assert_allclose(solution.value, -np.log(density).mean(), rtol=1e-10)
    np.testing.assert_allclose(om.negative_log_likelihood(mixture, x), solution.value, rtol=1e-10)
    np.testing.assert_allclose(om.plan(mixture, x).row_marginal, 1 / 300, rtol=1e-12)


def test_an_answer_goes_on(answer):
    """Standard errors, a warm start, a solve: with all columns, as without."""
    x, solution = answer
    errors = om.standard_errors(solution, x)
    alone = om.fit(GROUPS, 2, key=0)
    plain = om.standard_errors(alone, GROUPS)
    np.testing.assert_allclose(errors.covariances[:, :2, :2], plain.covariances, rtol=1e-5)
    assert solution.mixture.n_parameters == alone.mixture.n_parameters
    with pytest.warns(UserWarning, match="column 2 is constant"):
        again = om.fit(x, 2, key=0, starts=om.Starts(initial=solution.mixture))
    assert int(again.n_steps) <= 3
    assert_same_mixture(again.mixture, solution.mixture, rtol=1e-4, atol=1e-5)
    end = om.solve(om.Problem(x), solution.mixture)
    np.testing.assert_allclose(end.value, solution.value, rtol=1e-7)


@pytest.mark.slow
def test_a_batch_leaves_out_what_all_its_data_sets_do():
    x = TABLES["constant"][0]
    sets = [x[100:200], x[:280], np.c_[x[50:250, :2], np.full(200, -3.0)]]
    with pytest.warns(UserWarning, match="column 2 is constant"):
        batch = om.fit_batch(sets, 2, key=0, starts=om.Starts(n_init=2))
    assert batch.mixture.components.mean.shape == (3, 2, 3)
    np.testing.assert_allclose(batch.mixture.components.mean[:, :, 2], [[7, 7], [7, 7], [-3, -3]])
    for number, rows in enumerate(sets):
        with pytest.warns(UserWarning, match="column 2 is constant"):
            alone = om.fit(
                rows,
                2,
                key=jax.random.fold_in(jax.random.key(0), number),
                starts=om.Starts(n_init=2),
            )
        np.testing.assert_allclose(batch[number].value, alone.value, rtol=1e-9)
        assert_same_mixture(batch[number].mixture, alone.mixture, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["tied", "diagonal"])
def test_a_batch_starts_from_mixtures_of_all_columns(structure):
    """Each data set from its own: as `fit` does from the same one."""
    x = TABLES["constant"][0]
    sets, sds = [x, x * [1, 3, 1]], jnp.array([1.0, 1.0, 1.0])
    kind = om.families.STRUCTURES[structure]
    each = [
        om.Mixture.from_weights(
            jnp.ones(2),
            om.families.Gaussian(
                jnp.array([[0.0, 0.0, 7.0], [8.0, 0.0, 7.0]]),
                kind.from_matrices(jnp.tile(scale * jnp.diag(sds), (2, 1, 1))),
            ),
        )
        for scale in (1.0, 40.0)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    few = {"limits": om.Limits(max_steps=1), "key": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        batch = om.fit_batch(sets, 2, starts=om.Starts(initial=stacked), **few)
        for number, start in enumerate(each):
            alone = om.fit(sets[number], 2, starts=om.Starts(initial=start), **few)
            np.testing.assert_allclose(batch.value[number], alone.value, rtol=1e-9)


def test_a_ridge_keeps_every_column():
    x = TABLES["copy"][0]
    solution = om.fit(x, 2, key=0, goal=om.Goal(ridge=1e-6), starts=om.Starts(n_init=1))
    assert status(solution) == "CONVERGED"
    assert not isinstance(solution.mixture.components, Subspace)
