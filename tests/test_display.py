"""What answers show of themselves: lines, pages, tables, summaries."""

import contracts
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars
import pytest

import otmix_jax as om
from otmix_jax.core import display
from otmix_jax.families import Gaussian
from otmix_jax.model import parameters
from otmix_jax.model.parameters import lines


@pytest.fixture(scope="module")
def solution(faithful):
    return om.fit(faithful, 2, key=0, starts=om.Starts(n_init=1))


@pytest.fixture(scope="module")
def summary(solution, faithful):
    return solution.summary(pd.DataFrame(faithful, columns=["eruptions", "<waiting>"]))


@pytest.fixture(scope="module")
def batch(solution):
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), solution)
    two = om.Solution(
        **vars(two) | {"status": jnp.array([0, om.Status.EMPTY_COMPONENT], jnp.int32)}
    )
    account = om.fitting.batches.StartsAccount(*(jnp.zeros((2, 1)),) * 4)
    return om.Batch(two, account, jnp.asarray(1.0))


def mixture_of(components):
    k = components.n_components
    return om.Mixture(jnp.log(jnp.full(k, 1 / k)), components)


# ---------------------------------------------------------------- lines and pages


def test_lines_say_what_it_is(solution, batch, faithful):
    value, steps = f"{float(solution.value):.6g}", int(solution.n_steps)
    law = "2 x Gaussian(covariance=Full), d=2"
    assert repr(solution) == f"Solution(CONVERGED, value={value}, n_steps={steps}, {law})"
    weights = " ".join(f"{w:.3g}" for w in solution.mixture.weights)
    assert repr(solution.mixture) == f"Mixture({law}, weights=[{weights}])"
    ended = "1 CONVERGED, 1 EMPTY_COMPONENT"
    assert repr(batch) == f"Batch(2 problems: {ended}; {law})"
    assert repr(batch.mixture) == f"Mixture({law}, batch of 2)"
    assert repr(batch.solution) == f"Solution({ended}, {law}, batch of 2)"
    free = om.plan(solution.mixture, faithful)
    assert repr(free) == f"Plan(272 rows, {law}, SemiRelaxed, epsilon=1, solved)"
    balanced = om.plan(solution.mixture, faithful, coupling=om.couplings.Balanced(), epsilon=0.5)
    assert repr(balanced) == f"Plan(272 rows, {law}, Balanced, epsilon=0.5, solved)"


def choice_of(solution):
    described = solution.mixture.components.described()
    one = om.fitting.choices.candidate(described, solution, 272.0, 0.0, np.nan, 0.1, (1.0,))
    return om.Choice((one,), "bic")


def test_a_choice_names_its_best(solution):
    choice = choice_of(solution)
    bic = f"{float(solution.bic(272)):.6g}"
    assert repr(choice) == f"Choice(2 x Full, best of 1 by bic={bic})"
    assert "(best)" in choice._repr_html_()


def test_nothing_is_computed_or_raised_where_there_are_no_numbers(solution, batch):
    shown = []

    def inside(one):
        shown.extend([repr(one), repr(one.mixture), one._repr_html_()])
        return one.value

    jax.jit(inside)(solution)
    jax.vmap(inside)(batch.solution)
    jax.eval_shape(inside, solution)
    assert "status int32[], value=float64[]" in shown[0]
    assert "weights=float64[2]" in shown[1]
    assert "2 x Gaussian" in shown[2]
    assert repr(jax.eval_shape(lambda one: one, solution)).startswith("Solution(status int32[]")
    for odd in (None, 0, object()):
        filled = jax.tree.map(lambda _, odd=odd: odd, solution)
        assert repr(filled).startswith("Solution(mixture=Mixture(log_weights=")
        filled._repr_html_()


