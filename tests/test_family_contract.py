"""What a fit of any family must hold: one example of each family, drawn from its own law.

A few families of different kinds (a closed M-step with and without a guarded form, a Newton step,
parts, a link) run by default; all of them are marked slow.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import FAMILIES

import otmix_jax as om
from otmix_jax.families import Frozen, Subspace

LBFGS = om.solvers.Gradient(optax.lbfgs())
ALWAYS = ("Gaussian", "Poisson", "Product")
# three classes of two or three items have more parameters than their cells say
ODDS = jnp.array([[0.9, 0.8, 0.7, 0.8, 0.9], [0.2, 0.3, 0.1, 0.3, 0.2]])
IDENTIFIED = {
    "Bernoulli": om.families.Bernoulli(ODDS),
    "Categorical": om.families.Categorical(
        jnp.stack([ODDS, 0.7 * (1 - ODDS), 0.3 * (1 - ODDS)], -1)
    ),
}
FLAT = {
    "NegativeBinomialRegression": "two of its sizes are infinite at the optimum of these rows",
    "BinomialRegression": "EM stalls by rounding, 4e-5 from the optimum, and Implicit says NaN",
}
FIRST = [
    pytest.param(
        IDENTIFIED.get(family.__name__) or next(iter(family.examples().values())),
        id=f"{family.__name__}-{family.__module__.split('.')[0]}",
        marks=() if family.__name__ in ALWAYS else pytest.mark.slow,
    )
    for family in FAMILIES
    if family.examples() and not issubclass(family, Frozen | Subspace)
]


@pytest.fixture(params=FIRST)
def family(request):
    return request.param


def truth_of(family):
    """The family in uneven proportions."""
    return om.Mixture.from_weights(jnp.arange(2.0, 2 + family.n_components), family)


@functools.cache
def drawn(family, n):
    """[n] rows of a mixture, the same for all tests of a family."""
    return truth_of(family).sample(jax.random.key(3), n)


def solved(problem, start, **options):
    return om.solve(problem, start, om.solvers.Squarem(), max_steps=4000, **options)


def part(rows, which):
    return jax.tree.map(lambda leaf: leaf[which], rows)


def test_a_fit_recovers_what_it_was_drawn_from(family):
    """Within four standard errors, each parameter as it is stored."""
    rows, truth = drawn(family, 6000), truth_of(family)
    solution = solved(om.Problem(rows), truth, tolerance=1e-11)
    errors = om.standard_errors(solution, rows).leaves
    apart = jax.tree.map(lambda a, b: np.abs(a - b), solution.mixture, truth)
    # NumPy: JAX takes no entries of a single number, as of a field that all components share
    leaves, errors = (jax.tree.leaves(jax.device_get(tree)) for tree in (apart, errors))
    for leaf, error in zip(leaves, errors, strict=True):
        if leaf.size == 0:
            continue  # such as effects in common, where there are none
        known = np.isfinite(error)
        assert known.any(), "no standard errors at all"
        assert (leaf[known] <= 4 * error[known] + 1e-8).all(), (leaf, error)


def test_weights_are_repetitions_and_rows_have_no_order(family):
    rows, start = drawn(family, 60), truth_of(family)
    count = np.arange(60) % 3
    repeated = part(rows, np.random.default_rng(0).permutation(np.repeat(np.arange(60), count)))
    one = om.solve(om.Problem(rows, jnp.asarray(count, float)), start, max_steps=6)
    other = om.solve(om.Problem(repeated), start, max_steps=6)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-9)
    costs = [s.mixture.components.cost(part(rows, slice(9))) for s in (one, other)]
    np.testing.assert_allclose(*costs, rtol=1e-7, atol=1e-8)


def test_problems_side_by_side(family):
    """Under vmap and jit as each by itself."""
    rows, start = drawn(family, 80), truth_of(family)
    weights = jnp.stack([jnp.ones(80), jnp.arange(80.0) % 2])

    def one(weight):
        return om.solve(om.Problem(rows, weight), start, max_steps=5)

    both = jax.jit(jax.vmap(one))(weights)
    for lane, weight in enumerate(weights):
        alone = one(weight)
        np.testing.assert_allclose(both.value[lane], alone.value, rtol=1e-10)
        assert int(both.n_steps[lane]) == int(alone.n_steps)


def test_the_gradient_path_ends_where_em_does(family):
    rows, start = drawn(family, 2000), truth_of(family)  # of few, another optimum is near
    by_em = solved(om.Problem(rows), start, tolerance=1e-13)
    by_gradient = om.solve(om.Problem(rows), start, LBFGS, tolerance=1e-13, max_steps=2000)
    assert abs(float(by_em.value - by_gradient.value)) < 1e-6


@pytest.mark.slow
def test_the_derivative_of_an_answer(family):
    """By the implicit function theorem, as by finite differences of the answer."""
    if (name := type(family).__name__) in FLAT:
        pytest.skip(FLAT[name])
    rows, start = drawn(family, 1000), truth_of(family)
    some = part(rows, slice(5))
    weight = jnp.linspace(0.5, 1.5, 1000)
    direction = jnp.sin(jnp.arange(1000.0))

    @jax.jit
    def answer(step):
        problem = om.Problem(rows, weight + step * direction)
        adjoint = om.adjoints.Implicit()
        # differences feel what a run leaves: to the last digit, however slow EM is
        solution = om.solve(problem, start, tolerance=1e-26, max_steps=30_000, adjoint=adjoint)
        return jnp.sum(solution.mixture.log_prob(some)) + solution.value

    slope = jax.jvp(answer, (0.0,), (1.0,))[1]
    h = 1e-2
    near, far = answer(h) - answer(-h), answer(2 * h) - answer(-2 * h)
    np.testing.assert_allclose(slope, (8 * near - far) / (12 * h), rtol=1e-4, atol=1e-7)


def test_single_precision(family):
    """The answer in float32 is that of float64, to its digits, and holds no NaN."""
    rows, start = drawn(family, 300), truth_of(family)
    wide = om.solve(om.Problem(rows), start, max_steps=20)
    # codes and counts too: integers alone would be of the default precision
    narrow_rows = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), rows)
    narrow_start = om.core.tree.cast(start, jnp.float32)
    narrow = om.solve(om.Problem(narrow_rows), narrow_start, max_steps=20)
    chex.assert_tree_all_finite(narrow.mixture.components)
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow.mixture)} == {jnp.dtype(jnp.float32)}
    # after as many steps as float32 can tell apart, the value is the same
    np.testing.assert_allclose(narrow.value, wide.value, rtol=2e-4, atol=2e-4)
