"""Distances, matching and merging of mixtures, against POT, scipy and mclust."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.optimize
from helpers import parameters

import otmix_jax as om
from otmix_jax.core.tree import cast, replace
from otmix_jax.families import STRUCTURES, Gaussian, Poisson, Product, Spherical
from otmix_jax.transport.exact import exact_plan

REFERENCE = json.loads((Path(__file__).parent / "data/reference/reference.json").read_text())


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 2), (6, 6), (25, 18)])
def test_the_exact_plan_is_optimal(size):
    """Margins, POT's value, and a dual that proves it; rows without mass too."""
    rng = np.random.default_rng(size[0])
    cost, a, b = rng.random(size), *(rng.dirichlet(np.ones(n)) for n in size)
    a[1:2] = 0
    a /= a.sum()
    plan, u, v = exact_plan(cost, a, b)
    np.testing.assert_allclose(plan.sum(axis=1), a, atol=1e-15)
    np.testing.assert_allclose(plan.sum(axis=0), b, atol=1e-15)
    assert np.all(plan >= 0)
    assert np.max(u[:, None] + v - cost) < 1e-14
    np.testing.assert_allclose(np.sum(plan * cost), ot.emd2(a, b, cost), rtol=1e-12)
    np.testing.assert_allclose(a @ u + b @ v, np.sum(plan * cost), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 9, 30])
def test_between_equal_masses_it_is_an_assignment(k):
    cost = np.random.default_rng(k).normal(size=(k, k))
    plan = exact_plan(cost, np.ones(k), np.ones(k))[0]
    assert set(plan.ravel()) <= {0.0, 1.0}
    expected = scipy.optimize.linear_sum_assignment(cost)[1]
    np.testing.assert_array_equal(plan.argmax(axis=1), expected)


def test_a_plan_of_infinite_costs_is_nan():
    cost = np.array([[0.0, np.inf], [1.0, 2.0]])
    assert np.isnan(exact_plan(cost, np.ones(2), np.ones(2))[0]).all()
    # where there is no mass, nothing is read
    plan = exact_plan(cost, np.array([0.0, 1.0]), np.array([0.5, 0.5]))[0]
    np.testing.assert_array_equal(plan, [[0, 0], [0.5, 0.5]])


def mixture(seed, k, d=2, structure="full"):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(k, d, d))
    shape = STRUCTURES[structure].from_matrices(jnp.asarray(root @ np.swapaxes(root, 1, 2)))
    mean = jnp.asarray(rng.normal(size=(k, d)) * 3)
    return om.Mixture.from_weights(rng.dirichlet(np.ones(k) * 3), Gaussian(mean, shape))


@pytest.mark.slow
@pytest.mark.parametrize("structure", [pytest.param("full", marks=pytest.mark.slow), "diagonal"])
def test_the_distance_is_that_of_pot(structure):
    a, b = mixture(0, 3, structure=structure), mixture(1, 4)
    (wa, ma, ca), (wb, mb, cb) = parameters(a), parameters(b)
    found = om.inference.wasserstein(a, b)
    expected = np.sqrt(ot.gmm.gmm_ot_loss(ma, mb, ca, cb, wa, wb))
    np.testing.assert_allclose(found.distance, expected, rtol=1e-7)
    np.testing.assert_allclose(found.costs, ot.gmm.dist_bures_squared(ma, mb, ca, cb), rtol=1e-7)
    np.testing.assert_allclose(found.plan.sum(axis=1), wa, rtol=1e-12)
    # no digits are lost where they agree
    near = replace(a, components=replace(a.components, mean=a.components.mean + 1e-9))
    np.testing.assert_allclose(
        om.inference.wasserstein(a, near).distance, np.sqrt(2) * 1e-9, rtol=1e-4
    )
    assert om.inference.wasserstein(a, a).distance < 1e-13
    narrow = om.inference.wasserstein(*cast((a, b), jnp.float32)).distance
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_distance_has_derivatives():
    a, b = mixture(0, 3), mixture(1, 2)

    def distance(weights, mean, factor):
        covariance = replace(a.components.covariance, factor=factor)
        own = om.Mixture.from_weights(weights, Gaussian(mean, covariance))
        return om.inference.wasserstein(own, b).distance

    point = (a.weights, a.components.mean, a.components.covariance.factor)
    compiled, h = jax.jit(distance), 1e-6
    for own, slope in enumerate(jax.jit(jax.grad(distance, (0, 1, 2)))(*point)):
        for place in [(0,), (1,)] if own == 0 else [(0, 1), (2, 0)] if own == 1 else [(0, 1, 0)]:
            step = np.zeros(point[own].shape)
            step[place] = h
            up, down = (
                compiled(*(p + s * step if i == own else p for i, p in enumerate(point)))
                for s in (1, -1)
            )
            np.testing.assert_allclose(slope[place], (up - down) / (2 * h), rtol=1e-5, atol=1e-7)
    shifts = jnp.arange(3.0)
    many = jax.vmap(lambda s: distance(point[0], point[1] + s, point[2]))(shifts)
    one = [distance(point[0], point[1] + s, point[2]) for s in shifts]
    np.testing.assert_allclose(many, one, rtol=1e-10)


