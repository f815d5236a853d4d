"""The plan: against POT and OTT-JAX; the note's identity (2.6)."""

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import sinkhorn
from scipy.special import rel_entr

import otmix_jax as om
from otmix_jax.transport import kl_divergence, row_softmax


@pytest.fixture
def instance():
    rng = np.random.default_rng(0)
    cost = rng.gamma(2.0, size=(30, 4))
    return cost, rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(4))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 7.0])
def test_the_plan_is_semi_relaxed_transport(instance, epsilon):
    """POT with a free column marginal (reg_m = 0 there) solves the same problem by scaling."""
    cost, a, pi = instance
    f, conditional = row_softmax(jnp.asarray(cost), jnp.log(pi), 0.0, epsilon)
    plan, log = ot.unbalanced.sinkhorn_unbalanced(
        a, pi, cost, epsilon, reg_m=(np.inf, 0), reg_type="kl", log=True, stopThr=1e-15
    )
    np.testing.assert_allclose(a[:, None] * conditional, plan, rtol=1e-12)
    primal = np.sum(plan * cost) + epsilon * rel_entr(plan, np.outer(a, pi)).sum()
    np.testing.assert_allclose(a @ np.asarray(f), primal, rtol=1e-12)
    np.testing.assert_allclose(log["total_cost"], primal, rtol=1e-10)


def test_with_the_balanced_potential_it_is_sinkhorns_plan(instance):
    """OTT-JAX's g, put into the row softmax, gives its plan: columns sum to pi."""
    cost, a, pi = instance
    problem = linear_problem.LinearProblem(
        geometry.Geometry(jnp.asarray(cost), epsilon=1.0), a=jnp.asarray(a), b=jnp.asarray(pi)
    )
    out = jax.jit(sinkhorn.Sinkhorn(threshold=1e-12, max_iterations=5000))(problem)
    # OTT's potentials are relative to the counting measure, the note's to a pi^T.
    g = out.g - jnp.log(pi)
    _, conditional = row_softmax(jnp.asarray(cost), jnp.log(pi), g)
    np.testing.assert_allclose(a[:, None] * conditional, out.matrix, atol=1e-10)
    np.testing.assert_allclose(a @ np.asarray(conditional), pi, atol=1e-10)


def test_the_notes_identity_2_6(faithful, structure):
    """Maximum likelihood is transport: cost plus KL of the plan is the mean neg. log-likelihood."""
    mixture = om.fit(faithful, 3, key=0, covariance=structure, starts=om.Starts(n_init=2)).mixture
    n = len(faithful)
    plan = mixture.responsibilities(faithful) / n
    np.testing.assert_allclose(plan.sum(1), 1 / n, rtol=1e-13)
    reference = jnp.outer(jnp.full(n, 1 / n), mixture.weights)
    cost = mixture.components.cost(jnp.asarray(faithful))
    transport = (plan * cost).sum() + kl_divergence(plan, reference)
    loss = om.negative_log_likelihood(mixture, faithful)
    np.testing.assert_allclose(transport, loss, rtol=1e-13)
    # Any other plan with the same rows costs more: by KL(P | P*), exactly (the gap identity).
    factor = np.random.default_rng(0).uniform(0.5, 2, size=plan.shape)
    other = plan * factor / (plan * factor).sum(1, keepdims=True) / n
    dearer = (other * cost).sum() + kl_divergence(other, reference)
    np.testing.assert_allclose(dearer - loss, kl_divergence(other, plan), rtol=1e-9)


def test_kl_divergence():
    p, q = np.array([[0.2, 0.0], [0.3, 0.5]]), np.array([[0.1, 0.4], [0.2, 0.3]])
    np.testing.assert_allclose(kl_divergence(jnp.asarray(p), jnp.asarray(q)), rel_entr(p, q).sum())
    assert float(kl_divergence(jnp.asarray(q), jnp.asarray(p))) == np.inf
    gradient = jax.grad(kl_divergence)(jnp.asarray(p), jnp.asarray(q))
    assert np.isfinite(gradient).all()


def test_an_absent_component_and_an_infinite_cost():
    cost = jnp.array([[1.0, jnp.inf, jnp.nan], [jnp.inf, jnp.inf, jnp.nan]])
    log_weights = jnp.log(jnp.array([0.5, 0.5, 0.0]))

    def value(c):
        f, _ = row_softmax(c, log_weights)
        return f[0]

    f, conditional = row_softmax(cost, log_weights)
    np.testing.assert_allclose(f, [1 + np.log(2), np.inf])
    np.testing.assert_allclose(conditional, [[1, 0, 0], [0.5, 0.5, 0]])
    np.testing.assert_allclose(jax.grad(value)(cost), [[1, 0, 0], [0, 0, 0]])


def test_not_a_number_stays_visible():
    f, _ = row_softmax(jnp.array([[jnp.nan, 1.0]]), jnp.log(jnp.array([0.5, 0.5])))
    assert np.isnan(f[0])
