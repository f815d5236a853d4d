"""Derivatives of the answer: implicit against unrolled against finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import start

import otmix_jax as om

pytestmark = pytest.mark.slow

TIGHT = 1e-26


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(size=(12, 2)), rng.normal(size=(10, 2)) * 0.7 + [3.0, 1.0]])


def scalar(mixture):
    """Something of every parameter."""
    components = mixture.components
    matrices = components.matrices()
    return mixture.weights[0] + jnp.sum(jnp.sin(components.mean)) + jnp.sum(matrices**2)


@pytest.mark.parametrize(
    "solver",
    [
        om.solvers.EM(),
        pytest.param(om.solvers.Gradient(optax.lbfgs()), marks=pytest.mark.nightly),
    ],
    ids=["em", "lbfgs"],
)
def test_implicit_equals_finite_differences_and_unrolled(rows, structure, solver):
    initial = start(rows, 2, structure)
    weight = jnp.linspace(0.5, 1.5, len(rows))

    def run(x, w, adjoint, solver):
        problem = om.Problem(x, w)
        solution = om.solve(
            problem, initial, solver, tolerance=TIGHT, max_steps=400, adjoint=adjoint
        )
        return scalar(solution.mixture)

    def implicit(x, w):
        return run(x, w, om.adjoints.Implicit(), solver)

    x = jnp.asarray(rows)
    by_x, by_w = jax.grad(implicit, argnums=(0, 1))(x, weight)
    rng = np.random.default_rng(0)
    dx, dw = rng.normal(size=x.shape), rng.normal(size=weight.shape)
    forward = jax.jvp(implicit, (x, weight), (jnp.asarray(dx), jnp.asarray(dw)))[1]
    np.testing.assert_allclose(forward, np.sum(by_x * dx) + by_w @ dw, rtol=1e-7)
    h = 1e-4
    numeric = (implicit(x + h * dx, weight + h * dw) - implicit(x - h * dx, weight - h * dw)) / (
        2 * h
    )
    np.testing.assert_allclose(forward, numeric, rtol=1e-5)
    if isinstance(solver, om.solvers.EM):
        unrolled = jax.grad(lambda x: run(x, weight, om.adjoints.Unrolled(250), solver))(x)
        np.testing.assert_allclose(by_x, unrolled, rtol=1e-6, atol=1e-8)


def test_the_value_has_the_envelope_gradient(rows):
    """At the optimum the value moves with the data alone, as if the mixture stood still."""
    initial = start(rows, 2)

    def value(x):
        return om.solve(om.Problem(x), initial, tolerance=TIGHT).value

    still = jax.lax.stop_gradient(om.solve(om.Problem(rows), initial, tolerance=TIGHT).mixture)
    expected = jax.grad(lambda x: om.negative_log_likelihood(still, x))(jnp.asarray(rows))
    np.testing.assert_allclose(jax.grad(value)(jnp.asarray(rows)), expected, atol=1e-10)


def test_under_vmap_and_with_a_zero_weight_row(rows):
    initial = start(rows, 2, "tied")

    def gradient(x, w):
        def loss(x, w):
            return scalar(om.solve(om.Problem(x, w), initial, tolerance=TIGHT).mixture)

        return jax.grad(loss, argnums=(0, 1))(x, w)

    batch = jnp.stack([rows, rows + 0.1])
    weight = jnp.ones((2, len(rows))).at[:, 3].set(0.0)
    both = jax.vmap(gradient)(batch, weight)
    chex.assert_tree_all_finite(both)
    assert not np.any(both[0][:, 3])
    one = gradient(batch[1], weight[1])
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[1], both), one, rtol=1e-7, atol=1e-10
    )


def test_in_the_prior(rows):
    prior = om.priors.Ridge.of(rows, np.full(len(rows), 1 / len(rows)), 0.0)
    initial = start(rows, 2)

    def f(strength):
        problem = om.Problem(rows, prior=om.priors.Ridge(strength, prior.variance))
        return scalar(om.solve(problem, initial, tolerance=TIGHT).mixture)

    strength, h = jnp.array(0.1), 1e-5
    numeric = (f(strength + h) - f(strength - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(f)(strength), numeric, rtol=1e-6)


def test_the_start_carries_no_derivative(rows):
    def f(mean):
        initial = start(rows, 2)
        components = om.families.Gaussian(mean, initial.components.covariance)
        return scalar(
            om.solve(om.Problem(rows), om.Mixture(initial.log_weights, components)).mixture
        )

    assert not np.any(jax.grad(f)(start(rows, 2).components.mean))


def test_no_derivative_no_cost(rows):
    """Without differentiation the implicit adjoint adds nothing to the program."""
    initial, problem = start(rows, 2), om.Problem(jnp.asarray(rows))

    def lowered(adjoint):
        run = jax.jit(lambda p, m: om.solve(p, m, max_steps=5, adjoint=adjoint).mixture)
        return run.lower(problem, initial).compile().cost_analysis()["flops"]

    class Bare(om.adjoints.Adjoint):
        def run(self, objective, solver, initial, limits):
            from otmix_jax.solvers.loop import run

            return run(objective, solver, initial, limits)

    jax.tree_util.register_static(Bare)
    assert lowered(om.adjoints.Implicit()) == lowered(Bare())
