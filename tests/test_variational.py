"""Variational mixtures: equal to scikit-learn's, to closed forms, to sums over all labellings."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import betaln, gammaln, logsumexp, multigammaln
from scipy.stats import invwishart, wishart
from sklearn.exceptions import ConvergenceWarning as TheirWarning
from sklearn.mixture import BayesianGaussianMixture

import otmix_jax as om
from otmix_jax import variational as vb

THEIRS = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}
PRIORS = {"dirichlet": "dirichlet_distribution", "dirichlet_process": "dirichlet_process"}
STEPS = 7


@pytest.fixture(scope="module")
def groups():
    """Three groups [75, 3], and random labels of four components as responsibilities."""
    rng = np.random.default_rng(0)
    parts = [
        rng.normal(size=(30, 3)) @ rng.normal(size=(3, 3)),
        rng.normal(size=(25, 3)) + 3,
        rng.normal(size=(20, 3)) * 0.5 - 2,
    ]
    return np.concatenate(parts), np.eye(4)[rng.integers(4, size=75)]


class Theirs(BayesianGaussianMixture):
    """scikit-learn's, from given responsibilities."""

    def from_start(self, x, start):
        self._initialize_parameters = lambda x, *_, **__: self._initialize(x, start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TheirWarning)
            return self.fit(x)


def theirs(x, start, covariance, weights, steps=STEPS, **options):
    """`steps` steps without their regularisation and tolerance."""
    told = {"covariance_type": THEIRS[covariance], "reg_covar": 0, "tol": 0, "max_iter": steps}
    kind = PRIORS[weights]
    model = Theirs(
        n_components=start.shape[1], weight_concentration_prior_type=kind, **told, **options
    )
    return model.from_start(x, start)


def shaped(matrices, covariance):
    """Matrices as scikit-learn holds them."""
    if covariance == "full":
        return matrices
    if covariance == "tied":
        return matrices[0]
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    return diagonals if covariance == "diagonal" else diagonals[:, 0]


@pytest.mark.parametrize(
    ("structure", "weights"),
    [*((name, "dirichlet_process") for name in THEIRS), ("full", "dirichlet")],
)
def test_same_as_scikit_learn(groups, structure, weights):
    x, start = groups
    model = theirs(x, start, structure, weights)
    problem, told = om.Problem(x), {"covariance": structure, "weights": weights}
    ours = vb.solve(problem, start, **told, tolerance=0.0, max_steps=STEPS)
    law = ours.posterior.components
    assert int(ours.n_steps) == model.n_iter_ == STEPS
    matrices = np.asarray(ours.mixture.components.matrices())
    for mine, other in [
        (law.mean, model.means_),
        (shaped(matrices, structure), model.covariances_),
        (law.precision, model.mean_precision_),
        (law.degrees, np.broadcast_to(model.degrees_of_freedom_, 4)),
        (vb.scikit_learn_bound(ours), np.squeeze(model.lower_bound_)),
    ]:
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-10)
    # theirs are of the last step, as they are kept
    model._set_parameters(model._get_parameters())
    np.testing.assert_allclose(ours.weights, model.weights_, atol=1e-12)
    np.testing.assert_allclose(
        jax.tree.leaves(ours.posterior.weights), np.atleast_2d(model.weight_concentration_)
    )
    np.testing.assert_allclose(ours.responsibilities(x), model.predict_proba(x), atol=1e-9)


