"""Positive and bounded laws: against scipy and mpmath, at the extremes and through `fit`."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats as st
from scipy.integrate import quad

import otmix_jax as om
from otmix_jax.families import (
    Beta,
    Dirichlet,
    Exponential,
    Gamma,
    InverseGaussian,
    LogNormal,
    Weibull,
)
from otmix_jax.families.concentration import (
    digamma_excess,
    dirichlet_shapes,
    gamma_shape,
    trigamma_excess,
)

DATA = Path(__file__).parent / "data" / "reference"
REFERENCE = json.loads((DATA / "reference.json").read_text())


def column(*values):
    """One number for each component, of one column."""
    return jnp.array(values, float)[:, None]


# the law, scipy's laws of its components, and rows out to where densities vanish
POSITIVE_ROWS = np.array([1e-12, 1e-3, 0.2, 0.9, 1.0, 1.7, 6.0, 40.0, 300.0])
LAWS = {
    "exponential": (
        Exponential(column(0.5, 3.0)),
        [st.expon(scale=2), st.expon(scale=1 / 3)],
        np.append(POSITIVE_ROWS, 0.0),
    ),
    "gamma": (
        Gamma(column(0.3, 700.0, 4.0), column(2.0, 650.0, 1e-3)),
        [st.gamma(0.3, scale=0.5), st.gamma(700, scale=1 / 650), st.gamma(4, scale=1e3)],
        POSITIVE_ROWS,
    ),
    "log_normal": (
        LogNormal(column(-1.0, 2.0), column(0.05, 3.0)),
        [st.lognorm(0.05, scale=np.exp(-1)), st.lognorm(3, scale=np.exp(2))],
        POSITIVE_ROWS,
    ),
    "inverse_gaussian": (
        InverseGaussian(column(1.0, 5.0), column(400.0, 0.5)),
        [st.invgauss(1 / 400, scale=400), st.invgauss(5 / 0.5, scale=0.5)],
        POSITIVE_ROWS,
    ),
    "weibull": (
        Weibull(column(0.4, 1.0, 20.0), column(3.0, 0.5, 1.2)),
        [st.weibull_min(0.4, scale=3), st.weibull_min(1, scale=0.5), st.weibull_min(20, scale=1.2)],
        POSITIVE_ROWS[:7],
    ),
    "beta": (
        Beta(column(0.3, 500.0, 2.0), column(0.6, 90.0, 1.0)),
        [st.beta(0.3, 0.6), st.beta(500, 90), st.beta(2, 1)],
        np.array([1e-300, 1e-9, 0.01, 0.5, 0.84, 0.85, 0.999, 1 - 1e-12]),
    ),
}
ENDS = {"beta": (0, 1)}


@pytest.fixture(params=LAWS)
def law(request):
    return request.param


def test_the_density_is_scipys(law):
    family, theirs, rows = LAWS[law]
    expected = np.stack([one.logpdf(rows) for one in theirs], axis=1)
    np.testing.assert_allclose(-family.cost(rows[:, None]), expected, rtol=1e-11, atol=1e-11)


def test_the_linear_form_is_scipys(law):
    family, theirs, rows = LAWS[law]
    form = family.linear_form()
    if form is None:
        assert law == "weibull"
        return
    expected = np.stack([one.logpdf(rows) for one in theirs], axis=1)
    ours = -form.costs(jnp.asarray(rows[:, None]))
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-9)


def test_moments_and_distribution_functions_are_scipys(law):
    family, theirs, rows = LAWS[law]
    mean, variance = family.moments()
    np.testing.assert_allclose(mean[:, 0], [one.mean() for one in theirs], rtol=1e-12)
    np.testing.assert_allclose(variance[:, 0], [one.var() for one in theirs], rtol=1e-10)
    x = np.concatenate([[-1.0], rows])
    expected = np.stack([one.cdf(x) for one in theirs], axis=1)
    np.testing.assert_allclose(family.cdf(jnp.asarray(x)), expected, rtol=1e-9, atol=1e-14)


def test_densities_integrate_to_one(law):
    family, theirs, _ = LAWS[law]
    cost = jax.jit(family.cost)
    for j, one in enumerate(theirs):
        edges, mass = one.ppf([0.01, 0.1, 0.5, 0.9, 0.99]), 0.0
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            mass += quad(lambda t, j=j: np.exp(-cost(jnp.array([[t]]))[0, j]), low, high)[0]
        np.testing.assert_allclose(mass, 0.98, rtol=1e-9)


def test_nothing_off_the_support(law):
    family, _, _ = LAWS[law]
    off = np.array([[-1.0], [np.inf], [np.nan]] if law != "beta" else [[0.0], [1.0], [np.nan]])
    assert np.isposinf(family.cost(off)).all()
    if law != "exponential":
        assert np.isposinf(family.cost(np.zeros((1, 1)))).all()

    def total(family, x):
        mixture = om.Mixture.from_weights(jnp.ones(family.n_components), family)
        return om.negative_log_likelihood(mixture, x, np.array([1.0, 0.0]))

    # a row of weight 0 off the support, and one near the border
    x = jnp.array([[1e-12], [-1.0]])
    slopes = jax.grad(total, (0, 1))(family, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def _mp_gamma(t, a, b):
    a, b = mpmath.mpf(a), mpmath.mpf(b)
    return a * mpmath.log(b) - mpmath.loggamma(a) + (a - 1) * mpmath.log(t) - b * t


def _mp_wald(t, m, s):
    m, s = mpmath.mpf(m), mpmath.mpf(s)
    return mpmath.log(s / (2 * mpmath.pi * t**3)) / 2 - s * (t - m) ** 2 / (2 * m**2 * t)


def _mp_beta(t, a, b):
    a, b = mpmath.mpf(a), mpmath.mpf(b)
    norm = mpmath.loggamma(a + b) - mpmath.loggamma(a) - mpmath.loggamma(b)
    return norm + (a - 1) * mpmath.log(t) + (b - 1) * mpmath.log1p(-t)


NARROW = {
    "gamma": (Gamma(column(1e20), column(0.5e20)), _mp_gamma, (1e20, 0.5e20)),
    "inverse_gaussian": (InverseGaussian(column(2.0), column(2e20)), _mp_wald, (2.0, 2e20)),
    "beta": (Beta(column(3e12), column(1e12)), _mp_beta, (3e12, 1e12)),
}


@pytest.mark.parametrize("name", NARROW)
def test_narrow_components_keep_their_digits(name):
    """Natural parameters of 1e20 and costs of a few nats: by differences nothing cancels."""
    family, exact, parameters = NARROW[name]
    mean, variance = (float(m[0, 0]) for m in family.moments())
    x = mean + np.sqrt(variance) * np.array([-3.0, -0.5, 0.0, 1.0, 4.0])
    with mpmath.workdps(60):
        expected = [float(exact(mpmath.mpf(float(t)), *parameters)) for t in x]
    # a row's own rounding, in deviations, is what is left
    loss = 8 * np.finfo(float).eps * mean / np.sqrt(variance) * 4
    np.testing.assert_allclose(-family.cost(x[:, None])[:, 0], expected, atol=1e-11 + loss)


def test_shapes_solve_their_equations():
    z = 10.0 ** np.arange(-6, 18, 0.7)
    with mpmath.workdps(60):
        exact = [mpmath.mpf(float(one)) for one in z]
        psi = [float(mpmath.digamma(one) - mpmath.log(one)) for one in exact]
        slope = [float(mpmath.psi(1, one) - 1 / one) for one in exact]
    np.testing.assert_allclose(digamma_excess(jnp.asarray(z)), psi, rtol=1e-14)
    np.testing.assert_allclose(trigamma_excess(jnp.asarray(z)), slope, rtol=1e-14)
    np.testing.assert_allclose(gamma_shape(-jnp.asarray(psi)), z, rtol=1e-13)
    by_s = jax.vmap(jax.grad(gamma_shape))(-jnp.asarray(psi))
    np.testing.assert_allclose(by_s, -1 / np.array(slope), rtol=1e-12)


@pytest.mark.parametrize("c", [2, 5])
def test_dirichlet_shapes_solve_their_equations(c):
    """From another law's means too, for shapes from 1e-3 to 1e6 side by side."""
    rng = np.random.default_rng(c)
    a = 10 ** rng.uniform(-3, 6, size=(60, c))
    origin = a * np.exp(rng.normal(size=a.shape))
    psi = np.vectorize(lambda t: float(mpmath.digamma(t)))
    mean_log = psi(a) - psi(a.sum(1))[:, None] - np.log(origin / origin.sum(1, keepdims=True))
    found = np.asarray(dirichlet_shapes(jnp.asarray(mean_log), jnp.asarray(origin)))
    # digits that the equations themselves lose, for means of logarithms of order log n
    np.testing.assert_allclose(found, a, rtol=1e-6)
    residual = psi(found) - psi(found.sum(1))[:, None] - psi(a) + psi(a.sum(1))[:, None]
    np.testing.assert_allclose(residual, 0, atol=1e-11 * (1 + 1 / a.min()))


