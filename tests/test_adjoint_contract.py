"""What every derivative of an answer must hold: all problems, both modes, bad answers, costs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import begin as evaluated
from helpers import start
from jax.flatten_util import ravel_pytree

import otmix_jax as om
from otmix_jax.adjoints.linear import Spectrum, conjugate_gradients

TIGHT = 1e-26
Implicit = om.adjoints.Implicit


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(size=(12, 2)), rng.normal(size=(10, 2)) * 0.7 + [3.0, 1.0]])


def scalar(mixture):
    """Something of every parameter."""
    components = mixture.components
    matrices = components.matrices()
    return mixture.weights[0] ** 2 + jnp.sum(jnp.sin(components.mean)) + jnp.sum(matrices**2)


def problems(x):
    """Name to problem: every coupling, with all that a derivative can be taken in."""
    weight = jnp.linspace(0.5, 1.5, len(x))
    sizes = jnp.array([0.4, 0.6])
    prior = om.priors.Ridge.of(x, weight / weight.sum(), 0.05)
    epsilon, couplings = jnp.array(0.8), om.couplings
    x = jnp.asarray(x)
    return {
        "penalized": om.Problem(x, weight, epsilon, couplings.Penalized(0.5, sizes), prior),
        "balanced": om.Problem(x, weight, None, couplings.Balanced(sizes), prior),
        "frozen": om.Problem(x, weight, epsilon, prior=prior, learn_weights=False),
        "likelihood": om.Problem(x, weight),
        "entropy": om.Problem(x, weight, epsilon),
        "soft sizes": om.Problem(x, weight, None, couplings.Penalized(1.5)),
        "balanced entropy": om.Problem(x, weight, jnp.array(1.2), couplings.Balanced(sizes)),
    }


def tangent_like(tree, seed=0):
    flat, unravel = ravel_pytree(tree)
    return unravel(np.random.default_rng(seed).normal(size=flat.shape))


def check_against_differences(x, name, structure, unrolled):
    """Forward, reverse, finite differences and (if asked) unrolled, in a random direction."""
    problem = problems(x)[name].checked()
    initial = start(x, 2, structure)
    frozen = name == "frozen"

    def answer(problem, log_weights, adjoint):
        begin = om.Mixture(jax.nn.log_softmax(log_weights), initial.components)
        begin = begin if frozen else initial
        solution = om.solve(problem, begin, tolerance=TIGHT, max_steps=3000, adjoint=adjoint)
        return scalar(solution.mixture) + solution.objective

    @jax.jit
    def implicit(problem, log_weights):
        return answer(problem, log_weights, Implicit())

    point = problem, initial.log_weights
    direction = tangent_like(point)
    reverse = jax.grad(implicit, argnums=(0, 1))(*point)
    chex.assert_tree_all_finite(reverse)
    product = sum(
        jnp.sum(g * d)
        for g, d in zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)
    )
    forward = jax.jvp(implicit, point, direction)[1]
    np.testing.assert_allclose(forward, product, rtol=1e-9)
    h = 1e-4

    def moved(step):
        return implicit(*jax.tree.map(lambda p, d: p + step * d, point, direction))

    # Fourth order, so that truncation stays far below what a wrong formula would do.
    near, far = moved(h) - moved(-h), moved(2 * h) - moved(-2 * h)
    np.testing.assert_allclose(forward, (8 * near - far) / (12 * h), rtol=1e-6)
    if not frozen:
        assert not np.any(reverse[1]), "the start carries no derivative"
    if unrolled:
        by_steps = jax.grad(lambda p: answer(p, initial.log_weights, om.adjoints.Unrolled(300)))
        chex.assert_trees_all_close(by_steps(problem), reverse[0], rtol=1e-6, atol=1e-8)


def test_implicit_equals_finite_differences(rows):
    check_against_differences(rows, "frozen", "spherical", unrolled=False)


STRUCTURES = ("full", "tied", "diagonal", "spherical")


# Each coupling and entropy with one structure, and all structures under the plain likelihood in
# tests/test_adjoints.py: neither knows of the other.
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "structure"),
    [(name, STRUCTURES[i % 4]) for i, name in enumerate(problems(np.zeros((22, 2))))],
)
def test_implicit_equals_unrolled_and_differences(rows, name, structure):
    # Unrolling the inner solves takes a minute each to compile: one of them stands for all.
    unrolled = name in {"likelihood", "entropy", "frozen", "penalized"}
    check_against_differences(rows, name, structure, unrolled)


@pytest.mark.nightly
def test_conjugate_gradients_give_the_same(rows):
    """Beyond `max_dense`, also in the Newton step."""
    initial = start(rows, 2)

    def gradient(max_dense):
        def f(x):
            adjoint = Implicit(newton_steps=1, max_dense=max_dense)
            return scalar(
                om.solve(om.Problem(x), initial, tolerance=1e-12, adjoint=adjoint).mixture
            )

        return jax.grad(f)(jnp.asarray(rows))

    np.testing.assert_allclose(gradient(0), gradient(128), rtol=1e-8, atol=1e-9)


@pytest.mark.nightly
def test_newton_steps_square_the_error(rows):
    """And `conditioning` foretells how far the optimum is."""
    initial, problem = start(rows, 2, "tied"), om.Problem(jnp.asarray(rows))

    def run(tolerance, steps):
        adjoint = Implicit(newton_steps=steps)

        def f(problem):
            solution = om.solve(
                problem, initial, tolerance=tolerance, max_steps=5000, adjoint=adjoint
            )
            return scalar(solution.mixture), solution

        gradient, solution = jax.grad(f, has_aux=True)(problem)
        return gradient.x, solution

    truth, best = run(TIGHT, 0)
    errors = []
    for steps in range(3):
        gradient, solution = run(1e-5, steps)
        errors.append(float(jnp.linalg.norm(gradient - truth) / jnp.linalg.norm(truth)))
        expected = om.negative_log_likelihood(solution.mixture, rows)
        np.testing.assert_allclose(solution.value, expected, rtol=1e-13)
        if steps == 0:
            report = om.adjoints.conditioning(problem, solution.mixture)
            apart = ravel_pytree(best.mixture.unconstrained(solution.mixture))[0]
            apart = apart.at[-2:].add(-jnp.mean(apart[-2:]))  # the gauge moves nothing
            np.testing.assert_allclose(report.distance, jnp.linalg.norm(apart), rtol=0.1)
            won = solution.objective - best.objective
            np.testing.assert_allclose(report.excess, won, rtol=0.1)
            assert errors[0] / 5 < report.derivative_error < 20 * errors[0]
    assert errors[0] > 1e-4, "the run must stop short, or this test shows nothing"
    assert errors[1] < 5 * errors[0] ** 2
    assert errors[2] < 1e-8


def overlapping():
    """Two components so close that EM's rate is above .99."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=150), rng.normal(size=150) + 2.0])[:, None]
    components = om.families.Gaussian(
        jnp.array([[-0.5], [2.5]]), om.families.Tied.from_matrices(jnp.ones((2, 1, 1)))
    )
    return jnp.asarray(x), om.Mixture.from_weights(jnp.array([0.5, 0.5]), components)


