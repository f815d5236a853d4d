"""Latent classes: poLCA's fits and standard errors, items of any levels, missing cells, codes."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import otmix_jax as om
from otmix_jax.families import Categorical, Product

REFERENCE = Path(__file__).parent / "data" / "reference"
ENTRIES = json.loads((REFERENCE / "reference.json").read_text())
RAGGED = Categorical.examples()["ragged"]


def table(name):
    rows = list(csv.reader((REFERENCE / f"{name}.csv").read_text().splitlines()))
    return [[np.nan if cell == "NA" else float(cell) - 1 for cell in row] for row in rows[1:]]


def classes_like(entry, mixture):
    """The order of the components in which their probabilities are next to the entry's."""
    theirs = np.stack([np.asarray(item) for item in entry["probs"].values()], axis=1)
    ours = np.asarray(mixture.components.probability)
    gap = np.abs(theirs[:, None] - ours).max(axis=(2, 3))
    order = gap.argmin(axis=1)
    assert len(set(order)) == len(order)
    return order, theirs


def outer_product_errors(mixture, x):
    """Standard errors of weights and probabilities by the scores' outer product, as poLCA's are."""
    scores = np.asarray(om.inference.scores(mixture, x))
    information = scores.T @ scores
    flat, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture)))

    def numbers(z):
        moved = mixture.constrain(unravel(z))
        return jnp.concatenate([moved.weights, moved.components.probability.ravel()])

    slope = np.asarray(jax.jacfwd(numbers)(flat))
    # directions of the border carry no information, and move no probability
    inverse = np.linalg.pinv(information, rcond=1e-9, hermitian=True)
    errors = np.sqrt(np.diagonal(slope @ inverse @ slope.T))
    k = mixture.n_components
    return errors[:k], errors[k:].reshape(mixture.components.probability.shape)


CASES = [
    ("lca_carcinoma_K2", "carcinoma", 2),
    ("lca_carcinoma_K3", "carcinoma", 3),
    ("lca_carcinoma_K4", "carcinoma", 4),
    pytest.param("lca_election_K3_complete", "election", 3, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "data", "k"), CASES)
def test_polca(name, data, k):
    entry, x = ENTRIES[name], np.array(table(data))
    x = x[~np.isnan(x).any(axis=1)]
    solution = om.fit(x, k, family="categorical", key=0, limits=om.Limits(gap=1e-8))
    wanted = entry.get("polished_loglik", entry["loglik"])
    np.testing.assert_allclose(float(solution.log_likelihood(len(x))), wanted, atol=1e-5)
    assert om.Status(int(solution.status)) == om.Status.CONVERGED
    order, theirs = classes_like(entry, solution.mixture)
    np.testing.assert_allclose(solution.mixture.weights[order], entry["prior"], atol=1e-3)
    np.testing.assert_allclose(solution.mixture.components.probability[order], theirs, atol=1e-3)
    if "npar" in entry:
        assert solution.n_parameters == entry["npar"]
    if "prior_se" not in entry or k == 4:
        return  # of four classes two probabilities are next to the border, where none has an error
    weights, errors = outer_product_errors(solution.mixture, x)
    np.testing.assert_allclose(weights[order], entry["prior_se"], rtol=0.01)
    said = np.stack([np.asarray(item) for item in entry["probs_se"].values()], axis=1)
    inner = (theirs > 1e-3) & (theirs < 1 - 1e-3)
    np.testing.assert_allclose(errors[order][inner], said[inner], rtol=0.01)


def test_standard_errors_are_those_of_the_observed_information():
    """K = 1 has a closed form: that of a share of so many rows."""
    x = np.array(table("carcinoma"))
    solution = om.fit(x, 1, family="categorical", key=0)
    p = x.mean(axis=0)
    errors = om.standard_errors(solution, x).leaves.components.probability
    np.testing.assert_allclose(errors[0, :, 1], np.sqrt(p * (1 - p) / len(x)), rtol=1e-6)


