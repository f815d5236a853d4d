"""Mixtures of regressions and repeated measurements, against scipy, least squares and R."""

import csv
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import status
from jax.flatten_util import ravel_pytree
from scipy import stats

import otmix_jax as om
from otmix_jax.families import Frozen, Repeated
from otmix_jax.families.least_squares import NormalEquations, regular_inverse

F = om.families
LAWS = (
    F.LinearRegression,
    F.TiedLinearRegression,
    F.PoissonRegression,
    F.BinomialRegression,
    F.NegativeBinomialRegression,
    F.GammaRegression,
)
FOLDER = Path(__file__).parent / "data" / "reference"
REFERENCE = json.loads((FOLDER / "reference.json").read_text())
N = 40


def table(name):
    with (FOLDER / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def example(family, with_shared=True):
    """Components with effects in common, and rows with all that a predictor takes."""
    first = next(iter(family.examples().values()))
    first = om.core.tree.replace(first, shared=jnp.array([0.4, -0.2] if with_shared else []))
    rng = np.random.default_rng(0)
    rows = {
        "features": np.c_[np.ones(N), rng.normal(size=N)],
        "offset": rng.normal(0, 0.3, N),
        "trials": rng.integers(1, 9, N) * 1.0,
    }
    rows |= {"shared": rng.normal(size=(N, 2))} if with_shared else {}
    return first, first.sample(
        jax.random.key(1), jnp.arange(N) % 3, jax.tree.map(jnp.asarray, rows)
    )


def by_scipy(family, x):
    eta = np.asarray(x["features"]) @ np.asarray(family.coefficients).T
    eta += (np.asarray(x["shared"]) @ np.asarray(family.shared) + np.asarray(x["offset"]))[:, None]
    y, phi = np.asarray(x["y"])[:, None], np.asarray(family._dispersion)
    mean = np.exp(eta)
    if family.residual:
        return stats.norm.logpdf(y, eta, phi)
    if isinstance(family, F.PoissonRegression):
        return stats.poisson.logpmf(y, mean)
    if isinstance(family, F.BinomialRegression):
        return stats.binom.logpmf(y, np.asarray(x["trials"])[:, None], mean / (1 + mean))
    if isinstance(family, F.NegativeBinomialRegression):
        return stats.nbinom.logpmf(y, phi, phi / (phi + mean))
    return stats.gamma.logpdf(y, phi, scale=mean / phi)


@pytest.mark.parametrize("law", LAWS)
def test_densities_are_those_of_scipy(law):
    family, x = example(law)
    np.testing.assert_allclose(family.cost(x), -by_scipy(family, x), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("law", LAWS)
def test_statistics_are_derivatives_of_the_expected_cost(law):
    """All at once, by JAX, against the sums by component."""
    family, x = example(law)
    plan = jax.nn.softmax(jax.random.normal(jax.random.key(2), (N, 3)), axis=1) / N

    def expected(own, common):
        moved = om.core.tree.replace(family, coefficients=own, shared=common)
        return jnp.sum(plan * moved.cost(x))

    at = family.coefficients, family.shared
    own, common = jax.grad(expected, (0, 1))(*at)
    found = jax.jit(lambda plan: family.statistics(x, plan))(plan).equations
    np.testing.assert_allclose(found.gradient[:, :2], own, atol=1e-12)
    np.testing.assert_allclose(found.gradient[:, 2:].sum(axis=0), common, atol=1e-12)
    (hessian, cross), (_, shared) = jax.hessian(expected, (0, 1))(*at)
    for j in range(3):
        np.testing.assert_allclose(found.gram[j, :2, :2], hessian[j, :, j], atol=1e-12)
        np.testing.assert_allclose(found.gram[j, :2, 2:], cross[j], atol=1e-12)
    np.testing.assert_allclose(found.gram[:, 2:, 2:].sum(axis=0), shared, atol=1e-12)


@pytest.mark.parametrize(
    "law",
    [pytest.param(F.NegativeBinomialRegression, marks=pytest.mark.slow), F.GammaRegression],
)
def test_the_step_in_the_dispersion_is_newtons(law):
    family, x = example(law, with_shared=False)
    plan = jnp.ones((N, 3)) / (3 * N)
    zero = jnp.zeros(3)

    def expected(z):
        moved = {family.dispersion: family._dispersion * jnp.exp(z)}
        return jnp.sum(plan * om.core.tree.replace(family, **moved).cost(x))

    slopes = family.statistics(x, plan)
    np.testing.assert_allclose(slopes.slope, jax.grad(expected)(zero), atol=1e-12)
    np.testing.assert_allclose(slopes.bend, jnp.diag(jax.hessian(expected)(zero)), atol=1e-12)


def test_the_linear_m_step_is_least_squares():
    """Of all components' rows together where they share effects, each row over its deviation."""
    family, x = example(F.LinearRegression)
    plan = np.asarray(jax.nn.softmax(jax.random.normal(jax.random.key(2), (N, 3)), axis=1)) / N
    new = family.maximize(family.statistics(x, jnp.asarray(plan)), jnp.asarray(plan.sum(0)))
    y = np.tile(np.asarray(x["y"] - x["offset"]), 3)
    root = np.sqrt(plan.T.ravel()) / np.repeat(np.asarray(family.deviation), N)
    design = np.zeros((3, N, 8))
    for j in range(3):
        design[j, :, 2 * j : 2 * j + 2] = x["features"]
        design[j, :, 6:] = x["shared"]
    design = design.reshape(-1, 8)
    best = np.linalg.lstsq(root[:, None] * design, root * y, rcond=None)[0]
    np.testing.assert_allclose(new.coefficients.ravel(), best[:6], rtol=1e-10)
    np.testing.assert_allclose(new.shared, best[6:], rtol=1e-10)
    left = plan.T * (y - design @ best).reshape(3, N) ** 2
    variance = left.sum(axis=1) / plan.sum(axis=0)
    np.testing.assert_allclose(new.deviation**2, variance, rtol=1e-10)


def test_least_squares_of_columns_that_follow_from_others():
    """Coefficients of those stay, and the residual is the least there is."""
    rng = np.random.default_rng(1)
    design = rng.normal(size=(30, 3)) @ np.array(
        [[1.0, 0, 2, 0, 0], [0, 1, -1, 0, 1], [0, 0, 0, 0, 3]]
    )
    y = rng.normal(size=30)
    gram = jnp.asarray(design.T @ design)
    inverse = regular_inverse(gram)
    np.testing.assert_allclose(inverse[np.array([2, 3])], 0)
    np.testing.assert_allclose(gram @ inverse @ gram, gram, atol=1e-10)
    own, common = NormalEquations(-jnp.asarray(design.T @ y)[None], gram[None]).solve(2)
    left = y - design @ np.concatenate([own[0], common])
    wanted = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(left @ left, wanted @ wanted, rtol=1e-10)


def test_a_shortened_step_lowers_the_cost_from_afar():
    rng = np.random.default_rng(2)
    for law in (F.PoissonRegression, F.BinomialRegression):
        family, x = example(law)
        plan = jnp.ones((N, 3)) / (3 * N)

        @jax.jit
        def both(family, x=x, plan=plan):
            new = family.maximize(family.statistics(x, plan), jnp.sum(plan, axis=0))
            return [jnp.sum(plan * one.cost(x)) for one in (family, new)]

        for _ in range(20):
            far = jnp.asarray(rng.normal(0, 3, (3, 2)))
            before, after = both(om.core.tree.replace(family, coefficients=far))
            assert after < before


def test_the_negative_binomial_becomes_poisson():
    """To all digits as its size grows; derivatives stay finite."""
    x = {"features": jnp.ones((3, 1)), "y": jnp.array([0.0, 4.0, 1e6])}
    coefficients = jnp.full((1, 1), 3.0)
    poisson = F.PoissonRegression(coefficients, jnp.zeros(0)).cost(x)

    @jax.jit
    def both(size):
        made = F.NegativeBinomialRegression(coefficients, jnp.zeros(0), size[None])
        return made.cost(x), made.statistics(x, jnp.ones((3, 1)))

    for size in (1e15, 1e30):
        cost, slopes = both(jnp.asarray(size))
        np.testing.assert_allclose(cost[:2], poisson[:2], rtol=1e-12)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_large_counts_keep_their_digits():
    import mpmath

    y, eta = 1e9 + 3e4, float(np.log(1e9))
    x = {"features": jnp.ones((1, 1)), "y": jnp.array([y]), "trials": jnp.array([3e9])}
    with mpmath.workdps(50):
        e = mpmath.mpf(eta)
        poisson = mpmath.exp(e) - y * e + mpmath.loggamma(mpmath.mpf(y) + 1)
        logit = mpmath.log(mpmath.mpf(1) / 2)
        ways = mpmath.log(mpmath.binomial(mpmath.mpf(3e9), mpmath.mpf(y)))
        binomial = 3e9 * mpmath.log1p(mpmath.exp(logit)) - y * logit - ways
    made = F.PoissonRegression(jnp.full((1, 1), eta), jnp.zeros(0)).cost(x)
    np.testing.assert_allclose(made[0, 0], float(poisson), rtol=1e-9)
    made = F.BinomialRegression(jnp.full((1, 1), np.log(0.5)), jnp.zeros(0)).cost(x)
    np.testing.assert_allclose(made[0, 0], float(binomial), rtol=1e-6)


# -- against R --------------------------------------------------------------------------------


def rows_of(entry):
    """(rows, family) of an entry of the references."""
    formulas = {
        "poisreg_seizure": "Seizures ~ Treatment * log(Day) + offset(log(Hours))",
        "poisreg_fabric": "Faults ~ 1",
        "binomial": "Deaths ~ 1",
        "linreg_NPreg": "yn ~ x + I(x**2)",
        "linreg_tonedata": "tuned ~ stretchratio",
        "poisreg_NPreg": "yp ~ x",
        "logistic_NPreg": "yb ~ x",
    }
    options = {
        "poisreg_fabric": {"shared": "log(Length)"},
        "binomial_betablocker": {"trials": "Total"},
        "binomial_grouped": {"trials": "Total", "shared": "Treated", "groups": "Center"},
        "logistic_NPreg": {"groups": "id1"},
    }
    files = {"seizure": "seizure", "fabric": "fabricfault", "betab": "betablocker"}
    files |= {"NPreg": "NPreg", "tone": "tonedata"}
    kinds = {"poisreg": "poisson", "binomial": "binomial", "logistic": "binomial"}
    kinds |= {"equalsd": "tied_linear", "linreg": "linear"}

    def found(choices, default=None):
        return next((choices[key] for key in choices if key in entry), default)

    data = table(found(files))
    rows = om.rows.regression(found(formulas), data, **found(options, {}))
    return rows, f"{found(kinds)}_regression"


QUICK = ("poisreg_seizure_K2", "binomial_grouped_betablocker_K2")
SLOW = (
    "linreg_NPreg_K2",
    "poisreg_fabric_K2",
    "binomial_betablocker_K1",
    "binomial_betablocker_K3",
    "binomial_grouped_betablocker_K3",
    "poisreg_NPreg_K2",
    "logistic_NPreg_grouped_K2",
    "linreg_tonedata_K2",
    "linreg_tonedata_K2_equalsd",
)
FITS = {}


def fitted(entry):
    if entry not in FITS:
        rows, family = rows_of(entry)
        FITS[entry] = rows, om.fit(rows, int(entry.split("_K")[1][0]), family=family, key=0)
    return FITS[entry]


def likelihood(entry):
    rows, solution = fitted(entry)
    return float(solution.log_likelihood(len(jax.tree.leaves(rows)[0])))


@pytest.mark.parametrize(
    "entry", [*QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)]
)
def test_references_are_reached(entry):
    """Likelihood to 1e-5, parameters to 1e-3: flexmix and mixtools, polished by Newton."""
    _, solution = fitted(entry)
    wanted = REFERENCE[entry]["polished_parameters"]
    assert status(solution) == "CONVERGED"
    np.testing.assert_allclose(likelihood(entry), REFERENCE[entry]["polished_loglik"], atol=1e-5)
    own = getattr(solution.mixture.components, "inner", solution.mixture.components)
    order = np.argsort(own.coefficients[:, 0])
    theirs = np.argsort(np.array(wanted["coef"])[:, 0])
    np.testing.assert_allclose(
        own.coefficients[order], np.array(wanted["coef"])[theirs], rtol=1e-3, atol=1e-3
    )
    prior = np.array(wanted["prior"])[theirs]
    np.testing.assert_allclose(solution.mixture.weights[order], prior, atol=1e-3)
    if "shared" in wanted:
        np.testing.assert_allclose(own.shared, [wanted["shared"]], rtol=1e-3)
    if "sigma" in wanted:
        sigma = np.array(wanted["sigma"])
        mine = own.deviation[order] if len(sigma) > 1 else own.deviation[None]
        np.testing.assert_allclose(mine, sigma[theirs] if len(sigma) > 1 else sigma, rtol=1e-3)


@pytest.mark.slow
def test_two_beta_blocker_components_beat_the_reference():
    """flexmix stopped at a local optimum, 6.7 nats lower: it is one, and ours is higher."""
    entry = "binomial_betablocker_K2"
    rows, solution = fitted(entry)
    assert likelihood(entry) > REFERENCE[entry]["polished_loglik"] + 6.6
    wanted = REFERENCE[entry]["polished_parameters"]
    components = F.BinomialRegression(jnp.array(wanted["coef"]), jnp.zeros(0))
    start = om.Mixture.from_weights(jnp.array(wanted["prior"]), components)
    stayed = om.solve(om.Problem(rows), start, tolerance=1e-13)
    theirs = stayed.log_likelihood(44)
    np.testing.assert_allclose(theirs, REFERENCE[entry]["polished_loglik"], atol=1e-6)
    data, p = table("betablocker"), 1 / (1 + np.exp(-solution.mixture.components.coefficients))
    laws = stats.binom.pmf(data["Deaths"][:, None], data["Total"][:, None], np.asarray(p).T)
    ours = np.log(laws @ np.asarray(solution.mixture.weights)).sum()
    np.testing.assert_allclose(likelihood(entry), ours, rtol=1e-12)


def test_standard_errors_are_those_of_flexmix():
    rows, solution = fitted("poisreg_seizure_K2")
    made = om.inference.coefficients(solution, rows)
    entry = REFERENCE["poisreg_seizure_se"]
    np.testing.assert_allclose(made.estimate, entry["coef_vec"][:8], rtol=1e-3)
    np.testing.assert_allclose(made.standard_error, entry["standard_errors"][:8], rtol=1e-3)
    np.testing.assert_allclose(made.p, 2 * stats.norm.sf(np.abs(made.z)), rtol=1e-9)
    lines = str(made).splitlines()
    assert lines[0] == "component 0"
    assert lines[3].split() == ["Treatment", "7.4320", "0.5488", "13.54", "8.94e-42"]
    assert len({len(line) for line in lines if "component" not in line}) == 1


@pytest.mark.slow
def test_standard_errors_of_a_linear_response():
    """The dispersion by its logarithm, untested against 0; flexmix at its own, other, sigma."""
    rows, solution = fitted("linreg_NPreg_K2")
    made = om.inference.coefficients(solution, rows)
    entry = REFERENCE["linreg_NPreg_se"]
    np.testing.assert_allclose(made.standard_error, entry["standard_errors"][:8], rtol=0.01)
    assert made.names[3] == "log(deviation)"
    assert np.isnan(made.z[3])
    assert not np.isnan(made.z[[0, 1, 2]]).any()


def test_effects_in_common_stand_apart():
    rows, solution = fitted("binomial_grouped_betablocker_K2")
    made = om.inference.coefficients(solution, rows)
    assert made.component.tolist() == [0, 1, -1]
    assert made.names == ("Intercept", "Intercept", "Treated")
    assert "shared" in str(made)


def test_prediction():
    rows, solution = fitted("binomial_grouped_betablocker_K2")
    components = solution.mixture.components
    means = components.expected(rows)
    eta = np.asarray(components.inner.coefficients)[:, 0]
    eta = eta + rows["rows"]["shared"] * np.asarray(components.inner.shared)
    by_hand = rows["rows"]["trials"][..., None] / (1 + np.exp(-eta))
    np.testing.assert_allclose(means, by_hand, rtol=1e-12)
    over = om.inference.predict_response(solution.mixture, rows)
    np.testing.assert_allclose(over, by_hand @ np.asarray(solution.mixture.weights), rtol=1e-12)
    known = solution.mixture.responsibilities(rows)
    told = om.inference.predict_response(solution.mixture, rows, known)
    np.testing.assert_allclose(told, np.einsum("nmk,nk->nm", by_hand, known), rtol=1e-12)
    gaussian = om.Mixture.from_weights(jnp.ones(3), F.Gaussian.examples()["full"])
    with pytest.raises(TypeError, match="no response"):
        om.inference.predict_response(gaussian, jnp.zeros((2, 2)))


def test_a_family_without_coefficients_has_no_table():
    x = om.datasets.old_faithful().x
    solution = om.fit(x, 1, key=0)
    with pytest.raises(TypeError, match="no table of coefficients"):
        om.inference.coefficients(solution, x)


# -- rows -------------------------------------------------------------------------------------

FRAME = {"y": [1.0, 2, 4], "a": [1.0, 2, 3], "c": ["u", "v", "v"], "t": [3, 4, 5], "g": [7, 5, 7]}


def test_rows_of_a_formula():
    rows = om.rows.regression("y ~ a + c + offset(log(t)) + offset(a)", FRAME, trials="t")
    assert rows.names == ("Intercept", "a", "c[T.v]")
    assert rows.response == "y"
    np.testing.assert_array_equal(rows["features"], [[1, 1, 0], [1, 2, 1], [1, 3, 1]])
    np.testing.assert_allclose(rows["offset"], np.log([3, 4, 5]) + [1, 2, 3])
    np.testing.assert_array_equal(rows["trials"], [3, 4, 5])
    shared = om.rows.regression("y ~ 1", FRAME, shared="a + c", offset="a")
    assert shared.shared_names == ("a", "c[T.v]")
    np.testing.assert_array_equal(shared["shared"], [[1, 0], [2, 1], [3, 1]])
    np.testing.assert_array_equal(shared["offset"], FRAME["a"])
    again = jax.tree.map(lambda leaf: leaf[:2], shared)
    assert again.shared_names == shared.shared_names
    assert again["y"].shape == (2,)


def test_rows_of_arrays():
    rows = om.rows.regression(
        y=FRAME["y"], features=FRAME["a"], shared=[1, 0, 1], groups=FRAME["g"]
    )
    assert rows.names == ("x0",)
    assert rows.shared_names == ("s0",)
    np.testing.assert_array_equal(rows.units, [7, 5])
    np.testing.assert_array_equal(rows["present"], [[1, 1], [1, 0]])
    np.testing.assert_array_equal(rows["rows"]["y"], [[1, 4], [2, 2]])
    np.testing.assert_array_equal(rows["rows"]["features"], [[[1], [3]], [[2], [2]]])


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("give a formula", {"y": [1.0]}),
        ("with a formula", {"formula": "y ~ a", "y": [1.0]}),
        ("needs a response", {"formula": "a", "frame": FRAME}),
        ("no column", {"formula": "y ~ a", "frame": FRAME, "trials": "n"}),
        ("no column", {"formula": "y ~ a", "frame": FRAME, "groups": "n"}),
        ("one length", {"y": [1.0, 2], "features": [[1.0]]}),
        ("one response", {"formula": "y + a ~ t", "frame": FRAME}),
        ("groups must be 3", {"formula": "y ~ a", "frame": FRAME, "groups": [1, 2]}),
    ],
)
def test_what_rows_refuse(words, given):
    with pytest.raises(ValueError, match=words):
        om.rows.regression(**given)