@pytest.mark.slow
def test_where_em_is_slow_implicit_is_right_and_one_step_is_not():
    x, initial = overlapping()

    def mean(x, adjoint):
        solution = om.solve(
            om.Problem(x), initial, tolerance=1e-24, max_steps=20_000, adjoint=adjoint
        )
        return solution.mixture.components.mean[0, 0], solution

    implicit, solution = jax.grad(mean, has_aux=True)(x, Implicit())
    assert solution.certificate.rate > 0.99
    assert solution.n_steps < 20_000
    direction = np.random.default_rng(0).normal(size=x.shape)
    h = 1e-4
    ahead, back = mean(x + h * direction, Implicit())[0], mean(x - h * direction, Implicit())[0]
    numeric = (ahead - back) / (2 * h)
    np.testing.assert_allclose(jnp.sum(implicit * direction), numeric, rtol=1e-4)
    one_step = jax.grad(mean, has_aux=True)(x, om.adjoints.OneStep())[0]
    size = jnp.linalg.norm(one_step) / jnp.linalg.norm(implicit)
    cosine = jnp.sum(one_step * implicit) / jnp.sum(implicit**2) / size
    # docs/differentiation.md has these numbers.
    np.testing.assert_allclose([size, cosine], [0.095, 0.140], atol=5e-4)


