"""Counting families: densities against mpmath and SciPy, published fits, and their edges."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import otmix_jax as om
from otmix_jax.core import counting
from otmix_jax.core.tree import replace
from otmix_jax.families import (
    Bernoulli,
    Binomial,
    Geometric,
    Multinomial,
    NegativeBinomial,
    Poisson,
)
from otmix_jax.families.negative_binomial import LARGEST

REFERENCE = Path(__file__).parent / "data" / "reference"
ENTRIES = json.loads((REFERENCE / "reference.json").read_text())
CLOSE = om.Limits(gap=1e-8)
COUNTS = [0.0, 1, 2, 7, 8, 9, 30, 1e3, 1e6, 1e9]


def table(name):
    rows = list(csv.reader((REFERENCE / f"{name}.csv").read_text().splitlines()))
    return {label: [row[i] for row in rows[1:]] for i, label in enumerate(rows[0])}


def of(name, *labels):
    columns = table(name)
    return np.column_stack([np.array(columns[label], float) for label in labels])


def grid(*axes):
    return np.array(np.meshgrid(*axes)).reshape(len(axes), -1)


def exact(law, points):
    """By 60 digits."""
    with mpmath.workdps(60):
        return np.array([float(law(*map(mpmath.mpf, point))) for point in points.T])


def log_gamma(x):
    return mpmath.loggamma(x)


def poisson(x, m):
    return x * mpmath.log(m) - m - log_gamma(x + 1)


def binomial(x, n, p):
    whole = log_gamma(n + 1) - log_gamma(x + 1) - log_gamma(n - x + 1)
    return whole + x * mpmath.log(p) + (n - x) * mpmath.log(1 - p)


def negative_binomial(x, m, r):
    whole = log_gamma(x + r) - log_gamma(r) - log_gamma(x + 1)
    return whole + r * mpmath.log(r / (r + m)) + x * mpmath.log(m / (r + m))


LAWS = {
    "poisson": (counting.log_poisson, poisson, grid(COUNTS, [1e-300, 1e-3, 1, 999.5, 1e9 + 3e4])),
    "binomial": (
        counting.log_binomial,
        binomial,
        np.array([p for p in grid(COUNTS, COUNTS[1:], [1e-10, 0.3, 0.99]).T if p[0] <= p[1]]).T,
    ),
    "negative binomial": (
        counting.log_negative_binomial,
        negative_binomial,
        grid(COUNTS, [1e-3, 1, 999.5, 1e9 + 3e4], [1e-5, 0.3, 10, 1e4, 1e9, 1e15]),
    ),
    "choose": (
        counting.log_choose,
        lambda n, x: log_gamma(n + 1) - log_gamma(x + 1) - log_gamma(n - x + 1),
        np.array([p for p in grid(COUNTS[1:], COUNTS).T if p[1] <= p[0]]).T,
    ),
    "factorial": (
        counting.log_factorial,
        lambda x: log_gamma(x + 1),
        np.array([[0, 0.3, 1, 3.7, 7.99, 8, 1e9]]),
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_logarithms_of_counting_laws_keep_all_digits(name):
    """Where the plain formulas lose seven digits at counts of 1e9, none is lost."""
    ours, law, points = LAWS[name]
    found = np.asarray(jax.jit(ours)(*points))
    wanted = exact(law, points)
    assert (np.abs(found - wanted) <= 1e-13 * np.maximum(1, np.abs(wanted))).all()


@pytest.mark.parametrize("name", ["poisson", "negative binomial"])
def test_float32_keeps_its_digits(name):
    """Of the numbers that float32 holds."""
    ours, law, points = LAWS[name]
    points = points[:, points[1] >= 1e-3].astype(np.float32)
    found, wanted = np.asarray(jax.jit(ours)(*points)), exact(law, points.astype(float))
    assert found.dtype == np.float32
    assert (np.abs(found - wanted) <= 2e-5 * np.maximum(1, np.abs(wanted))).all()


def _probabilities():
    return Binomial.examples()["counts"].probability


def independent(law):
    """SciPy's log-probabilities of columns [n, k], added."""
    return lambda family, x: -law(family, x[:, None, :]).sum(axis=-1)