def test_a_formula_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(ImportError, match=r"otmix_jax\[formula\]"):
        om.rows.regression("y ~ a", FRAME)


# -- units ------------------------------------------------------------------------------------


def test_units_are_the_sum_of_their_rows():
    rng = np.random.default_rng(3)
    x, unit = rng.normal(size=(30, 2)) * 5, rng.integers(0, 8, 30)
    rows = om.rows.repeated(x, unit)
    inner = F.Gaussian.examples()["full"]
    cost = np.asarray(inner.cost(jnp.asarray(x)))
    by_hand = np.stack([cost[unit == one].sum(axis=0) for one in rows.units])
    units = jax.tree.map(jnp.asarray, dict(rows))
    np.testing.assert_allclose(Repeated(inner).cost(units), by_hand, rtol=1e-12)
    # a count of 2 is a row that was seen twice
    twice = units | {"present": 2 * units["present"]}
    np.testing.assert_allclose(Repeated(inner).cost(twice), 2 * by_hand, rtol=1e-12)
    plan = jax.nn.softmax(jnp.asarray(-by_hand / 50)) / len(by_hand)
    plan_of_rows = np.asarray(plan)[[rows.units.tolist().index(one) for one in unit]]
    new = Repeated(inner).maximize(Repeated(inner).statistics(units, plan), plan.sum(0))
    wanted = inner.maximize(
        inner.statistics(jnp.asarray(x), jnp.asarray(plan_of_rows)),
        jnp.asarray(plan_of_rows.sum(0)),
    )
    np.testing.assert_allclose(new.inner.mean, wanted.mean, rtol=1e-10)
    np.testing.assert_allclose(new.inner.matrices(), wanted.matrices(), rtol=1e-9)


