"""Starts of a race, all in NumPy: labels, plans out of answers, and sizes of programs."""

import math
import warnings

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.cluster import KMeans

from otmix_jax.core.buckets import MOST, bucket, padded
from otmix_jax.fitting.course import rung
from otmix_jax.initializers import portfolio as module
from otmix_jax.initializers.portfolio import KINDS, portfolio
from otmix_jax.initializers.surgery import _misfit, exchanged, grown, responsibilities, shrunk


def draws(z, weight, k, count=16, seed=0):
    return portfolio(z, weight, k, count, np.random.default_rng(seed))


def lloyd(space, weight, centres, rounds):
    """Labels and centres that scikit-learn has after so many rounds."""
    peer = KMeans(len(centres), init=centres, n_init=1, max_iter=rounds, tol=0, algorithm="lloyd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rounds are cut short
        peer.fit(space, sample_weight=weight)
    return peer.labels_, peer.cluster_centers_


def whitened(z, weight):
    """By the inverse root of the covariance."""
    centred = z - np.average(z, axis=0, weights=weight)
    covariance = np.cov(z.T, aweights=weight, ddof=0).reshape(z.shape[1], -1)
    return np.linalg.solve(np.linalg.cholesky(covariance), centred.T).T


# ---------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("k", [1, 2, 5])
def test_labels_are_of_k_groups(faithful, k):
    labels, own = draws(faithful, np.ones(272), k, count=11)
    assert labels.shape == (11, 272)
    assert labels.min() == 0
    assert labels.max() == k - 1
    # starts of drawn rows come from centres alone
    drawn_rows = ["rows" in KINDS[i % 8] for i in range(11)]
    assert own.tolist() == [not rows for rows in drawn_rows]


def test_kinds_are_in_the_shares_that_are_told():
    assert len(KINDS) == 8
    assert sorted(KINDS) == ["kmeans", "rows", *4 * ["stretched"], "white", "white rows"]


def test_units_change_no_label(faithful):
    """Powers of two, so that rounding is the same."""
    weight = np.random.default_rng(3).uniform(0.1, 2, 272)
    labels, own = draws(faithful, weight, 4)
    again, own_again = draws(faithful * [2.0**40, 2.0**-30], 8 * weight, 4)
    np.testing.assert_array_equal(labels, again)
    np.testing.assert_array_equal(own, own_again)
    assert len(np.unique(labels, axis=0)) == 16
    assert (draws(faithful, weight, 4, seed=1)[0] != labels).any(axis=1).all()


def test_every_kind_is_in_its_place(faithful, monkeypatch):
    """The k-means kinds are fixed points of Lloyd's in standardised and in white rows, by turns."""
    monkeypatch.setattr(module, "ROUNDS", 100)
    weight = np.random.default_rng(4).uniform(0.1, 2, 272)
    labels, _ = draws(faithful, weight, 3)
    deviation = np.sqrt(np.cov(faithful.T, aweights=weight, ddof=0).diagonal())
    spaces = {"kmeans": faithful / deviation, "white": whitened(faithful, weight)}
    fixed = {name: [] for name in spaces}
    for name, space in spaces.items():
        for label in labels:
            mine = [label == j for j in range(3)]
            means = [np.average(space[m], axis=0, weights=weight[m]) for m in mine]
            square = ((space[:, None] - np.array(means)) ** 2).sum(-1)
            fixed[name].append(bool((square.argmin(1) == label).all()))
    for kind, start in (("kmeans", 3), ("kmeans", 11), ("white", 7), ("white", 15)):
        assert fixed[kind][start]
    assert not all(fixed["kmeans"])
    assert not all(fixed["white"])
    # the others are Voronoi cells of rows, in standardised ones for "rows"
    for start in (1, 9):
        assert not fixed["kmeans"][start]
        assert not fixed["white"][start]


def test_spaces_are_what_they_are_called(faithful):
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.1, 2, 272)
    z = np.column_stack([faithful, faithful @ [1.0, 2.0], np.zeros(272)])
    standard = module._standardised(z, weight)
    np.testing.assert_allclose(np.average(standard, axis=0, weights=weight), 0, atol=1e-12)
    np.testing.assert_allclose(
        np.cov(standard.T, aweights=weight, ddof=0).diagonal(), [1, 1, 1, 0], atol=1e-12
    )
    white = module._white(z, weight)
    assert white.shape == (272, 2)
    np.testing.assert_allclose(
        np.cov(white.T, aweights=weight, ddof=0), np.eye(2), atol=1e-8
    )  # relative to a rank that is missing
    # Mahalanobis distances have no basis
    peer = whitened(faithful, weight)
    np.testing.assert_allclose((white**2).sum(1), (peer**2).sum(1), rtol=1e-7)
    logs = []
    for _ in range(400):
        gram = np.linalg.lstsq(white, module._stretched(white, rng), rcond=None)[0]
        # a turn, and then scales e^N(0, 1) of the columns
        scale = np.linalg.norm(gram, axis=0)
        np.testing.assert_allclose((gram / scale).T @ (gram / scale), np.eye(2), atol=1e-8)
        logs.append(np.log(scale))
    assert abs(np.mean(logs)) < 4 / math.sqrt(800)
    assert abs(np.std(logs) - 1) < 4 / math.sqrt(2 * 800)


