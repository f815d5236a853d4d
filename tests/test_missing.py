"""Missing cells: integrated out exactly, at every door, by every family that can."""

import csv
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import parameters, status
from jax.flatten_util import ravel_pytree
from scipy import stats

import otmix_jax as om
from otmix_jax.families import Gaussian, Incomplete, Poisson, Product
from otmix_jax.model import Objective
from otmix_jax.priors import NormalMean

STRUCTURES = ("full", "tied", "diagonal", "spherical")
FEW = om.Starts(n_init=1)
PENGUINS = Path(__file__).parent / "data" / "reference" / "penguins.csv"
MEASURES = ["bill_len", "bill_dep", "flipper_len", "body_mass"]


def holed(x, share=0.3, seed=0):
    """The rows without some cells; the first two miss all, and none."""
    x, there = np.array(x), np.random.default_rng(seed).random(np.shape(x)) > share
    there[0], there[1] = False, True
    return np.where(there, x, np.nan)


@functools.cache
def laws(name):
    """Three Gaussians in three columns, and forty rows of them with holes."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 3, 3))
    matrices = jnp.asarray(root @ np.swapaxes(root, 1, 2) + 0.2 * np.eye(3))
    covariance = om.families.STRUCTURES[name].from_matrices(matrices)
    family = Incomplete(jnp.asarray(rng.normal(size=(3, 3)) * 2), covariance)
    rows = family.sample(jax.random.key(0), jnp.arange(40) % 3)
    return family, holed(rows)


def by_hand(family, x, log_density):
    """-log density [n, k] of the cells that are there, row by row."""
    cost = np.zeros((len(x), family.n_components))
    for i, row in enumerate(x):
        there = ~np.isnan(row)
        for j in range(family.n_components):
            cost[i, j] = -log_density(j, there, row[there]) if there.any() else 0
    return cost


def gaussian_density(family):
    mean, matrices = np.asarray(family.mean), np.asarray(family.matrices())
    return lambda j, there, row: stats.multivariate_normal(
        mean[j, there], matrices[j][np.ix_(there, there)]
    ).logpdf(row)


# ------------------------------------------------------------------------------- Gaussians


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_density_is_that_of_the_cells_that_are_there(name):
    """Of forty rows each pattern is factorised once, of twenty each row."""
    family, x = laws(name)
    expected = by_hand(family, x, gaussian_density(family))
    np.testing.assert_allclose(family.cost(jnp.asarray(x)), expected, rtol=1e-12, atol=1e-12)
    few = family.cost(jnp.asarray(x[:20]))
    np.testing.assert_allclose(few, expected[:20], rtol=1e-12, atol=1e-12)


def conditional(family, j, row):
    """Mean and covariance of a whole row, given its cells, by the textbook's inverse."""
    mean, matrix = np.asarray(family.mean[j]), np.asarray(family.matrices()[j])
    o, h = ~np.isnan(row), np.isnan(row)
    full, left = np.where(o, row, mean), np.zeros_like(matrix)
    if h.any():
        pull = matrix[np.ix_(h, o)] @ np.linalg.inv(matrix[np.ix_(o, o)])
        full[h] = mean[h] + pull @ (row[o] - mean[o])
        left[np.ix_(h, h)] = matrix[np.ix_(h, h)] - pull @ matrix[np.ix_(o, h)]
    return full, left


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("n", [20, 40])
def test_moments_are_the_conditional_ones(name, n):
    family, x = laws(name)
    x, plan = x[:n], np.random.default_rng(2).dirichlet(np.ones(3), n) / n
    first, second = np.zeros((3, 3)), np.zeros((3, 3, 3))
    for i, j in np.ndindex(n, 3):
        full, left = conditional(family, j, x[i])
        b = full - np.asarray(family.mean[j])
        first[j] += plan[i, j] * b
        second[j] += plan[i, j] * (np.outer(b, b) + left)
    found = family.statistics(jnp.asarray(x), jnp.asarray(plan))
    sums = map(jnp.asarray, (plan.sum(0), first, second))
    expected = family.location_statistics(*sums)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", STRUCTURES)