@pytest.mark.slow
def test_absent_components_and_others_than_gaussians():
    a, b = mixture(0, 3), mixture(1, 2)
    more = jax.tree.map(lambda leaf: jnp.concatenate([leaf, jnp.full_like(leaf[:1], jnp.nan)]), a)
    absent = om.Mixture(more.log_weights.at[-1].set(-jnp.inf), more.components)
    expected = om.inference.wasserstein(a, b).distance
    np.testing.assert_allclose(om.inference.wasserstein(absent, b).distance, expected, rtol=1e-12)
    counts = om.Mixture.from_weights(jnp.ones(2), Poisson(jnp.array([[2.0], [9.0]])))
    apart = om.inference.wasserstein(counts, counts).costs[0, 1]
    np.testing.assert_allclose(apart, 49 + (np.sqrt(2) - 3) ** 2, rtol=1e-12)
    with pytest.raises(ValueError, match="columns"):
        om.inference.wasserstein(a, counts)
    mixed = om.Mixture.from_weights(jnp.ones(3), Product.examples()["mixed"])
    with pytest.raises(TypeError, match="marginal"):
        om.inference.wasserstein(mixed, mixed)


@pytest.mark.slow
def test_matching(faithful):
    a = mixture(0, 4)
    order = np.array([2, 0, 3, 1])
    nudged = replace(a, components=replace(a.components, mean=a.components.mean + 0.01))
    found = om.inference.match(a, nudged.take(order))
    np.testing.assert_array_equal(order[found], np.arange(4))
    rows = np.asarray(a.sample(jax.random.key(0), 200))
    np.testing.assert_array_equal(om.inference.match(a, nudged.take(order), rows), found)
    with pytest.raises(ValueError, match="components"):
        om.inference.match(a, mixture(0, 3))


@pytest.mark.slow
def test_merging_by_entropy(faithful):
    """Against all pairs at once, and mclust's clustCombi of the two free Gaussians."""
    components = Gaussian(
        jnp.array([[0.0], [1.0], [6.0], [6.5]]), Spherical(jnp.array([1.0, 1.2, 0.5, 2.0]))
    )
    own = om.Mixture.from_weights(jnp.array([0.3, 0.2, 0.3, 0.2]), components)
    x = np.asarray(own.sample(jax.random.key(0), 300))
    share = np.asarray(own.responsibilities(x))

    def entropy(t):
        return -np.sum(np.where(t > 0, t * np.log(np.where(t > 0, t, 1)), 0))

    def merged(t, i, j):
        return np.column_stack([np.delete(t, [i, j], axis=1), t[:, i] + t[:, j]])

    expected, t = [entropy(share)], share
    while t.shape[1] > 1:
        pairs = [(i, j) for i in range(t.shape[1]) for j in range(i)]
        t = min((merged(t, i, j) for i, j in pairs), key=entropy)
        expected.append(entropy(t))
    found = om.inference.merge(own, x)
    np.testing.assert_allclose(found.entropy[::-1], expected, rtol=1e-10, atol=1e-12)
    assert found.groups[1].tolist() == [0, 0, 1, 1]
    assert found.groups[3].tolist() == [0, 1, 2, 3]
    assert found.groups[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(found.labels[3], own.predict(x))
    np.testing.assert_array_equal(found.labels[1], share[:, 2:].sum(axis=1) > 0.5)
    counts = np.arange(300) % 3
    repeated = om.inference.merge(own, np.repeat(x, counts, axis=0))
    np.testing.assert_allclose(om.inference.merge(own, x, counts).entropy, repeated.entropy)
    # mclust stopped early: .2 nats short of the optimum in -BIC / 2, .6 % off in entropy
    entry = REFERENCE["clustcombi_faithful"]["entropy"]
    fit = om.fit(faithful, 2, key=0).mixture
    np.testing.assert_allclose(
        om.inference.merge(fit, faithful).entropy, entry, rtol=0.01, atol=1e-9
    )