@pytest.mark.parametrize("rounds", [1, 10])
def test_rounds_are_scikit_learns(faithful, monkeypatch, rounds):
    monkeypatch.setattr(module, "ROUNDS", rounds)
    weight = np.random.default_rng(1).uniform(0.1, 2, 272)
    space = module._standardised(faithful, weight)
    centres = np.stack([space[[0, 1, 2, 3, 4]], space[[10, 50, 90, 130, 200]]])
    ours = module._lloyd(np.broadcast_to(space, (2, 272, 2)), weight, centres)
    for own, begin in zip(ours, centres, strict=True):
        labels, peer = lloyd(space, weight, begin, rounds)
        np.testing.assert_allclose(own, peer, rtol=1e-10)
        if rounds > 1:
            assert (module._nearest(space[None], own[None])[0] == labels).mean() > 0.95
        assert np.abs(own - begin).max() > 0.05


def test_seeds_are_drawn_by_weighted_squared_distance():
    """Four places: the chances of a pair by hand."""
    place, weight = np.array([0.0, 1.0, 3.0, 9.0]), np.array([1.0, 2.0, 0.0, 0.5])
    spaces = np.broadcast_to(place[:, None], (40_000, 4, 1))
    seeds = module._plus_plus(spaces, weight, 2, np.random.default_rng(0))[..., 0]
    chance = np.zeros((4, 4))
    for i in range(4):
        mass = weight * (place - place[i]) ** 2
        chance[i] = weight[i] / weight.sum() * mass / mass.sum()
    which = np.searchsorted(place, seeds)
    found = np.zeros((4, 4))
    np.add.at(found, (which[:, 0], which[:, 1]), 1 / 40_000)
    np.testing.assert_allclose(found, chance, atol=0.01)
    assert (found[chance == 0] == 0).all()


def test_rows_are_drawn_by_weight_and_apart():
    place, weight = np.arange(4.0), np.array([1.0, 3.0, 0.0, 4.0])
    spaces = np.broadcast_to(place[:, None], (40_000, 4, 1))
    one = module._rows(spaces, weight, 1, np.random.default_rng(0))[:, 0, 0]
    share = np.bincount(one.astype(int), minlength=4) / len(one)
    np.testing.assert_allclose(share, weight / 8, atol=0.01)
    three = np.sort(module._rows(spaces[:500], weight, 3, np.random.default_rng(0))[..., 0])
    np.testing.assert_array_equal(three, np.broadcast_to([0, 1, 3], (500, 3)))


def test_a_row_of_weight_zero_is_never_a_seed():
    """Nor does it move one: far away, it would be the first of k-means++."""
    rng = np.random.default_rng(0)
    space = rng.normal(size=(40, 2))
    space[::2] += 1000
    weight = (np.arange(40) % 2).astype(float)
    spaces = np.broadcast_to(space, (300, 40, 2))
    for draw in (module._rows, module._plus_plus):
        seeds = draw(spaces, weight, 5, rng)
        assert np.abs(seeds).max() < 10
    centres = module._lloyd(spaces, weight, module._plus_plus(spaces, weight, 5, rng))
    assert np.abs(centres).max() < 10


@pytest.mark.parametrize(
    "z",
    [
        np.repeat([[0.0, 1.0], [5.0, 2.0]], 4, axis=0),
        np.ones((8, 2)),
        np.column_stack([np.arange(8.0), np.zeros(8)]),
        np.arange(16.0).reshape(2, 8)[:, :3].repeat(2, 0),
    ],
    ids=["two places", "one place", "a line", "fewer rows than columns"],
)
def test_fewer_places_than_components(z):
    labels, _ = draws(z, np.ones(len(z)), 4)
    assert labels.min() >= 0
    assert labels.max() < 4
    # equal rows are never told apart
    _, place = np.unique(z, axis=0, return_inverse=True)
    for label in labels:
        assert all(len(set(label[place.ravel() == p])) == 1 for p in range(place.max() + 1))


# --------------------------------------------------------------------------------- surgery


@pytest.fixture
def answer(blobs):
    """Shares [60, 4] of four components, their costs and weights; the first row is absent."""
    rng = np.random.default_rng(5)
    centres = blobs[[3, 30, 50, 57]]
    cost = 0.5 * ((blobs[:, None] - centres) ** 2).sum(-1) + 1.0
    weight = rng.uniform(0.2, 2, 60)
    weight[0] = 0
    share = responsibilities(np.log([0.1, 0.2, 0.3, 0.4]), cost)
    share[0] = 0
    return share, cost, weight