def test_the_dirichlet_density_is_scipys():
    family = Dirichlet.examples()["shares"]
    x = np.random.default_rng(0).dirichlet([0.4, 2.0, 1.0], size=20)
    x = np.maximum(x, 1e-8)
    x /= x.sum(1, keepdims=True)
    theirs = [st.dirichlet(np.asarray(a)) for a in family.concentration]
    expected = np.stack([one.logpdf(x.T) for one in theirs], axis=1)
    np.testing.assert_allclose(-family.cost(x), expected, rtol=1e-11, atol=1e-11)
    mean, covariance = family.moments()
    np.testing.assert_allclose(mean[0], theirs[0].mean(), rtol=1e-14)
    np.testing.assert_allclose(covariance[0], theirs[0].cov(), rtol=1e-12, atol=1e-16)


def test_a_beta_law_is_a_dirichlet_law():
    beta, x = Beta(column(2.0, 0.5), column(3.0, 9.0)), np.array([[0.1], [0.6]])
    both = Dirichlet(jnp.array([[2.0, 3.0], [0.5, 9.0]]))
    np.testing.assert_allclose(beta.cost(x), both.cost(np.hstack([x, 1 - x])), rtol=1e-13)


@pytest.mark.parametrize("k", [1, 2])
def test_reaction_times(k):
    """Gamma mixtures of mixtools' RTdata: the optimum that Newton's method polished."""
    x = np.loadtxt(DATA / "RTdata.csv", delimiter=",", skiprows=1).reshape(-1, 1)
    entry = REFERENCE[f"gamma_RTdata_K{k}"]
    solution = om.fit(x, k, family="gamma", key=0)
    assert om.Status(int(solution.status)) is om.Status.CONVERGED
    loglik = float(solution.log_likelihood(len(x)))
    assert abs(loglik - entry["polished_loglik"]) < 1e-5
    polished = entry["polished_parameters"]
    order = np.argsort(np.asarray(solution.mixture.components.shape[:, 0]))
    for ours, name in (
        (solution.mixture.weights, "prior"),
        (solution.mixture.components.shape[:, 0], "shape"),
        (1 / solution.mixture.components.rate[:, 0], "scale"),
    ):
        np.testing.assert_allclose(np.asarray(ours)[order], polished[name], rtol=1e-3)


