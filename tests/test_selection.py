"""Model choice, against the figures of R's mclust and against scikit-learn."""

import jax
import matplotlib as mpl
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

import otmix_jax as om
from otmix_jax.fitting.selection import _folds

SKLEARN = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


@pytest.fixture(scope="module")
def choice(faithful):
    return om.select(
        faithful, range(1, 7), key=0, covariance=("tied", "spherical"), starts=om.Starts(n_init=6)
    )


def get(choice, covariance, k):
    (one,) = (c for c in choice.candidates if (c.covariance, c.n_components) == (covariance, k))
    return one


def peer(one, x):
    """scikit-learn's model with our parameters."""
    mixture = one.solution.mixture
    covariances = np.asarray(mixture.components.matrices())
    shaped = {
        "full": covariances,
        "tied": covariances[0],
        "diagonal": np.diagonal(covariances, axis1=1, axis2=2),
        "spherical": covariances[:, 0, 0],
    }[one.covariance]
    model = GaussianMixture(one.n_components, covariance_type=SKLEARN[one.covariance])
    model.weights_, model.means_ = np.asarray(mixture.weights), mixture.components.mean
    model.covariances_ = shaped
    cholesky = np.linalg.cholesky(np.linalg.inv(covariances))
    model.precisions_cholesky_ = {
        "full": cholesky,
        "tied": cholesky[0],
        "diagonal": 1 / np.sqrt(shaped),
        "spherical": 1 / np.sqrt(shaped),
    }[one.covariance]
    return model


@pytest.mark.slow
def test_old_faithful_as_mclust_has_it(choice):
    """mclust prints BIC with the other sign: EEE, 3, -2314.2957."""
    best = choice.best_candidate
    assert (best.covariance, best.n_components) == ("tied", 3)
    assert abs(best.bic - 2314.2957) < 2e-4
    for covariance, k, bic in [("tied", 1, 2607.6225), ("tied", 2, 2325.2199)]:
        assert abs(get(choice, covariance, k).bic - bic) < 2e-4
    assert abs(get(choice, "spherical", 2).bic - 3458.2992) < 2e-4


def test_the_best_is_an_ordinary_solution(choice, faithful):
    mixture = choice.best.mixture
    assert mixture.components.mean.shape == (3, 2)
    assert mixture.n_parameters == 11
    assert abs(float(np.mean(mixture.log_prob(faithful))) + float(choice.best.value)) < 1e-12


@pytest.mark.parametrize(("covariance", "k"), [("tied", 1), ("tied", 3), ("spherical", 5)])
def test_criteria_are_scikit_learns(choice, faithful, covariance, k):
    one = get(choice, covariance, k)
    model = peer(one, faithful)
    assert abs(model.score(faithful) * 272 - one.log_likelihood) < 1e-7
    assert abs(model.bic(faithful) - one.bic) < 1e-7
    assert abs(model.aic(faithful) - one.aic) < 1e-7
    responsibilities = model.predict_proba(faithful)
    icl = model.bic(faithful) - 2 * np.sum(np.log(responsibilities.max(axis=1)))
    assert abs(one.icl - icl) < 1e-7


def test_a_candidate_is_the_fit_of_its_own(choice, faithful):
    """The absent components change nothing: the optimum is that of a fit without them."""
    for k in (2, 4):
        alone = om.fit(faithful, k, covariance="spherical", key=1)
        one = get(choice, "spherical", k)
        assert abs(float(alone.value) - float(one.solution.value)) < 1e-7
        same = np.sort(np.asarray(alone.mixture.weights)), np.sort(one.solution.mixture.weights)
        np.testing.assert_allclose(*same, atol=1e-3)  # tolerance 1e-8 in the value


def test_the_table_and_its_picture(choice):
    mpl.use("Agg")
    from otmix_jax import plot

    assert len(choice.table) == 12
    assert choice.table[2]["status"] == "CONVERGED"
    assert min(record["bic"] for record in choice.table) == choice.best_candidate.bic
    assert str(choice).count("<- best") == 1
    assert all(len(one.start_values) == 6 for one in choice.candidates)
    assert sum(record["seconds"] for record in choice.table) > 0
    axes = plot.criterion(choice)
    assert [line.get_label() for line in axes.get_lines()] == ["tied", "spherical", "best"]
    assert axes.get_lines()[-1].get_xydata()[0].tolist() == [3, choice.best_candidate.bic]
    mpl.pyplot.close()