@pytest.mark.nightly
def test_one_step_is_the_neumann_series_cut_after_one_term(rows):
    """Implicit = (I - J)^-1 one-step, J the Jacobian of EM's step, by brute force."""
    x = jnp.asarray(rows[:, :1])
    initial = start(x, 2, "tied")

    def parameters(x, adjoint):
        solution = om.solve(om.Problem(x), initial, tolerance=TIGHT, adjoint=adjoint)
        return ravel_pytree(solution.mixture)[0]

    implicit = jax.jacfwd(parameters)(x, Implicit())[..., 0]
    one_step = jax.jacfwd(parameters)(x, om.adjoints.OneStep())[..., 0]
    answer, unravel = ravel_pytree(om.solve(om.Problem(x), initial, tolerance=TIGHT).mixture)
    objective, em = om.Objective.of(om.Problem(x)), om.solvers.EM()

    def following(flat):
        _, candidate, _ = evaluated(objective, em, unravel(flat))
        return ravel_pytree(candidate[0])[0]

    jacobian = jax.jacfwd(following)(answer)
    expected = np.linalg.solve(np.eye(len(answer)) - jacobian, one_step)
    np.testing.assert_allclose(implicit, expected, atol=1e-8)
    assert not np.any(jax.jacrev(parameters)(x, om.adjoints.Stop()))


def merged(x):
    """Two components that coincide, for good."""
    one = start(x, 1)
    twice = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), one.components)
    return om.Mixture.from_weights(jnp.array([0.5, 0.5]), twice)


def bad_runs(x):
    """Name to (start, options of solve): answers that have no derivative."""
    broken = start(x, 2)
    lone = om.families.Gaussian(
        broken.components.mean.at[1, 0].set(20.0), broken.components.covariance
    )
    return {
        "merged": (merged(x), {}),
        "not converged": (start(x, 2), {"max_steps": 0}),
        "no mass": (om.Mixture(broken.log_weights, lone), {"max_steps": 1}),
        "not a number": (jax.tree.map(lambda leaf: leaf * jnp.nan, broken), {}),
    }


@pytest.mark.slow
@pytest.mark.parametrize("max_dense", [128, pytest.param(0, marks=pytest.mark.nightly)])
def test_no_derivative_is_nan_or_zero_as_asked(rows, max_dense):
    def gradient(initial, options, undefined):
        adjoint = Implicit(undefined=undefined, max_dense=max_dense)
        return jax.grad(
            lambda x: scalar(om.solve(om.Problem(x), initial, adjoint=adjoint, **options).mixture)
        )(jnp.asarray(rows))

    for name, (initial, options) in bad_runs(rows).items():
        if name == "merged" and not max_dense:
            continue  # documented: what the data cannot excite is not seen
        assert np.isnan(gradient(initial, options, float("nan"))).all(), name
        if name != "not a number":  # there the answer itself is no number
            assert not np.any(gradient(initial, options, 0.0)), name
    report = om.adjoints.conditioning(om.Problem(rows), merged(rows))
    assert not report.regular
    assert report.condition_number > 1e7