NAMES = ("exponential", "gamma", "log_normal", "inverse_gaussian", "weibull")


def slow_but(name, quick):
    return () if name == quick else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_but(n, "gamma")) for n in NAMES])
def test_the_unit_of_the_rows_does_not_matter(name):
    family = om.families.FAMILIES[name]
    mixture = om.Mixture.from_weights(jnp.array([0.5, 0.5]), LAWS[name][0].take(np.array([0, 1])))
    x = np.asarray(mixture.sample(jax.random.key(1), 200))
    start = om.initializers.kmeans_plus_plus
    values = [
        om.solve(
            om.Problem(c * x),
            start(jax.random.key(0), om.Problem(c * x), n_components=2, family=family),
            max_steps=30,
        ).value
        - np.log(c)
        for c in (1.0, 1e-6, 1e6)
    ]
    np.testing.assert_allclose(values[1:], values[0], rtol=1e-9, atol=1e-9)


SHAPED = [pytest.param(n, marks=slow_but(n, "gamma")) for n in (*NAMES[1:], "beta")]


@pytest.mark.parametrize("name", SHAPED)
def test_equal_rows_are_a_collapse(name):
    """It rests on the bound that is named, and all of it is finite."""
    alike = np.full((20, 1), 0.3)
    with pytest.warns(UserWarning, match="COLLAPSED"):
        solution = om.fit(alike, 1, family=name, key=0)
    assert om.Status(int(solution.status)) is om.Status.COLLAPSED
    assert bool(solution.certificate.spurious[0])
    components = solution.mixture.components
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(components))
    np.testing.assert_allclose(components.moments()[0], 0.3, rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("gamma", [[1.0, 2.0], [3.0, 0.0]], "row 1, column 1 holds 0.0"),
        ("weibull", [[1.0, -2.0], [3.0, 1.0]], "row 0, column 1 holds -2.0"),
        ("exponential", [[1.0], [-1.0]], "row 1, column 0 holds -1.0"),
        ("beta", [[0.2], [1.0]], "row 1, column 0 holds 1.0"),
        ("beta", [[0.0], [0.5]], "row 0, column 0 holds 0.0"),
        ("dirichlet", [[0.5, 0.5], [0.6, 0.6]], "row 1 sums to 1.2"),
        ("dirichlet", [[0.5, 0.5], [0.0, 1.0]], "row 1, column 0 holds 0.0"),
    ],
)
def test_rows_off_the_support_are_named(name, rows, words):
    with pytest.raises(ValueError, match=words):
        om.fit(np.array(rows), 1, family=name, key=0)