def test_without_a_hole_it_is_the_gaussian(name):
    family, _ = laws(name)
    plain = Gaussian(family.mean, family.covariance)
    x = plain.sample(jax.random.key(3), jnp.arange(60) % 3)
    plan = jax.nn.softmax(plain.cost(x)) / 60
    np.testing.assert_allclose(family.cost(x), plain.cost(x), rtol=1e-12)
    steps = [one.maximize(one.statistics(x, plan), plan.sum(0)) for one in (family, plain)]
    for ours, theirs in zip(*map(jax.tree.leaves, steps), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["full", "diagonal"])
def test_em_climbs_the_likelihood_of_what_is_there_to_its_top(name):
    """No step lowers it, and at the end its own derivative is 0."""
    family, _ = laws(name)
    x = holed(family.sample(jax.random.key(5), jnp.arange(300) % 3), 0.25)
    start = om.Mixture.from_weights(jnp.ones(3), family)
    end = om.solve(om.Problem(x), start, om.solvers.EM(), tolerance=0.0, max_steps=400)
    history = np.asarray(end.history)[: int(end.n_steps) + 1]
    history = history[~np.isnan(history)]
    assert len(history) > 50
    assert (np.diff(history) < 1e-13).all()
    expected = -np.logaddexp.reduce(
        np.asarray(end.mixture.log_weights)
        - by_hand(end.mixture.components, x, gaussian_density(end.mixture.components)),
        axis=1,
    ).mean()
    np.testing.assert_allclose(end.value, expected, rtol=1e-12)
    zeros, back = ravel_pytree(jax.tree.map(jnp.zeros_like, end.mixture.unconstrained(end.mixture)))
    objective = Objective.of(om.Problem(x).checked())
    slope = jax.grad(lambda z: objective.value(end.mixture.constrain(back(z))))(zeros)
    assert float(jnp.abs(slope).max()) < 1e-6


def test_derivatives_are_finite_differences():
    family, x = laws("full")
    mixture = om.Mixture.from_weights(jnp.array([0.2, 0.3, 0.5]), family)
    zeros, back = ravel_pytree(jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture)))
    rows = jnp.asarray(x)
    value = jax.jit(lambda z: mixture.constrain(back(z)).log_prob(rows).sum())
    slope, h = jax.grad(value)(zeros), 1e-5
    numeric = [(value(zeros + h * e) - value(zeros - h * e)) / (2 * h) for e in np.eye(len(zeros))]
    np.testing.assert_allclose(slope, numeric, rtol=1e-7, atol=1e-7)
    by_row = jax.grad(lambda r: mixture.log_prob(r).sum())(rows)
    assert np.isfinite(by_row).all()
    assert (np.asarray(by_row)[np.isnan(x)] == 0).all()