@pytest.mark.nightly
def test_an_absent_component_changes_nothing(rows):
    """The gradient with a third component at -inf is that of the two others alone."""
    two = start(rows, 2)
    three = om.families.Gaussian(
        jnp.concatenate([two.components.mean, jnp.ones((1, 2))]),
        om.families.Full(jnp.concatenate([two.components.covariance.factor, jnp.eye(2)[None]])),
    )
    padded = om.Mixture(jnp.append(two.log_weights, -jnp.inf), three)

    def gradient(initial):
        def f(x, w):
            mixture = om.solve(om.Problem(x, w), initial, tolerance=TIGHT).mixture
            factor = mixture.components.covariance.factor[:2]
            return jnp.sum(mixture.weights**2) + jnp.sum(mixture.components.mean[:2] * factor[0])

        return jax.grad(f, argnums=(0, 1))(jnp.asarray(rows), jnp.ones(len(rows)))

    chex.assert_trees_all_close(gradient(padded), gradient(two), rtol=1e-9, atol=1e-12)
    answer = om.solve(om.Problem(rows), padded, tolerance=TIGHT).mixture
    assert om.adjoints.conditioning(om.Problem(rows), answer).regular


@pytest.mark.slow
def test_padding_and_duplicates(rows):
    """Lanes of unequal length and an empty lane, in a loss that leaves the empty one out."""
    n = len(rows)
    initial = start(rows, 2, "spherical")
    x = jnp.stack([jnp.asarray(rows), jnp.asarray(rows), jnp.full((n, 2), jnp.nan)])
    x = x.at[1, -3:].set(jnp.nan)
    weight = jnp.ones((3, n)).at[1, -3:].set(0.0).at[2].set(0.0)
    used, steer = jnp.array([True, True, False]), jnp.asarray(rows[::-1])

    def each(x, w):
        return scalar(om.solve(om.Problem(x, w), initial, tolerance=TIGHT).mixture)

    def total(shift):
        return jnp.sum(jnp.where(used, jax.vmap(each)(x + shift * steer, weight), 0))

    short = jnp.asarray(rows[:-3])
    expected = sum(
        jax.grad(lambda s, x=x: each(x + s * steer[: len(x)], jnp.ones(len(x))))(0.0)
        for x in (jnp.asarray(rows), short)
    )
    np.testing.assert_allclose(jax.grad(total)(0.0), expected, rtol=1e-8)
    twice = jnp.concatenate([short, short[:1]])
    by_copy = jax.grad(each)(twice, jnp.ones(len(twice)))
    by_weight = jax.grad(each)(short, jnp.ones(len(short)).at[0].set(2.0))
    np.testing.assert_allclose(by_copy[0] + by_copy[-1], by_weight[0], rtol=1e-8)


@pytest.mark.nightly
def test_second_derivatives_of_the_answer(rows):
    initial = start(rows, 2, "tied")

    def f(x, w):
        return scalar(om.solve(om.Problem(x, w), initial, tolerance=TIGHT).mixture)

    point = jnp.asarray(rows), jnp.ones(len(rows))
    direction = tangent_like(point)
    gradient = jax.jit(jax.grad(f, argnums=(0, 1)))
    product = jax.jvp(gradient, point, direction)[1]
    h = 1e-5

    def moved(step):
        return gradient(*jax.tree.map(lambda p, d: p + step * d, point, direction))

    numeric = jax.tree.map(lambda a, b: (a - b) / (2 * h), moved(h), moved(-h))
    chex.assert_trees_all_close(product, numeric, rtol=1e-5, atol=1e-6)


def compiled_gradient(rows, adjoint, history):
    initial = start(rows, 2, "spherical")

    def f(x):
        return scalar(
            om.solve(
                om.Problem(x), initial, max_steps=history, history_size=1, adjoint=adjoint
            ).mixture
        )

    return jax.jit(jax.grad(f)).lower(jnp.asarray(rows)).compile().memory_analysis()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps(rows):
    implicit = [
        compiled_gradient(rows, Implicit(), steps).temp_size_in_bytes for steps in (10, 10_000)
    ]
    assert implicit[0] == implicit[1]
    unrolled = compiled_gradient(rows, om.adjoints.Unrolled(10_000), 10_000)
    assert unrolled.temp_size_in_bytes > 2 * implicit[1], "what the check would see"


