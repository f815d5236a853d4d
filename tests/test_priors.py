"""Maximum a posteriori: closed forms where there are any, and an objective that never rises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import begin, start, status, step
from scipy import optimize, stats

import otmix_jax as om
from otmix_jax.families import Frozen
from otmix_jax.model import Objective
from otmix_jax.priors import Dirichlet, NormalMean, Prior, Ridge

KAPPA, NU = 0.1, 0.2
CENTRE = np.array([2.0, -1.0])
VARIANCE = np.array([0.5, 2.0])


LBFGS = optax.lbfgs()
ONE_FAST = [
    "full",
    *(pytest.param(name, marks=pytest.mark.nightly) for name in ("tied", "diagonal", "spherical")),
]


def normal_inverse_wishart():
    return Prior(Ridge(jnp.asarray(NU), jnp.asarray(VARIANCE)), NormalMean(CENTRE, KAPPA))


def test_one_full_component_is_the_normal_inverse_wishart_mode(blobs):
    """Fraley and Raftery (2007): the posterior mode, written out with n = 60 rows."""
    solution = om.fit(
        blobs,
        1,
        key=0,
        goal=om.Goal(prior=normal_inverse_wishart()),
        limits=om.Limits(tolerance=1e-14),
    )
    n, kappa = 60, 60 * KAPPA
    average = blobs.mean(axis=0)
    scatter = (blobs - average).T @ (blobs - average)
    mean = (n * average + kappa * CENTRE) / (n + kappa)
    gap = average - CENTRE
    total = scatter + n * kappa / (n + kappa) * np.outer(gap, gap) + 60 * NU * np.diag(VARIANCE)
    components = solution.mixture.components
    np.testing.assert_allclose(components.mean[0], mean, rtol=1e-12)
    expected = total / (n + kappa + 60 * NU)
    np.testing.assert_allclose(components.matrices()[0], expected, rtol=1e-12)


def test_the_penalty_is_the_log_density_of_the_prior():
    """Up to a constant: scipy's inverse Wishart times a normal with covariance Sigma / kappa."""
    n, d, prior = 50, 2, normal_inverse_wishart()

    def log_prior(components):
        sigma = np.asarray(components.matrices()[0])
        # strength = (dof + d + 1) / n; the normal's half log det takes nothing from it.
        dof, scale = n * NU - d - 1, n * NU * np.diag(VARIANCE)
        wishart = stats.invwishart.logpdf(sigma, df=dof, scale=scale)
        mean = np.asarray(components.mean[0])
        return wishart + stats.multivariate_normal.logpdf(mean, CENTRE, sigma / (n * KAPPA))

    def ours(components):
        # Our pseudo-rows carry kappa half log dets, the normal density carries one.
        extra = (n * KAPPA - 1) * 0.5 * np.linalg.slogdet(components.matrices()[0])[1]
        return -n * float(components.penalty(prior)) + extra

    rng = np.random.default_rng(0)
    draws = []
    for _ in range(4):
        root = rng.normal(size=(2, 2)) + 2 * np.eye(2)
        covariance = om.families.Full.from_matrices(jnp.asarray(root @ root.T)[None])
        draws.append(om.families.Gaussian(jnp.asarray(rng.normal(size=(1, 2))), covariance))
    gaps = [log_prior(one) - ours(one) for one in draws]
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-10)


