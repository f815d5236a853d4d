"""QuasiNewton: EM's optimum in far fewer passes, by gradients that cost no pass of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import EXAMPLES, rows_for
from helpers import start, status
from jax.flatten_util import ravel_pytree

import otmix_jax as om
from otmix_jax.core.tree import replace
from otmix_jax.families.covariance import Projected
from otmix_jax.families.covariance.projected import KINDS, one_hot
from otmix_jax.model import Objective
from otmix_jax.solvers.quasi_newton import Curvature

EM, QUASI = om.solvers.EM(), om.solvers.QuasiNewton()


@jax.jit
def both(objective, mixture):
    """Two gradients of the objective: of the surrogate, and of the loss itself."""
    zeros = jax.tree.map(jnp.zeros_like, mixture.unconstrained(mixture))
    evaluation = objective.evaluate(mixture)

    def surrogate(z):
        return objective.surrogate(mixture, evaluation, mixture.constrain(z))

    found, expected = (
        jax.grad(surrogate)(zeros),
        jax.grad(lambda z: objective.loss(mixture.constrain(z)))(zeros),
    )
    return ravel_pytree(found)[0], ravel_pytree(expected)[0]


@pytest.mark.parametrize("family", EXAMPLES)
def test_the_surrogate_touches_the_loss(family):
    """Fisher's identity, against automatic differentiation through the rows."""
    x = rows_for(family)
    weights = jnp.arange(1.0, family.n_components + 1)
    mixture = om.Mixture.from_weights(weights, family)
    learn = None if not family.gated else False
    found, expected = both(
        Objective.of(om.Problem(x, learn_weights=learn).checked(mixture)), mixture
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.6},
        {"coupling": om.couplings.Penalized(0.7)},
        {"coupling": om.couplings.Penalized(0.7, jnp.array([0.2, 0.5, 0.3]))},
        {"coupling": om.couplings.Balanced(jnp.array([0.2, 0.5, 0.3]))},
        {
            "prior": om.priors.Prior(
                covariance=om.priors.Ridge(jnp.array(0.05), jnp.array([1.0, 2.0]))
            )
        },
    ],
    ids=["epsilon", "penalized", "penalized sizes", "balanced", "ridge"],
)
def test_the_surrogate_touches_every_loss(blobs, options):
    mixture = start(blobs, 3)
    objective = Objective.of(om.Problem(blobs, **options).checked(mixture))
    mixture = objective.admissible(mixture)
    found, expected = both(objective, mixture)
    if not objective.learns_weights:
        z = mixture.unconstrained(mixture)
        free = ravel_pytree({**jax.tree.map(jnp.ones_like, z), "log_weights": 0 * z["log_weights"]})
        found, expected = found * free[0], expected * free[0]
    # the plan of a coupling is solved to a residual, not to the last digit
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.fixture(scope="module")
def overlapping():
    """Two groups so near that EM creeps."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(400, 2)) + 1.3 * (np.arange(400) % 3 == 0)[:, None]


def passes(solution, tolerance=1e-8):
    """Steps until the value is within a tolerance of the end's."""
    history = np.asarray(solution.history)
    near = history <= float(solution.value) + tolerance
    return int(np.argmax(near & ~np.isnan(history)))


LIMITS = {"tolerance": 1e-15, "max_steps": 3000}


def test_few_passes_where_em_creeps():
    """Old Faithful, tied, K = 3: EM takes 1642 to 2062 passes there, Squarem 400 to 600."""
    x = om.datasets.old_faithful().x
    x = (x - x.mean(0)) / x.std(0)
    for key in (6, 7, 15):
        solution = om.solve(om.Problem(x), start(x, 3, "tied", seed=key), QUASI, **LIMITS)
        assert status(solution) == "CONVERGED"
        np.testing.assert_allclose(solution.value, 1.402620086, atol=1e-9)
        assert passes(solution) <= 110


@pytest.mark.parametrize("structure", ["full", "tied", "diagonal", "spherical"])
def test_the_optimum_of_em_without_a_rise(overlapping, structure):
    problem, begin = om.Problem(overlapping), start(overlapping, 2, structure)
    by_em = om.solve(problem, begin, om.solvers.Squarem(), **LIMITS)
    solution = om.solve(problem, begin, QUASI, **LIMITS)
    np.testing.assert_allclose(solution.value, by_em.value, atol=1e-12)
    np.testing.assert_allclose(solution.mixture.weights, by_em.mixture.weights, atol=1e-5)
    history = np.asarray(solution.history)
    assert (np.diff(history[~np.isnan(history)]) <= 1e-15).all()
    assert passes(solution) < passes(by_em)


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.7},
        {"coupling": om.couplings.Penalized(0.7)},
        {"coupling": om.couplings.Balanced(jnp.array([0.4, 0.6]))},
        {"prior": om.priors.Prior(covariance=om.priors.Ridge(0.05, jnp.array([1.0, 2.0])))},
        {"sample_weight": np.arange(400) % 4},
    ],
    ids=["epsilon", "penalized", "balanced", "ridge", "weights"],
)
def test_every_objective(overlapping, options):
    problem, begin = om.Problem(overlapping, **options), start(overlapping, 2)
    expected = om.solve(problem, begin, om.solvers.Squarem(), **LIMITS)
    solution = om.solve(problem, begin, QUASI, **LIMITS)
    np.testing.assert_allclose(solution.value, expected.value, atol=1e-11)


