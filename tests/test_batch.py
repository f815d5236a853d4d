"""A batch is the separate fits: same starts, same answers, whatever shares the computation."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import otmix_jax as om
from otmix_jax.fitting import ragged

KEY = jax.random.key(3)


def data(rng, n, d=2):
    centres = 3 * rng.normal(size=(3, d))
    return centres[rng.integers(0, 3, n)] + rng.normal(size=(n, d)) + 100 * rng.normal(size=d)


def ragged_list(sizes, seed=0, d=2):
    rng = np.random.default_rng(seed)
    return [data(rng, n, d) for n in sizes]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", om.ConvergenceWarning)
        yield


def assert_same(ours, alone):
    assert int(ours.status) == int(alone.status)
    assert int(ours.n_steps) == int(alone.n_steps)
    leaves = jax.tree.leaves((ours.mixture, ours.value, ours.objective))
    expected = jax.tree.leaves((alone.mixture, alone.value, alone.objective))
    for leaf, other in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-9, atol=1e-9)


def assert_separate_fits(batch, x, numbers, **options):
    for b in numbers:
        try:
            alone = om.fit(x[b], 3, key=jax.random.fold_in(KEY, b), **options)
        except om.FitError as error:
            alone = error.solution
        assert_same(batch[b], alone)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", [None, "tied"])
def test_a_ragged_batch_is_the_separate_fits(covariance):
    x = ragged_list([3, 4, 64, 60, 61, 17, 60])
    # few steps: leaps make much of rounding
    short = {"starts": om.Starts(n_init=2), "limits": om.Limits(gap=1e-3)}
    options = {"covariance": covariance, **short}
    batch = om.fit_batch(x, 3, key=KEY, **options)
    assert len(batch) == 7
    assert batch.mixture.components.mean.shape == (7, 3, 2)
    assert_separate_fits(batch, x, [0, 3, 6] if covariance is None else [3], **options)


@pytest.mark.slow
def test_by_default_each_has_eight_starts_and_no_race():
    x = ragged_list([40])
    batch = om.fit_batch(x, 3, key=KEY)
    assert batch.starts.value.shape == (1, 8)
    assert_separate_fits(batch, x, [0], starts=om.Starts(n_init=8))


@pytest.mark.slow
def test_priors_and_held_proportions_are_those_of_fit():
    """In the units of the rows, which are standardised inside, each data set by its own."""
    x = [50 * rows for rows in ragged_list([40, 60])]
    prior = om.priors.Prior(
        covariance=om.priors.Ridge(jnp.asarray(0.05), 2500 * jnp.ones(2)),
        mean=om.priors.NormalMean(jnp.array([10.0, -300.0]), 0.02),
        weights=om.priors.Dirichlet(0.1),
    )
    options = {"starts": om.Starts(n_init=2), "limits": om.Limits(gap=1e-3)}
    batch = om.fit_batch(x, 3, key=KEY, goal=om.Goal(prior=prior), **options)
    assert_separate_fits(batch, x, [0, 1], goal=om.Goal(prior=prior), **options)
    np.testing.assert_allclose(
        batch.solution.objective, batch.starts.objective.min(axis=1), rtol=1e-12
    )
    for b, rows in enumerate(x):
        problem = om.Problem(rows, prior=prior)
        objective = om.Objective.of(problem.checked()).loss(batch[b].mixture)
        np.testing.assert_allclose(batch[b].objective, objective, rtol=1e-11)
    held = om.fit_batch(
        x, 3, key=KEY, starts=om.Starts(initial=batch.mixture), goal=om.Goal(learn_weights=False)
    )
    np.testing.assert_allclose(held.mixture.weights, batch.mixture.weights, rtol=1e-12)
    assert (np.asarray(held.n_steps) > 0).all()


@pytest.mark.slow
def test_buckets_and_slices_do_not_matter(monkeypatch):
    x = ragged_list([20, 60, 61, 17, 24, 60, 23])
    one = om.fit_batch(x, 3, key=KEY, starts=om.Starts(n_init=2))
    monkeypatch.setattr(ragged, "MERGE", 0)
    many = om.fit_batch(x, 3, key=KEY, starts=om.Starts(n_init=2), slice_lanes=4)
    np.testing.assert_array_equal(one.n_steps, many.n_steps)
    # The certificate is left out: its rate is a ratio of differences near rounding.
    pairs = (
        (one.mixture, one.value, one.starts.value),
        (many.mixture, many.value, many.starts.value),
    )
    for leaf, other in zip(*map(jax.tree.leaves, pairs), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-11, atol=1e-11)


@pytest.mark.slow
def test_it_is_solve_under_vmap():
    """The pure way, on rows that need no standardisation of ours: equal up to rounding."""
    x = np.stack(ragged_list([60] * 4, seed=2))
    start = om.fit_batch(
        x, 3, key=KEY, starts=om.Starts(n_init=2), limits=om.Limits(max_steps=3)
    ).mixture
    batch = om.fit_batch(
        x,
        3,
        key=KEY,
        starts=om.Starts(initial=start),
        goal=om.Goal(ridge=0.0),
        limits=om.Limits(tolerance=1e-10),
    )
    solver = om.solvers.Squarem()
    pure = jax.vmap(lambda x, m: om.solve(om.Problem(x), m, solver, tolerance=1e-10))(x, start)
    np.testing.assert_array_equal(batch.n_steps, pure.n_steps)
    np.testing.assert_allclose(batch.value, pure.value, rtol=1e-9)
    np.testing.assert_allclose(
        batch.mixture.components.mean, pure.mixture.components.mean, rtol=1e-9
    )


@pytest.mark.slow
def test_bad_problems_get_a_status_and_disturb_no_other():
    good = ragged_list([40, 50, 60])
    broken = good[0].copy()
    broken[3, 1] = np.nan
    x = [good[0], broken, good[1], good[1], good[2][:2], good[2]]
    weights = [np.ones(len(rows)) for rows in x]
    weights[3] = np.zeros(50)
    options = {"starts": om.Starts(n_init=2), "limits": om.Limits(tolerance=1e-10)}
    batch = om.fit_batch(x, 3, key=KEY, sample_weight=weights, **options)
    names = [om.Status(int(code)).name for code in batch.status]
    assert names[1:5:1] == ["NON_FINITE", "CONVERGED", "EMPTY_COMPONENT", "EMPTY_COMPONENT"]
    np.testing.assert_array_equal(np.isnan(batch.value), [False, True, False, True, True, False])
    assert_separate_fits(batch, x, [0], **options)
    # hundreds of leaps make much of rounding: the last one only so far
    short = {**options, "limits": om.Limits(tolerance=1e-6)}
    assert_separate_fits(
        om.fit_batch(x, 3, key=KEY, sample_weight=weights, **short), x, [5], **short
    )
    negative = [-one for one in weights]
    refused = om.fit_batch(x, 3, key=KEY, sample_weight=negative).status[:3]
    assert set(refused.tolist()) == {int(om.Status.NON_FINITE)}


@pytest.mark.slow
def test_weights_leave_rows_out_and_count_them_twice():
    rows = ragged_list([60])[0]
    padded = np.concatenate([rows, np.full((6, 2), np.nan)])
    weight = np.concatenate([np.full(60, 2.0), np.zeros(6)])
    options = {"starts": om.Starts(n_init=2), "limits": om.Limits(tolerance=1e-10)}
    batch = om.fit_batch(padded[None], 3, key=KEY, sample_weight=weight[None], **options)
    alone = om.fit(rows, 3, key=jax.random.fold_in(KEY, 0), **options)
    assert_same(batch[0], alone)


@pytest.mark.parametrize("x", [[], np.zeros((0, 5, 3)), [np.zeros((1, 3))] * 2])
def test_nothing_to_fit_is_an_empty_batch(x):
    batch = om.fit_batch(x, 2, key=0, covariance="tied", starts=om.Starts(n_init=3))
    assert len(batch) == len(list(batch)) == len(x)
    width = 3 if len(x) or isinstance(x, np.ndarray) else 1
    assert batch.mixture.components.mean.shape == (len(x), 2, width)
    assert batch.starts.value.shape == (len(x), 3)


def test_every_start_is_in_the_result_and_the_best_is_kept():
    x = ragged_list([60, 45])
    batch = om.fit_batch(x, 3, key=KEY, starts=om.Starts(n_init=2))
    assert batch.starts.value.shape == batch.starts.status.shape == (2, 2)
    np.testing.assert_allclose(batch.solution.objective, batch.starts.objective.min(axis=1))
    one = om.fit_batch(x, 3, key=KEY, starts=om.Starts(n_init=2), limits=om.Limits(max_steps=0))
    assert (np.asarray(one.starts.status) == om.Status.MAX_STEPS).all()
    # The density itself says what the value is, in the units of the rows.
    for b, rows in enumerate(x):
        value = -float(jnp.mean(batch[b].mixture.log_prob(rows)))
        assert abs(value - float(batch.value[b])) < 1e-12


def test_lanes_that_are_done_cost_nothing():
    """The steps computed follow the sum of the steps, not lanes times the longest run."""
    groups = 50 * (np.arange(60) % 3)[:, None]
    easy = [np.random.default_rng(b).normal(size=(60, 2)) + groups for b in range(14)]
    hard = ragged_list([60] * 2, seed=5)
    batch = om.fit_batch(
        easy + hard, 3, key=KEY, starts=om.Starts(n_init=2), limits=om.Limits(tolerance=1e-12)
    )
    useful, longest = int(batch.starts.n_steps.sum()), int(batch.starts.n_steps.max())
    naive = 32 * longest
    assert useful <= float(batch.computed_steps) < 0.6 * naive


@pytest.mark.slow
def test_warm_start_from_a_batch():
    x = ragged_list([60, 33, 50])
    first = om.fit_batch(x, 3, key=KEY, starts=om.Starts(n_init=2))
    again = om.fit_batch(x, 3, key=KEY, starts=om.Starts(initial=first.mixture))
    assert again.starts.value.shape == (3, 1)
    assert np.max(again.n_steps) <= 3  # two of EM, by which it stops, and the leap between them
    np.testing.assert_allclose(again.value, first.value, rtol=1e-7)


def test_progress(capsys):
    calls = []
    om.fit_batch(
        ragged_list([20, 60]),
        3,
        key=0,
        starts=om.Starts(n_init=2),
        progress=lambda *n: calls.append(n),
    )
    assert calls[-1] == (4, 4)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    om.fit_batch(ragged_list([20, 60]), 3, key=0, starts=om.Starts(n_init=2), progress=True)
    assert capsys.readouterr().err.endswith("4 of 4 starts done\n")


def test_an_interrupt_ends_all_slices():
    calls = []

    def interrupt(done, total):
        calls.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        om.fit_batch(
            ragged_list([60] * 9),
            3,
            key=0,
            starts=om.Starts(n_init=2),
            slice_lanes=4,
            progress=interrupt,
        )
    assert len(calls) < 9


@pytest.mark.parametrize(
    ("x", "weights", "message"),
    [
        (np.zeros((4, 2)), None, r"list of tables .*not shape \(4, 2\)"),
        ([np.zeros((4, 2)), np.zeros((4, 3))], None, r"x\[1\] has 3 columns"),
        ([np.zeros(4)], None, r"x\[0\] must be a table"),
        ([np.zeros((4, 2))], [np.ones(3)], r"sample_weight\[0\] must be 4 numbers"),
        ([np.zeros((4, 2))], [], "0 entries for 1 data sets"),
    ],
)
def test_what_fits_no_batch_raises(x, weights, message):
    with pytest.raises(ValueError, match=message):
        om.fit_batch(x, 2, key=0, sample_weight=weights)


def test_a_warning_counts_what_did_not_converge():
    with pytest.warns(om.ConvergenceWarning, match=r"2 of 2 problems .*2 MAX_STEPS.*problem 0"):
        om.fit_batch(
            ragged_list([20, 60]),
            3,
            key=0,
            starts=om.Starts(n_init=2),
            limits=om.Limits(max_steps=1),
        )


@pytest.mark.nightly
def test_float32_stays_float32():
    x = [rows.astype(np.float32) for rows in ragged_list([60, 40])]
    assert (
        om.fit_batch(
            x, 3, key=0, starts=om.Starts(n_init=2), limits=om.Limits(tolerance=1e-5)
        ).value.dtype
        == np.float32
    )


@pytest.mark.nightly
def test_a_thousand_data_sets_are_the_separate_fits():
    rng = np.random.default_rng(7)
    x = ragged_list(rng.integers(3, 501, 1000), seed=8)
    batch = om.fit_batch(
        x, 3, key=KEY, starts=om.Starts(n_init=2), limits=om.Limits(tolerance=1e-6)
    )
    options = {"starts": om.Starts(n_init=2), "limits": om.Limits(tolerance=1e-6)}
    assert_separate_fits(batch, x, range(0, 1000, 67), **options)