def drawn(k=2, n=40, d=3):
    """Rows, a plan, and covariances and means of no structure."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 1
    plan = rng.dirichlet(np.ones(k), n) / n
    roots = rng.normal(size=(k, d, d)) + 2 * np.eye(d)
    return map(jnp.asarray, (x, plan, roots @ roots.swapaxes(1, 2), rng.normal(size=(k, d))))


SPREAD = np.array([[2.0, 0.9, -0.5], [0.9, 1.0, 0.1], [-0.5, 0.1, 0.7]])
ITERATED = {"VEI": 1e-9, "VEE": 1e-9, "VEV": 1e-9, "VVE": 1e-6, "EVE": 1e-6}
"""Structures whose M-step is a fixed point, and how near to it one step of ten comes."""
SHARED = {"tied", "EEI", "EII"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "structure",
    [
        "full",
        "tied",
        "EII",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("diagonal", "spherical", "EEI", "EVI", "EVV", "EEV", *ITERATED)
        ),
    ],
)
def test_a_matrix_as_spread_has_its_own_m_step(structure):
    """The penalty is the divergence, written out; the M-step is a zero of the slope of it all."""
    x, plan, matrices, mean = drawn()
    components = om.families.Gaussian(
        mean, om.families.STRUCTURES[structure].from_matrices(matrices)
    )
    centre = jnp.array([0.5, -1.0, 2.0])
    prior = Prior(Ridge(jnp.asarray(NU), jnp.asarray(SPREAD)), NormalMean(centre, KAPPA))

    def penalised(components):
        own = components.matrices()[: 1 if structure in SHARED else None]
        trace = jnp.trace(jnp.linalg.solve(own, SPREAD), axis1=1, axis2=2)
        gap = jnp.linalg.slogdet(own)[1] - jnp.linalg.slogdet(SPREAD)[1]
        divergence = 0.5 * jnp.sum(trace - 3 + gap)
        pseudo = KAPPA * jnp.sum(components.cost(centre[None]))
        return jnp.sum(plan * components.cost(x)) + pseudo + NU * divergence, pseudo, divergence

    _, pseudo, divergence = penalised(components)
    np.testing.assert_allclose(components.penalty(prior), pseudo + NU * divergence, rtol=1e-13)
    maximize = jax.jit(lambda own: own.maximize(own.statistics(x, plan), plan.sum(0), prior))
    new = components
    for _ in range(10 if structure in ITERATED else 1):
        new = maximize(new)
    zero = jax.tree.map(jnp.zeros_like, new.unconstrained(new))
    slope = jax.grad(lambda z: penalised(new.constrain(z))[0])(zero)
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_allclose(leaf, 0, atol=ITERATED.get(structure, 1e-12))


@pytest.mark.parametrize("unit", [[2.0, 0.5, 8.0], 4.0])
def test_a_matrix_as_spread_in_another_frame(unit):
    _, _, matrices, mean = drawn()
    inside = om.families.Gaussian(mean, om.families.Full.from_matrices(matrices))
    frame = om.families.Affine(jnp.arange(3.0), jnp.asarray(unit))
    prior = Prior(Ridge(jnp.asarray(NU), jnp.asarray(SPREAD)))
    there = inside.penalty(prior.into(frame))
    np.testing.assert_allclose(there, inside.out_of(frame).penalty(prior), rtol=1e-13)
    # one frame for each of two data sets
    frames = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), frame)
    both = jax.vmap(inside.penalty)(
        Prior(Ridge(jnp.full(2, NU), prior.into(frames).covariance.variance))
    )
    np.testing.assert_allclose(both[0], there, rtol=1e-13)


def test_a_matrix_as_spread_in_float32():
    x, plan, matrices, mean = (leaf.astype(jnp.float32) for leaf in drawn())
    components = om.families.Gaussian(mean, om.families.Full.from_matrices(matrices))
    prior = Prior(Ridge(jnp.float32(NU), jnp.asarray(SPREAD, jnp.float32)))
    new = components.maximize(components.statistics(x, plan), plan.sum(0), prior)
    assert new.covariance.factor.dtype == components.penalty(prior).dtype == jnp.float32


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        ([1.0, 0.0], "covariance.variance must be > 0, which column 1 is not"),
        ([[2.0, 1.0], [0.5, 1.0]], r"must be symmetric, but \[0, 1\] is 1.0 and \[1, 0\] 0.5"),
        ([[1, 2], [2, 4]], "must be positive definite, but column 1 has no variance left"),
        (np.cov([[1, 5, 2, 3], [7, 1, 1, 4], [8, 6, 3, 7]]), "but column 2 has no variance left"),
        ([[-1.0, 0.0], [0.0, 1.0]], "must be positive definite, but column 0"),
        ([[1.0, 0.0]], r"must be of shape \(d,\) or \(d, d\), not \(1, 2\)"),
        ([[1.0, np.nan], [np.nan, 1.0]], "must be finite, not"),
    ],
)
def test_a_spread_that_is_no_covariance_is_refused(blobs, spread, words):
    goal = om.Goal(prior=Ridge(0.1, np.asarray(spread)))
    with pytest.raises(ValueError, match=words):
        om.fit(blobs, 2, key=0, goal=goal)


@pytest.mark.slow
def test_a_matrix_as_spread_goes_with_every_entry(faithful):
    """One data set of a batch and one candidate are the fit; `solve` ends at its objective."""
    goal = om.Goal(prior=om.families.conjugate_prior(faithful, 2))
    one = om.fit(faithful, 2, key=0, goal=goal)
    batch = om.fit_batch([faithful, faithful[::-1]], 2, key=0, goal=goal)
    choice = om.select(faithful, [2], covariance="full", key=0, goal=goal)
    end = om.solve(om.Problem(faithful, prior=goal.prior), one.mixture, tolerance=1e-13)
    for other in (batch[0], batch[1], choice.best, end):
        np.testing.assert_allclose(other.objective, one.objective, atol=1e-6)


@pytest.mark.parametrize("shrinkage", [0.01, 0])
@pytest.mark.parametrize("structure", ["full", "tied", "diagonal", "EEI", "spherical", "EII"])
def test_the_conjugate_prior_is_the_law_of_fraley_and_raftery(structure, shrinkage):
    """Its penalty is their log-density but for a constant, scipy's laws being written out."""
    x, _, matrices, mean = drawn()
    n, k, d, dof = 40, 2, 3, 6.0
    prior = om.families.conjugate_prior(x, k, structure, shrinkage, dof)
    prior = jax.tree.map(jnp.asarray, prior)
    spread, centre = np.cov(np.asarray(x).T) / k ** (2 / d), np.mean(x, axis=0)

    def of_covariance(sigma):
        if structure in ("full", "tied"):
            return stats.invwishart.logpdf(sigma, df=dof, scale=spread)
        # of one variance for all columns there is one law
        variance = np.diagonal(sigma)[: 1 if structure in ("spherical", "EII") else d]
        scale = np.trace(spread) / d / 2
        return stats.invgamma.logpdf(variance, a=dof / 2, scale=scale).sum()

    def log_prior(components):
        sigmas = np.asarray(components.matrices())
        total = sum(map(of_covariance, sigmas[: 1 if structure in SHARED else None]))
        if shrinkage:
            for m, sigma in zip(components.mean, sigmas, strict=True):
                total += stats.multivariate_normal.logpdf(m, centre, sigma / shrinkage)
        return total

    kind = om.families.STRUCTURES[structure]
    gaps = []
    for size in (1.0, 3.0):
        own = matrices.at[0].multiply(size).at[1, 2, 2].add(size)
        components = om.families.Gaussian(size**2 * mean, kind.from_matrices(own))
        gaps.append(log_prior(components) + n * float(components.penalty(prior)))
    np.testing.assert_allclose(gaps[0], gaps[1], rtol=1e-12)


