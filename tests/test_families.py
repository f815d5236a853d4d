"""The contract of every family, over every example it names."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import otmix_jax as om

FAMILIES = [
    f
    for f in vars(om.families).values()
    if inspect.isclass(f) and issubclass(f, om.families.Family) and not inspect.isabstract(f)
]
EXAMPLES = [
    pytest.param(example, id=f"{family.__name__}-{name}")
    for family in FAMILIES
    for name, example in family.examples().items()
]


@pytest.fixture(params=EXAMPLES)
def family(request):
    return request.param


@pytest.fixture
def rows(family):
    labels = jnp.arange(40) % family.n_components
    return family.sample(jax.random.key(0), labels)


@pytest.fixture
def plan(family):
    key = jax.random.key(1)
    return jax.nn.softmax(jax.random.normal(key, (40, family.n_components)), axis=1) / 40


def expected_cost(family, x, plan):
    return jnp.sum(plan * family.cost(x))


def test_statistics_are_additive(family, rows, plan):
    whole = family.statistics(rows, plan)
    halves = family.statistics(rows[:17], plan[:17]), family.statistics(rows[17:], plan[17:])
    chex.assert_trees_all_close(whole, jax.tree.map(lambda a, b: a + b, *halves), rtol=1e-12)


def test_prepared_is_the_same_law(family, rows, plan):
    prepared = family.prepared()
    chex.assert_trees_all_close(prepared.cost(rows), family.cost(rows), rtol=1e-14)
    mine, its = prepared.statistics(rows, plan), family.statistics(rows, plan)
    chex.assert_trees_all_close(mine, its, rtol=1e-14)


def test_the_m_step_minimises_the_expected_cost(family, rows, plan):
    """Its gradient vanishes there in every coordinate, and its Hessian is positive definite."""
    best = family.maximize(family.statistics(rows, plan), plan.sum(0))
    zeros = jax.tree.map(jnp.zeros_like, best.unconstrained(best))
    flat, unravel = ravel_pytree(zeros)

    def objective(z):
        return expected_cost(best.constrain(unravel(z)), rows, plan)

    np.testing.assert_allclose(jax.grad(objective)(flat), 0, atol=1e-12)
    assert np.linalg.eigvalsh(jax.hessian(objective)(flat)).min() > 0


def test_a_component_without_mass_keeps_its_parameters(family, rows, plan):
    plan = plan.at[:, -1].set(0)
    new = family.maximize(family.statistics(rows, plan), plan.sum(0))
    chex.assert_tree_all_finite(new)
    np.testing.assert_allclose(new.cost(rows).shape, family.cost(rows).shape)


def test_coordinates_come_back(family, rows, plan):
    """constrain and unconstrained are inverse to each other, about any origin."""
    other = family.maximize(family.statistics(rows, plan), plan.sum(0))
    again = family.constrain(other.unconstrained(family))
    np.testing.assert_allclose(again.cost(rows), other.cost(rows), rtol=1e-11)
    zeros = jax.tree.map(jnp.zeros_like, family.unconstrained(family))
    chex.assert_trees_all_close(family.unconstrained(family), zeros, atol=1e-13)
    np.testing.assert_allclose(family.constrain(zeros).cost(rows), family.cost(rows), rtol=1e-12)


def test_the_number_of_parameters(family):
    coordinates = family.unconstrained(family)
    assert ravel_pytree(coordinates)[0].size == family.n_parameters


def test_affine_maps(family, rows):
    if not family.equivariant:
        with pytest.raises(TypeError, match="affine"):
            family.affine(jnp.array(2.0), jnp.zeros(family.n_features))
        return
    scale, shift = jnp.array(3.0), jnp.arange(family.n_features) + 1.0
    mapped = family.affine(scale, shift).cost(scale * rows + shift)
    np.testing.assert_allclose(
        mapped, family.cost(rows) + family.n_features * jnp.log(scale), rtol=1e-12
    )


def test_dtype_is_kept(family, rows, plan):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), family)
    x, p = rows.astype(jnp.float32), plan.astype(jnp.float32)
    new = narrow.maximize(narrow.statistics(x, p), p.sum(0))
    leaves = jax.tree.leaves((narrow.cost(x), new, new.unconstrained(narrow)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def test_initial_is_regular(family, rows, plan):
    start = type(family).initial(rows, plan)
    chex.assert_tree_all_finite(start)
    chex.assert_tree_all_finite(start.cost(rows))