def test_iris_as_mclust_has_it():
    """VVV, 2, -574.0178; starts that end in a spike on repeated values are not chosen."""
    choice = om.select(load_iris().data, range(1, 5), key=0, covariance="full")
    best = choice.best_candidate
    assert (best.covariance, best.n_components) == ("full", 2)
    assert abs(best.bic - 574.0178) < 2e-4


def test_cross_validation_counts_rows_in_their_own_units(blobs):
    """One component has a closed form; of 60 rows seven folds are not equally long."""
    x = 37 * blobs
    options = {"key": 3, "criterion": "cross_validation", "n_folds": 7, "covariance": "full"}
    (one,) = om.select(x, [1], **options).candidates
    lost = 0.0
    for held in _folds(3, None, 60, 7) > 0:
        law = multivariate_normal(x[~held].mean(axis=0), np.cov(x[~held].T, bias=True))
        lost -= law.logpdf(x[held]).sum()
    assert abs(one.cross_validation - lost / 60) < 1e-9


def test_cross_validation_is_held_out():
    """K = 1 has a closed form: the moments of the rows that are not held out."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=(40, 1)), rng.normal(size=(40, 1)) + 7])
    options = {
        "key": 4,
        "covariance": "spherical",
        "starts": om.Starts(n_init=3),
        "goal": om.Goal(ridge=0.0),
    }
    choice = om.select(x, [1, 2], criterion="cross_validation", n_folds=4, **options)
    assert choice.best_candidate.n_components == 2
    order = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(4), 0), 80))
    losses = []
    for fold in range(4):
        held, rest = order[fold::4], np.delete(np.arange(80), order[fold::4])
        mean, variance = x[rest].mean(), x[rest].var()
        losses += list(
            0.5 * (x[held, 0] - mean) ** 2 / variance + 0.5 * np.log(2 * np.pi * variance)
        )
    assert abs(choice.candidates[0].cross_validation - np.mean(losses)) < 1e-9


def test_weights_are_repeated_rows(blobs):
    weight = np.arange(60) % 3
    options = {"key": 0, "covariance": "diagonal", "starts": om.Starts(n_init=2)}
    weighted = om.select(blobs, [1, 2], sample_weight=weight, **options)
    repeated = om.select(np.repeat(blobs, weight, axis=0), [1, 2], **options)
    for one, other in zip(weighted.candidates, repeated.candidates, strict=True):
        assert abs(one.bic - other.bic) < 1e-4
        assert abs(one.icl - other.icl) < 1e-3


def test_failures_are_marked_and_never_chosen():
    x = np.repeat(np.array([[0.0, 1.0], [5.0, 2.0], [1.0, 7.0]]), 10, axis=0)
    x += 0.1 * np.random.default_rng(0).normal(size=x.shape)
    x[:10] = x[0]
    choice = om.select(
        x, [1, 3], key=0, covariance="full", goal=om.Goal(ridge=0.0), starts=om.Starts(n_init=2)
    )
    names = [record["status"] for record in choice.table]
    assert names == ["CONVERGED", "COLLAPSED"]
    assert choice.best_candidate.n_components == 1
    with pytest.raises(om.FitError, match="COLLAPSED in every candidate"):
        om.select(
            x, [3, 3], key=0, covariance="full", goal=om.Goal(ridge=0.0), starts=om.Starts(n_init=2)
        )


def test_what_cannot_be_chosen_from_raises(blobs):
    with pytest.raises(ValueError, match="criterion must be one of bic"):
        om.select(blobs, [1], key=0, criterion="BIC!")
    with pytest.raises(ValueError, match="n_components is empty"):
        om.select(blobs, [], key=0)
    with pytest.raises(ValueError, match="n_folds=61 exceeds"):
        om.select(blobs, [1], key=0, criterion="cross_validation", n_folds=61)