@pytest.mark.parametrize(
    "structure",
    ["spherical", *(pytest.param(name, marks=pytest.mark.slow) for name in list(THEIRS)[:3])],
)
def test_same_as_scikit_learn_under_priors_of_ones_own(groups, structure):
    """And a Dirichlet law of the proportions."""
    x, start = groups
    spread = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]])
    given = {"full": spread, "tied": spread, "diagonal": spread.diagonal(), "spherical": 1.4}
    centre = np.array([0.5, -1.0, 2.0])
    model = theirs(
        x, start, structure, "dirichlet", weight_concentration_prior=2.5, mean_prior=centre,
        mean_precision_prior=0.3, degrees_of_freedom_prior=5.5,
        covariance_prior=given[structure],
    )  # fmt: skip
    prior = vb.NormalWishartPrior(centre, 0.3, 5.5, given[structure])
    ours = vb.solve(
        om.Problem(x), start, covariance=structure, weights=vb.DirichletPrior(2.5), prior=prior,
        tolerance=0.0, max_steps=STEPS,
    )  # fmt: skip
    np.testing.assert_allclose(ours.posterior.components.mean, model.means_, atol=1e-10)
    bound = vb.scikit_learn_bound(ours)
    np.testing.assert_allclose(bound, np.squeeze(model.lower_bound_), atol=1e-8)


def test_the_bound_never_falls(groups, structure):
    x, start = groups
    ours = vb.solve(om.Problem(x), start, covariance=structure, tolerance=1e-12)
    history = np.asarray(ours.history[: int(ours.n_steps) + 1])
    assert len(history) > 10
    assert np.diff(history).min() > -1e-9
    np.testing.assert_allclose(ours.lower_bound, history[-1], rtol=1e-14)
    assert history[-2] - 1e-9 <= float(ours.update_bound) <= history[-1] + 1e-9


def normal_wishart_evidence(x, mean, precision, degrees, spread):
    """The logarithm of the marginal likelihood, in closed form."""
    (n, d), centre = x.shape, x.mean(axis=0)
    after, more = precision + n, degrees + n
    shift = centre - mean
    scatter = spread + (x - centre).T @ (x - centre)
    scatter += precision * n / after * np.outer(shift, shift)
    logs = [np.linalg.slogdet(matrix)[1] for matrix in (spread, scatter)]
    gammas = multigammaln(more / 2, d) - multigammaln(degrees / 2, d)
    value = gammas + 0.5 * (degrees * logs[0] - more * logs[1] + d * np.log(precision / after))
    return value - 0.5 * n * d * np.log(np.pi)


SPREAD = np.array([[2.0, 0.3], [0.3, 0.7]])
PRIOR = np.array([0.3, -0.2]), 0.7, 3.5, SPREAD


def test_one_gaussian_has_its_evidence():
    x = np.random.default_rng(3).normal(size=(20, 2)) @ [[1.0, 0.5], [0.0, 0.4]] + 1
    one = vb.solve(om.Problem(x), np.ones((20, 1)), prior=vb.NormalWishartPrior(*PRIOR))
    # the stick of one component says nothing; its own law moves by 20 rows
    sticks = vb.StickBreaking(jnp.array([21.0]), jnp.array([1.0]))
    lost = sticks.expected_log()[0] * 20
    lost -= float(sticks.divergence(vb.StickBreaking(jnp.ones(1), jnp.ones(1))))
    expected = normal_wishart_evidence(x, *PRIOR) + lost
    np.testing.assert_allclose(one.lower_bound, expected, rtol=1e-12)
    sure = vb.solve(
        om.Problem(x), np.ones((20, 1)), prior=vb.NormalWishartPrior(*PRIOR), weights="dirichlet"
    )
    np.testing.assert_allclose(sure.lower_bound, normal_wishart_evidence(x, *PRIOR), rtol=1e-13)


