"""Estimators: scikit-learn's own answers, its contract, its tools, and NumPy in and out."""

import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import sklearn.mixture as theirs
from scipy.stats import multivariate_normal, poisson
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import otmix_jax as om
import otmix_jax.sklearn as ours
from otmix_jax.sklearn import bayesian, gaussian

KINDS = ("full", "tied", "diag", "spherical")
STARTS = ("kmeans", "k-means++", "random", "random_from_data")
ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
LAWS = ("dirichlet_process", "dirichlet_distribution")
IRIS = load_iris().data
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def same(mine, other, arrays=ARRAYS, rtol=1e-9):
    """Attributes of one shape, dtype and value."""
    assert mine.n_iter_ == other.n_iter_
    assert mine.converged_ == other.converged_
    np.testing.assert_allclose(mine.lower_bound_, np.ravel(other.lower_bound_)[0], rtol=rtol)
    bounds = np.ravel(other.lower_bounds_)
    assert isinstance(mine.lower_bounds_, list)
    assert len(mine.lower_bounds_) == len(bounds)
    np.testing.assert_allclose(mine.lower_bounds_, bounds, rtol=max(rtol, 1e-8))
    for name in arrays:
        a, b = getattr(mine, name), getattr(other, name)
        assert type(a) is type(b), name
        assert np.shape(a) == np.shape(b), name
        assert a.dtype == b.dtype, name
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=rtol, err_msg=name)


# ---- scikit-learn's GaussianMixture ----


@quiet
@pytest.mark.parametrize("kind", KINDS)
def test_fit_is_scikit_learns(kind):
    for start in STARTS:
        told = dict(covariance_type=kind, init_params=start, random_state=1, n_init=2)
        mine, other = (module.GaussianMixture(3, **told).fit(IRIS) for module in (ours, theirs))
        same(mine, other)
        assert abs(mine.score(IRIS) - other.score(IRIS)) < 1e-12
        assert abs(mine.bic(IRIS) - other.bic(IRIS)) < 1e-9
        assert abs(mine.aic(IRIS) - other.aic(IRIS)) < 1e-9
        np.testing.assert_array_equal(mine.predict(IRIS), other.predict(IRIS))
        np.testing.assert_allclose(mine.predict_proba(IRIS), other.predict_proba(IRIS), atol=1e-10)
        for drawn, wanted in zip(mine.sample(5), other.sample(5), strict=True):
            np.testing.assert_allclose(drawn, wanted, atol=1e-8)


@quiet
def test_fit_is_scikit_learns_under_a_large_reg_covar(blobs):
    """Its likelihood falls on the way, by more than tol."""
    told = dict(reg_covar=3.0, random_state=0, precisions_init=[4 * np.eye(2)] * 2)
    mine, other = (module.GaussianMixture(2, **told).fit(blobs) for module in (ours, theirs))
    assert min(np.diff(other.lower_bounds_)) < -1e-3
    same(mine, other)


@quiet
def test_given_starts_and_few_steps(blobs):
    told = dict(weights_init=[0.2, 0.3, 0.5], means_init=blobs[:3], precisions_init=[np.eye(2)] * 3)
    for max_iter in (1, 3):
        mine, other = (
            module.GaussianMixture(3, max_iter=max_iter, random_state=0, **told).fit(blobs)
            for module in (ours, theirs)
        )
        same(mine, other)
    mine, other = (
        module.GaussianMixture(3, max_iter=0, random_state=0).fit(blobs)
        for module in (ours, theirs)
    )
    same(mine, other)
    with pytest.raises(ValueError, match="normalized"):
        ours.GaussianMixture(2, weights_init=[0.5, 0.6]).fit(blobs)
    with pytest.raises(ValueError, match="shape"):
        ours.GaussianMixture(2, means_init=blobs[:3]).fit(blobs)


@quiet
def test_warm_start(blobs):
    models = [
        module.GaussianMixture(2, warm_start=True, max_iter=2, random_state=0)
        for module in (ours, theirs)
    ]
    for _ in range(12):
        mine, other = (model.fit(blobs) for model in models)
        same(mine, other)
    assert mine.converged_
    assert mine.n_iter_ == 1