def test_a_fit_of_units():
    """It wraps the family itself; in a frame, the value is that of the units all the same."""
    rng = np.random.default_rng(4)
    unit = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    x = 100 + 10 * rng.normal(np.where(unit < 15, 0.0, 2.0), 1.0)[:, None]
    rows = om.rows.repeated(x, unit)
    solution = om.fit(rows, 2, family="gaussian", key=0)
    assert isinstance(solution.mixture.components, Repeated)
    mixture, inner = solution.mixture, solution.mixture.components.inner
    laws = stats.norm.logpdf(x, inner.mean[:, 0], np.sqrt(inner.matrices()[:, 0, 0]))
    by_unit = np.stack([laws[unit == one].sum(axis=0) for one in range(40)])
    total = np.logaddexp.reduce(by_unit + np.asarray(mixture.log_weights), axis=1).mean()
    np.testing.assert_allclose(solution.value, -total, rtol=1e-10)
    np.testing.assert_allclose(mixture.log_prob(rows).mean(), total, rtol=1e-10)
    found = np.asarray(mixture.predict(rows))
    assert (found == found[0]).sum() in range(12, 19)
    assert solution.n_parameters == 5


def test_what_units_refuse():
    rows = om.rows.repeated(np.ones((4, 1)), [0, 0, 1, 1])
    empty = dict(rows) | {"present": np.array([[1.0, 1], [0, 0]])}
    with pytest.raises(ValueError, match="unit 1"):
        om.fit(empty, 1, family="poisson", key=0)
    with pytest.raises(ValueError, match="counts"):
        om.fit(om.rows.repeated(-np.ones((4, 1)), [0, 0, 1, 1]), 1, family="poisson", key=0)
    with pytest.raises(ValueError, match="'rows' and 'present'"):
        om.fit({"a": np.ones(4)}, 1, family=Repeated.of("poisson"), key=0)