def test_one_component_of_counts_has_its_evidence():
    rng = np.random.default_rng(4)
    counts = rng.poisson(3.0, size=(30, 2)).astype(float)
    a, b = 2.0 + counts.sum(axis=0), 0.5 + 30
    each = 2 * np.log(0.5) - gammaln(2.0) + gammaln(a) - a * np.log(b)
    poisson = each.sum() - gammaln(counts + 1).sum()
    bits = (rng.random((30, 2)) < 0.3).astype(float)
    ones = bits.sum(axis=0)
    bernoulli = (betaln(2 + ones, 0.5 + 30 - ones) - betaln(2, 0.5)).sum()
    codes = np.stack([rng.integers(3, size=30), rng.integers(2, size=30)], axis=1)
    categorical = 0.0
    for item, levels in enumerate((3, 2)):
        found = np.bincount(codes[:, item], minlength=levels)
        categorical += gammaln(0.7 * levels) - gammaln(0.7 * levels + 30)
        categorical += (gammaln(0.7 + found) - gammaln(0.7)).sum()
    items = om.families.Categorical.of(levels=(3, 2))
    for rows, family, prior, evidence in [
        (counts, "poisson", vb.GammaPrior(2.0, 0.5), poisson),
        (bits, "bernoulli", vb.BetaPrior(2.0, 0.5), bernoulli),
        (codes, items, vb.LevelsPrior(0.7), categorical),
    ]:
        told = {"family": family, "prior": prior, "weights": "dirichlet"}
        one = vb.solve(om.Problem(rows), np.ones((30, 1)), **told)
        np.testing.assert_allclose(one.lower_bound, evidence, rtol=1e-12)


def evidence_by_labellings(x, k, evidence, concentration):
    """The sum over all k^n labellings of the rows, each in closed form."""
    n, terms = len(x), []
    for labels in itertools.product(range(k), repeat=n):
        counts = np.bincount(labels, minlength=k)
        term = gammaln(k * concentration) - gammaln(k * concentration + n)
        term += (gammaln(concentration + counts) - gammaln(concentration)).sum()
        groups = (x[np.equal(labels, j)] for j in range(k))
        terms.append(term + sum(evidence(group) for group in groups if len(group)))
    return logsumexp(terms)