def test_warnings_errors_and_lines(blobs, capsys):
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        ours.GaussianMixture(2, max_iter=2, tol=1e-9, random_state=0).fit(blobs)
    with pytest.raises(NotFittedError):
        ours.GaussianMixture().predict(blobs)
    with pytest.raises(ValueError, match="reg_covar"):
        ours.GaussianMixture(2, reg_covar=0, random_state=0).fit(np.repeat(blobs[:2], 9, axis=0))
    for bad in (dict(solver="newton"), dict(epsilon=-1.0), dict(coupling="balanced"), dict(tol=-1)):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ours.GaussianMixture(2, **bad).fit(blobs)
    printed = []
    for module in (ours, theirs):
        model = module.GaussianMixture(2, verbose=1, verbose_interval=1, random_state=0)
        model.fit(blobs)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "Iteration" in printed[0]


@quiet
def test_weights_repeat_and_leave_out(blobs):
    counts = np.arange(len(blobs)) % 4
    repeated = np.repeat(blobs, counts, axis=0)
    told = dict(weights_init=[0.5, 0.5], means_init=blobs[[0, -1]], max_iter=500, tol=1e-10)
    for kind in KINDS:
        precision = dict(full=[np.eye(2)] * 2, tied=np.eye(2), diag=np.ones((2, 2)))
        told |= dict(covariance_type=kind, precisions_init=precision.get(kind, np.ones(2)))
        mine = ours.GaussianMixture(2, **told).fit(blobs, sample_weight=counts)
        other = theirs.GaussianMixture(2, **told).fit(repeated)
        same(mine, other)
        assert abs(mine.score(blobs, sample_weight=counts) - other.score(repeated)) < 1e-12
    labels = ours.GaussianMixture(2, **told).fit_predict(blobs, sample_weight=counts)
    np.testing.assert_array_equal(labels, mine.predict(blobs))
    for bad in (np.zeros(len(blobs)), -np.ones(len(blobs)), np.ones(3)):
        with pytest.raises(ValueError, match="sample_weight"):
            ours.GaussianMixture(2).fit(blobs, sample_weight=bad)


@pytest.mark.slow
def test_solvers_epsilon_and_couplings(blobs):
    told = dict(n_components=3, random_state=0, tol=1e-10, max_iter=2000)
    plain = ours.GaussianMixture(**told).fit(blobs)
    for solver in ("squarem", "quasi_newton", om.solvers.BalancedStart(om.solvers.EM(), steps=1)):
        fast = ours.GaussianMixture(solver=solver, **told).fit(blobs)
        assert abs(fast.lower_bound_ - plain.lower_bound_) < 1e-7
    hard = ours.GaussianMixture(epsilon=0, **told).fit(blobs)
    problem = om.Problem(blobs, epsilon=0)
    value = om.Objective.of(problem.checked()).value(mixture_of(hard))
    assert abs(float(value) + hard.lower_bound_) < 1e-5
    sizes = np.array([0.5, 0.3, 0.2])
    held = ours.GaussianMixture(coupling=om.couplings.Balanced(10 * sizes), **told).fit(blobs)
    np.testing.assert_allclose(held.weights_, sizes, rtol=1e-12)
    with pytest.raises(ValueError, match="epsilon=0"):
        ours.GaussianMixture(2, epsilon=0, coupling=om.couplings.Balanced()).fit(blobs)


def mixture_of(model):
    factor = jnp.linalg.cholesky(jnp.asarray(model.covariances_))
    components = om.families.Gaussian(jnp.asarray(model.means_), om.families.Full(factor))
    return om.Mixture.from_weights(model.weights_, components)


# ---- scikit-learn's BayesianGaussianMixture ----


PAIRS = [
    pytest.param(kind, law, marks=[pytest.mark.slow] * (i % 2 != j))
    for i, kind in enumerate(KINDS)
    for j, law in enumerate(LAWS)
]


@quiet
@pytest.mark.parametrize(("kind", "law"), PAIRS)
def test_variational_fit_is_scikit_learns(kind, law):
    extra = ("mean_precision_", "degrees_of_freedom_", "mean_prior_")
    told = dict(
        n_components=4, covariance_type=kind, weight_concentration_prior_type=law,
        init_params="random", random_state=1, reg_covar=1e-3,
    )  # fmt: skip
    mine, other = (module.BayesianGaussianMixture(**told).fit(IRIS) for module in (ours, theirs))
    same(mine, other, (*ARRAYS, *extra))
    for a, b in zip(mine.weight_concentration_, other.weight_concentration_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7)
    assert abs(mine.score(IRIS) - other.score(IRIS)) < 1e-10
    np.testing.assert_array_equal(mine.predict(IRIS), other.predict(IRIS))


