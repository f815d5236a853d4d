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
