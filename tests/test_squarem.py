"""SQUAREM: leaps that land where a geometric path leads, the optimum of EM in fewer passes."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_mixture, begin, start, status, step

import otmix_jax as om
from otmix_jax.model import Objective
from otmix_jax.solvers.squarem import STRETCH, _leap

EM, SQUAREM = om.solvers.EM(), om.solvers.Squarem()


@pytest.fixture(scope="module")
def overlapping():
    """Two groups so near that EM creeps."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(400, 2)) + 1.3 * (np.arange(400) % 3 == 0)[:, None]


def along(mixture, step):
    """The mixture moved by a multiple of one fixed direction in its coordinates."""
    zeros = mixture.unconstrained(mixture)
    moved = jax.tree.map(lambda z: step * jnp.cos(jnp.arange(z.size)).reshape(z.shape), zeros)
    return mixture.constrain({**moved, "log_weights": 0 * moved["log_weights"]})


def test_a_leap_ends_a_geometric_path():
    """Means at c + rho^i e lead to c; coordinates of means about one mixture are affine in them."""
    mixture = om.Mixture.from_weights(jnp.ones(3) / 3, om.families.Gaussian.examples()["full"])
    limit, error, rate = mixture.components.mean, jnp.array([[0.3, -0.2]] * 3), 0.9

    def at(power):
        mean = limit + rate**power * error
        return om.Mixture(
            mixture.log_weights, om.families.Gaussian(mean, mixture.components.covariance)
        )

    landed, length, _ = _leap(at(0), at(1), at(2), jnp.asarray(100.0))
    np.testing.assert_allclose(length, 1 / (1 - rate), rtol=1e-12)
    np.testing.assert_allclose(landed.components.mean, limit, atol=1e-13)
    third, *_ = _leap(at(0), at(1), at(2), jnp.asarray(1.0))
    assert_same_mixture(third, at(2), atol=1e-13)


def test_a_leap_of_length_one_is_the_step_of_em(blobs, structure):
    first = om.Mixture.from_weights(
        jnp.array([0.2, 0.5, 0.3]), start(blobs, 3, structure).components
    )
    second, third = along(first, 0.1), along(first, 0.17)
    landed, *_ = _leap(first, second, third, jnp.asarray(1.0))
    assert_same_mixture(landed, third, atol=1e-13)
    still, length, _ = _leap(first, first, first, jnp.asarray(4.0))
    assert_same_mixture(still, first, atol=1e-15)
    assert length == 1


def test_the_optimum_of_em_in_fewer_passes(overlapping, structure):
    problem, initial = om.Problem(overlapping), start(overlapping, 2, structure, seed=1)
    by_em = om.solve(problem, initial, EM, tolerance=1e-13, max_steps=20_000)
    leaping = om.solve(problem, initial, SQUAREM, tolerance=1e-13, max_steps=20_000)
    assert status(by_em) == status(leaping) == "CONVERGED"
    assert abs(float(by_em.value - leaping.value)) < 1e-9
    assert_same_mixture(by_em.mixture, leaping.mixture, atol=1e-4)
    assert int(by_em.n_steps) > 300
    assert int(leaping.n_steps) < int(by_em.n_steps) / 2


@pytest.mark.parametrize("name", ["plain", "prior", "epsilon", "balanced", "held"])
def test_it_descends_whatever_is_minimised(overlapping, name):
    ridge = om.priors.Ridge.of(overlapping, np.full(400, 1 / 400), np.array(0.05))
    problem = {
        "plain": om.Problem(overlapping),
        "prior": om.Problem(overlapping, prior=om.priors.Prior(covariance=ridge)),
        "epsilon": om.Problem(overlapping, epsilon=0.7),
        "balanced": om.Problem(overlapping, coupling=om.couplings.Balanced()),
        "held": om.Problem(overlapping, learn_weights=False),
    }[name].checked()
    objective, initial = Objective.of(problem), start(overlapping, 2)
    state, candidate, progress = begin(objective, SQUAREM, objective.admissible(initial))
    objectives, lengths = [float(progress.objective)], []
    for _ in range(60):
        state, candidate, progress = step(objective, SQUAREM, state, candidate)
        objectives.append(float(progress.objective))
        lengths.append(float(state.longest))
    assert np.diff(objectives).max() <= 1e-14
    assert max(lengths) > STRETCH
    reached = om.solve(problem, initial, SQUAREM, tolerance=1e-13, max_steps=20_000)
    by_em = om.solve(problem, initial, EM, tolerance=1e-13, max_steps=20_000)
    assert abs(float(by_em.objective - reached.objective)) < 1e-9
    if name in ("balanced", "held"):
        np.testing.assert_allclose(
            reached.mixture.weights, objective.admissible(initial).weights, rtol=1e-13
        )


