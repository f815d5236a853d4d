"""What holds for any numbers: shapes are fixed, so that each property is one compiled program.

HYPOTHESIS_PROFILE=long draws thousands of examples, anew each time; `make fuzz` does.
"""

import functools
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import otmix_jax as om
from otmix_jax.engine import Dense, Engine, Guarded, Reference, Tiled
from otmix_jax.families import Gaussian
from otmix_jax.families.elliptical import EXAMPLES, STRUCTURES
from otmix_jax.transport.couplings import Balanced, Penalized, SemiRelaxed

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
# an object of its own: profiles are global, and other files load theirs
PROFILE = settings(
    max_examples=5000 if LONG else 200,
    derandomize=not LONG,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
every_structure = pytest.mark.parametrize("structure", sorted(EXAMPLES))
N, D, K = 24, 2, 2
STEPS = 8
"""Steps of a run: enough to move, too few for rounding to grow."""

seeds = st.integers(0, 2**32 - 1)
weights = st.integers(0, 3)
short_float = st.floats(-(2.0**126), 2.0**126, width=32, allow_subnormal=False)
any_float = st.floats(-(2.0**1000), 2.0**1000, allow_subnormal=False)


@st.composite
def tables(draw):
    """Two groups of random place and shape; every other time on a grid, so that rows repeat."""
    rng = np.random.default_rng(draw(seeds))
    x = rng.normal(size=(N, D)) @ rng.normal(size=(D, D))
    x[: rng.integers(4, N - 4)] += rng.normal(size=D) * rng.choice([0.5, 2, 8])
    return np.round(4 * x) / 4 if draw(st.booleans()) else x


@st.composite
def starts(draw):
    """Numbers of rows to begin at, and proportions."""
    rng = np.random.default_rng(draw(seeds))
    return rng.choice(N, K, replace=False), rng.dirichlet(np.full(K, 5.0))


def positions(x, start, covariance="full"):
    """Means, matrices and proportions of a start: the spread of all rows, about K of them."""
    which, proportions = start
    # equal means are a saddle: rounding leaves it, tenfold further with each step
    assume(len(np.unique(x[which], axis=0)) == K)
    spread = np.cov(x.T)
    spread = spread + (1e-3 * np.trace(spread) + 1e-12) * np.eye(D)
    if covariance == "diagonal":
        spread = np.diag(np.diag(spread))
    if covariance == "spherical":
        spread = np.eye(D) * np.trace(spread) / D
    return x[which], np.stack([spread] * K), proportions


def mixture(covariance, mean, matrices, proportions):
    factors = STRUCTURES[covariance].from_matrices(jnp.asarray(matrices))
    return om.Mixture.from_weights(jnp.asarray(proportions), Gaussian(jnp.asarray(mean), factors))


@functools.partial(jax.jit, static_argnames=("covariance", "engine"))
def run(x, weight, mean, matrices, proportions, covariance="full", engine=None, steps=STEPS):
    """Some steps of EM, and the parameters that they lead to."""
    initial = mixture(covariance, mean, matrices, proportions)
    answer = om.solve(
        om.Problem(x, weight),
        initial,
        tolerance=0.0,
        max_steps=steps,
        history_size=STEPS + 1,
        engine=engine,
    )
    components = answer.mixture.components
    return answer, (answer.mixture.weights, components.mean, components.matrices())


def assume_regular(answer, x):
    """Digits to compare: no component is nearly singular, or nearly without rows."""
    solution, (proportions, _, matrices) = answer
    assume(int(solution.status) <= om.Status.STALLED)
    assume(np.min(proportions) > 0.02)
    assume(np.min(np.linalg.eigvalsh(matrices)) > 1e-4 * np.trace(np.cov(x.T)))


def assert_same(ours, theirs, rtol=1e-7):
    """Proportions, means and matrices, in the units of the spread."""
    scale = np.sqrt(np.trace(theirs[2], axis1=-2, axis2=-1).max())
    for one, other, unit in zip(ours, theirs, (1, scale, scale**2), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=rtol * unit)


def rounding(value):
    """What a mean over rows is off by."""
    return 256 * np.finfo(np.float64).eps * np.maximum(1, np.abs(value))


@PROFILE
@every_structure
@given(tables(), starts(), hnp.arrays(float, N, elements=st.floats(0.1, 10)))
def test_the_history_never_rises(structure, x, start, weight):
    """Not beyond rounding, under any structure; where the answer is singular, up to there."""
    answer, _ = run(x, weight, *positions(x, start, structure), structure)
    history = np.asarray(answer.history)
    history = history[np.isfinite(history)]
    assert len(history) > int(answer.n_steps)
    np.testing.assert_array_less(np.diff(history), rounding(history[1:]))
    assert answer.value == history[int(answer.n_steps)]


@functools.partial(jax.jit, static_argnames="kind")
def coupled(x, weight, mean, matrices, proportions, epsilon, rho, kind):
    coupling = {"free": SemiRelaxed(), "penalised": Penalized(rho), "balanced": Balanced()}[kind]
    model = mixture("full", mean, matrices, proportions)
    found = om.plan(model, x, sample_weight=weight, epsilon=epsilon, coupling=coupling)
    residual = 0.0 if found.potential is None else found.potential.residual
    return found.matrix, found.value, found.gap, residual


@PROFILE
@pytest.mark.parametrize("kind", ["free", "penalised", "balanced"])
@given(
    tables(),
    starts(),
    hnp.arrays(float, N, elements=st.floats(0, 10)),
    st.floats(-3, 3).map(lambda power: 10**power),
    st.floats(-3, 3).map(lambda power: 10**power),
)
def test_rows_of_a_plan_sum_to_a(kind, x, start, weight, epsilon, rho):
    """Columns to the proportions where they are prescribed; the dual is below the value."""
    assume(weight.sum() > 1)
    model = positions(x, start)
    matrix, value, gap, residual = coupled(x, weight, *model, epsilon, rho, kind)
    a = weight / weight.sum()
    assert (np.asarray(matrix) >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), a, rtol=1e-12, atol=1e-300)
    if kind == "balanced" and residual < 1e-6:
        np.testing.assert_allclose(matrix.sum(axis=0), model[2], atol=1e-5)
    assert gap >= -rounding(np.abs(value) + epsilon)