def test_responsibilities_are_a_softmax():
    rng = np.random.default_rng(0)
    cost = rng.normal(size=(50, 3)) * 100 + 1e4
    log_weights = np.log([0.2, 0.5, 0.3])
    share = responsibilities(log_weights, cost)
    np.testing.assert_allclose(share, softmax(log_weights - cost, axis=1), rtol=1e-10, atol=1e-300)
    cost[0], cost[1, 0] = np.inf, np.inf
    share = responsibilities(np.array([0.0, -1.0, -np.inf]), cost)
    np.testing.assert_array_equal(share[0], 0)
    np.testing.assert_array_equal(share[1], [0, 1, 0])
    np.testing.assert_array_equal(share[:, 2], 0)


def test_the_misfit_is_a_divergence(answer):
    share, cost, weight = answer
    cost = np.where(share > 1e-3, cost, np.inf)  # a row that is not its own, off the support
    share = np.where(share > 1e-3, share, 0)
    law = np.exp(-cost)
    own = share * weight[:, None]
    expected = [entropy(own[:, j], law[:, j]) - np.log(law[:, j].sum()) for j in range(4)]
    np.testing.assert_allclose(_misfit(share, cost, weight, weight @ share), expected, rtol=1e-12)


def test_exchanges_merge_two_and_split_a_third(answer, blobs):
    share, cost, weight = answer
    plans = exchanged(blobs, share, cost, weight, 12, np.random.default_rng(0))
    assert len(plans) == 12
    total, mass, made = share.sum(1), weight @ share, []
    for plan in plans:
        np.testing.assert_allclose(plan.sum(1), total, rtol=0, atol=4e-16)
        assert plan.min() >= 0
        kept = [j for j in range(4) if np.array_equal(plan[:, j], share[:, j])]
        (same,) = kept  # of four: one merged, one cleared, one split
        moved = [j for j in range(4) if j != same]
        found = [
            (i, j, s)
            for i in moved
            for j in moved
            for s in moved
            if len({i, j, s}) == 3
            and np.allclose(plan[:, i], share[:, i] + share[:, j], rtol=0, atol=1e-15)
            and np.array_equal(plan[:, j] + plan[:, s], share[:, s])
        ]
        ((i, j, s),) = found
        made.append((frozenset((i, j)), s))
        after = weight @ plan
        np.testing.assert_allclose(after[i], mass[i] + mass[j], rtol=1e-13)
        np.testing.assert_allclose(after[j] + after[s], mass[s], rtol=1e-13)
        np.testing.assert_allclose(after.sum(), mass.sum(), rtol=1e-13)
        # each row goes to one half, on its side of a plane, and both have some
        one, other = plan[:, j] > 0, plan[:, s] > 0
        assert not (one & other).any()
        assert min(after[j], after[s]) > 0
        middle = np.average(blobs, axis=0, weights=weight * share[:, s])
        angles = np.linspace(0, np.pi, 2000)
        sides = (blobs - middle) @ np.array([np.cos(angles), np.sin(angles)]) > 0
        present = (weight * share[:, s] > 0)[:, None]
        cut = (~present | (sides == one[:, None])).all(0) | (
            ~present | (sides != one[:, None])
        ).all(0)
        assert cut.any()
    # the first two merge the pair whose columns are most alike
    cosine = {
        frozenset((i, j)): np.sum(weight * share[:, i] * share[:, j])
        / np.sqrt(np.sum(weight * share[:, i] ** 2) * np.sum(weight * share[:, j] ** 2))
        for i in range(4)
        for j in range(i)
    }
    order = sorted(cosine, key=cosine.get, reverse=True)
    assert [pair for pair, _ in made] == [pair for pair in order for _ in range(2)]
    worst = np.argsort(-_misfit(share, cost, weight, mass))
    assert [s for _, s in made[:2]] == [s for s in worst if s not in order[0]]


def test_exchanges_of_two_split_each_in_turn(answer, blobs):
    """The rows of the other are anyone's, and one half of the split one goes over."""
    _, cost, weight = answer
    cost = cost[:, :2]
    share = responsibilities(np.log([0.5, 0.5]), cost)
    share[0] = 0
    plans = exchanged(blobs, share, cost, weight, 5, np.random.default_rng(0))
    assert len(plans) == 5
    for turn, plan in enumerate(plans):
        split, other = turn % 2, 1 - turn % 2
        np.testing.assert_allclose(plan.sum(1), share.sum(1), rtol=0, atol=4e-16)
        anyone = 0.5 * share[:, other]
        here = np.isclose(plan[:, split], share[:, split] + anyone, rtol=0, atol=1e-15)
        there = np.isclose(plan[:, other], share[:, split] + anyone, rtol=0, atol=1e-15)
        assert (here | there).all()
        np.testing.assert_allclose(plan[~here, split], anyone[~here], rtol=0, atol=1e-15)
        np.testing.assert_allclose(plan[~there, other], anyone[~there], rtol=0, atol=1e-15)
        assert 5 < here.sum() < 55
    assert exchanged(blobs, share[:, :1], cost[:, :1], weight, 5, np.random.default_rng(0)) == []