def test_one_component_under_the_conjugate_prior(blobs):
    """Fraley and Raftery (2007), their table of modes, n = 60 and d = 2."""
    average, n, kappa, dof = blobs.mean(axis=0), 60, 0.5, 5.0
    whole = n * np.cov(blobs.T, bias=True)
    for structure, mode in {
        "full": (whole + np.cov(blobs.T)) / (dof + n + 2 + 2),
        "tied": (whole + np.cov(blobs.T)) / (dof + n + 2 + 1 + 1),
        "diagonal": (np.diag(np.diag(whole)) + np.eye(2) * np.trace(np.cov(blobs.T)) / 2)
        / (dof + n + 3),
        "spherical": np.eye(2)
        * (np.trace(whole) + np.trace(np.cov(blobs.T)) / 2)
        / (dof + (n + 1) * 2 + 2),
    }.items():
        prior = om.families.conjugate_prior(blobs, 1, structure, kappa, dof)
        prior = jax.tree.map(jnp.asarray, prior)
        kind = om.families.STRUCTURES[structure]
        old = om.families.Gaussian(jnp.zeros((1, 2)), kind.from_matrices(jnp.eye(2)[None]))
        statistics = old.statistics(jnp.asarray(blobs), jnp.full((n, 1), 1 / n))
        new = old.maximize(statistics, jnp.ones(1), prior)
        # the prior's centre is the mean of the rows, which so stays
        np.testing.assert_allclose(new.mean[0], average, rtol=1e-12)
        np.testing.assert_allclose(new.matrices()[0], mode, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dof": 1.0}, "dof finite and > 1, not 2, 0.01 and 1.0"),
        ({"covariance": "VVI", "dof": 0.0}, "dof finite and > 0"),
        ({"shrinkage": -0.1}, "shrinkage >= 0"),
        ({"n_components": 0}, "n_components must be >= 1"),
        ({"shrinkage": 1000}, "shrinkage 1000 outweighs"),
        ({"x": [[1.0, 2.0]]}, r"two rows or more, not of shape \(1, 2\)"),
        ({"x": [[1.0, 2.0], [np.inf, 0.0]]}, r"x\[1, 0\] is inf"),
        ({"covariance": "XYZ"}, "covariance must be one of"),
    ],
)
def test_a_conjugate_prior_that_is_no_law_is_refused(blobs, values, words):
    with pytest.raises(ValueError, match=words):
        om.families.conjugate_prior(**{"x": blobs, "n_components": 2} | values)