@quiet
def test_variational_weights_count_rows(blobs):
    counts = np.arange(len(blobs)) % 3
    repeated = np.repeat(blobs, counts, axis=0)
    for kind in ("full", "spherical"):
        told = dict(n_components=1, covariance_type=kind)
        mine = ours.BayesianGaussianMixture(**told).fit(blobs, sample_weight=counts)
        other = theirs.BayesianGaussianMixture(**told).fit(repeated)
        for name in ("means_", "covariances_", "degrees_of_freedom_", "mean_prior_"):
            np.testing.assert_allclose(getattr(mine, name), getattr(other, name), rtol=1e-9)
        assert abs(mine.lower_bound_ - np.ravel(other.lower_bound_)[0]) < 1e-8


@quiet
def test_variational_warm_start_and_priors(blobs):
    told = dict(
        n_components=3, warm_start=True, max_iter=3, random_state=0, mean_precision_prior=0.5,
        weight_concentration_prior=2.0, mean_prior=[1.0, 0.0], degrees_of_freedom_prior=4.0,
        covariance_prior=[[2.0, 0.3], [0.3, 1.0]],
    )  # fmt: skip
    models = [module.BayesianGaussianMixture(**told) for module in (ours, theirs)]
    for _ in range(4):
        same(*(model.fit(blobs) for model in models))
    with pytest.raises(ValueError, match="degrees_of_freedom_prior"):
        ours.BayesianGaussianMixture(degrees_of_freedom_prior=0.5).fit(blobs)


# ---- mixtures of any family ----


def test_model_is_fit(faithful):
    model = ours.MixtureModel(2, random_state=0).fit(faithful)
    mixture = jax.tree.map(jnp.asarray, model.mixture_)
    components, means = mixture.components, np.asarray(mixture.components.mean)
    shapes = np.asarray(components.matrices())
    laws = [multivariate_normal(*each).pdf(faithful) for each in zip(means, shapes, strict=True)]
    density = np.log(model.weights_ @ laws)
    np.testing.assert_allclose(model.score_samples(faithful), density, rtol=1e-9)
    assert abs(model.lower_bound_ - density.mean()) < 1e-9
    loglik, n = density.sum(), len(faithful)
    assert abs(model.bic(faithful) - (-2 * loglik + 11 * np.log(n))) < 1e-6
    assert abs(model.aic(faithful) - (-2 * loglik + 22)) < 1e-6
    choice = om.select(faithful, [2], key=0, criterion="icl").candidates[0]
    assert abs(model.icl(faithful) - choice.icl) < 1e-2
    assert model.labels_.shape == (n,)
    assert model.labels_.dtype == np.int64
    np.testing.assert_array_equal(model.labels_, model.predict(faithful))
    rows, labels = model.sample(1000)
    assert rows.shape == (1000, 2)
    assert type(rows) is np.ndarray
    drawn = [rows[labels == j].mean(axis=0) for j in range(2)]
    np.testing.assert_allclose(drawn, means, rtol=0.05)
    assert model.converged_
    assert type(model.mixture_.log_weights) is np.ndarray
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(faithful), model.predict_proba(faithful))


@pytest.mark.slow
def test_models_of_counts_and_columns():
    rng = np.random.default_rng(0)
    counts = np.concatenate([rng.poisson(2, 40), rng.poisson(15, 40)])[:, None]
    model = ours.MixtureModel(2, family="poisson", random_state=0).fit(counts)
    rates = model.mixture_.components.rate[:, 0]
    density = np.log(
        sum(w * poisson(r).pmf(counts[:, 0]) for w, r in zip(model.weights_, rates, strict=True))
    )
    np.testing.assert_allclose(model.score_samples(counts), density, rtol=1e-9)
    frame = pd.DataFrame({"visits": counts[:, 0], "height": rng.normal(size=80) + counts[:, 0] / 9})
    family = om.families.Product.of(visits="poisson", height="gaussian")
    for table in (frame, pl.DataFrame(frame.to_dict("list"))):
        mixed = ours.MixtureModel(2, family=family, random_state=0).fit(table)
        assert mixed.n_features_in_ == 2
        assert list(mixed.feature_names_in_) == ["visits", "height"]
        assert mixed.predict_proba(table).shape == (80, 2)
        assert np.isfinite(mixed.bic(table))
        drawn, labels = mixed.sample(3)
        assert set(drawn) == {"visits", "height"}
        assert labels.shape == (3,)
    with pytest.raises(ValueError, match="height"):
        mixed.predict(frame[["visits"]])