@pytest.mark.parametrize("components", contracts.EXAMPLES)
def test_every_family_shows_itself(components):
    mixture = mixture_of(components)
    assert f"{components.n_components} x " in repr(mixture)
    assert "<function" not in repr(mixture)
    page = mixture._repr_html_()
    assert page.count("<tr>") == 1 + components.n_components
    assert "0.333" in page
    table = mixture.table()
    assert len(table) == components.n_components
    assert np.allclose(table["weight"], 1 / components.n_components)
    # every number that is learned is in the table, by the numbers of the covariances
    assert table.shape[1] > 2


def test_pages_have_bars_remedies_and_escaped_text(solution, batch, summary, faithful):
    page = solution._repr_html_()
    assert "CONVERGED" in page
    assert "width:" in page
    assert f"{float(solution.mixture.components.mean[0, 1]):.4g}" in page
    assert om.Status.EMPTY_COMPONENT.remedy in batch._repr_html_()
    assert "&lt;waiting&gt;" in summary._repr_html_()
    assert "<waiting>" not in summary._repr_html_()
    plan = om.plan(solution.mixture, faithful)
    assert plan._repr_html_().count("<tr>") == 3
    assert display.status_line(0) == '<b style="color:#009E73">CONVERGED</b>'
    many = mixture_of(Gaussian(jnp.zeros((40, 1)), om.families.Spherical(jnp.ones(40))))
    assert "and 20 more" in many._repr_html_()


# ---------------------------------------------------------------- tables


def test_the_table_has_matrices_under_the_names_of_columns(solution):
    table = solution.mixture.table(["eruptions", "waiting"])
    components = solution.mixture.components
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == [
        *("component", "weight", "mean[eruptions]", "mean[waiting]"),
        *("covariance[eruptions, eruptions]", "covariance[waiting, eruptions]"),
        "covariance[waiting, waiting]",
    ]
    matrices = np.asarray(components.matrices())
    np.testing.assert_array_equal(table["covariance[waiting, eruptions]"], matrices[:, 1, 0])
    np.testing.assert_array_equal(table["mean[waiting]"], components.mean[:, 1])


def test_polars_stands_in_for_pandas(solution, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    table = solution.mixture.table()
    assert isinstance(table, polars.DataFrame)
    np.testing.assert_array_equal(table["weight"].to_numpy(), solution.mixture.weights)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="pandas or polars"):
        solution.mixture.table()


def test_kinds_have_rows_of_their_own_and_shared_numbers_are_repeated():
    (components,) = om.families.OneOf.examples().values()
    table = mixture_of(components).table()
    assert np.isnan(table["noise.low[0]"]).tolist() == [True, True, False]
    assert np.isnan(table["signal.mean[0]"]).tolist() == [False, False, True]
    tied = mixture_of(Gaussian.examples()["tied"])
    assert [line.component for line in lines(tied)][-3:] == [-1, -1, -1]
    assert tied.table()["covariance[0, 0]"].nunique() == 1
    assert "covariance[1, 0]" not in mixture_of(Gaussian.examples()["diagonal"]).table()


def test_tables_are_of_one_mixture_with_numbers(batch, solution):
    with pytest.raises(ValueError, match="batch"):
        batch.mixture.table()
    with pytest.raises(ValueError, match="jit"):
        jax.jit(lambda m: m.table() and m)(solution.mixture)


# ---------------------------------------------------------------- summaries


def test_criteria_are_those_of_scikit_learn_and_of_select(summary, solution, faithful):
    model = om.convert.to_sklearn(solution)
    assert np.isclose(summary.bic, model.bic(faithful), rtol=1e-10)
    assert np.isclose(summary.aic, model.aic(faithful), rtol=1e-10)
    assert np.isclose(summary.log_likelihood, model.score(faithful) * 272, rtol=1e-10)
    largest = model.predict_proba(faithful).max(axis=1)
    assert np.isclose(summary.icl, model.bic(faithful) - 2 * np.log(largest).sum(), rtol=1e-10)
    assert summary.n_parameters == 11
    # mclust 6.1.1 on these data, VVV: log-likelihood -1130.264, BIC -2322.192
    assert abs(summary.log_likelihood + 1130.264) < 1e-3
    assert abs(summary.bic - 2322.192) < 2e-3