def test_the_bound_is_below_the_evidence_and_near_it():
    """Of two groups far apart: but for the names of the components, q misses little."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(size=(5, 2)) * 0.3, rng.normal(size=(4, 2)) * 0.3 + 9])
    prior = np.array([4.0, 4.0]), 0.1, 3.0, 0.2 * np.eye(2)
    exact = evidence_by_labellings(x, 2, lambda g: normal_wishart_evidence(g, *prior), 1.5)
    start = np.eye(2)[[0] * 5 + [1] * 4]
    told = {"weights": vb.DirichletPrior(1.5), "prior": vb.NormalWishartPrior(*prior)}
    full = vb.solve(om.Problem(x), start, **told).lower_bound
    # log 2: q has one of the two namings
    assert exact - np.log(2) - 1e-3 < float(full) < exact - np.log(2) + 1e-9
    for covariance in ("tied", "spherical"):
        less = vb.solve(om.Problem(x), start, covariance=covariance, **told).lower_bound
        # smaller sets of posteriors, of the same model
        assert float(less) < float(full)


def test_counts_bound_is_below_the_evidence():
    x = np.array([[0.0], [1.0], [0.0], [12.0], [15.0], [9.0]])

    def evidence(group):
        a, b = 1.0 + group.sum(), 0.2 + len(group)
        return np.log(0.2) + gammaln(a) - a * np.log(b) - gammaln(group + 1).sum()

    exact = evidence_by_labellings(x, 2, evidence, 1.0)
    start = np.eye(2)[[0, 0, 0, 1, 1, 1]]
    told = {"weights": vb.DirichletPrior(1.0), "prior": vb.GammaPrior(1.0, 0.2)}
    found = float(vb.solve(om.Problem(x), start, family="poisson", **told).lower_bound)
    assert exact - np.log(2) - 0.05 < found < exact - np.log(2)


def laws():
    """A law of each kind of components by name, with rows."""
    mean = jnp.array([[0.0, 1.0], [2.0, -1.0]])
    precision, degrees = jnp.array([3.0, 0.5]), jnp.array([4.5, 9.0])
    matrices = jnp.array([[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.1], [-0.1, 0.8]]])
    rng = np.random.default_rng(0)
    rows, counts = rng.normal(size=(5, 2)), rng.poisson(3.0, size=(5, 2)).astype(float)
    bits, codes = (counts > 2).astype(float), rng.integers(2, size=(5, 2))
    positive = jnp.array([[0.7, 2.0], [5.0, 1.1]])
    found = {}
    for name in THEIRS:
        covariance = om.families.STRUCTURES[name].from_matrices(matrices)
        same = degrees if name != "tied" else jnp.full(2, 6.0)
        found[name] = vb.NormalWishart(mean, covariance, precision, same), rows
    found["poisson"] = vb.GammaRates(positive, positive + 1), counts
    found["bernoulli"] = vb.BetaProbabilities(positive, positive[::-1]), bits
    levels = jnp.stack([positive, positive + 0.5], axis=-1)
    return {**found, "categorical": (vb.DirichletLevels(levels), codes)}


def draws(law, n, rng):
    """-log p(x | theta) [n, rows, k] as a function of rows, theta being drawn from the law."""
    if isinstance(law, vb.NormalWishart):
        return lambda x: _gaussian_costs(law, n, rng, np.asarray(x))
    if isinstance(law, vb.GammaRates):
        rate = rng.gamma(np.asarray(law.shape), size=(n, 2, 2)) / np.asarray(law.rate)
        return lambda x: np.sum(
            rate[:, None] - x[:, None] * np.log(rate[:, None]) + gammaln(x[:, None] + 1), axis=-1
        )
    if isinstance(law, vb.BetaProbabilities):
        p = rng.beta(np.asarray(law.ones), np.asarray(law.zeros), size=(n, 2, 2))[:, None]
        return lambda x: -np.sum(np.log(np.where(x[:, None] == 1, p, 1 - p)), axis=-1)
    alpha = np.asarray(law.concentration)
    p = rng.gamma(alpha, size=(n, *alpha.shape))
    p /= p.sum(axis=-1, keepdims=True)
    items = np.arange(2)
    return lambda x: -np.stack([np.log(p[:, :, items, row]).sum(axis=-1) for row in x], axis=1)


def _gaussian_costs(law, n, rng, x):
    cost = np.empty((n, len(x), 2))
    matrices = np.asarray(law.plug_in().matrices())
    for j in range(2):
        nu, beta, mean = float(law.degrees[j]), float(law.precision[j]), np.asarray(law.mean[j])
        precision = wishart(nu, np.linalg.inv(nu * matrices[j])).rvs(n, random_state=rng)
        factor = np.linalg.cholesky(np.linalg.inv(precision))
        centre = mean + np.einsum("nab,nb->na", factor, rng.normal(size=(n, 2))) / np.sqrt(beta)
        u = x - centre[:, None]
        square = np.einsum("nia,nab,nib->ni", u, precision, u)
        half_log_det = 0.5 * np.linalg.slogdet(precision)[1]
        cost[:, :, j] = 0.5 * square - half_log_det[:, None] + np.log(2 * np.pi)
    return cost


@pytest.mark.parametrize("name", [*THEIRS, "poisson", "bernoulli", "categorical"])
def test_expected_cost_and_predictive_law(name):
    """Against draws from the law, within five standard errors, of a few hundredths."""
    (law, x), rng = laws()[name], np.random.default_rng(1)
    cost = draws(law, 20_000, rng)(x)
    error = cost.std(axis=0) / np.sqrt(len(cost))
    off = np.abs(cost.mean(axis=0) - np.asarray(law.expected().cost(jnp.asarray(x))))
    assert (off < 5 * error).all()
    density = np.exp(-cost)
    error = density.std(axis=0) / np.sqrt(len(cost))
    found = np.exp(-np.asarray(law.predictive().cost(jnp.asarray(x))))
    assert (np.abs(density.mean(axis=0) - found) < 5 * error).all()


def test_expected_cost_is_exact_in_one_column():
    """Against quadrature over the precision."""
    nu, beta, spread = 3.7, 1.9, 0.8
    law = vb.NormalWishart(
        jnp.array([[0.4]]), om.families.Full(jnp.sqrt(jnp.array([[[spread / nu]]]))),
        jnp.array([beta]), jnp.array([nu]),
    )  # fmt: skip
    grid = np.exp(np.linspace(np.log(1e-12), np.log(200.0), 200_001))
    log_density = invwishart.logpdf(1 / grid, nu, spread) - 2 * np.log(grid)
    mass = np.exp(log_density) * grid * np.log(grid[1] / grid[0])
    np.testing.assert_allclose(mass.sum(), 1, atol=1e-10)
    for x in (-1.0, 0.4, 3.0):
        # the mean given the precision: 1 / (beta lambda) more
        cost = 0.5 * (grid * (x - 0.4) ** 2 + 1 / beta - np.log(grid) + np.log(2 * np.pi))
        found = law.expected().cost(jnp.array([[x]]))[0, 0]
        np.testing.assert_allclose(found, (mass * cost).sum(), rtol=1e-9)


@pytest.mark.parametrize("structure", ["tied", "spherical"])
def test_divergences_vanish_at_home_and_are_the_gain_of_an_update(groups, structure):
    """An update wins how far it moves: that is what makes it the optimum of its block."""
    x, start = groups
    told = {"covariance": structure, "tolerance": 0.0}
    before = vb.solve(om.Problem(x), start, max_steps=3, **told)
    after = vb.solve(om.Problem(x), before.posterior, max_steps=1, **told)
    law = before.posterior
    assert abs(float(law.divergence(law))) < 1e-10
    moved = float(law.divergence(after.posterior))
    assert moved > 1e-3
    # their bound, computed without divergences between posteriors
    model = theirs(x, start, structure, "dirichlet_process", steps=4)
    np.testing.assert_allclose(
        vb.scikit_learn_bound(after), np.squeeze(model.lower_bound_), atol=1e-9
    )


def test_stick_breaking_by_hand():
    sticks = vb.StickBreaking(jnp.array([2.0, 1.5, 1.0]), jnp.array([3.0, 0.5, 0.7]))
    rng = np.random.default_rng(0)
    v = rng.beta(np.asarray(sticks.taken), np.asarray(sticks.passed), size=(200_000, 3))
    pi = v * np.concatenate([np.ones((len(v), 1)), np.cumprod(1 - v, axis=1)[:, :-1]], axis=1)
    mean = pi.mean(axis=0)
    np.testing.assert_allclose(sticks.mean(), mean / mean.sum(), atol=3e-3)
    np.testing.assert_allclose(sticks.expected_log(), np.log(pi).mean(axis=0), atol=0.03)
    more = sticks.updated(jnp.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(more.taken, [3.0, 3.5, 5.0])
    np.testing.assert_allclose(more.passed, [9.0, 4.5, 0.7])


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_weights_count_rows(groups, covariance):
    x, start = groups
    w = np.random.default_rng(2).permutation(np.repeat([0, 1, 2], 25))
    told = {"covariance": covariance, "tolerance": 0.0, "max_steps": 6}
    hidden = np.where(w[:, None] > 0, x, np.nan)
    weighted = vb.solve(om.Problem(hidden, w.astype(float)), start, **told)
    # as many rows as before: the program of other tests
    repeated = vb.solve(om.Problem(np.repeat(x, w, axis=0)), np.repeat(start, w, axis=0), **told)
    np.testing.assert_allclose(weighted.history, repeated.history, rtol=1e-11)
    np.testing.assert_allclose(weighted.counts.sum(), w.sum())


FIT = {"key": 0, "starts": om.Starts(n_init=1)}


def test_fit_in_any_units(faithful):
    """The bound moves by the volume alone, and the answer by the units."""
    fit = om.fit_variational(faithful, 3, **FIT)
    assert int(fit.effective_components) == 2
    assert om.Status(int(fit.status)) == om.Status.CONVERGED
    unit, origin = np.array([8.0, 0.25]), np.array([1e4, -3e3])
    moved = om.fit_variational(faithful * unit + origin, 3, **FIT)
    volume = len(faithful) * np.log(unit).sum()
    np.testing.assert_allclose(moved.lower_bound, fit.lower_bound - volume, rtol=1e-9)
    means = fit.mixture.components.mean * unit + origin
    np.testing.assert_allclose(moved.mixture.components.mean, means, rtol=1e-7)
    prior = vb.NormalWishartPrior(faithful.mean(axis=0), 1.0, 2.0, np.cov(faithful.T))
    told = om.fit_variational(faithful, 3, prior=prior, **FIT)
    np.testing.assert_allclose(told.lower_bound, fit.lower_bound, rtol=1e-10)


def test_answers_of_a_fit(faithful):
    fit = om.fit_variational(faithful, 3, **FIT)
    share = fit.responsibilities(faithful)
    np.testing.assert_allclose(share.sum(axis=1), 1)
    np.testing.assert_allclose(share.sum(axis=0), fit.counts, rtol=1e-4, atol=1e-4)
    assert (fit.predict(faithful) == share.argmax(axis=1)).all()
    assert isinstance(fit.predictive.components, om.families.StudentT)
    # a density: of mass 1 on a fine grid
    grid = np.stack(np.meshgrid(np.linspace(-8, 16, 400), np.linspace(0, 140, 400)), -1)
    density = np.exp(fit.log_prob(grid.reshape(-1, 2)))
    np.testing.assert_allclose(density.sum() * (24 / 399) * (140 / 399), 1, atol=2e-3)


@pytest.mark.parametrize("family", ["poisson", "bernoulli", "categorical"])
def test_fit_of_counts(family):
    rng = np.random.default_rng(6)
    high = np.arange(120) < 50
    rate = np.where(high[:, None], [12.0, 2.0, 9.0], [1.0, 8.0, 2.0])
    x = rng.poisson(rate).astype(float)
    x = x if family == "poisson" else (x > 4).astype(float)
    fit = om.fit_variational(x, 4, family=family, **FIT)
    assert int(fit.effective_components) == 2
    history = np.asarray(fit.history[: int(fit.n_steps) + 1])
    assert np.diff(history).min() > -1e-9
    assert np.mean(np.asarray(fit.predict(x)) == fit.predict(x)[0]) == pytest.approx(50 / 120, 0.1)
    assert np.isfinite(fit.log_prob(x)).all()


def test_missing_cells_and_exposures_of_counts():
    """A cell that is missing is as if its column were another row's: by sums over cells."""
    x = np.array([[3.0, np.nan], [np.nan, 4.0], [1.0, 2.0]])
    told = {"family": om.families.Poisson.of(), "weights": "dirichlet"}
    told["prior"] = vb.GammaPrior(2.0, 0.5)
    whole = {"x": x, "exposure": np.array([1.0, 2.0, 0.5])}

    def evidence(cells, exposure):
        a, b = 2.0 + cells.sum(), 0.5 + exposure.sum()
        base = (cells * np.log(exposure) - gammaln(cells + 1)).sum()
        return 2 * np.log(0.5) - gammaln(2.0) + gammaln(a) - a * np.log(b) + base

    exact = evidence(np.array([3.0, 1.0]), np.array([1.0, 0.5]))
    exact += evidence(np.array([4.0, 2.0]), np.array([2.0, 0.5]))
    told["family"] = om.families.Poisson.incomplete()
    found = vb.solve(om.Problem(whole), np.ones((3, 1)), **told).lower_bound
    np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("unrolled", "steps"), [pytest.param(3, 3, marks=pytest.mark.slow), (None, 3000)]
)
def test_derivatives(groups, unrolled, steps):
    """Through steps, and of the fixed point, against finite differences."""
    x = jnp.asarray(groups[0][35:60, :1])
    start = np.eye(2)[np.r_[np.zeros(17, int), np.ones(8, int)]]

    def answer(x, precision, concentration):
        found = vb.solve(
            om.Problem(x), start, weights=vb.StickBreakingPrior(concentration),
            prior=vb.NormalWishartPrior(precision=precision), tolerance=1e-26,
            max_steps=steps, unrolled=unrolled, history_size=1,
        )  # fmt: skip
        law = found.posterior.components
        number = jnp.sum(jnp.sin(law.mean)) + jnp.sum(found.weights**2)
        number += jnp.sum(found.mixture.components.matrices())
        both = jnp.stack([found.lower_bound, number])
        return both, both

    # values along with derivatives: one program
    both = jax.jit(jax.jacrev(answer, argnums=(0, 1, 2), has_aux=True))
    jacobian, _ = both(x, 1.3, 0.6)
    h, bump = 1e-5, jnp.zeros_like(x).at[3, 0].set(1e-5)
    for own, up, down in [
        (jacobian[0][:, 3, 0], (x + bump, 1.3, 0.6), (x - bump, 1.3, 0.6)),
        (jacobian[1], (x, 1.3 + h, 0.6), (x, 1.3 - h, 0.6)),
        (jacobian[2], (x, 1.3, 0.6 + h), (x, 1.3, 0.6 - h)),
    ]:
        difference = (both(*up)[1] - both(*down)[1]) / (2 * h)
        np.testing.assert_allclose(own, difference, rtol=1e-6, atol=1e-7)


