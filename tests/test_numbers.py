"""Numbers that were wrong, or too many: each against something independent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import start
from scipy.stats import multivariate_normal, poisson

import otmix_jax as om
from otmix_jax.core import numerics
from otmix_jax.engine import Dense, Engine, Entrywise, Guarded, Linear, Reference, Tiled
from otmix_jax.fitting import candidates, lanes, single
from otmix_jax.transport.couplings import Balanced, Penalized, SemiRelaxed

ROWS = np.random.default_rng(0).normal(size=(21, 2))
WEIGHTS = jnp.array([0.0, 0.5, 0.5])


def unit_gaussians():
    return om.families.Gaussian(
        jnp.array([[0.0], [1.0], [2.0]]), om.families.Spherical(jnp.ones(3))
    )


def densities(components, x):
    """[n, k] by scipy."""
    parameters = zip(components.mean, components.matrices(), strict=True)
    return np.stack([multivariate_normal(m, c).pdf(x) for m, c in parameters], axis=1)


def test_what_an_absent_component_would_win_in_one_dimension():
    """d log p / d w_0 at w_0 = 0 is N_0(x) / p(x) - 1; the -1 from the sum of the weights."""
    components, x = unit_gaussians(), jnp.array([[0.3]])

    def log_prob(w):
        return om.Mixture.from_weights(w, components).log_prob(x)[0]

    n = densities(components, np.array([[0.3], [0.3]]))[0]
    p = n @ np.asarray(WEIGHTS)
    gradient = jax.grad(log_prob)(WEIGHTS)
    np.testing.assert_allclose(gradient, n / p - 1, rtol=1e-12)
    np.testing.assert_allclose(gradient[0], 0.8774, atol=5e-5)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(log_prob))(WEIGHTS), gradient, rtol=1e-12)
    inside = log_prob(WEIGHTS.at[0].set(1e-6))
    np.testing.assert_allclose((inside - log_prob(WEIGHTS)) / 1e-6, gradient[0], rtol=1e-5)
    # the Hessian too is the limit of that inside: log p has no kink there
    near = jax.hessian(log_prob)(WEIGHTS.at[0].set(1e-9))
    np.testing.assert_allclose(jax.hessian(log_prob)(WEIGHTS), near, rtol=1e-6)


@pytest.mark.parametrize("kernel", [Entrywise, Reference, Linear, Guarded])
@pytest.mark.parametrize("structure", ["full", "tied"])
def test_what_an_absent_component_would_win_of_the_likelihood(structure, kernel):
    """The gradient is -(D_j - 1), D_j = sum_i a_i N_j(x_i) / p(x_i): under jit, vmap, tiled."""
    components = om.families.Gaussian.examples()[structure]
    components = dataclasses.replace(components, mean=0.3 * components.mean)
    engine = Engine(kernel, Tiled(8))
    a = np.arange(1.0, 22.0)

    def loss(w, components):
        mixture = om.Mixture.from_weights(w, components)
        return om.negative_log_likelihood(mixture, ROWS, a, engine=engine)

    n = densities(components, ROWS)
    several = jnp.array([[0.0, 0.5, 0.5], [0.2, 0.0, 0.8], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5]])
    expected = [1 - (a / a.sum()) @ (n / (n @ np.asarray(w))[:, None]) for w in several]
    gradient = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (0, None)))
    found, moved = gradient(several, components)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert not np.any(moved.mean[0, 0]), "its own parameters move nothing"
    inside = loss(jnp.array([1e-6, 0.5, 0.5]), components)
    slope = (inside - loss(WEIGHTS, components)) / 1e-6
    np.testing.assert_allclose(slope, expected[0][0], rtol=1e-4)


@pytest.mark.slow
def test_what_an_absent_component_would_win_in_other_doors():
    """Responsibilities, proportions, a part of the mixture; other entropies; a linear family."""
    components, x = unit_gaussians(), np.array([[0.3], [1.7]])
    n, w = densities(components, x), np.asarray(WEIGHTS)
    p = n @ w

    def mixture(first):
        return om.Mixture.from_weights(WEIGHTS.at[0].set(first), components)

    shares = jax.jacfwd(lambda first: mixture(first).responsibilities(x))(0.0)
    direct = n * np.array([1.0, 0, 0]) / p[:, None] - n * w * (n[:, :1] / p[:, None] ** 2)
    np.testing.assert_allclose(shares, direct, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(jax.jacfwd(lambda f: mixture(f).weights)(0.0), [1, -0.5, -0.5])
    part = jax.grad(lambda first: mixture(first).take(np.array([0, 1])).log_prob(x)[0])(0.0)
    np.testing.assert_allclose(part, 2 * (n[0, 0] / n[0, 1] - 1), rtol=1e-12)

    cost = -np.log(n)
    for epsilon in (0.2, 1.0, 50.0):
        value = jax.grad(om.transport.semi_relaxed_value, 2)(cost, np.ones(2), WEIGHTS, epsilon)
        tilted = n ** (1 / epsilon)
        gain = np.mean(tilted / (tilted @ w)[:, None], axis=0)
        np.testing.assert_allclose(value, epsilon * (1 - gain), rtol=1e-10, atol=1e-12)

    counts = om.families.Poisson(jnp.array([[1.0], [4.0], [9.0]]))
    rows = np.array([[2.0], [7.0]])
    mass = poisson(np.array([1.0, 4.0, 9.0])).pmf(rows)

    def loss(w):
        law = om.Mixture.from_weights(w, counts)
        return om.negative_log_likelihood(law, rows, engine=Engine(Linear, Dense()))

    expected = 1 - np.mean(mass / (mass @ w)[:, None], axis=0)
    np.testing.assert_allclose(jax.grad(loss)(WEIGHTS), expected, rtol=1e-10)


@pytest.mark.parametrize("kernel", [Entrywise, Reference, Guarded])
def test_an_absent_component_that_is_no_number_wins_nothing(kernel):
    """NaN parameters, a far row, float32: the gradient is finite, and the right one elsewhere."""
    mean = jnp.array([[jnp.nan], [1.0], [2.0]])
    components = om.families.Gaussian(mean, om.families.Spherical(jnp.array([jnp.inf, 1.0, 1.0])))
    x = np.array([[0.3], [60.0]])

    def loss(w, components, x):
        mixture = om.Mixture.from_weights(w, components)
        return om.negative_log_likelihood(mixture, x, engine=Engine(kernel))

    gradient = jax.jit(jax.grad(loss))(WEIGHTS, components, jnp.asarray(x))
    rest = om.families.Gaussian(mean[1:], om.families.Spherical(jnp.ones(2)))
    expected = jax.grad(loss)(WEIGHTS[1:], rest, jnp.asarray(x))
    np.testing.assert_allclose(gradient, [1, *expected], rtol=1e-12)
    # where the gain is beyond every number it is a large one, and single precision has it too
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), unit_gaussians())
    wide = om.families.Gaussian(single.mean, om.families.Spherical(jnp.float32([9, 1, 1])))
    gradient = jax.jit(jax.grad(loss))(jnp.float32(WEIGHTS), wide, jnp.float32(x))
    assert np.isfinite(gradient).all()
    assert gradient[0] < -1e15


def test_a_held_proportion_of_zero_leaves_the_answer_to_the_others():
    """The answer moves with the other proportions as it does without the absent component."""
    x = np.concatenate([ROWS[:, :1], ROWS[:, 1:] + 3])

    def means(w, mean):
        covariance = om.families.Spherical(jnp.ones(len(mean)))
        start = om.families.Frozen(om.families.Gaussian(mean, covariance), "covariance")
        problem = om.Problem(x, learn_weights=False)
        answer = om.solve(problem, om.Mixture.from_weights(w, start), tolerance=1e-13)
        return answer.mixture.components.inner.mean[-2:, 0]

    mean = jnp.array([[1.5], [0.0], [3.0]])
    moved = jax.jacrev(means)(WEIGHTS, mean)
    np.testing.assert_allclose(moved[:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(moved[:, 1:], jax.jacrev(means)(WEIGHTS[1:], mean[1:]), rtol=1e-9)


@pytest.mark.slow
def test_proportions_that_are_held_are_no_parameters(blobs):
    """3 means and a shared matrix in the plane are 6 + 3 numbers, 2 more with proportions."""
    initial = start(blobs, 3, covariance="tied")
    frozen = om.Mixture(initial.log_weights, om.families.Frozen(initial.components, "mean"))
    cases = [
        (om.Problem(blobs), initial, 11),
        (om.Problem(blobs, learn_weights=False), initial, 9),
        (om.Problem(blobs, coupling=Balanced()), initial, 9),
        (om.Problem(blobs, coupling=Balanced(np.array([0.2, 0.3, 0.5]))), initial, 9),
        (om.Problem(blobs, coupling=Penalized(1.0)), initial, 11),
        (om.Problem(blobs, learn_weights=False), frozen, 3),
    ]
    for problem, begin, count in cases:
        answer = om.solve(problem, begin, max_steps=2)
        assert answer.n_parameters == count
        likelihood = np.sum(answer.mixture.log_prob(blobs))
        bic = -2 * likelihood + count * np.log(60)
        np.testing.assert_allclose(answer.bic(60.0), bic, rtol=1e-10)


@pytest.mark.slow
def test_nor_are_they_in_a_choice(blobs):
    options = {"key": 0, "covariance": "spherical", "starts": om.Starts(n_init=2)}
    choice = om.select(blobs, [1, 3], goal=om.Goal(learn_weights=False), **options)
    for one, count in zip(choice.candidates, (3, 9), strict=True):
        likelihood = np.sum(one.solution.mixture.log_prob(blobs))
        assert one.n_parameters == count
        np.testing.assert_allclose(one.bic, -2 * likelihood + count * np.log(60), rtol=1e-9)
        np.testing.assert_allclose(one.aic, -2 * likelihood + 2 * count, rtol=1e-9)


@pytest.mark.parametrize("coupling", [Balanced(np.array([0.9, 0.1])), Penalized(2.0)])
def test_the_limit_of_no_entropy_with_sizes_is_refused(blobs, coupling):
    """It is a linear program; a row that takes the cheapest component knows of no size."""
    mixture = start(blobs, 2)
    cost, a, pi = (
        np.array(mixture.components.cost(jnp.asarray(blobs))),
        np.ones(60),
        mixture.weights,
    )
    doors = [
        lambda epsilon: om.plan(mixture, blobs, coupling=coupling, epsilon=epsilon),
        lambda epsilon: om.certificate(mixture, blobs, epsilon=epsilon),
        lambda epsilon: om.transport.coupled_value(cost, a, pi, coupling, epsilon),
        lambda epsilon: om.transport.entropic_ot_value(cost, a, pi, epsilon),
        lambda epsilon: om.transport.potential(cost, a, pi, coupling, epsilon),
    ]
    for door in doors:
        for zero in (0, 0.0, jnp.asarray(0.0)):
            with pytest.raises(ValueError, match=r"small epsilon, or .* ot.emd"):
                door(zero)
        for wrong in (-1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="epsilon must be a finite number >= 0"):
                door(wrong)
    with pytest.raises(ValueError, match="rho must be a number >= 0"):
        om.transport.coupled_value(cost, a, pi, Penalized(-1.0))
    with pytest.raises(ValueError, match="epsilon must be a finite number"):
        om.transport.primal_value(cost, cost, a, pi, np.nan)
    # free sizes have that limit, and a traced epsilon is no number yet
    hard = om.plan(mixture, blobs, coupling=SemiRelaxed(), epsilon=0.0)
    np.testing.assert_allclose(hard.value, cost.min(axis=1).mean(), rtol=1e-12)
    jax.eval_shape(doors[0], 0.0)


@pytest.mark.slow
def test_one_column_has_two_models_not_four():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(30, 1)), 2 * rng.normal(size=(30, 1)) + 6])
    options = {"key": 0, "starts": om.Starts(n_init=1), "limits": om.Limits(max_steps=30)}
    choice = om.select(x, [2], **options)
    assert [one.covariance for one in choice.candidates] == ["full", "tied"]
    assert "same model" not in str(choice)
    asked = om.select(x, [2], covariance=("full", "spherical"), **options)
    assert len(asked.candidates) == 2
    np.testing.assert_allclose([one.bic for one in asked.candidates], choice.candidates[0].bic)
    assert "in one column full and spherical are the same model" in str(asked)


def pooled(x, plan):
    """[d, d] within-component covariance by NumPy, with the ridge of a start."""
    mean = (plan.T @ x) / plan.sum(axis=0)[:, None]
    u = x[:, None] - mean
    total = np.einsum("nk,nkd,nke->de", plan, u, u)
    centred = x - plan.sum(axis=1) @ x
    ridge = np.diag(plan.sum(axis=1) @ centred**2)
    return mean, total + 64 * np.finfo(float).eps * x.shape[1] * ridge


@pytest.mark.parametrize("numbers", [2**20, 50])
def test_a_start_is_the_pooled_covariance(monkeypatch, structure, numbers):
    """Whole, and in slices of a few rows."""
    monkeypatch.setattr(numerics, "NUMBERS", numbers)
    rng = np.random.default_rng(1)
    x, plan = rng.normal(size=(31, 4)) @ rng.normal(size=(4, 4)) + 5, rng.random((31, 3))
    plan /= plan.sum()
    mean, matrix = pooled(x, plan)
    found = om.families.Gaussian.initial(jnp.asarray(x), jnp.asarray(plan), structure)
    shaped = {
        "diagonal": np.diag(np.diag(matrix)),
        "spherical": np.eye(4) * np.trace(matrix) / 4,
    }.get(structure, matrix)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    everywhere = np.broadcast_to(shaped, (3, 4, 4))
    np.testing.assert_allclose(found.matrices(), everywhere, rtol=1e-11, atol=1e-13)


def held(function, *arguments):
    """Bytes that a compiled program holds beside its arguments."""
    memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float64)


@pytest.mark.parametrize("structure", ["diagonal", "spherical"])
def test_a_start_makes_no_matrix_that_its_covariance_lacks(structure):
    """In 2000 columns a matrix takes 32 MB, and 4000 rows 64 MB; both at most a few slices."""
    d, k = 2000, 3

    def initial(x, plan):
        return om.families.Gaussian.initial(x, plan, covariance=structure)

    few = held(initial, floats(50, d), floats(50, k))
    many = held(initial, floats(4000, d), floats(4000, k))
    assert few < 6 * 50 * d * 8
    assert many < 6 * numerics.NUMBERS * 8


def test_a_choice_holds_no_more_than_tiles_of_many_rows():
    """100000 rows of two columns, K = 1 to 4, 8 starts, two folds: compiled, not run.

    Plans of all lanes would take 8 * 4 * 3 * 100000 * 4 numbers, 300 MB.
    """
    n, folds, counts = 100_000, 2, jnp.arange(1, 5)
    family = om.families.describe(None, "full")
    program = single.Program(family, om.initializers.kmeans_plus_plus, 4, 8, "")
    limits, solver = om.Limits(history_size=1), om.solvers.EM()
    frame = om.families.Affine(jnp.zeros(2), jnp.ones(2))
    x, weights = floats(n, 2), floats(1 + folds, n)
    most = 4 * weights.size * 8 + 16 * 2**20

    def problems_of(x, weights):
        return candidates.about_same_rows(program, om.Goal(), 0.0, x, weights, frame)

    def starts_of(x, problems):
        keys = jax.random.split(jax.random.key(0), (1 + folds, 8))
        return candidates.nested_starts(program, x, problems, keys, counts)

    def lanes_of(x, problems):
        which = jnp.repeat(jnp.arange(1 + folds), 32)
        return lanes.Lanes(problems, which, jnp.asarray(96), None, x)

    def begun(x, problems, starts):
        seeds = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), starts)
        make = candidates.given
        return lanes.begin(make, lanes_of(x, problems), seeds, solver, limits, 1)

    def advanced(x, problems, carry):
        return lanes.advance_round(lanes_of(x, problems), carry, solver, limits, 8, 1)[0]

    def ended(x, problems, carry):
        return lanes.end(lanes_of(x, problems), carry, solver, 1).mixture

    assert candidates.in_turn(x), "so the block is 1"
    problems = jax.eval_shape(problems_of, x, weights)
    starts = jax.eval_shape(starts_of, x, problems)
    carry = jax.eval_shape(begun, x, problems, starts)
    mixtures = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), starts)
    programs = {
        "problems": (problems_of, x, weights),
        "starts": (starts_of, x, problems),
        "begin": (begun, x, problems, starts),
        "advance": (advanced, x, problems, carry),
        "end": (ended, x, problems, carry),
        "overlaps": (candidates.overlaps, flat(mixtures), x, floats(n)),
        "held out": (candidates.held_out, flat(starts, 2), x, floats(1 + folds, n)),
    }
    found = {name: held(*parts) for name, parts in programs.items()}
    assert max(found.values()) < most, found


def flat(tree, axes=1):
    """The first start: [c, n_init, ...] or [p, c, n_init, ...] without the axis of starts."""

    def without(leaf):
        return jax.ShapeDtypeStruct((*leaf.shape[:axes], *leaf.shape[axes + 1 :]), leaf.dtype)

    return jax.tree.map(without, tree)