@jax.jit
def best_proportions(cost, a, log_weights):
    """The value at given proportions, and after many steps of EM on them alone: it is convex."""

    def value(log_weights):
        return -a @ jax.nn.logsumexp(log_weights - cost, axis=1)

    def step(_, log_weights):
        return jnp.log(a @ jax.nn.softmax(log_weights - cost, axis=1))

    return value(log_weights), value(jax.lax.fori_loop(0, 3000, step, log_weights))


@PROFILE
@given(tables(), starts(), st.integers(0, STEPS), hnp.arrays(float, N, elements=st.floats(0.1, 9)))
def test_the_certificate_bounds_what_other_proportions_win(x, start, steps, weight):
    """At fixed components, wherever the run stopped."""
    answer, _ = certified(x, weight, *positions(x, start), steps)
    a = weight / weight.sum()
    reached, best = best_proportions(answer[1], a, answer[2])
    np.testing.assert_allclose(reached, answer[3], rtol=1e-9, atol=1e-9)
    assert reached - best <= answer[0] + rounding(reached)


@jax.jit
def certified(x, weight, mean, matrices, proportions, steps):
    initial = mixture("full", mean, matrices, proportions)
    answer = om.solve(om.Problem(x, weight), initial, tolerance=0.0, max_steps=steps)
    model = answer.mixture
    gap, cost = answer.certificate.weights_gap, model.components.cost(x)
    return (gap, cost, model.log_weights, answer.value), answer.status


@PROFILE
@every_structure
@given(tables(), starts(), st.permutations(range(N)), st.permutations(range(K)))
def test_the_order_of_rows_and_components_does_not_matter(structure, x, start, rows, columns):
    one = np.ones(N)
    mean, matrices, proportions = positions(x, start, structure)
    ours = run(x, one, mean, matrices, proportions, structure)
    assume_regular(ours, x)
    rows, columns = np.array(rows), np.array(columns)
    turned = mean[columns], matrices[columns], proportions[columns]
    theirs = run(x[rows], one, *turned, structure)
    assert_same([np.asarray(part)[columns] for part in ours[1]], theirs[1])
    np.testing.assert_allclose(ours[0].value, theirs[0].value, rtol=1e-9, atol=1e-9)


ANGLES = st.floats(0, 6.3)
POWERS = st.integers(-12, 12)
MAPS = [
    *[("shift", name) for name in ("full", "tied", "diagonal", "spherical")],
    *[("scale", name) for name in ("full", "tied", "diagonal")],
    *[("rotation", name) for name in ("full", "tied", "spherical")],
]