def test_three_components_have_three_exchanges(answer, blobs):
    _, cost, weight = answer
    share = responsibilities(np.log([0.2, 0.3, 0.5]), cost[:, :3])
    plans = exchanged(blobs, share, cost[:, :3], weight, 7, np.random.default_rng(0))
    assert len(plans) == 7
    for plan in plans:
        np.testing.assert_allclose(plan.sum(1), 1, rtol=0, atol=4e-16)
        assert (weight @ plan > 0).all()


def test_grown_plans_halve_one(answer, blobs):
    share, _, weight = answer
    plans = grown(blobs, share, weight, np.random.default_rng(0))
    mass = weight @ share
    halved = []
    for plan in plans:
        assert plan.shape == (60, 5)
        np.testing.assert_allclose(plan.sum(1), share.sum(1), rtol=0, atol=4e-16)
        (s,) = [j for j in range(4) if not np.array_equal(plan[:, j], share[:, j])]
        np.testing.assert_array_equal(plan[:, s] + plan[:, 4], share[:, s])
        assert not ((plan[:, s] > 0) & (plan[:, 4] > 0)).any()
        assert min((weight @ plan)[[s, 4]]) > 0
        halved.append(s)
    assert halved[:2] == np.argsort(-mass)[:2].tolist()
    assert len(halved) == 3
    one = share.sum(1)[:, None]
    shapes = [plan.shape for plan in grown(blobs, one, weight, np.random.default_rng(0))]
    assert shapes == [(60, 2), (60, 2)]


def test_shrunk_plans_leave_each_out_in_turn(answer):
    share, _, _ = answer
    share[1], share[2] = [0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25]
    plans = shrunk(share)
    assert len(plans) == 4
    for gone, plan in enumerate(plans):
        assert plan.shape == (60, 3)
        rest = [j for j in range(4) if j != gone]
        np.testing.assert_allclose(plan.sum(1), 1, rtol=0, atol=4e-16)
        ratio = plan[3:] * share[3:, rest].sum(1, keepdims=True)
        np.testing.assert_allclose(ratio, share[3:, rest], rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(plan[2], 1 / 3, rtol=1e-15)
    np.testing.assert_allclose(plans[1][1], 1 / 3, rtol=1e-15)  # was its own alone
    np.testing.assert_array_equal(plans[0][1], [1, 0, 0])


# ------------------------------------------------------------------------------- program sizes


def test_buckets_hold_the_rows_and_little_more():
    numbers = [*range(1, 3000), *range(3000, MOST + 1, 37), MOST - 1, MOST]
    sizes = [bucket(n) for n in numbers]
    assert sizes == sorted(sizes)
    for n, size in zip(numbers, sizes, strict=True):
        assert size >= n
        assert size % 8 == 0
        assert size >= 16
        # a bucket is its own: one program for all of its rows
        assert size > MOST or bucket(size) == size
        if n >= 64:
            assert size <= n + n / 8
    assert len(set(sizes)) < 90
    assert [bucket(n) for n in (1, 16, 17, 24, 25)] == [16, 16, 24, 24, 32]
    assert [bucket(n) for n in (MOST + 1, 3 * MOST)] == [MOST + 1, 3 * MOST]


def test_rungs_are_squares():
    for n in range(1, 200):
        size = rung(n)
        root = math.isqrt(size)
        assert root**2 == size >= n
        assert size == 4 or (root - 1) ** 2 < n


def test_rows_are_padded_by_copies_without_weight():
    rows = {"a": np.arange(1.0, 18.0), "b": np.arange(34).reshape(17, 2)}
    more, weight = padded(rows, None)
    assert more["a"].shape == (24,)
    assert more["b"].shape == (24, 2)
    assert more["b"].dtype == rows["b"].dtype
    for name, leaf in rows.items():
        np.testing.assert_array_equal(more[name][:17], leaf)
        np.testing.assert_array_equal(more[name][17:], np.repeat(leaf[:1], 7, axis=0))
    np.testing.assert_array_equal(weight, np.arange(24) < 17)
    _, weight = padded(rows, np.arange(17.0))
    np.testing.assert_array_equal(weight, np.concatenate([np.arange(17.0), np.zeros(7)]))
    long = np.zeros((MOST + 1, 1))
    assert padded(long, None)[0] is long