def test_standard_errors_are_those_of_inference(summary, solution, faithful):
    errors = om.standard_errors(solution, faithful)
    found = {
        (one.component, one.name): e
        for one, e in zip(summary.lines, summary.standard_error, strict=True)
    }
    for j in range(2):
        assert np.isclose(found[j, "weight"], errors.weights[j], rtol=1e-8)
        assert np.isclose(found[j, "mean[<waiting>]"], errors.means[j, 1], rtol=1e-8)
        name = "covariance[<waiting>, eruptions]"
        assert np.isclose(found[j, name], errors.covariances[j, 1, 0], rtol=1e-8)


def test_the_text_reads_well(summary, solution):
    text = str(summary)
    assert repr(summary) == text
    for part in (
        "components              2 x Gaussian(covariance=Full), d=2",
        "rows                    272",
        "log-likelihood          -1130.2640",
        "parameters              11",
        f"BIC                     {summary.bic:.4f}",
        f"ICL                     {summary.icl:.4f}",
        "status                  CONVERGED",
        "certificate",
        "component 1",
        "mean[eruptions]",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 100
    table = summary.table
    assert list(table.columns) == ["component", "parameter", "estimate", "standard_error"]
    assert len(table) == 12


def test_without_rows_it_says_what_it_knows(solution):
    short = solution.summary()
    assert np.isnan(short.bic)
    assert np.isclose(short.log_likelihood_per_row, -float(solution.value))
    assert "BIC  " not in str(short)
    assert "solution.summary(x)" in str(short)
    assert "mean[1]" in str(short)


def test_other_rows_are_refused(solution, faithful):
    with pytest.raises(ValueError, match="not the rows that were fitted.*sample_weight"):
        solution.summary(faithful + 1)
    with pytest.raises(ValueError, match="shape"):
        solution.summary(faithful, np.ones(3))


def test_weights_count_rows_and_absent_rows_hold_anything(solution, faithful, summary):
    x = np.concatenate([faithful, [[np.nan, np.nan]]])
    weight = np.append(np.ones(272), 0)
    weighted = solution.summary(x, weight, errors=False)
    assert weighted.total_weight == 272
    assert np.isclose(weighted.icl, summary.icl)
    assert "not asked for" in str(weighted)
    twice = solution.summary(faithful, np.full(272, 2.0), errors=False)
    assert np.isclose(twice.log_likelihood, 2 * summary.log_likelihood)


def test_standard_errors_are_left_out_where_there_are_none(solution, faithful):
    other = om.Solution(**vars(solution) | {"value": solution.value - 1})
    assert "another epsilon" in str(other.summary(faithful))
    failed = om.Solution(
        **vars(solution) | {"status": jnp.asarray(int(om.Status.COLLAPSED), jnp.int32)}
    )
    text = str(failed.summary(faithful))
    assert "none of an answer that is COLLAPSED" in text
    assert om.Status.COLLAPSED.remedy in text


def test_what_was_held_has_no_standard_error(faithful, solution):
    held = om.families.Frozen(solution.mixture.components, "mean")
    frozen = om.Solution(
        **vars(solution) | {"mixture": om.Mixture(solution.mixture.log_weights, held)}
    )
    found = frozen.summary(faithful)
    sure = {one.name: e for one, e in zip(found.lines, found.standard_error, strict=True)}
    assert np.isnan(sure["mean[0]"])
    assert sure["covariance[0, 0]"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("components", contracts.EXAMPLES)
def test_values_can_be_derived_and_are_as_many_as_the_lines(components):
    """The delta method goes through them, and every line finds its number."""
    mixture = mixture_of(components)
    arrays = jax.jit(parameters.values)(mixture)
    for line in lines(mixture):
        assert np.isclose(np.asarray(arrays[line.parameter])[line.place], line.value)