def test_a_leap_that_fails_shortens_the_next(overlapping):
    """A leap that is far off is not finite, and not taken: EM's step is, from where it was."""
    objective, initial = Objective.of(om.Problem(overlapping).checked()), start(overlapping, 2)
    state, candidate, _ = begin(objective, SQUAREM, initial)
    state, candidate, _ = step(objective, SQUAREM, state, candidate)
    assert bool(state.leaping)
    wild = jax.tree.map(lambda leaf: leaf * jnp.nan, candidate)
    wildest = dataclasses.replace(state, length=jnp.asarray(jnp.nan))
    after, following, progress = step(objective, SQUAREM, wildest, wild)
    chex.assert_trees_all_equal(after.em, state.em)
    chex.assert_trees_all_equal(following[0], state.next)
    assert not bool(after.leaping)
    assert after.longest == 1
    assert progress.status == om.Status.CONVERGED.code


def test_leaps_past_a_saddle_are_shortened():
    """Where EM speeds up, |r| / |v| says hundreds; leaps of that length would never be taken."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 501, 1000)[:52]
    for size in sizes:  # the last of them has a start that leads past a saddle
        centres = 3 * rng.normal(size=(3, 2))
        x = centres[rng.integers(3, size=size)] + rng.normal(size=(size, 2))
    problem = om.Problem((x - x.mean(axis=0)) / 4)
    first = om.initializers.kmeans(jax.random.key(0), problem, n_components=3)
    by_em, leaping = (om.solve(problem, first, solver) for solver in (EM, SQUAREM))
    assert abs(float(by_em.value - leaping.value)) < 1e-5
    assert int(by_em.n_steps) > 800
    assert int(leaping.n_steps) < int(by_em.n_steps) / 3


@pytest.mark.slow
def test_under_vmap_and_through_the_fit(overlapping):
    """Lanes in different phases; the derivative of the answer is that of EM's answer."""
    rows = jnp.stack([overlapping, overlapping[::-1] * 2 + 1])
    first = start(overlapping, 2, "diagonal")
    starts = jax.tree.map(lambda a, b: jnp.stack([a, b]), first, along(first, 0.3))

    def mean(x, initial, solver):
        solution = om.solve(om.Problem(x), initial, solver, tolerance=1e-14, max_steps=20_000)
        return solution.mixture.components.mean[0, 0], solution.n_steps

    gradient = jax.value_and_grad(mean, has_aux=True)
    both = jax.vmap(lambda x, initial: gradient(x, initial, SQUAREM))(rows, starts)
    for i in range(2):
        alone = gradient(rows[i], jax.tree.map(lambda leaf, i=i: leaf[i], starts), SQUAREM)
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], both)
        assert mine[0][1] == alone[0][1]
        # of the largest entries, about 1e-3: others are sums that cancel
        close = {"rtol": 1e-6, "atol": 1e-9}
        chex.assert_trees_all_close((mine[0][0], mine[1]), (alone[0][0], alone[1]), **close)
    by_em = gradient(rows[0], first, EM)
    np.testing.assert_allclose(both[1][0], by_em[1], rtol=1e-3, atol=1e-6)
    assert both[0][1][0] < by_em[0][1] / 2


def test_every_step_is_one_pass(overlapping):
    """As EM: the program of a step holds one evaluation, whether it steps or leaps."""
    objective, initial = Objective.of(om.Problem(overlapping).checked()), start(overlapping, 2)

    def exponentials(solver):
        state, candidate, _ = solver.init(objective, initial)
        text = step.lower(objective, solver, state, candidate).as_text()
        return text.count(f"tensor<{len(overlapping)}xf64>")

    rows_of_em, rows_of_squarem = exponentials(EM), exponentials(SQUAREM)
    assert rows_of_em == rows_of_squarem