@pytest.mark.slow
def test_missing_cells_and_statuses(blobs):
    holes = blobs.copy()
    holes[::7, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        ours.MixtureModel(2).fit(holes)
    model = ours.MixtureModel(2, missing="ignore", random_state=0).fit(holes)
    assert np.isfinite(model.score_samples(holes)).all()
    with pytest.warns(ConvergenceWarning, match="MAX_STEPS"):
        ours.MixtureModel(2, max_iter=1, n_init=1, solver="em", random_state=0).fit(blobs)
    with pytest.raises(ValueError, match="family"):
        ours.MixtureModel(2, family="normal").fit(blobs)


@pytest.mark.slow
def test_balanced_sizes():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=(50, 1)), rng.normal(size=(14, 1)) + 4])
    told = dict(n_components=2, solver="em", n_init=2, random_state=0)
    equal = ours.BalancedMixture(**told).fit(x)
    np.testing.assert_allclose(equal.sizes_, 0.5, atol=1e-6)
    np.testing.assert_allclose(equal.weights_, 0.5, rtol=1e-12)
    # Sinkhorn by hand, at the components that were fitted
    components = jax.tree.map(jnp.asarray, equal.mixture_.components)
    cost = np.asarray(components.cost(jnp.asarray(x)))
    g = np.zeros(2)
    for _ in range(5000):
        share = np.exp(g - cost) * 0.5
        share /= share.sum(axis=1, keepdims=True)
        g += np.log(0.5 / share.mean(axis=0))
    np.testing.assert_allclose(equal.predict_proba(x), share, atol=1e-6)
    np.testing.assert_array_equal(equal.labels_, share.argmax(axis=1))
    np.testing.assert_array_equal(equal.labels_, equal.predict(x))
    free = ours.BalancedMixture(rho=0.0, **told).fit(x)
    drawn = ours.BalancedMixture(rho=1.0, **told).fit(x)
    off = [abs(model.sizes_ - 0.5).max() for model in (free, drawn, equal)]
    assert off[0] > off[1] > off[2]
    hard = ours.BalancedMixture(epsilon=0.05, **told).fit(x)
    assert abs(np.bincount(hard.labels_) - 32).max() <= 2
    np.testing.assert_allclose(hard.predict_proba(x).mean(axis=0), 0.5, atol=1e-6)
    weights = np.arange(64.0)
    uneven = ours.BalancedMixture(sizes=[3, 1], **told).fit(x, sample_weight=weights)
    found = weights @ uneven.predict_proba(x) / weights.sum()
    np.testing.assert_allclose(found, [0.75, 0.25], atol=1e-6)
    with pytest.raises(ValueError, match="sizes"):
        ours.BalancedMixture(2, sizes=[1.0, 2.0, 3.0]).fit(x)


# ---- its contract and its tools ----


ESTIMATORS = [
    ours.GaussianMixture(),
    ours.BayesianGaussianMixture(),
    ours.MixtureModel(),
    ours.BalancedMixture(),
]


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS[:1])
def test_contract(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS[1:])
def test_contract_of_others(estimator, check):
    check(estimator)


@quiet
@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda model: type(model).__name__)
def test_clone_pickle_pipeline_and_output(model, blobs):
    model = clone(model).set_params(random_state=0)
    names = ["width", "height"]
    frame = pd.DataFrame(blobs, columns=names)
    fitted = make_pipeline(StandardScaler(), clone(model)).fit(frame)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(frame), fitted.predict(frame))
    assert b"jaxlib" not in pickle.dumps(fitted)
    fitted = clone(model).set_output(transform="pandas").fit(frame)
    assert list(fitted.feature_names_in_) == names
    assert fitted.n_features_in_ == 2
    out, name = fitted.transform(frame), type(model).__name__.lower()
    assert isinstance(out, pd.DataFrame)
    assert list(out.columns) == [f"{name}0"]
    np.testing.assert_allclose(out.to_numpy(), fitted.predict_proba(frame))
    out = fitted.set_output(transform="polars").transform(pl.DataFrame(frame.to_dict("list")))
    assert isinstance(out, pl.DataFrame)
    assert list(out.columns) == [f"{name}0"]