def test_levels_come_from_the_rows():
    """By item, of rows with weight alone."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(2, size=50), rng.integers(4, size=50)]).astype(float)
    x[0] = [7, 9]
    weight = np.ones(50)
    weight[0] = 0
    solution = om.fit(x, 2, family="categorical", key=0, sample_weight=weight)
    components = solution.mixture.components
    assert components.levels == (2, 4)
    assert components.n_parameters == 2 * (1 + 3)
    assert components.probability.shape == (2, 2, 4)
    np.testing.assert_array_equal(components.probability[:, 0, 2:], 0)
    described = Categorical.of_rows(x[1:])
    assert described == Categorical.of(levels=(2, 4))
    assert Categorical.of_rows(x[1:, [0, 0]]).options == (("levels", (2, 2)),)


@pytest.mark.slow
def test_batches_and_choices_find_the_levels_too():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(2, size=50), rng.integers(4, size=50)]).astype(float)
    batch = om.fit_batch([x[1:], x[9:]], 1, family="categorical", key=0)
    assert batch.mixture.components.levels == (2, 4)
    choice = om.select(x[1:], [1, 2], family="categorical", key=0)
    assert choice.best.mixture.components.levels == (2, 4)


def test_ragged_coordinates_move_every_probability_but_those_that_are_not_there():
    z = RAGGED.unconstrained(RAGGED)["probability"]
    assert z.shape == (3, 3)
    moved = RAGGED.constrain({"probability": z + 1 + jnp.arange(9.0).reshape(3, 3)})
    np.testing.assert_allclose(moved.probability.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_array_equal(moved.probability[:, 0, 2], 0)
    assert (moved.probability[:, 0, :2] != RAGGED.probability[:, 0, :2]).all()


def test_missing_items_are_integrated_out():
    x = np.array([[0.0, 1], [np.nan, 2], [1, np.nan], [np.nan, np.nan], [-1, 0]])
    logs = np.log(np.asarray(RAGGED.probability.at[:, 0, 2].set(1)))
    wanted = [
        -(logs[:, 0, 0] + logs[:, 1, 1]),
        -logs[:, 1, 2],
        -logs[:, 0, 1],
        np.zeros(3),
        -logs[:, 1, 0],
    ]
    np.testing.assert_allclose(RAGGED.cost(jnp.asarray(x)), wanted, rtol=1e-12, atol=1e-15)
    x = np.array(table("election"))[:120, :4]
    assert np.isnan(x).any()
    solution = om.fit(x, 1, family="categorical", key=0, missing="ignore")
    p = solution.mixture.components.probability[0]
    for item in range(4):
        seen = x[~np.isnan(x[:, item]), item].astype(int)
        np.testing.assert_allclose(p[item], np.bincount(seen, minlength=4) / len(seen), atol=1e-12)


def test_a_category_never_seen():
    """A level without rows keeps a finite logarithm; one beyond the levels is no row of the law."""
    x = np.array([[0.0, 0], [1, 2], [0, 2], [1, 0]])
    solution = om.fit(x, 1, family=Categorical.of(levels=(2, 4)), key=0)
    p = solution.mixture.components.probability[0, 1]
    assert 0 < p[1] < 1e-30
    assert np.isfinite(solution.mixture.log_prob(np.array([[0.0, 1.0]]))).all()
    assert np.isneginf(solution.mixture.log_prob(np.array([[2.0, 0.0], [0.5, 0.0]]))).all()
    with pytest.raises(ValueError, match="2 levels needs codes 0 to 1; row 1, column 0 holds 2"):
        om.fit(np.array([[0.0, 1], [2, 1]]), 1, family=Categorical.of(levels=(2, 4)), key=0)
    with pytest.raises(ValueError, match="rows.codes"):
        om.fit(np.array([[0.0, 1], [1e9, 1]]), 1, family="categorical", key=0)
    with pytest.raises(ValueError, match="3 numbers for 2 items"):
        om.fit(x, 1, family=Categorical.of(levels=(2, 4, 4)), key=0)
    with pytest.raises(TypeError, match="how many levels"):
        om.initializers.kmeans_plus_plus(
            jax.random.key(0), om.Problem(x), n_components=2, family="categorical"
        )


def test_a_product_finds_the_levels_of_its_parts():
    rng = np.random.default_rng(0)
    low = np.arange(300) < 120
    rows = {
        "colour": np.where(low, 0, rng.integers(1, 3, 300)),
        "visits": rng.poisson(np.where(low, 2, 30)),
    }
    family = Product.of(colour="categorical", visits="poisson")
    solution = om.fit(rows, 2, family=family, key=0)
    assert solution.mixture.components.parts["colour"].probability.shape == (2, 1, 3)
    np.testing.assert_allclose(np.sort(solution.mixture.weights), [0.4, 0.6], atol=1e-6)


def test_moments_and_margins():
    """Of indicators, by enumeration of all rows of two items."""
    rows = np.array([[a, b] for a in range(2) for b in range(3)], float)
    law = np.exp(-np.asarray(RAGGED.cost(jnp.asarray(rows))))
    np.testing.assert_allclose(law.sum(axis=0), 1, rtol=1e-14)
    hot = np.asarray(RAGGED.indicators(jnp.asarray(rows)))
    mean, covariance = RAGGED.moments()
    wanted = law.T @ hot
    np.testing.assert_allclose(mean, wanted, rtol=1e-13)
    second = np.einsum("nk,ni,nj->kij", law, hot, hot) - wanted[:, :, None] * wanted[:, None]
    np.testing.assert_allclose(covariance, second, atol=1e-15)
    second_item = RAGGED.marginal([1])
    assert second_item.levels == (3,)
    np.testing.assert_allclose(
        np.exp(-second_item.cost(jnp.asarray(rows[:3, 1:]))), RAGGED.probability[:, 1].T, rtol=1e-13
    )


def test_codes_of_categories():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "sex": pandas.Categorical(["m", None, "f"], categories=["f", "m", "other"]),
            "grade": [3, 1, 3],
            "text": ["b", "a", None],
        }
    )
    codes, levels = om.rows.codes(frame)
    np.testing.assert_array_equal(codes, [[1, 1, 1], [np.nan, 0, 0], [0, 1, np.nan]])
    assert levels == {"sex": ("f", "m", "other"), "grade": (1, 3), "text": ("a", "b")}
    again, _ = om.rows.codes(frame, levels)
    np.testing.assert_array_equal(again, codes)
    table, _ = om.rows.codes(np.array([["u", "v"], ["v", "v"]]))
    np.testing.assert_array_equal(table, [[0, 0], [1, 0]])
    frame["text"] = ["b", "new", "a"]
    with pytest.raises(ValueError, match="row 1, column 'text' holds 'new'"):
        om.rows.codes(frame, levels)
    with pytest.raises(ValueError, match="levels has a column 'age'"):
        om.rows.codes(frame, {"age": (1,)})
    with pytest.raises(ValueError, match="two dimensions"):
        om.rows.codes(["a", "b"])
