"""EM and the gradient path: descent, agreement, stopping, history."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_mixture, begin, start, status, step

import otmix_jax as om
from otmix_jax.model import Objective
from otmix_jax.solvers import loop

GRADIENT = om.solvers.Gradient
LBFGS, ADAM = GRADIENT(optax.lbfgs()), GRADIENT(optax.adam(1e-2))


@pytest.mark.parametrize("seed", range(3))
def test_em_descends(faithful, structure, seed):
    solution = om.solve(
        om.Problem(faithful), start(faithful, 4, structure, seed), tolerance=1e-12, max_steps=300
    )
    history = np.asarray(solution.history)[: int(solution.n_steps) + 1]
    assert np.isfinite(history).all()
    assert np.diff(history).max() <= 1e-14 * abs(history).max()
    assert history[-1] == float(solution.value)
    assert np.isnan(np.asarray(solution.history)[int(solution.n_steps) + 1 :]).all()


def test_em_descends_the_penalised_objective(blobs, structure):
    """With a strong prior the likelihood may rise; the objective must not."""
    prior = om.priors.Ridge.of(blobs, np.full(len(blobs), 1 / len(blobs)), np.array(0.2))
    objective, solver = Objective.of(om.Problem(blobs, prior=prior).checked()), om.solvers.EM()
    state, candidate, progress = begin(objective, solver, start(blobs, 3, structure))
    objectives = [float(progress.objective)]
    for _ in range(40):
        state, candidate, progress = step(objective, solver, state, candidate)
        objectives.append(float(progress.objective))
    assert np.diff(objectives).max() <= 1e-14
    assert objectives[0] - objectives[-1] > 1e-3
    np.testing.assert_allclose(objective.loss(solver.mixture(state)), objectives[-1], rtol=1e-14)


@pytest.mark.parametrize("solver", [LBFGS, ADAM], ids=["lbfgs", "adam"])
def test_em_and_gradient_agree(faithful, structure, solver):
    """From the same start, to 1e-6 in value and 1e-4 in parameters (of the data's scale)."""
    problem = om.Problem(faithful)
    initial = start(faithful, 2, structure, seed=1)
    by_em = om.solve(problem, initial, tolerance=1e-14)
    by_gradient = om.solve(problem, initial, solver, tolerance=1e-14, max_steps=4000)
    assert status(by_em) == status(by_gradient) == "CONVERGED"
    assert abs(float(by_em.value - by_gradient.value)) < 1e-6
    assert_same_mixture(by_em.mixture, by_gradient.mixture, rtol=1e-4, atol=1e-4)


def test_em_and_gradient_agree_under_a_ridge(blobs):
    prior = om.priors.Ridge.of(blobs, np.full(len(blobs), 1 / len(blobs)), np.array(0.05))
    problem, initial = om.Problem(blobs, prior=prior), start(blobs)
    by_em = om.solve(problem, initial, tolerance=1e-16)
    by_gradient = om.solve(problem, initial, LBFGS, tolerance=1e-16)
    assert abs(float(by_em.objective - by_gradient.objective)) < 1e-12
    assert_same_mixture(by_em.mixture, by_gradient.mixture, atol=1e-5)


def test_lbfgs_needs_fewer_steps_than_adam(faithful):
    problem, initial = om.Problem(faithful), start(faithful, covariance="tied")
    steps = [
        int(om.solve(problem, initial, s, tolerance=1e-12, max_steps=4000).n_steps)
        for s in (LBFGS, ADAM)
    ]
    assert steps[0] < steps[1] / 3


def test_units_do_not_change_the_gradient_path(faithful):
    """The coordinates have no units: columns in other units give the same values, step by step."""
    factor = np.array([60.0, 1e-3])
    a = om.solve(om.Problem(faithful), start(faithful, 2), ADAM, max_steps=50)
    scaled = faithful * factor
    b = om.solve(om.Problem(scaled), start(scaled, 2), ADAM, max_steps=50)
    shift = np.log(factor).sum()
    np.testing.assert_allclose(a.history[:51] + shift, b.history[:51], rtol=1e-9)


def test_limits(faithful):
    problem, initial = om.Problem(faithful), start(faithful, covariance="tied")
    none = om.solve(problem, initial, max_steps=0)
    assert (status(none), int(none.n_steps)) == ("MAX_STEPS", 0)
    assert_same_mixture(none.mixture, initial)
    np.testing.assert_allclose(
        none.value, om.negative_log_likelihood(initial, faithful), rtol=1e-14
    )
    some = om.solve(problem, initial, max_steps=5)
    assert (status(some), int(some.n_steps)) == ("MAX_STEPS", 5)
    assert status(om.solve(problem, initial, tolerance=0.0)) == "STALLED"
    assert status(om.solve(problem, initial, tolerance=jnp.nan)) == "STALLED"
    short = om.solve(problem, initial, history_size=3)
    full = om.solve(problem, initial)
    assert short.history.shape == (3,)
    np.testing.assert_array_equal(short.history, full.history[:3])
    assert int(short.n_steps) == int(full.n_steps) > 3


def test_converged_means_close(faithful):
    """What is left at the default tolerance is of the tolerance's order, not of a plateau's."""
    problem, initial = om.Problem(faithful), start(faithful, 2)
    loose = om.solve(problem, initial)
    tight = om.solve(problem, initial, tolerance=1e-20)
    assert 0 <= float(loose.value - tight.value) < 1e-7


def test_the_same_solver_from_a_host_loop_over_a_stream(faithful):
    """Only the question differs: the evaluation is summed over chunks, which lie on the host."""
    chunks = np.array_split(faithful, 7)

    @jax.jit
    def part(chunk, mixture):
        return Objective.of(om.Problem(chunk)).evaluate(mixture)

    def streamed(objective, mixture, g):
        del objective, g
        parts = [part(jnp.asarray(chunk), mixture) for chunk in chunks]
        shares = np.array([len(chunk) / len(faithful) for chunk in chunks])
        return jax.tree.map(lambda *leaves: jnp.tensordot(shares, jnp.stack(leaves), 1), *parts)

    class Streamed(om.solvers.EM):
        question = staticmethod(streamed)

    objective = Objective.of(om.Problem(faithful).checked())
    solver, limits = Streamed(), om.Limits(1e-10, 500, 501)
    initial = start(faithful, 2)
    carry = loop.start(objective, solver, initial, limits)
    while bool(loop.running(limits, carry)):
        carry = loop.advance(objective, solver, limits, carry)
    streamed_answer = loop.finish(objective, solver, carry)
    whole = om.solve(om.Problem(faithful), initial, tolerance=1e-10, max_steps=500)
    assert int(streamed_answer.n_steps) == int(whole.n_steps)
    assert_same_mixture(streamed_answer.mixture, whole.mixture, rtol=1e-9, atol=1e-9)


def test_a_solver_may_say_what_is_success(faithful):
    """A component of weight zero: a failure to EM, the normal answer of an infinite mixture."""

    class Atoms(om.solvers.EM):
        ending = staticmethod(lambda mixture: jnp.zeros_like(mixture.log_weights[0], int))

    first = start(faithful, 3)
    initial = om.Mixture.from_weights(jnp.array([0.5, 0.5, 0.0]), first.components)
    problem, objective = om.Problem(faithful), Objective.of(om.Problem(faithful).checked())
    assert status(om.solve(problem, initial)) == "EMPTY_COMPONENT"
    solver = Atoms()
    assert status(loop.run(objective, solver, initial, om.Limits())) == "CONVERGED"