NB = NegativeBinomial.examples()["learned"]
FAMILIES = {
    "bernoulli": (
        Bernoulli.examples()["items"],
        independent(lambda f, x: scipy.stats.bernoulli.logpmf(x, f.probability)),
        scipy.stats.bernoulli,
        lambda f: (f.probability,),
    ),
    "binomial": (
        Binomial.examples()["counts"],
        independent(lambda f, x: scipy.stats.binom.logpmf(x, 12, f.probability)),
        scipy.stats.binom,
        lambda f: (12, f.probability),
    ),
    "geometric": (
        Geometric.examples()["counts"],
        independent(lambda f, x: scipy.stats.geom.logpmf(x + 1, f.probability)),
        None,
        None,
    ),
    "negative binomial": (
        NB,
        independent(
            lambda f, x: scipy.stats.nbinom.logpmf(
                x, f.dispersion, f.dispersion / (f.dispersion + f.mean)
            )
        ),
        scipy.stats.nbinom,
        lambda f: (f.dispersion, f.dispersion / (f.dispersion + f.mean)),
    ),
    "multinomial": (
        Multinomial.examples()["counts"],
        lambda f, x: (
            -np.stack(
                [
                    scipy.stats.multinomial.logpmf(x, x.sum(axis=1), np.asarray(p))
                    for p in f.probability
                ]
            ).T
        ),
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_costs_are_scipys(name):
    family, cost, law, told = FAMILIES[name]
    x = np.asarray(family.sample(jax.random.key(3), jnp.arange(60) % 3))
    np.testing.assert_allclose(family.cost(x), cost(family, x), rtol=1e-12, atol=1e-12)
    beyond = np.full_like(x[:2], 0.5)
    beyond[1] = -1
    assert np.isposinf(family.cost(beyond)).all()
    if law is None:
        return
    arguments = told(family)
    mean, variance = family.moments()
    np.testing.assert_allclose(mean, law.mean(*arguments), rtol=1e-12)
    np.testing.assert_allclose(variance, law.var(*arguments), rtol=1e-12)
    points, one = np.array([-0.5, 0.0, 1.0, 2.7, 11.0, 40.0]), family.marginal([0])
    wanted = law.cdf(points[:, None], *(np.asarray(a)[..., 0] if np.ndim(a) else a
                                        for a in arguments))  # fmt: skip
    np.testing.assert_allclose(one.cdf(jnp.asarray(points)), wanted, rtol=1e-11, atol=1e-13)


def test_the_geometric_law_counts_failures():
    family = Geometric(jnp.array([[0.3]]))
    x = np.arange(4.0)
    np.testing.assert_allclose(np.exp(-family.cost(x[:, None])[:, 0]), 0.3 * 0.7**x, rtol=1e-14)
    np.testing.assert_allclose(family.cdf(jnp.asarray(x))[:, 0], 1 - 0.7 ** (x + 1), rtol=1e-14)
    np.testing.assert_allclose(family.moments(), [[[0.7 / 0.3]], [[0.7 / 0.09]]], rtol=1e-14)


def test_a_multinomial_of_two_levels_is_binomial():
    p, x = jnp.array([0.2, 0.7]), np.array([[0, 0], [3, 1], [0, 5], [200, 100]])
    two = Multinomial(jnp.stack([p, 1 - p], axis=1)).cost(x)
    family = Binomial(p[:, None], by_cell=True)
    one = family.cost({"x": x[:, :1], "trials": np.maximum(x.sum(axis=1), 1)})
    np.testing.assert_allclose(two[1:], one[1:], rtol=1e-12)
    np.testing.assert_array_equal(two[0], 0)


@pytest.mark.slow
@pytest.mark.parametrize("family", [_probabilities, None], ids=["binomial", "negative binomial"])
def test_a_missing_cell_is_integrated_out(family):
    """It adds nothing to the cost, nor to the M-step, whatever the other cells are."""
    whole = NB if family is None else Binomial(family(), trials=12)
    gaps = replace(whole, by_cell=True)
    x = np.array(whole.sample(jax.random.key(3), jnp.arange(30) % 3))
    x[:10, 0], x[7:12, 1] = np.nan, np.nan
    there = ~np.isnan(x)
    filled = np.where(there, x, 0)
    cells = [whole.marginal([a]).cost(filled[:, [a]]) for a in range(2)]
    cost = sum(np.where(there[:, [a]], cells[a], 0) for a in range(2))
    np.testing.assert_allclose(gaps.cost(x), cost, rtol=1e-12, atol=1e-13)
    plan = jax.nn.softmax(jax.random.normal(jax.random.key(1), (30, 3))) / 30
    moved = gaps.maximize(gaps.statistics(x, plan), plan.sum(axis=0))
    for a in range(2):
        seen = there[:, a]
        mean = plan[seen].T @ x[seen, a] / plan[seen].sum(axis=0)
        found = moved.mean[:, a] if family is None else 12 * moved.probability[:, a]
        np.testing.assert_allclose(found, mean, rtol=1e-12)


def reached(name, rows, k, family, weight=None, limits=CLOSE):
    """The fit, at the log-likelihood of the reference's optimum."""
    entry = ENTRIES[name]
    solution = om.fit(rows, k, family=family, key=0, sample_weight=weight, limits=limits)
    n = len(jax.tree.leaves(rows)[0]) if weight is None else float(np.sum(weight))
    wanted = entry.get("polished_loglik", entry["loglik"])
    np.testing.assert_allclose(float(solution.log_likelihood(n)), wanted, atol=1e-5)
    assert om.Status(int(solution.status)) == om.Status.CONVERGED
    return solution, {**entry, **entry.get("polished_parameters", {})}


@pytest.mark.parametrize("k", [1, 3, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 4))])
def test_poisson_candy(k):
    packages, households = of("candy", "Packages", "Freq").T
    rows = packages[:, None]
    solution, entry = reached(f"poisson_candy_K{k}", rows, k, "poisson", households)
    rate = solution.mixture.components.rate[:, 0]
    order, theirs = np.argsort(rate), np.argsort(np.atleast_1d(entry["rate"]))
    np.testing.assert_allclose(rate[order], np.atleast_1d(entry["rate"])[theirs], atol=1e-3)
    np.testing.assert_allclose(
        solution.mixture.weights[order], np.atleast_1d(entry["prior"])[theirs], atol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        pytest.param("poisson", ["End"], marks=pytest.mark.slow),
        ("mvpois", ["End", "Begin"]),
    ],
)
def test_poisson_teeth(name, columns):
    solution, entry = reached(f"{name}_dmft_K2", of("dmft", *columns), 2, "poisson")
    order = np.argsort(solution.mixture.components.rate[:, 0])
    theirs = np.reshape(entry["rate"], (2, -1))
    np.testing.assert_allclose(solution.mixture.components.rate[order], theirs, atol=1e-3)


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_binomial_betablocker(k):
    deaths, total = of("betablocker", "Deaths", "Total").T
    rows = {"x": deaths[:, None], "trials": total}
    solution, entry = reached(f"binomial_betablocker_K{k}", rows, k, "binomial")
    found = np.sort(solution.mixture.components.probability[:, 0])
    wanted = np.sort(1 / (1 + np.exp(-np.ravel(entry["coef"]))))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_binomial_betablocker_of_two_finds_better_than_the_reference():
    """Flexmix stopped at a lower optimum of the same likelihood, which SciPy computes here."""
    deaths, total = of("betablocker", "Deaths", "Total").T
    rows = {"x": deaths[:, None], "trials": total}
    mixture = om.fit(rows, 2, family="binomial", key=0).mixture
    law = scipy.stats.binom.pmf(deaths[:, None], total[:, None], mixture.components.probability.T)
    found = float(np.log(law @ np.asarray(mixture.weights)).sum())
    np.testing.assert_allclose(found, -193.350562645, atol=1e-5)
    assert found > ENTRIES["binomial_betablocker_K2"]["loglik"] + 6