# -- edges ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines():
    """[200] features, their two lines, and noise."""
    rng = np.random.default_rng(5)
    x, low = rng.normal(size=200), rng.random(200) < 0.4
    eta = np.where(low, 1 + x, 2 - 0.5 * x)
    return np.c_[np.ones(200), x], eta, rng.normal(0, 0.3, 200)


@pytest.mark.slow
def test_units_of_measurement_do_not_matter(lines):
    """A far and large feature and response: the same fit, to rounding."""
    features, eta, noise = lines
    plain = om.fit({"y": eta + noise, "features": features}, 2, family="linear_regression", key=0)
    moved = {"y": 1e6 * (eta + noise) + 1e9, "features": features @ [[1, 1e7], [0, 1e4]]}
    there = om.fit(moved, 2, family="linear_regression", key=0)
    np.testing.assert_allclose(there.value - np.log(1e6), plain.value, rtol=1e-9)
    own = np.asarray(plain.mixture.components.coefficients)
    far = np.asarray(there.mixture.components.coefficients)
    np.testing.assert_allclose(far[:, 1], 1e2 * own[:, 1], rtol=1e-6)
    np.testing.assert_allclose(far[:, 0] + 1e7 * far[:, 1], 1e6 * own[:, 0] + 1e9, rtol=1e-9)