@PROFILE
@pytest.mark.parametrize(("kind", "covariance"), MAPS)
@given(
    tables(), starts(), st.tuples(POWERS, POWERS), st.tuples(*[st.floats(-1e4, 1e4)] * D), ANGLES
)
def test_maps_of_the_rows_are_maps_of_the_answer(kind, covariance, x, start, powers, shift, angle):
    """A shift, a unit of each column, a rotation."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) if kind == "rotation" else np.eye(D)
    matrix = np.diag(10.0 ** np.array(powers)) if kind == "scale" else turn
    shift = np.array(shift) if kind == "shift" else np.zeros(D)
    mean, matrices, proportions = positions(x, start, covariance)
    plain = run(x, np.ones(N), mean, matrices, proportions, covariance)
    assume_regular(plain, x)
    mapped = mean @ matrix.T + shift, matrix @ matrices @ matrix.T, proportions
    answer, (weight, mean, matrices) = run(x @ matrix.T + shift, np.ones(N), *mapped, covariance)
    inverse = np.linalg.inv(matrix)
    back = weight, (np.asarray(mean) - shift) @ inverse.T, inverse @ matrices @ inverse.T
    assert_same(back, plain[1], rtol=1e-6)
    volume = np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(answer.value - volume, plain[0].value, rtol=1e-7, atol=1e-7)


@PROFILE
@every_structure
@given(tables(), starts(), hnp.arrays(int, N, elements=weights))
def test_a_weight_is_a_repetition(structure, x, start, weight):
    """A row of weight 2 and the same row twice; 0 leaves it out."""
    assume(np.count_nonzero(weight) > 4)
    model = positions(x, start, structure)
    ours = run(x, weight.astype(float), *model, structure)
    assume_regular(ours, x)
    present = (np.arange(3) < weight[:, None]).astype(float)
    theirs = run(np.repeat(x, 3, axis=0), present.ravel(), *model, structure)
    assert_same(ours[1], theirs[1])
    np.testing.assert_allclose(ours[0].value, theirs[0].value, rtol=1e-9, atol=1e-9)


ABSENT = 8
holes = st.sampled_from([np.nan, np.inf, -np.inf, 1e100, 0.0])


@PROFILE
@every_structure
@given(
    tables(), starts(), st.permutations(range(N)), hnp.arrays(float, (ABSENT, D), elements=holes)
)
def test_a_row_of_weight_0_is_absent(structure, x, start, order, held):
    """Wherever it stands, whatever it holds: as if it were not there."""
    order = np.array(order)
    model = positions(x, start, structure)
    weight, filled = np.ones(N), x.copy()
    weight[order[:ABSENT]], filled[order[:ABSENT]] = 0, held
    rest = np.sort(order[ABSENT:])
    ours, theirs = run(filled, weight, *model, structure), run(x[rest], None, *model, structure)
    assume_regular(theirs, x)
    assert_same(ours[1], theirs[1])
    np.testing.assert_allclose(ours[0].value, theirs[0].value, rtol=1e-9, atol=1e-9)


# made once: an engine is static, and another object would be another program
ENGINES = {k: (Engine(k, Dense()), Engine(k, Tiled(8))) for k in (Reference, Guarded)}


@PROFILE
@pytest.mark.parametrize("kernel", list(ENGINES))
@given(tables(), starts(), hnp.arrays(float, N, elements=st.floats(0.1, 9)))
def test_padding_and_tiles_do_not_matter(kernel, x, start, weight):
    """Six absent rows behind, in tiles of eight; the same as one tile without them."""
    model = positions(x, start)
    dense, tiled = ENGINES[kernel]
    whole = run(x, weight, *model, engine=dense)
    assume_regular(whole, x)
    padded = np.concatenate([x, np.full((6, D), np.nan)]), np.append(weight, np.zeros(6))
    tiles = run(*padded, *model, engine=tiled)
    assert_same(tiles[1], whole[1])
    np.testing.assert_allclose(tiles[0].value, whole[0].value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", list(ENGINES))
def test_tiles_agree_near_a_saddle(kernel):
    """Found by the property above, from equal means: two rows of weight 64 against the rest."""
    x = np.random.default_rng(20).normal(size=(N, D)) @ [[1.0, 1.1], [0.0, 0.4]]
    weight = np.where(np.isin(np.arange(N), [2, 4]), 8.0, 0.125)
    matrices = np.stack([np.cov(x.T)] * K)
    model = np.repeat(x[8:9], K, axis=0), matrices, np.array([0.7, 0.3])
    padded = np.concatenate([x, np.full((6, D), np.nan)]), np.append(weight, np.zeros(6))
    dense, tiled = ENGINES[kernel]
    whole = run(x, weight, *model, engine=dense, steps=3)
    tiles = run(*padded, *model, engine=tiled, steps=3)
    assert_same(tiles[1], whole[1], rtol=1e-11)


@jax.jit
@jax.vmap
def run_lanes(x, weight, mean, matrices, proportions):
    return run(x, weight, mean, matrices, proportions)


@PROFILE
@given(st.tuples(tables(), tables(), tables()), starts(), st.integers(0, 2))
def test_lanes_are_runs_of_their_own(x, start, broken):
    """Under `vmap` as one by one, beside a lane that holds NaN."""
    models = [positions(one, start) for one in x]
    alone = [run(one, np.ones(N), *model) for one, model in zip(x, models, strict=True)]
    stacked = [np.stack(part) for part in zip(*models, strict=True)]
    rows = np.stack(x)
    rows[broken, 0, 0] = np.nan
    lanes = run_lanes(rows, np.ones((3, N)), *stacked)
    for lane, (single, one) in enumerate(zip(alone, x, strict=True)):
        solution, parts = jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes)
        if lane == broken:
            assert int(solution.status) == om.Status.NON_FINITE
            continue
        assume_regular(single, one)
        assert int(solution.status) == int(single[0].status)
        assert_same(parts, single[1])


@jax.jit
def everything(x, weight, mean, matrices, proportions):
    """All that the functions of a mixture say of rows."""
    answer, parts = run(x, weight, mean, matrices, proportions)
    model = answer.mixture
    balanced = om.plan(model, x, sample_weight=weight, coupling=Balanced())
    scores = model.log_prob(x), model.responsibilities(x), model.predict(x)
    return answer, parts, scores, om.plan(model, x, sample_weight=weight).matrix, balanced.matrix


@PROFILE
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.data())
def test_no_nan_comes_out_unless_it_went_in(dtype, data):
    """Of any finite rows: a status, a finite mixture, scores and plans that are numbers."""
    elements = short_float if dtype == np.float32 else any_float
    x = data.draw(hnp.arrays(dtype, (N, D), elements=elements))
    start = np.eye(K, D), np.stack([np.eye(D)] * K), np.array([0.4, 0.6])
    start = [part.astype(dtype) for part in start]
    answer, parts, (log_prob, shares, label), free, balanced = everything(
        x, np.ones(N, dtype), *start
    )
    assert all(np.isfinite(part).all() for part in parts)
    if not np.isfinite(answer.value):
        assert int(answer.status) == om.Status.NON_FINITE
    assert not np.isnan(log_prob).any()
    assert set(np.unique(label)) <= set(range(K))
    digits = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=digits)
    for matrix in (free, balanced):
        np.testing.assert_allclose(matrix.sum(axis=1), 1 / N, rtol=digits)


@PROFILE
@given(tables(), starts(), st.integers(0, N - 1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_bad_cell_is_a_status_and_the_start_comes_back(x, start, row, value):
    model = positions(x, start)
    x = x.copy()
    x[row, 1] = value
    answer, parts = run(x, np.ones(N), *model)
    assert int(answer.status) == om.Status.NON_FINITE
    assert int(answer.n_steps) == 0
    assert_same(parts, (model[2], *model[:2]), rtol=1e-12)


def quiet_fit(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return om.fit(x, K, key=0, starts=om.Starts(n_init=1), limits=om.Limits(max_steps=STEPS))


@PROFILE
@given(tables(), st.integers(-60, 60), st.integers(-60, 60))
def test_a_fit_in_units_of_powers_of_two_is_the_same_to_the_bit(x, first, second):
    """Frames are powers of two: what is fitted has the same digits."""
    unit = 2.0 ** np.array([first, second])
    assume(np.linalg.matrix_rank(x - x.mean(0)) == D)
    fits = [quiet_fit(rows) for rows in (x, x * unit)]
    np.testing.assert_array_equal(fits[0].mixture.weights, fits[1].mixture.weights)
    assert fits[0].status == fits[1].status