@pytest.mark.parametrize("structure", ONE_FAST)
@pytest.mark.parametrize(
    "prior",
    [
        normal_inverse_wishart(),
        Prior(weights=Dirichlet(0.3)),
        Prior(Ridge(jnp.asarray(0.01), jnp.ones(2)), NormalMean(CENTRE, 0.05), Dirichlet(0.1)),
    ],
)
def test_the_objective_never_rises_and_ends_at_an_optimum(blobs, structure, prior):
    problem = om.Problem(blobs, prior=prior).checked()
    objective, em = Objective.of(problem), om.solvers.EM()
    state, candidate, progress = begin(objective, em, start(blobs, covariance=structure))
    objectives = [float(progress.objective)]
    for _ in range(40):
        state, candidate, progress = step(objective, em, state, candidate)
        objectives.append(float(progress.objective))
    assert np.all(np.diff(objectives) < 1e-13)
    assert objectives[0] - objectives[-1] > 1e-2


def test_em_and_the_gradient_path_agree(blobs):
    prior = Prior(Ridge(jnp.asarray(0.01), jnp.ones(2)), NormalMean(CENTRE, 0.05), Dirichlet(0.1))
    problem, initial = om.Problem(blobs, prior=prior), start(blobs)
    em = om.solve(problem, initial, tolerance=1e-14, max_steps=5000)
    lbfgs = om.solvers.Gradient(optax.lbfgs())
    gradient = om.solve(problem, initial, lbfgs, tolerance=1e-14, max_steps=5000)
    assert abs(float(em.objective) - float(gradient.objective)) < 1e-11
    np.testing.assert_allclose(
        em.mixture.components.mean, gradient.mixture.components.mean, atol=1e-5
    )


def test_dirichlet_holds_the_proportions(blobs):
    """At fixed components the optimum of -sum a log sum pi p - sum s log pi, by scipy."""
    strength = np.array([0.5, 0.1, 0.0])
    initial = start(blobs)
    frozen = om.Mixture(initial.log_weights, Frozen(initial.components, ("mean", "covariance")))
    problem = om.Problem(blobs, prior=Prior(weights=Dirichlet(strength)))
    solution = om.solve(problem, frozen, tolerance=1e-15, max_steps=5000)
    density = np.exp(-np.asarray(initial.components.cost(jnp.asarray(blobs))))

    def objective(z):
        pi = np.exp(z) / np.exp(z).sum()
        return -np.mean(np.log(density @ pi)) - strength @ np.log(pi)

    best = optimize.minimize(objective, np.zeros(3), tol=1e-14)
    pi = np.exp(best.x) / np.exp(best.x).sum()
    np.testing.assert_allclose(solution.mixture.weights, pi, atol=2e-6)
    assert abs(float(solution.objective) - best.fun) < 1e-10