@pytest.mark.slow
def test_features_that_follow_from_others(lines):
    features, eta, noise = lines
    more = np.c_[features, 2 * features[:, 1] - 1, np.zeros(200)]
    with pytest.warns(UserWarning, match="features 2, features 3 follow"):
        found = om.fit({"y": eta + noise, "features": more}, 2, family="linear_regression", key=0)
    plain = om.fit({"y": eta + noise, "features": features}, 2, family="linear_regression", key=0)
    np.testing.assert_allclose(found.value, plain.value, rtol=1e-9)
    np.testing.assert_allclose(found.mixture.components.coefficients[:, 2:], 0, atol=1e-9)


@pytest.mark.slow
def test_separation_ends_in_finite_coefficients(lines):
    features = lines[0]
    rows = {"y": (features[:, 1] > 0) * 1.0, "features": features}
    found = om.fit(rows, 2, family="binomial_regression", key=0)
    assert status(found) == "CONVERGED"
    assert np.isfinite(found.mixture.components.coefficients).all()
    assert abs(float(found.value)) < 1e-3


@pytest.mark.slow
def test_a_line_without_noise_is_a_collapse(lines):
    features, eta, noise = lines
    y = np.where(noise < 0, 1 + 2 * features[:, 1], 3 * noise)
    for rows, count in (({"y": y}, 2), ({"y": features[:, 1]}, 1)):
        with pytest.warns(om.ConvergenceWarning, match="COLLAPSED"):
            om.fit(rows | {"features": features}, count, family="linear_regression", key=0)
    del eta