@quiet
def test_float32_is_kept(blobs):
    blobs = np.concatenate([blobs, blobs + 20])
    rows = blobs.astype(np.float32)
    for model in (
        ours.GaussianMixture(2, random_state=0),
        ours.BayesianGaussianMixture(n_components=2, random_state=0),
        ours.MixtureModel(2, random_state=0),
    ):
        model.fit(rows)
        arrays = [model.weights_, model.predict_proba(rows), model.score_samples(rows)]
        arrays += [getattr(model, name) for name in ARRAYS if hasattr(model, name)]
        assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    other = theirs.GaussianMixture(2, random_state=0).fit(blobs)
    assert abs(model.score(rows) - other.score(blobs)) < 1e-3


def test_scope_of_64_bits():
    """float64 is computed in float64 where JAX's switch is off, and the switch stays off."""
    code = """
import warnings
warnings.simplefilter("error")
import jax, numpy as np, otmix_jax, sys
assert not any(name.split(".")[0] == "sklearn" for name in sys.modules)
import sklearn.mixture as theirs, otmix_jax.sklearn as ours
x = np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0.0], [4.0]], 30, axis=0)
told = dict(n_components=2, random_state=0, max_iter=200)
for name in ("GaussianMixture", "BayesianGaussianMixture"):
    mine, other = (getattr(module, name)(**told).fit(x) for module in (ours, theirs))
    assert mine.means_.dtype == np.float64 and abs(mine.means_ - other.means_).max() < 1e-10
    assert not jax.config.jax_enable_x64
model = ours.MixtureModel(2, random_state=0).fit(x)
assert model.mixture_.components.mean.dtype == np.float64 and model.sample(3)[0].dtype == np.float64
assert model.predict_proba(x).dtype == np.float64
assert not jax.config.jax_enable_x64 and jax.numpy.ones(1).dtype == np.float32
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def count(program):
    return sum(getattr(program, name)._cache_size() for name in ("quick", "fast"))


@quiet
def test_a_search_compiles_few_programs(blobs):
    x = np.concatenate([blobs, blobs[:7] + 0.1])  # folds of 44 and 45 rows
    grid = {"n_components": [2, 3], "covariance_type": ["full", "diag"], "tol": [1e-3, 1e-4]}
    before = count(gaussian._program)
    search = GridSearchCV(ours.GaussianMixture(random_state=0), grid, cv=3).fit(x)
    # two sizes and two structures, each for folds and for the whole, where it is refitted
    assert count(gaussian._program) - before <= 5
    reference = GridSearchCV(theirs.GaussianMixture(random_state=0), grid, cv=3).fit(x)
    name = "mean_test_score"
    np.testing.assert_allclose(search.cv_results_[name], reference.cv_results_[name], atol=1e-9)
    before = count(bayesian._program)
    for n in range(41, 46):  # one bucket
        ours.BayesianGaussianMixture(n_components=2, random_state=0).fit(x[:n])
    assert count(bayesian._program) - before == 1


@quiet
def test_metadata_routing(blobs):
    weights = np.linspace(0.1, 2, len(blobs))
    with sklearn.config_context(enable_metadata_routing=True):
        for estimator in (ours.GaussianMixture(random_state=0), ours.BayesianGaussianMixture()):
            asked = estimator.set_fit_request(sample_weight=True)
            asked = asked.set_score_request(sample_weight=True)
            search = GridSearchCV(asked, {"tol": [1e-3]}, cv=2)
            search.fit(blobs, sample_weight=weights)
            direct = clone(estimator).fit(blobs, sample_weight=weights)
            np.testing.assert_array_equal(search.best_estimator_.means_, direct.means_)
            half = len(blobs) // 2
            first, last = np.arange(half), np.arange(half, 2 * half)
            part = clone(estimator).fit(blobs[last], sample_weight=weights[last])
            found = search.cv_results_["split0_test_score"][0]
            assert abs(found - part.score(blobs[first], sample_weight=weights[first])) < 1e-12


@pytest.mark.slow
@quiet
def test_search_in_two_processes(faithful):
    grid = {"n_components": [1, 2, 3]}
    search = GridSearchCV(ours.GaussianMixture(random_state=0), grid, cv=3, n_jobs=2)
    assert search.fit(faithful).best_params_["n_components"] in (2, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        ours.GaussianMixture(2),
        ours.BayesianGaussianMixture(n_components=2),
        ours.MixtureModel(2),
        ours.BalancedMixture(2, n_init=1, solver="em"),
    ]
)
def test_contract_of_two_components(estimator, check):
    # starts are drawn from the rows, so that repeated rows draw others
    if "sample_weight_equivalence" not in str(check):
        check(estimator)