@pytest.mark.parametrize("name", ["full", "spherical"])
def test_single_precision_stays_single(name):
    family, x = laws(name)
    narrow = jax.tree.map(lambda leaf: leaf.astype(np.float32), family)
    cost = narrow.cost(jnp.asarray(x, np.float32))
    assert cost.dtype == np.float32
    np.testing.assert_allclose(cost, family.cost(jnp.asarray(x)), rtol=2e-4, atol=2e-4)
    plan = jnp.full((40, 3), 1 / 120, np.float32)
    step = narrow.maximize(narrow.statistics(jnp.asarray(x, np.float32), plan), plan.sum(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(step)} == {np.dtype(np.float32)}


# ---------------------------------------------------------------------------------- doors


@functools.cache
def groups():
    """Two groups in two columns [90, 2], some cells missing; and fitted."""
    rng = np.random.default_rng(0)
    low = np.arange(90) < 40
    x = rng.normal(size=(90, 2)) @ [[1.0, 0.6], [0.0, 0.5]] + np.where(low, 0, 4)[:, None]
    x = holed(x, 0.2)
    return x, om.fit(x, 2, missing="ignore", starts=FEW, key=0)


def total(solution, x):
    return float(solution.mixture.log_prob(x).sum())


def test_a_fit_reports_the_likelihood_of_what_is_there():
    """In units of its own it is less by log 1000 for each cell that is there, no more."""
    x, solution = groups()
    assert status(solution) == "CONVERGED"
    assert isinstance(solution.mixture.components, Incomplete)
    np.testing.assert_allclose(solution.log_likelihood(90), total(solution, x), rtol=1e-12)
    other = om.fit(x * [1000, 1] + [1e5, 0], 2, missing="ignore", starts=FEW, key=0)
    stretched = np.sum(~np.isnan(x[:, 0])) * np.log(1000)
    np.testing.assert_allclose(
        other.log_likelihood(90), solution.log_likelihood(90) - stretched, rtol=1e-9
    )


def test_rows_without_cells_change_nothing():
    x, solution = groups()
    rest = om.fit(x[1:], 2, missing="ignore", starts=FEW, key=0)
    for ours, theirs in zip(parameters(rest.mixture), parameters(solution.mixture), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(rest.log_likelihood(89), solution.log_likelihood(90), rtol=1e-8)
    mixture = solution.mixture
    np.testing.assert_allclose(mixture.responsibilities(x)[0], mixture.weights, rtol=1e-12)
    assert abs(float(mixture.log_prob(x)[0])) < 1e-12
    assert int(mixture.predict(x)[0]) == int(mixture.weights.argmax())


def test_weights_are_repetitions():
    x, solution = groups()
    weight = np.random.default_rng(1).integers(0, 3, 90)
    start = om.Starts(initial=solution.mixture)
    told = {"missing": "ignore", "starts": start, "key": 0}
    weighted = om.fit(x, 2, sample_weight=weight, **told)
    repeated = om.fit(np.repeat(x, weight, axis=0), 2, **told)
    for ours, theirs in zip(
        parameters(weighted.mixture), parameters(repeated.mixture), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(weighted.value, repeated.value, rtol=1e-9)


def test_however_a_cell_is_missing():
    """NaN, NA of nullable integers, None in a list, hidden by a mask."""
    x, solution = groups()
    whole = np.round(x * 100)
    frame = pd.DataFrame(whole, columns=["a", "b"])
    nullable = frame.astype("Int64")
    listed = [[None if np.isnan(cell) else cell for cell in row] for row in whole.tolist()]
    ways = [frame, nullable, listed, np.ma.masked_invalid(whole), jnp.asarray(whole)]
    fits = [om.fit(way, 2, missing="ignore", starts=FEW, key=0) for way in ways]
    assert len({float(one.value) for one in fits}) == 1
    np.testing.assert_array_equal(
        fits[0].mixture.log_prob(nullable), fits[0].mixture.log_prob(whole)
    )


def test_refusals_say_what_to_do():
    x, solution = groups()
    with pytest.raises(ValueError, match=r'first at row 0, column 0; .* missing="ignore"'):
        om.fit(x, 2, key=0)
    with pytest.raises(ValueError, match="drop or impute those rows$"):
        om.fit(x, 2, family="student_t", key=0)
    with pytest.raises(TypeError, match="StudentT needs all cells of a row"):
        om.fit(x, 2, family="student_t", missing="ignore", key=0)
    with pytest.raises(ValueError, match="must be None or 'ignore', not 'drop'"):
        om.fit(x, 2, missing="drop", key=0)
    lone = x * [1, np.nan]
    with pytest.raises(ValueError, match="all cells of x are missing: column 1"):
        om.fit(lone, 2, missing="ignore", key=0)
    with pytest.raises(ValueError, match="all cells of x are missing: column 'b'"):
        om.fit(pd.DataFrame(lone, columns=["a", "b"]), 2, missing="ignore", key=0)
    with pytest.raises(ValueError, match="1 infinite cells, the first at row 7, column 1"):
        om.fit(np.where(np.arange(180).reshape(90, 2) == 15, np.inf, x), 2, missing="ignore", key=0)
    plain = replace_components(solution.mixture)
    with pytest.raises(ValueError, match="rows that miss no cells"):
        om.fit(x, 2, missing="ignore", starts=om.Starts(initial=plain), key=0)
    words = pd.DataFrame({"a": ["one", None], "b": [1.0, 2.0]}, dtype=object)
    with pytest.raises(ValueError, match="column 'a' must hold numbers.*'one'"):
        om.fit(words, 1, missing="ignore", key=0)


def replace_components(mixture):
    components = mixture.components
    return om.Mixture(mixture.log_weights, Gaussian(components.mean, components.covariance))


@pytest.mark.slow
def test_a_batch_is_fits_side_by_side():
    """What one data set lacks is its own status."""
    x, solution = groups()
    sets = [x, x[:50], x * [1, np.nan]]
    with pytest.warns(UserWarning, match="1 NON_FINITE; the first is problem 2"):
        batch = om.fit_batch(sets, 2, missing="ignore", starts=FEW, key=0)
    assert status(batch[2]) == "NON_FINITE"
    alone = jax.random.fold_in(jax.random.key(0), 1)
    second = om.fit(x[:50], 2, missing="ignore", starts=FEW, key=alone)
    np.testing.assert_allclose(batch.value[1], second.value, rtol=1e-7)
    np.testing.assert_allclose(50 * batch.value[1], -total(batch[1], x[:50]), rtol=1e-12)


@pytest.mark.slow
def test_select_knows_the_structures_by_name():
    x, solution = groups()
    told = {"covariance": ["full", "spherical"], "missing": "ignore", "starts": FEW, "key": 0}
    choice = om.select(x, [1, 2], **told)
    assert {one.covariance for one in choice.candidates} == {"full", "spherical"}
    assert (choice.best_candidate.covariance, choice.best_candidate.n_components) == ("full", 2)
    np.testing.assert_allclose(choice.best_candidate.bic, solution.bic(90), rtol=1e-6)


@pytest.mark.slow
def test_priors_stand_in_the_units_of_the_rows():
    """A ridge is relative to the variance of what is there; pseudo-rows have all cells."""
    x, solution = groups()
    told = {"missing": "ignore", "starts": om.Starts(initial=solution.mixture), "key": 0}
    ridged = om.fit(x, 2, goal=om.Goal(ridge=0.1), **told)
    scaled = om.fit(1000 * x, 2, goal=om.Goal(ridge=0.1), missing="ignore", starts=FEW, key=0)
    ours, theirs = ridged.mixture.components.matrices(), scaled.mixture.components.matrices()
    order = np.argsort(scaled.mixture.components.mean[:, 0])
    mine = np.argsort(ridged.mixture.components.mean[:, 0])
    np.testing.assert_allclose(ours[mine], theirs[order] / 1e6, rtol=1e-3)
    prior = om.priors.Prior(
        mean=NormalMean(jnp.array([1.0, 2.0]), 0.02),
        covariance=om.priors.Ridge(0.05, jnp.array([1.0, 4.0])),
    )
    fitted = om.fit(x, 2, goal=om.Goal(prior=prior), **told)
    penalty = fitted.mixture.components.penalty(prior)
    np.testing.assert_allclose(fitted.objective, fitted.value + penalty, rtol=1e-10)
    np.testing.assert_allclose(fitted.log_likelihood(90), total(fitted, x), rtol=1e-12)


# ------------------------------------------------------------------------------- imputation


@pytest.mark.parametrize("name", STRUCTURES)
def test_imputed_cells_are_conditional_means(name):
    family, x = laws(name)
    mixture = om.Mixture.from_weights(jnp.array([0.2, 0.3, 0.5]), family)
    share = np.asarray(mixture.responsibilities(x))
    full = np.stack([[conditional(family, j, row)[0] for j in range(3)] for row in x])
    expected = np.where(np.isnan(x), np.einsum("nk,nkd->nd", share, full), x)
    np.testing.assert_allclose(mixture.impute(x), expected, rtol=1e-11, atol=1e-12)


def test_draws_have_the_conditional_law():
    """Mean and covariance of many draws for one row, within four standard errors."""
    family, _ = laws("full")
    mixture = om.Mixture.from_weights(jnp.array([0.2, 0.3, 0.5]), family)
    row, n = np.array([np.nan, 0.3, np.nan]), 20_000
    drawn = np.asarray(mixture.impute(np.tile(row, (n, 1)), jax.random.key(0)))
    assert (drawn[:, 1] == 0.3).all()
    share = np.asarray(mixture.responsibilities(row[None]))[0]
    means, left = zip(*(conditional(family, j, row) for j in range(3)), strict=True)
    mean = share @ np.stack(means)
    spread = np.stack(left) + [np.outer(m - mean, m - mean) for m in means]
    covariance = np.tensordot(share, spread, 1)[np.ix_([0, 2], [0, 2])]
    hidden = drawn[:, [0, 2]]
    error = 4 * np.sqrt(np.diag(covariance) / n)
    assert (np.abs(hidden.mean(0) - mean[[0, 2]]) < error).all()
    squares = (hidden - mean[[0, 2]]) ** 2
    error = 4 * squares.std(0) / np.sqrt(n)
    assert (np.abs(squares.mean(0) - np.diag(covariance)) < error).all()
    products = (hidden - mean[[0, 2]]).prod(axis=1)
    assert abs(products.mean() - covariance[0, 1]) < 4 * products.std() / np.sqrt(n)


# ---------------------------------------------------------------------------- other families


def test_counts_may_be_missing():
    rng = np.random.default_rng(0)
    x = holed(rng.poisson(np.where(np.arange(120) < 50, 2, 9)[:, None] * [1.0, 2.0]), 0.2)
    with pytest.raises(ValueError, match='missing="ignore"'):
        om.fit(x, 2, family="poisson", key=0)
    solution = om.fit(x, 2, family="poisson", missing="ignore", starts=FEW, key=0)
    assert status(solution) == "CONVERGED"
    mixture, rate = solution.mixture, np.asarray(solution.mixture.components.rate)
    law = by_hand(
        mixture.components, x, lambda j, o, row: stats.poisson(rate[j, o]).logpmf(row).sum()
    )
    expected = np.logaddexp.reduce(np.asarray(mixture.log_weights) - law, axis=1)
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-11, atol=1e-12)
    filled = np.where(np.isnan(x), np.asarray(mixture.responsibilities(x)) @ rate, x)
    np.testing.assert_allclose(mixture.impute(x), filled, rtol=1e-12)
    drawn = np.asarray(mixture.impute(x, jax.random.key(0)))
    assert (drawn == np.floor(drawn)).all()
    assert (drawn[~np.isnan(x)] == x[~np.isnan(x)]).all()


@functools.cache
def mixed():
    """Columns of three kinds, some cells missing, as a frame; and its family."""
    rng = np.random.default_rng(0)
    low = np.arange(150) < 60
    frame = pd.DataFrame({"size": rng.normal(np.where(low, 0, 3)), "wing": rng.normal(size=150)})
    frame["visits"] = pd.array(rng.poisson(np.where(low, 2, 9)), dtype="Int64")
    for number, name in enumerate(frame):
        frame.loc[np.random.default_rng(number).random(150) < 0.15, name] = pd.NA
    frame.loc[0] = pd.NA
    return frame, Product.of(size="gaussian", visits="poisson", wing="gaussian")


def test_a_product_integrates_them_out_without_asking():
    frame, family = mixed()
    solution = om.fit(frame, 2, family=family, starts=FEW, key=0)
    assert status(solution) == "CONVERGED"
    mixture = solution.mixture
    parts = mixture.components.parts
    cost = np.zeros((150, 2))
    for name, column in frame.items():
        there = column.notna().to_numpy()
        values = column[there].to_numpy(float)[:, None]
        part = parts[name]
        law = (
            stats.poisson(np.asarray(part.rate[:, 0])).logpmf
            if isinstance(part, Poisson)
            else stats.norm(part.mean[:, 0], np.sqrt(part.matrices()[:, 0, 0])).logpdf
        )
        cost[there] -= law(values)
    expected = np.logaddexp.reduce(np.asarray(mixture.log_weights) - cost, axis=1)
    np.testing.assert_allclose(mixture.log_prob(frame), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(solution.log_likelihood(150), expected.sum(), rtol=1e-11)
    np.testing.assert_allclose(mixture.responsibilities(frame)[0], mixture.weights, rtol=1e-12)
    filled = mixture.impute(frame)
    for name, column in frame.items():
        there = column.notna().to_numpy()
        assert filled[name].shape == (150,)
        np.testing.assert_array_equal(filled[name][there], column[there].to_numpy(float))
        assert np.isfinite(filled[name]).all()
    # of a row without cells: the mean of all
    np.testing.assert_allclose(filled["size"][0], mixture.weights @ parts["size"].mean[:, 0])


def test_a_part_that_needs_all_cells_is_named():
    frame, _ = mixed()
    family = Product.of(size="student_t", visits="poisson")
    with pytest.raises(ValueError, match="column 'size' holds .* NaN"):
        om.fit({n: frame[n].to_numpy(float, na_value=np.nan) for n in ("size", "visits")}, 2,
               family=family, key=0)  # fmt: skip
    empty = frame.assign(visits=pd.array([pd.NA] * 150, dtype="Int64"))
    with pytest.raises(ValueError, match="all cells of column 'visits' are missing"):
        om.fit(empty, 2, family=mixed()[1], key=0)


def test_priors_and_frozen_parts_of_a_product():
    frame, family = mixed()
    first = om.fit(frame, 2, family=family, starts=FEW, key=0).mixture
    ridge = om.priors.Ridge(0.3, jnp.array([2.0]))
    prior = om.priors.Prior(parts={"size": om.priors.Prior(covariance=ridge)})
    held = om.families.Frozen(first.components, "visits")
    start = om.Starts(initial=om.Mixture(first.log_weights, held))
    solution = om.fit(frame, 2, starts=start, goal=om.Goal(prior=prior), key=0)
    parts, before = solution.mixture.components.parts, first.components.parts
    np.testing.assert_array_equal(parts["visits"].rate, before["visits"].rate)
    assert (parts["size"].matrices() != before["size"].matrices()).all()
    penalty = solution.mixture.components.penalty(om.priors.Prior.of(prior))
    np.testing.assert_allclose(solution.objective, solution.value + penalty, rtol=1e-9)


# ---------------------------------------------------------------------------------- penguins


@pytest.mark.slow
def test_penguins():
    """Two of 344 rows miss all four measures: the fit is that of the others."""
    with PENGUINS.open() as file:
        table = list(csv.DictReader(file))
    x = np.array([[float(row[name] or "nan") for name in MEASURES] for row in table])
    species = np.array([row["species"] for row in table])
    whole = ~np.isnan(x).any(axis=1)
    assert (len(x), whole.sum()) == (344, 342)
    ours = om.fit(x, 3, missing="ignore", key=0)
    theirs = om.fit(x[whole], 3, key=0)
    np.testing.assert_allclose(ours.log_likelihood(344), theirs.log_likelihood(342), rtol=1e-8)
    # with a tenth of the cells gone the species are still told apart
    holes = holed(x, 0.1)
    labels = np.asarray(om.fit(holes, 3, missing="ignore", key=0).mixture.predict(holes))
    hits = sum(np.bincount(np.unique(species[labels == j], return_inverse=True)[1]).max()
               for j in range(3))  # fmt: skip
    assert hits > 325


def test_items_and_successes_are_imputed():
    """The most probable level, and the expected successes of the trials that a row has."""
    probability = jnp.array(
        [[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[0.1, 0.8, 0.1], [0.3, 0.6, 0.1]]]
    )
    items = om.families.Categorical(probability, missing=True)
    rows = jnp.array([[jnp.nan, 2.0], [1.0, jnp.nan], [0.0, 1.0]])
    filled = om.Mixture.from_weights(jnp.array([0.5, 0.5]), items).impute(rows)
    # P(first | 2) = .8 / .9, so level 0; P(first | 1) = .2, so level 1
    np.testing.assert_array_equal(filled, [[0, 2], [1, 1], [0, 1]])
    shots = om.families.Binomial(jnp.array([[0.5, 0.5]]), trials=10, by_cell=True)
    mixture = om.Mixture.from_weights(jnp.ones(1), shots)
    np.testing.assert_allclose(mixture.impute(jnp.array([[jnp.nan, 3.0]])), [[5, 3]])
    given = {"x": jnp.array([[jnp.nan, 3.0]]), "trials": jnp.array([4.0])}
    np.testing.assert_allclose(mixture.impute(given)["x"], [[2, 3]])