def test_one_negative_binomial_is_scipys_optimum():
    """Mean and dispersion maximise the likelihood, which is profiled by a bounded search."""
    x = np.random.default_rng(0).negative_binomial(1.7, 0.3, size=(80, 1)).astype(float)
    solution = om.fit(x, 1, family="negative_binomial", key=0, limits=CLOSE)
    mean = x.mean()

    def loss(s):
        r = np.exp(s)
        return -scipy.stats.nbinom.logpmf(x, r, r / (r + mean)).sum()

    best: Any = scipy.optimize.minimize_scalar(
        loss, bounds=(-3, 4), method="bounded", options={"xatol": 1e-9}
    )
    found = solution.mixture.components
    np.testing.assert_allclose(found.mean, [[mean]], rtol=1e-12)
    np.testing.assert_allclose(np.log(found.dispersion), [[best.x]], atol=1e-5)
    np.testing.assert_allclose(-float(solution.log_likelihood(80)), best.fun, rtol=1e-12)


def test_dispersion_to_infinity_is_poisson():
    """Rows that vary less than Poisson's: the largest dispersion, Poisson's likelihood."""
    x = np.tile(np.array([[9.0, 4.0], [10.0, 5.0], [11.0, 6.0]]), (20, 1))
    solution = om.fit(x, 1, family="negative_binomial", key=0)
    assert om.Status(int(solution.status)) == om.Status.CONVERGED
    found = solution.mixture.components
    np.testing.assert_allclose(found.dispersion, LARGEST * (1 + found.mean), rtol=1e-12)
    wanted = -Poisson(found.mean).cost(x).sum()
    np.testing.assert_allclose(float(solution.log_likelihood(60)), wanted, rtol=1e-6)