@pytest.mark.slow
def test_new_numbers_trace_once(rows):
    initial = start(rows, 2, "spherical")

    @jax.jit
    @chex.assert_max_traces(n=1)
    def gradient(x, weight, tolerance, steps, undefined):
        def f(x):
            solution = om.solve(
                om.Problem(x, weight),
                initial,
                tolerance=tolerance,
                max_steps=steps,
                adjoint=Implicit(undefined),
            )
            return scalar(solution.mixture)

        return jax.grad(f)(x)

    x, weight = jnp.asarray(rows), jnp.ones(len(rows))
    chex.clear_trace_counter()
    for scale in (1.0, 1.1):
        assert np.isfinite(gradient(scale * x, weight, 1e-9 * scale, int(99 * scale), 0.0)).all()


def test_spectrum_solves_with_gauge_and_absent_coordinates():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6)) * np.logspace(0, 3, 6)[:, None]
    gauge = np.array([0.0, 0, 0, 1, 1, 0])
    onto = np.eye(6) - np.outer(gauge, gauge) / 2
    onto[5] = 0
    matrix = onto @ factor @ factor.T @ onto.T
    right = matrix @ rng.normal(size=6)
    spectrum = Spectrum.of(jnp.asarray(matrix), jnp.asarray(gauge))
    assert spectrum.regular
    assert spectrum.absent.tolist() == [False] * 5 + [True]
    answer = onto @ np.asarray(spectrum.solve(jnp.asarray(right)))
    np.testing.assert_allclose(answer, np.linalg.pinv(matrix) @ right, rtol=1e-7)
    for broken in (matrix - 1.1 * np.diag(np.diag(matrix)), matrix * np.nan):
        assert not Spectrum.of(jnp.asarray(broken), jnp.asarray(gauge)).regular
    without_gauge = Spectrum.of(jnp.asarray(matrix), jnp.zeros(6))
    assert not without_gauge.regular


def test_conjugate_gradients_solve_or_say_that_they_did_not():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(8, 8))
    matrix = jnp.asarray(factor @ factor.T + np.eye(8))
    right, scale = jnp.asarray(rng.normal(size=8)), jnp.diagonal(matrix)
    answer, sound = conjugate_gradients(lambda v: matrix @ v, right, scale, 1e-13, 50)
    assert sound
    np.testing.assert_allclose(answer, np.linalg.solve(matrix, right), rtol=1e-9)
    assert conjugate_gradients(lambda v: matrix @ v, 0 * right, scale, 1e-13, 50)[1]
    values, vectors = np.linalg.eigh(matrix)
    for lowest in (-1.0, 0.0):
        bent = jnp.asarray((vectors * np.where(values == values[0], lowest, values)) @ vectors.T)
        assert not conjugate_gradients(lambda v, m=bent: m @ v, right, scale, 1e-13, 50)[1]
    assert not conjugate_gradients(lambda v: matrix @ v, right, scale, 1e-13, 2)[1]
    assert not conjugate_gradients(lambda v: matrix @ v, right * jnp.nan, scale, 1e-13, 9)[1]


@pytest.mark.nightly
def test_float32_is_right_to_its_digits(rows):
    """Dense and iterative, at the default tolerance and a Newton step."""

    def gradient(x, max_dense):
        adjoint = Implicit(newton_steps=1, max_dense=max_dense)
        initial = start(x, 2, "tied")
        return jax.grad(
            lambda x: scalar(om.solve(om.Problem(x), initial, adjoint=adjoint).mixture)
        )(x)

    truth = gradient(jnp.asarray(rows), 128)
    for max_dense in (128, 0):
        narrow = gradient(jnp.asarray(rows, jnp.float32), max_dense)
        assert narrow.dtype == jnp.float32
        assert jnp.linalg.norm(narrow - truth) < 1e-4 * jnp.linalg.norm(truth)