def test_a_fixed_dispersion_is_no_parameter():
    family, x = example(F.NegativeBinomialRegression, with_shared=False)
    del family
    given = F.NegativeBinomialRegression.of(size=3)
    start = given.initial(x, jnp.ones((N, 2)) / (2 * N))
    assert isinstance(start, Frozen)
    np.testing.assert_array_equal(start.size, [3, 3])
    assert start.n_parameters == 4
    with pytest.raises(TypeError, match="no option 'shape'"):
        F.NegativeBinomialRegression.of(shape=3)
    with pytest.raises(ValueError, match="> 0"):
        F.GammaRegression.of(shape=0)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("gamma_regression", {"y": np.r_[0.0, np.ones(9)]}, "row 0, column 'y' holds 0.0"),
        ("poisson_regression", {"y": np.full(10, 0.5)}, "counts"),
        ("negative_binomial_regression", {"y": -np.ones(10)}, "counts"),
        ("binomial_regression", {"y": np.full(10, 2.0)}, "from 0 to the number of trials"),
        ("binomial_regression", {"trials": np.full(10, 0.0)}, "of 0.0 trials"),
        ("linear_regression", {"z": np.ones(10)}, "a dict of 'y' and 'features'"),
        ("linear_regression", {"features": np.ones(10)}, "shape"),
        ("linear_regression", {"y": np.ones((10, 1))}, "shape"),
    ],
)
def test_what_families_refuse(family, changes, words):
    rows = {"y": np.ones(10), "features": np.ones((10, 1))} | changes
    with pytest.raises(ValueError, match=words):
        om.fit(rows, 1, family=family, key=0)