@pytest.mark.slow
def test_two_negative_binomials_with_fixed_and_learned_dispersions():
    rng = np.random.default_rng(1)
    means = np.where(np.arange(600) < 240, 3.0, 40.0)
    x = rng.poisson(rng.gamma(4.0, means / 4.0))[:, None].astype(float)
    learned = om.fit(x, 2, family="negative_binomial", key=0)
    fixed = om.fit(x, 2, family=NegativeBinomial.of(dispersion=4), key=0)
    assert (learned.n_parameters, fixed.n_parameters) == (5, 3)
    np.testing.assert_array_equal(fixed.mixture.components.dispersion, 4.0)
    assert float(learned.value) <= float(fixed.value) + 1e-9
    for solution in (learned, fixed):
        assert om.Status(int(solution.status)) == om.Status.CONVERGED
        np.testing.assert_allclose(np.sort(solution.mixture.weights), [0.4, 0.6], atol=0.06)
        np.testing.assert_allclose(
            np.sort(solution.mixture.components.mean[:, 0]), [3, 40], rtol=0.12
        )
        # the likelihood's own gradient vanishes, the dispersion's too
        mixture = solution.mixture
        objective = om.Objective.of(om.Problem(x))
        zeros = jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture))
        slope = jax.grad(lambda z, m=mixture, o=objective: o.loss(m.constrain(z)))(zeros)
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 2e-4