MISSING = [pytest.param(n, marks=slow_but(n, "beta")) for n in ("gamma", "beta")]


@pytest.mark.slow
@pytest.mark.parametrize("name", MISSING)
def test_missing_cells_are_integrated_out(name):
    family = {"gamma": Gamma, "beta": Beta}[name]
    example = next(iter(family.examples().values()))
    by_cell = type(example)(*jax.tree.leaves(example), by_cell=True)
    x = np.asarray(example.sample(jax.random.key(0), jnp.arange(6) % 3)).copy()
    x[1, 0] = x[4, 1] = x[5, 0] = x[5, 1] = np.nan
    ours = by_cell.cost(x)
    single = [example.marginal([a]).cost(np.nan_to_num(x[:, [a]], nan=0.5)) for a in (0, 1)]
    expected = sum(np.where(np.isnan(x[:, [a]]), 0, single[a]) for a in (0, 1))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    plan = jax.nn.softmax(jax.random.normal(jax.random.key(1), (6, 3)), axis=1) / 6
    there = ~np.isnan(x[:, 0])
    one = by_cell.maximize(by_cell.statistics(x, plan), plan.sum(0)).marginal([0])
    part = example.marginal([0])
    other = part.maximize(part.statistics(x[there][:, :1], plan[there]), plan[there].sum(0))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_narrow_component_on_few_rows_is_spurious():
    """Two rows that nearly coincide win likelihood by chance; thirty do not."""
    rng = np.random.default_rng(0)
    many = rng.gamma(3.0, 1.0, size=300)
    few = np.concatenate([many, 2 + 1e-5 * rng.normal(size=2)])
    family = Gamma(column(3.0, 1e10), column(1.0, 0.5e10))
    weights = jnp.array([300.0, 2.0]) / 302
    assert family.spurious(None, weights, 302.0).tolist() == [False, True]
    assert family.spurious(None, jnp.array([0.9, 0.1]), 300.0).tolist() == [False, False]
    solution = om.fit(few[:, None], 2, family="gamma", key=0)
    assert not bool(solution.certificate.spurious.any())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "beta", "dirichlet"])
def test_a_fit_recovers_what_was_drawn(name):
    """Within four standard errors, from 4000 rows of two components."""
    truth = {
        "exponential": Exponential(jnp.array([[0.2, 3.0], [5.0, 0.1]])),
        "gamma": Gamma(jnp.array([[2.0, 9.0], [30.0, 1.5]]), jnp.array([[1.0, 1.0], [2.0, 4.0]])),
        "log_normal": LogNormal(jnp.array([[0.0, 1.0], [2.0, -1.0]]), jnp.full((2, 2), 0.5)),
        "inverse_gaussian": InverseGaussian(
            jnp.array([[1.0, 5.0], [4.0, 0.5]]), jnp.array([[3.0, 40.0], [60.0, 2.0]])
        ),
        "weibull": Weibull(jnp.array([[1.5, 5.0], [6.0, 0.8]]), jnp.array([[1.0, 4], [3.0, 0.3]])),
        "beta": Beta(jnp.array([[2.0, 9.0], [12.0, 0.8]]), jnp.array([[8.0, 4.0], [3.0, 2.0]])),
        "dirichlet": Dirichlet(jnp.array([[2.0, 9.0, 3.0], [12.0, 1.5, 5.0]])),
    }[name]
    mixture = om.Mixture.from_weights(jnp.array([0.3, 0.7]), truth)
    x = np.asarray(mixture.sample(jax.random.key(3), 4000))
    solution = om.fit(x, 2, family=name, key=0)
    assert om.Status(int(solution.status)) is om.Status.CONVERGED
    order = np.argsort(np.asarray(solution.mixture.weights))
    errors = om.standard_errors(solution, x).leaves.components
    trees = map(jax.tree.leaves, (solution.mixture.components, truth, errors))
    for ours, drawn, error in zip(*trees, strict=True):
        assert (np.abs(ours[order] - drawn) < 4 * error[order]).all()