def test_another_number_of_features_is_refused():
    family, x = example(F.PoissonRegression)
    with pytest.raises(ValueError, match=r"'features' of shape \(n, 2\)"):
        family.cost(x | {"features": x["features"][:, :1]})
    with pytest.raises(ValueError, match="'shared'"):
        family.cost({name: leaf for name, leaf in x.items() if name != "shared"})


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_fits_recover_what_they_were_drawn_from(law):
    """From a sample, within four standard errors, by default settings."""
    family, x = example(law)
    given = {n: jnp.tile(leaf, (50, *(1,) * (leaf.ndim - 1))) for n, leaf in x.items()}
    own = jnp.array([[2.0, 1.0], [0.2, -1.0]])
    truth = om.core.tree.replace(family.take(np.array([0, 1])), coefficients=own)
    mixture = om.Mixture.from_weights(jnp.array([0.4, 0.6]), truth)
    rows = jax.tree.map(np.asarray, mixture.sample(jax.random.key(6), 50 * N, given))
    solution = om.fit(rows, 2, family=law, key=0)
    order = np.argsort(-solution.mixture.components.coefficients[:, 0])
    errors = om.standard_errors(solution, rows).leaves.components.take(order)
    found = solution.mixture.components.take(order)
    off = jax.tree.map(lambda a, b, e: np.abs(a - b) / e, found, truth, errors)
    assert ravel_pytree(off)[0].max() < 4


@pytest.mark.slow
def test_selection_and_batches(lines):
    features, eta, noise = lines
    rows = {"y": eta + noise, "features": features}
    choice = om.select(rows, [1, 2, 3], family="linear_regression", key=0)
    assert choice.best.mixture.n_components == 2
    parts = [jax.tree.map(lambda leaf: leaf[:150], rows), rows]
    batch = om.fit_batch(parts, 2, family="linear_regression", key=0)
    alone = om.fit(rows, 2, family="linear_regression", key=0)
    np.testing.assert_allclose(batch.value[1], alone.value, rtol=1e-4)
    chosen = om.select(
        om.rows.regression(y=rows["y"], features=features, groups=np.arange(200) // 2),
        [1, 2],
        family="linear_regression",
        key=0,
        starts=om.Starts(n_init=2),
    )
    assert isinstance(chosen.best.mixture.components, Repeated)
