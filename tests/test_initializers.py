"""Starts: weighted, vmappable, as good as scikit-learn's."""

import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import parameters, start
from sklearn.cluster import KMeans, kmeans_plusplus

import otmix_jax as om
from otmix_jax.initializers.seeds import _draw, _greedy_seeds

SEEDERS = [
    om.initializers.kmeans_plus_plus,
    om.initializers.kmeans,
    om.initializers.random_rows,
]


def potential(x, centres):
    return ((x[:, None] - centres) ** 2).sum(-1).min(1).mean()


def test_greedy_seeds_are_as_good_as_scikit_learns():
    """Mean potential over 200 seedings of 20 groups, within 3 % of the peer's at as many trials."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) + 8 * rng.normal(size=(20, 1, 3)).repeat(20, 0).reshape(400, 3)
    weight = jnp.full(len(x), 1 / len(x))
    draw = jax.jit(jax.vmap(lambda u: _greedy_seeds(u, jnp.asarray(x.T), weight)))
    ours = [
        potential(x, x[seeds])
        for seeds in np.asarray(draw(jax.random.uniform(jax.random.key(0), (200, 20, 12))))
    ]
    theirs = [
        potential(x, kmeans_plusplus(x, 20, random_state=i, n_local_trials=12)[0])
        for i in range(200)
    ]
    assert abs(np.mean(ours) / np.mean(theirs) - 1) < 0.03


def test_rounds_of_lloyd_are_scikit_learns(faithful):
    """From the same centres, with weights, in standardised columns; some groups overlap."""
    weight = np.random.default_rng(1).uniform(0.1, 2.0, len(faithful))
    problem, key = om.Problem(faithful, weight), jax.random.key(2)

    def means(initializer, **options):
        return initializer(key, problem, n_components=5, **options).components.mean

    mean = np.average(faithful, axis=0, weights=weight)
    unit = np.sqrt(np.average((faithful - mean) ** 2, axis=0, weights=weight))
    begin = (means(om.initializers.kmeans_plus_plus) - mean) / unit
    for rounds in (1, 6):
        peer = KMeans(5, init=begin, n_init=1, max_iter=rounds, tol=0, algorithm="lloyd")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer.fit((faithful - mean) / unit, sample_weight=weight)
        ours = means(om.initializers.kmeans, rounds=rounds)
        np.testing.assert_allclose(ours, peer.cluster_centers_ * unit + mean, rtol=1e-10)
        assert np.abs((ours - mean) / unit - begin).max() > 0.05


def test_draws_follow_the_mass():
    mass = jnp.array([0.0, 3.0, 0.0, 1.0, 0.0])
    drawn = np.asarray(_draw(jax.random.uniform(jax.random.key(0), (40_000,)), mass))
    share = np.bincount(drawn, minlength=5) / len(drawn)
    np.testing.assert_allclose(share, [0, 0.75, 0, 0.25, 0], atol=0.01)


@pytest.mark.parametrize("seeder", SEEDERS)
def test_a_row_of_weight_zero_is_never_drawn(seeder):
    x = np.random.default_rng(0).normal(size=(40, 2))
    x[::2] += 1000
    weight = (np.arange(40) % 2).astype(float)

    def one(key):
        return seeder(key, om.Problem(x, weight), n_components=4).components.mean

    means = jax.vmap(one)(jax.random.split(jax.random.key(0), 100))
    assert np.abs(means).max() < 10


@pytest.mark.parametrize("seeder", SEEDERS)
def test_vmap_equals_a_loop(blobs, seeder):
    keys = jax.random.split(jax.random.key(0), 4)

    def one(key):
        return seeder(key, om.Problem(blobs), n_components=3, covariance="diagonal")

    batch = jax.vmap(one)(keys)
    for i, key in enumerate(keys):
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], batch), one(key), rtol=1e-12
        )


def test_random_rows_are_distinct(blobs):
    from otmix_jax.initializers.seeds import _distinct_seeds

    weight = jnp.full(len(blobs), 1 / len(blobs))
    for seed in range(20):
        uniform = jax.random.uniform(jax.random.key(seed), (30, 1))
        drawn = _distinct_seeds(uniform, jnp.asarray(blobs).T, weight)
        assert len(set(drawn.tolist())) == 30


def test_from_labels_is_the_m_step(blobs, structure):
    labels = np.arange(len(blobs)) % 3
    mixture = om.initializers.from_labels(
        om.Problem(blobs), jnp.asarray(labels), 3, covariance=structure
    )
    weights, means, matrices = parameters(mixture)
    groups = [blobs[labels == j] for j in range(3)]
    np.testing.assert_allclose(weights, 1 / 3, rtol=1e-14)
    np.testing.assert_allclose(means, [g.mean(0) for g in groups], rtol=1e-12)
    full = np.array([np.cov(g.T, bias=True) for g in groups])
    expected = {
        "full": full,
        "tied": np.broadcast_to(full.mean(0), full.shape),
        "diagonal": np.array([np.diag(np.diag(c)) for c in full]),
        "spherical": np.array([np.eye(2) * np.diag(c).mean() for c in full]),
    }[structure]
    np.testing.assert_allclose(matrices, expected, rtol=1e-11, atol=1e-14)


def test_rows_without_a_label_change_nothing(faithful):
    labels = np.full(len(faithful), -1)
    labels[[0, 1, 2, 3]] = [0, 1, 0, 1]  # too few for a covariance: the pooled fallback
    part = om.initializers.from_labels(om.Problem(faithful), jnp.asarray(labels), 2)
    alone = om.initializers.from_labels(om.Problem(faithful[:4]), jnp.asarray(labels[:4]), 2)
    for ours, theirs in zip(parameters(part), parameters(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_integer_rows(faithful):
    whole = np.round(faithful).astype(int)
    a, b = start(whole, 2), start(whole.astype(float), 2)
    np.testing.assert_allclose(a.components.mean, b.components.mean, rtol=1e-12)


def test_from_responsibilities_refuses_a_wrong_shape(blobs):
    with pytest.raises(ValueError, match=r"\(60, n_components\)"):
        om.initializers.from_responsibilities(om.Problem(blobs), jnp.ones((3, 2)))


def test_columns_may_have_any_unit(blobs):
    a = start(blobs)
    b = start(blobs * [1e-9, 1e9])
    np.testing.assert_allclose(
        a.components.mean * jnp.array([1e-9, 1e9]), b.components.mean, rtol=1e-9
    )


def test_fewer_distinct_rows_than_seeds():
    mixture = start(np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0), k=4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mixture.components))
    np.testing.assert_allclose(np.sort(mixture.weights)[-2:], 0.5)