def test_stopping_by_what_is_left(overlapping):
    """At the default gap, 1e-6 nats of all rows' log-likelihood, no more than that is missed."""
    problem, begin = om.Problem(overlapping), start(overlapping, 2)
    best = om.solve(problem, begin, QUASI, **LIMITS)
    starts = om.Starts(initial=begin)
    solution = om.fit(overlapping, 2, key=0, starts=starts, solver=QUASI)
    assert status(solution) == "CONVERGED"
    assert 400 * float(solution.value - best.value) <= 1e-6
    assert int(solution.n_steps) < int(best.n_steps)


def test_a_frozen_mean_stays(overlapping):
    begin = start(overlapping, 2)
    held = om.Mixture(begin.log_weights, om.families.Frozen(begin.components, "mean"))
    solution = om.solve(om.Problem(overlapping), held, QUASI, **LIMITS)
    expected = om.solve(om.Problem(overlapping), held, EM, **LIMITS)
    np.testing.assert_array_equal(solution.mixture.components.inner.mean, begin.components.mean)
    np.testing.assert_allclose(solution.value, expected.value, atol=1e-11)


@pytest.mark.slow
def test_batches_and_the_derivative_of_the_answer(overlapping):
    begin = start(overlapping, 2)

    def answer(x):
        return om.solve(om.Problem(x), begin, QUASI, tolerance=1e-14, max_steps=500)

    batch = jax.jit(jax.vmap(answer))(jnp.stack([overlapping, 1.1 * overlapping]))
    alone = answer(1.1 * overlapping)
    np.testing.assert_allclose(batch.value[1], alone.value, atol=1e-12)

    def mean(scale):
        return answer(scale * overlapping).mixture.mean[0]

    # the fitted mixture's mean is that of the rows
    np.testing.assert_allclose(jax.grad(mean)(1.0), overlapping.mean(0)[0], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_structure_that_is_data_is_kept(overlapping, kind):
    """Steps stay within the structure of `Projected`: the optimum is that of its own type."""
    begin = start(overlapping, 2, kind.__name__.lower())
    matrices = begin.components.matrices()
    marks = jnp.tile(jnp.asarray(one_hot(kind)), (2, 1))
    covariance = replace(Projected.from_matrices(matrices), kind=marks)
    data = replace(begin, components=replace(begin.components, covariance=covariance))
    expected = om.solve(om.Problem(overlapping), begin, om.solvers.Squarem(), **LIMITS)
    solution = om.solve(om.Problem(overlapping), data, QUASI, **LIMITS)
    np.testing.assert_allclose(solution.value, expected.value, atol=1e-10)


def test_a_lost_start_says_so(overlapping):
    begin = start(overlapping, 2)
    broken = replace(
        begin, components=replace(begin.components, mean=begin.components.mean * jnp.nan)
    )
    assert status(om.solve(om.Problem(overlapping), broken, QUASI)) == "NON_FINITE"


def test_curvature_of_a_quadratic():
    """After p steps the inverse Hessian of a quadratic of p variables is exact along them."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    hessian, metric = root @ root.T + np.eye(4), jnp.ones(4)
    known = Curvature.none(6, metric)
    direction = np.eye(4)
    # conjugate steps
    for i in range(4):
        for j in range(i):
            along = direction[i] @ hessian @ direction[j] / (direction[j] @ hessian @ direction[j])
            direction[i] -= along * direction[j]
        known = known.after(jnp.asarray(direction[i]), jnp.asarray(hessian @ direction[i]), metric)
    v = rng.normal(size=4)
    np.testing.assert_allclose(known.inverse(jnp.asarray(v), metric), np.linalg.solve(hessian, v))
    slowest = max(d @ d / (d @ hessian @ d) for d in direction)
    np.testing.assert_allclose(known.slowness(metric), slowest)


def test_a_step_of_negative_curvature_is_damped():
    metric = jnp.array([1.0, 2.0])
    known = Curvature.none(2, metric).after(jnp.array([1.0, 1.0]), jnp.array([-1.0, 0.0]), metric)
    step, change = known.steps[-1], known.changes[-1]
    np.testing.assert_allclose(step @ change, 0.2 * (step @ (metric * step)), rtol=1e-12)