def test_batches(groups):
    """Data sets side by side are those one by one."""
    x, start = groups
    both = jnp.stack([x, x[::-1] + 1])
    told = {"tolerance": 0.0, "max_steps": 5}
    batch = jax.vmap(lambda rows: vb.solve(om.Problem(rows), start, **told))(both)
    for which in range(2):
        alone = vb.solve(om.Problem(both[which]), start, **told)
        np.testing.assert_allclose(batch.history[which], alone.history, rtol=1e-12)


def test_single_precision(faithful):
    single = om.fit_variational(faithful.astype(np.float32), 3, **FIT)
    assert {leaf.dtype for leaf in jax.tree.leaves(single.posterior)} == {np.dtype("float32")}
    double = om.fit_variational(faithful, 3, **FIT)
    np.testing.assert_allclose(single.lower_bound, double.lower_bound, rtol=1e-5)


def test_rows_in_tiles_and_by_products(groups):
    x, start = groups
    told = {"tolerance": 0.0, "max_steps": 4, "covariance": "tied"}
    plain = vb.solve(om.Problem(x), start, **told).history
    engine = om.engine.Engine(om.engine.Guarded, om.engine.Tiled(32))
    tiled = vb.solve(om.Problem(x), start, **told, engine=engine).history
    np.testing.assert_allclose(tiled, plain, rtol=1e-12)