def test_units_do_not_matter(blobs):
    prior = normal_inverse_wishart()
    moved = Prior(
        Ridge(prior.covariance.strength, 100 * prior.covariance.variance),
        NormalMean(10 * CENTRE + 5, KAPPA),
    )
    one = om.fit(blobs, 2, key=0, goal=om.Goal(prior=prior))
    other = om.fit(10 * blobs + 5, 2, key=0, goal=om.Goal(prior=moved))
    np.testing.assert_allclose(
        10 * one.mixture.components.mean + 5, other.mixture.components.mean, rtol=1e-6
    )
    mixture = one.mixture
    objective = float(one.value) + float(mixture.components.penalty(prior))
    assert abs(objective - float(one.objective)) < 1e-12


def test_em_refuses_a_dirichlet_where_its_update_would_be_wrong(blobs):
    problem = om.Problem(blobs, epsilon=0.5, prior=Prior(weights=Dirichlet(0.1)))
    with pytest.raises(ValueError, match="Dirichlet prior only in maximum likelihood"):
        om.solve(problem, start(blobs))


def test_frozen_means_have_their_closed_form(blobs):
    """K = 1: the second moment about the mean that stays."""
    components = om.families.Gaussian(jnp.asarray(CENTRE)[None], om.families.Full(jnp.eye(2)[None]))
    initial = om.Mixture(jnp.zeros(1), Frozen(components, "mean"))
    solution = om.fit(blobs, 1, key=0, starts=om.Starts(initial=initial), goal=om.Goal(ridge=0.0))
    inner = solution.mixture.components.inner
    np.testing.assert_allclose(inner.mean[0], CENTRE, rtol=1e-13)
    expected = (blobs - CENTRE).T @ (blobs - CENTRE) / 60
    np.testing.assert_allclose(inner.matrices()[0], expected, rtol=1e-11)
    assert solution.mixture.n_parameters == 3


@pytest.mark.parametrize("structure", ONE_FAST)
@pytest.mark.parametrize(("part", "weights"), [("mean", None), ("covariance", False)])
def test_frozen_parts_stay_and_em_meets_the_gradient_path(blobs, structure, part, weights):
    first = start(blobs, covariance=structure)
    initial = om.Mixture(first.log_weights, Frozen(first.components, part))
    problem = om.Problem(blobs, learn_weights=weights)
    em = om.solve(problem, initial, tolerance=1e-14, max_steps=5000)
    lbfgs = om.solve(problem, initial, om.solvers.Gradient(LBFGS), tolerance=1e-13, max_steps=999)
    for solution in (em, lbfgs):
        inner = solution.mixture.components.inner
        for kept, old in zip(
            jax.tree.leaves(getattr(inner, part)),
            jax.tree.leaves(getattr(first.components, part)),
            strict=True,
        ):
            np.testing.assert_allclose(kept, old, rtol=1e-14)
        if weights is False:
            np.testing.assert_allclose(solution.mixture.log_weights, first.log_weights, rtol=1e-14)
    assert abs(float(em.value) - float(lbfgs.value)) < 1e-9
    assert status(em) == "CONVERGED"


@pytest.mark.slow
def test_the_derivative_with_frozen_means_is_that_of_the_answer(blobs):
    first = start(blobs, k=2)
    initial = om.Mixture(first.log_weights, Frozen(first.components, "mean"))

    def answer(x):
        solution = om.solve(om.Problem(x), initial, tolerance=1e-15, max_steps=9000)
        return jnp.sum(solution.mixture.components.inner.matrices() ** 2)

    direction = np.random.default_rng(0).normal(size=blobs.shape)
    _, slope = jax.jvp(answer, (jnp.asarray(blobs),), (jnp.asarray(direction),))
    step = 1e-5
    difference = answer(blobs + step * direction) - answer(blobs - step * direction)
    np.testing.assert_allclose(slope, difference / (2 * step), rtol=1e-6)


def test_a_warm_start_needs_few_steps(blobs):
    first = om.fit(blobs, 3, key=0, starts=om.Starts(n_init=8))
    again = om.fit(blobs, 3, key=0, starts=om.Starts(initial=first.mixture))
    assert int(again.n_steps) <= 3
    assert int(first.n_steps) > 10
    np.testing.assert_allclose(again.value, first.value, rtol=1e-8)