@pytest.mark.slow
@pytest.mark.parametrize("family", [Bernoulli, Geometric, Poisson, NegativeBinomial, Multinomial])
def test_a_column_of_zeros(family):
    """The law of zeros alone costs nothing, and its derivatives are finite."""
    x = jnp.stack([jnp.zeros(40), jnp.arange(40.0) % 2, jnp.ones(40)], axis=1)
    plan = jnp.full((40, 1), 1 / 40)
    start = family.initial(x, plan)
    best = start.maximize(start.statistics(x, plan), plan.sum(axis=0))
    costs = best.cost(x)
    assert np.isfinite(costs).all()
    rest = x[:, 1:]
    other = family.initial(rest, plan)
    other = other.maximize(other.statistics(rest, plan), plan.sum(axis=0))
    np.testing.assert_allclose(costs, other.cost(rest), rtol=1e-6)
    slopes = jax.grad(lambda one: jnp.sum(one.cost(x)))(best)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("poisson", np.float32),
        *(
            pytest.param(family, dtype, marks=pytest.mark.slow)
            for family in ("poisson", "binomial", "negative_binomial")
            for dtype in (np.float32, np.float64)
            if (family, dtype) != ("poisson", np.float32)
        ),
    ],
)
def test_counts_of_a_billion(family, dtype):
    """Their logarithms cancel to one part in 1e10: the sums of deviances do not."""
    rng = np.random.default_rng(0)
    x = rng.poisson(np.where(np.arange(60) < 24, 9e8, 1e9), (1, 60)).T.astype(dtype)
    described = Binomial.of(trials=2**31) if family == "binomial" else family
    with warnings.catch_warnings():
        # a plateau of rounding, where float32 ends: it says so
        warnings.simplefilter("ignore", om.ConvergenceWarning)
        solution = om.fit(x, 2, family=described, key=0)
    assert om.Status(int(solution.status)) <= om.Status.STALLED
    np.testing.assert_allclose(np.sort(solution.mixture.weights), [0.4, 0.6], rtol=1e-5)
    mean = np.sort([x[:24].mean(dtype=float), x[24:].mean(dtype=float)])
    found = solution.mixture.components.moments()[0][:, 0]
    np.testing.assert_allclose(np.sort(found), mean, rtol=1e-6 if dtype is np.float32 else 1e-12)


MESSAGES = [
    ("poisson", np.array([[1.0], [2.5]]), "row 1, column 0 holds 2.5"),
    ("geometric", np.array([[1.0], [-2.0]]), "row 1, column 0 holds -2.0"),
    ("negative_binomial", np.array([[1.0], [0.1]]), "row 1, column 0 holds 0.1"),
    ("bernoulli", np.array([[1.0], [2.0]]), "zeros and ones; row 1, column 0 holds 2.0"),
    ("binomial", np.array([[1.0], [2.0]]), "give trials"),
    ("multinomial", np.array([[1.0, 2.0], [0.5, 1.0]]), "row 1, column 0 holds 0.5"),
    ("binomial", {"x": np.ones((2, 1)), "trials": np.array([3, 0])}, "row 1, column 0 holds 1.0"),
]


@pytest.mark.parametrize(("family", "x", "message"), MESSAGES)
def test_what_is_off_the_support_is_named(family, x, message):
    with pytest.raises(ValueError, match=message):
        om.fit(x, 1, family=family, key=0)


def test_options_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="trials must be"):
        Binomial.of(trials=0)
    for dispersion in (0.0, "some"):
        with pytest.raises(ValueError, match="dispersion must be"):
            NegativeBinomial.of(dispersion=dispersion)
    with pytest.raises(TypeError, match="total"):
        om.fit(np.array([[1.0, np.nan]]), 1, family="multinomial", key=0, missing="ignore")


def test_rows_and_columns_without_any_cell():
    """A row without cells says nothing; a column without cells is refused by name."""
    x = np.array([[0.0, 1], [1, 1], [1, 0], [np.nan, np.nan], [0, np.nan]])
    solution = om.fit(x, 1, family="bernoulli", key=0, missing="ignore")
    found = solution.mixture.components.probability
    np.testing.assert_allclose(found, [[0.5, 2 / 3]], rtol=1e-12)
    wanted = (4 * np.log(2) - 2 * np.log(2 / 3) - np.log(1 / 3)) / 5
    np.testing.assert_allclose(solution.value, wanted, rtol=1e-12)
    x[:, 1] = np.nan
    with pytest.raises(ValueError, match="column 1"):
        om.fit(x, 1, family="bernoulli", key=0, missing="ignore")