def test_refusals(faithful):
    with pytest.raises(TypeError, match="Gamma has no conjugate law"):
        om.fit_variational(faithful, 2, key=0, family="gamma")
    with pytest.raises(TypeError, match="not EVV"):
        om.fit_variational(faithful, 2, key=0, covariance="EVV")
    with pytest.raises(TypeError, match="prior must be a NormalWishartPrior, not GammaPrior"):
        om.fit_variational(faithful, 2, key=0, prior=vb.GammaPrior())
    with pytest.raises(ValueError, match="weights must be one of dirichlet, dirichlet_process"):
        om.fit_variational(faithful, 2, key=0, weights="stick")
    with pytest.raises(ValueError, match="degrees"):
        om.fit_variational(faithful, 2, key=0, prior=vb.NormalWishartPrior(degrees=1.0))
    with pytest.raises(ValueError, match="concentration must be finite and > 0"):
        om.fit_variational(faithful, 2, key=0, weights=vb.DirichletPrior(0.0))
    with pytest.warns(om.ConvergenceWarning, match="MAX_STEPS after 2 steps"):
        om.fit_variational(faithful, 3, **FIT, limits=om.Limits(max_steps=2))
    flat = np.column_stack([faithful[:, 0], np.ones(len(faithful))])
    with pytest.raises(om.FitError, match="columns that are constant"):
        om.fit_variational(flat, 3, **FIT)
