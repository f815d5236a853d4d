"""Solvers that move within a pass, streams, and statistics whose pivot moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from contracts import EXAMPLES, plan_for, rows_for
from helpers import assert_same_mixture, parameters, start, status
from jax.flatten_util import ravel_pytree

import otmix_jax as om
from otmix_jax.families import Frozen, Gaussian, em_gradient, least_squares
from otmix_jax.families.negative_binomial import Dispersed
from otmix_jax.families.quadratic import Moments
from otmix_jax.model import Objective
from otmix_jax.solvers import EM, Incremental, OnlineStart, Squarem
from otmix_jax.solvers.tiles import Tiles

REFUSED = {"FactorAnalyzers"}
"""Families that cannot re-centre their statistics."""
LATENT = {"StudentT", "LearnedStudentT", "SharedStudentT", "ZeroInflated"}
"""Families whose statistics complete more than the labels, by the parameters of the day."""


def gradient_of(found, family):
    """The first derivatives, of families whose statistics are derivatives; else None."""
    if isinstance(found, em_gradient.Slopes):
        return found.gradient
    if isinstance(found, least_squares.Slopes) and not family.residual:
        return found.equations.gradient
    if isinstance(found, Dispersed) and family.fixed is None:
        return found.slope
    return None


def kind_of(family):
    return type(family.inner if isinstance(family, Frozen) else family).__name__


def moved(family, size, names=None):
    """The same family with every coordinate moved, or those of some fields."""
    told = family.unconstrained(family)
    flat, unravel = ravel_pytree({n: z for n, z in told.items() if names is None or n in names})
    return family.constrain(unravel(size * jax.random.normal(jax.random.key(5), flat.shape)))


@functools.partial(jax.jit, static_argnums=4)
def errors(family, x, plan, size, names):
    """By leaf, how far what was carried is from what is taken at once, relative to 1 + that."""
    other = moved(family, size, names)
    carried = family.recentred(family.statistics(x, plan), jnp.sum(plan, axis=0), other)
    return jax.tree.map(
        lambda a, b: jnp.max(jnp.abs(a - b), initial=0) / (1 + jnp.max(jnp.abs(b), initial=0)),
        carried,
        other.statistics(x, plan),
    )


@pytest.mark.parametrize("family", EXAMPLES)
def test_statistics_are_those_about_the_new_pivot(family):
    """Exact, or a gradient with an error of second order; latent parts have tests of their own."""
    kind, x, plan = kind_of(family), rows_for(family), plan_for(family)
    if kind in LATENT:
        return
    if kind in REFUSED:
        with pytest.raises(TypeError, match="cannot re-centre"):
            errors(family, x, plan, 0.1, None)
        return
    # their size has a cross derivative, 0 on average, that is left out
    names = ("coefficients",) if kind == "NegativeBinomialRegression" else None
    far, near = (errors(family, x, plan, size, names) for size in (0.02, 0.01))
    if gradient_of(far, family) is None:
        assert max(jax.tree.leaves(far), default=0) < 1e-11
    else:
        assert gradient_of(near, family) < 0.3 * gradient_of(far, family)


def test_latent_scales_stay():
    """Of a Student-t the rows keep the scales that the old parameters gave them."""
    family = om.families.StudentT.examples()["full"]
    x, plan, other = rows_for(family), plan_for(family), moved(family, 0.1)
    scale = family.latent_scale(family.half_square(x))
    carried = family.recentred(family.statistics(x, plan), jnp.sum(plan, axis=0), other)
    wanted = Gaussian(other.mean, other.covariance).statistics(x, plan * scale)
    for a, b in zip(jax.tree.leaves(carried), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_learned_degrees_have_slopes_to_first_order():
    family = om.families.LearnedStudentT.examples()["full"]
    x, plan = rows_for(family), plan_for(family)
    errors = []
    for step in (0.02, 0.01):
        other = om.families.LearnedStudentT(
            family.mean, family.covariance, family.degrees * (1 + step)
        )
        carried = family.recentred(family.statistics(x, plan), jnp.sum(plan, axis=0), other)
        errors.append(np.abs(carried.slope - other.statistics(x, plan).slope))
    assert (errors[1] < 0.3 * errors[0]).all()


def test_missing_cells_are_moved_by_the_mean():
    """What a missing cell was expected to be is a number: about the new mean it is that much off.

    Columns of a diagonal law: a cell that is not there lay at the old mean.
    """
    family = om.families.Incomplete.examples()["diagonal"]
    x = np.array(rows_for(family))
    x[::3, 0] = np.nan
    plan, other = plan_for(family), moved(family, 0.1)
    told = family.statistics(jnp.asarray(x), plan)
    carried = family.recentred(told, jnp.sum(plan, axis=0), other)
    there = ~np.isnan(x)
    told = np.where(there[:, None], x[:, None], np.asarray(family.mean))
    variance = np.asarray(jnp.diagonal(family.matrices(), axis1=1, axis2=2))
    spread = np.where(there[:, None], 0, variance)
    difference = told - np.asarray(other.mean)
    np.testing.assert_allclose(carried.first, np.einsum("nk,nkd->kd", plan, difference), atol=1e-12)
    second = np.einsum("nk,nkd->kd", plan, difference**2 + spread)
    np.testing.assert_allclose(carried.second, second, atol=1e-12)


def test_zeros_of_the_law_are_moved_by_the_law():
    family = next(iter(om.families.ZeroInflated.examples().values()))
    x, plan = rows_for(family), plan_for(family)
    told = family.statistics(x, plan)
    carried = family.recentred(told, jnp.sum(plan, axis=0), moved(family, 0.1))
    # counts have no pivot: nothing is moved
    for a, b in zip(jax.tree.leaves(carried), jax.tree.leaves(told), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_absent_may_hold_anything():
    family = Gaussian.examples()["full"]
    mean = family.mean.at[2].set(jnp.nan)
    other = Gaussian(mean, family.covariance)
    k, d = mean.shape
    told = Moments(jnp.array([0.4, 0.6, 0.0]), jnp.zeros((k, d)), jnp.zeros((k, d, d)))
    carried = family.recentred(told, told.mass, other)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(carried))


# --- stepwise EM -------------------------------------------------------------------------------


def densities(x, weights, means, matrices):
    """[n, k] pi_j p_j(x_i), by SciPy."""
    pairs = zip(weights, means, matrices, strict=True)
    return np.stack([w * scipy.stats.multivariate_normal(m, s).pdf(x) for w, m, s in pairs], axis=1)


def sums_of(x, a, parameters):
    """Raw moments of rows of weight a: [k], [k, d], [k, d, d]; and the plan."""
    plan = densities(x, *parameters)
    plan = a[:, None] * plan / plan.sum(axis=1, keepdims=True)
    raw = (plan.sum(axis=0), plan.T @ x, np.einsum("nk,nd,ne->kde", plan, x, x))
    return raw, plan


def estimate(s):
    mean = s[1] / s[0][:, None]
    matrices = s[2] / s[0][:, None, None] - mean[:, :, None] * mean[:, None, :]
    return s[0] / s[0].sum(), mean, matrices


def test_the_steps_are_those_of_cappe_and_moulines(blobs):
    """Against raw moments in NumPy; rows count by their weights, whatever tile they are in."""
    x, first = blobs, start(blobs)
    n, tiles, passes, exponent = len(x), 7, 2, 0.7
    weight = np.random.default_rng(0).uniform(0.2, 3, n)
    solver = OnlineStart(EM(), passes=passes, exponent=exponent, tiles=tiles, memory=0, key=4)
    found = om.solve(om.Problem(x, weight), first, solver, tolerance=0.0, max_steps=0)
    a, now = weight / weight.sum(), parameters(first)
    s, total = [0.0, 0.0, 0.0], 0.0
    for t, number in enumerate(np.asarray(solver._order(tiles))):
        step, which = (t + 2.0) ** -exponent if t else 1.0, slice(int(number), None, tiles)
        own = sums_of(x[which], a[which], now)[0]
        # sums of weight: both fade alike, and their ratio is the mean
        s = [(1 - step) * old + step * new for old, new in zip(s, own, strict=True)]
        total = (1 - step) * total + step * a[which].sum()
        now = estimate([part / total for part in s])
    for mine, theirs in zip(parameters(found.mixture), now, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


def test_equal_tiles_give_the_printed_recursion(blobs):
    """s <- s + step (s(tile) - s), whatever the weights' unit."""
    objective = Objective.of(om.Problem(blobs).checked())
    shares = [float(Tiles(objective, 6).alone(jnp.asarray(t))[1]) for t in range(6)]
    np.testing.assert_allclose(shares, 1 / 6, rtol=1e-14)


FULL = Gaussian.examples()["full"]
SIZES, PROPORTIONS = om.couplings.Penalized(0.5), om.priors.Dirichlet(0.1)
ONE_TILE = {
    "full": (FULL, {}),
    "held": (Frozen(FULL, "mean"), {}),
    "product": (om.families.Product.examples()["mixed"], {}),
    "newton": (om.families.FromLogProb.examples()["gumbel"], {}),
    "sizes": (FULL, {"coupling": SIZES}),
    "proportions": (om.families.Poisson.examples()["counts"], {"prior": PROPORTIONS}),
    "tied": (Gaussian.examples()["tied"], {"epsilon": 0.7}),
    "student": (om.families.StudentT.examples()["full"], {}),
    "balanced": (FULL, {"coupling": om.couplings.Balanced()}),
}
LATER = ("newton", "tied", "student", "balanced")
NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n in LATER)) for n in ONE_TILE]


@pytest.mark.parametrize("name", NAMES)
def test_one_tile_at_step_one_is_em(name):
    family, options = ONE_TILE[name]
    x = rows_for(family)
    weight = np.arange(40) % 4  # and absent rows
    problem = om.Problem(x, weight, **options)
    first = om.Mixture.from_weights(jnp.arange(2.0, 2 + family.n_components), family)

    @jax.jit
    def both(problem, first):
        objective = Objective.of(problem)
        first = objective.admissible(first)
        wanted = EM().proposal(objective, first, objective.evaluate(first))
        solver = OnlineStart(EM(), passes=1, tiles=1)
        return solver.init(objective, first)[1][0], wanted

    found, wanted = both(problem.checked(first), first)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_absent_rows_are_absent(blobs):
    """Rows that fill a bucket, whatever they hold, and a frame."""
    first, solver = start(blobs), OnlineStart(EM(), tiles=6)
    told = {"tolerance": 0.0, "max_steps": 2}
    alone = om.solve(om.Problem(blobs), first, solver, **told)
    x = np.concatenate([blobs, np.full((21, 2), np.nan)])
    weight = np.concatenate([np.ones(60), np.zeros(21)])
    filled = om.solve(om.Problem(x, weight), first, solver, **told)
    assert_same_mixture(alone.mixture, filled.mixture, atol=1e-11)


@functools.cache
def groups():
    """Three groups [16000, 2] that EM takes its time for, sorted."""
    rng = np.random.default_rng(2)
    centres = np.repeat(np.array([[0.0, 0.0], [2.0, 1.0], [0.5, 3.0]]), (8000, 4800, 3200), axis=0)
    return rng.normal(size=centres.shape) + centres


def test_two_passes_are_worth_many_of_em():
    """Sorted rows too: they are dealt out."""
    x = groups()
    problem, first = om.Problem(x), start(x, seed=3)
    solver = OnlineStart(EM(), passes=2, tiles=64)
    online = om.solve(problem, first, solver, tolerance=0.0, max_steps=0)
    em = om.solve(problem, first, EM(), tolerance=0.0, max_steps=10)
    assert online.value < em.value
    # the key is the order's: another one is another path
    other = OnlineStart(EM(), passes=2, tiles=64, key=1)
    assert om.solve(problem, first, other, tolerance=0.0, max_steps=0).value != online.value


@pytest.mark.slow
def test_it_ends_where_the_inner_solver_does(blobs):
    first = start(blobs)
    found = om.solve(om.Problem(blobs), first, OnlineStart(tiles=5), tolerance=1e-13)
    plain = om.solve(om.Problem(blobs), first, EM(), tolerance=1e-13)
    assert status(found) == "CONVERGED"
    np.testing.assert_allclose(found.value, plain.value, rtol=1e-9)
    fitted = om.fit(blobs, 3, key=0, solver=OnlineStart(tiles=5), starts=om.Starts(n_init=2))
    assert status(fitted) == "CONVERGED"


@pytest.mark.slow
def test_lanes_are_single_runs(blobs):
    """Under vmap over rows and starts; jit around it."""
    solver = OnlineStart(Squarem(), tiles=4)

    @jax.jit
    @jax.vmap
    def run(x, mean):
        first = om.Mixture(jnp.log(jnp.ones(2) / 2), Gaussian(mean, COVARIANCE))
        return om.solve(om.Problem(x), first, solver, max_steps=5).mixture

    rows = np.stack([blobs, blobs[::-1] + 1])
    means = jnp.array([[[0.0, 0.0], [3.0, 1.0]], [[1.0, 1.0], [0.0, 4.0]]])
    both = run(rows, means)
    first = om.Mixture(jnp.log(jnp.ones(2) / 2), Gaussian(means[1], COVARIANCE))
    one = om.solve(om.Problem(rows[1]), first, solver, max_steps=5).mixture
    assert_same_mixture(jax.tree.map(lambda leaf: leaf[1], both), one, atol=1e-9)


COVARIANCE = om.families.Full.from_matrices(jnp.stack([jnp.eye(2), 2 * jnp.eye(2)]))


@pytest.mark.slow
def test_single_precision_stays(blobs):
    x = blobs.astype(np.float32)
    first = start(x)
    best = om.solve(om.Problem(blobs), start(blobs), EM(), tolerance=1e-13).value
    for solver in (OnlineStart(EM(), tiles=4), Incremental(tiles=4)):
        found = om.solve(om.Problem(x), first, solver, tolerance=0.0, max_steps=200)
        assert found.mixture.components.mean.dtype == np.float32
        np.testing.assert_allclose(found.value, best, rtol=1e-5)
    state = om.absorb(om.absorbing(first), x[:20])
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {np.dtype("f4"), np.dtype("i4")}


def test_a_tile_that_cannot_be_read_is_left_out(blobs):
    """The last regular parameters stay; the inner solver then says what is wrong with the rows."""
    x = np.array(blobs)
    x[8] = np.inf
    first = start(blobs)
    found = om.solve(om.Problem(x), first, OnlineStart(EM(), tiles=6), max_steps=3)
    assert status(found) == "NON_FINITE"
    assert all(np.isfinite(part).all() for part in parameters(found.mixture))
    assert not np.allclose(found.mixture.components.mean, first.components.mean)


def test_what_cannot_be_moved_is_refused(blobs):
    law = next(iter(om.families.FactorAnalyzers.examples().values()))
    mixture = om.Mixture.from_weights(jnp.ones(law.n_components), law)
    with pytest.raises(TypeError, match="cannot re-centre"):
        om.solve(om.Problem(rows_for(law)), mixture, OnlineStart())
    with pytest.raises(TypeError, match="exact M-step"):
        om.solve(om.Problem(rows_for(law)), mixture, Incremental())
    balanced = om.Problem(blobs, coupling=om.couplings.Balanced())
    with pytest.raises(TypeError, match="binds all rows"):
        om.solve(balanced, start(blobs), Incremental())
    stuck = om.Problem(blobs, coupling=om.couplings.Balanced(), learn_weights=True)
    with pytest.raises(ValueError, match="cannot learn the proportions"):
        om.solve(stuck, start(blobs), OnlineStart())


# --- incremental EM ------------------------------------------------------------------------------


def free_energy(x, plan, now):
    """<P, C> + KL(P | a pi^T): the plan's own, whatever mixture it was taken at."""
    a = np.full((len(x), 1), 1 / len(x))
    with np.errstate(divide="ignore"):
        terms = np.where(plan > 0, plan * (np.log(plan / a) - np.log(densities(x, *now))), 0)
    return terms.sum()


def test_incremental_is_neal_and_hinton_and_never_rises(blobs):
    """Against raw moments in NumPy, with the whole plan at hand."""
    x, tiles, rounds = blobs, 5, 4
    first = start(x)
    found = om.solve(om.Problem(x), first, Incremental(tiles), tolerance=0.0, max_steps=rounds)
    a, now = np.full(len(x), 1 / len(x)), parameters(first)
    plan, energies = sums_of(x, a, now)[1], []
    now = estimate(sums_of(x, a, now)[0])
    for _ in range(rounds - 1):
        for t in range(tiles):
            plan[t::tiles] = sums_of(x[t::tiles], a[t::tiles], now)[1]
            energies.append(free_energy(x, plan, now))
            raw = plan.sum(axis=0), plan.T @ x, np.einsum("nk,nd,ne->kde", plan, x, x)
            now = estimate(raw)
            energies.append(free_energy(x, plan, now))
    for mine, theirs in zip(parameters(found.mixture), now, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)
    assert (np.diff(energies) < 1e-13).all()
    np.testing.assert_allclose(found.value, -np.log(densities(x, *now).sum(1)).mean(), rtol=1e-12)
    history = np.asarray(found.history[: rounds + 1])
    assert (np.diff(history) < 0).all()


def test_of_one_tile_it_is_em(blobs):
    prior = om.priors.Prior(
        covariance=om.priors.Ridge(0.1, jnp.ones(2)), weights=om.priors.Dirichlet(0.1)
    )
    first, given = start(blobs), om.Problem(blobs, np.arange(60) % 3, prior=prior)
    a, b = (
        om.solve(given, first, solver, tolerance=0.0, max_steps=5)
        for solver in (EM(), Incremental(1))
    )
    assert_same_mixture(a.mixture, b.mixture, atol=1e-12)
    np.testing.assert_allclose(a.history[:6], b.history[:6], rtol=1e-12)
    np.testing.assert_allclose(a.objective, b.objective, rtol=1e-12)
    np.testing.assert_allclose(a.negative_log_likelihood, b.negative_log_likelihood, rtol=1e-12)


@pytest.mark.parametrize(("apart", "steps"), [(1.8, 240), (2.6, 40)])
def test_the_rate_is_the_known_one(apart, steps):
    """Tiles that are all alike: EM shrinks the error by J in a pass, and this by e^-kappa.

    J (e^kappa - 1) / kappa = 1 in the limit of many tiles; of T of them, with z^T = e^-kappa,
    J (z^-1 + ... + z^-T) = T.
    """
    rng, tiles = np.random.default_rng(0), 64
    block = rng.normal(size=(40, 1)) + apart * (np.arange(40) < 15)[:, None]
    x = np.repeat(block, tiles, axis=0)
    law = Frozen(
        Gaussian(jnp.array([[0.0], [apart]]), om.families.Spherical(jnp.ones(2))), "covariance"
    )
    first = om.Mixture.from_weights(jnp.array([0.5, 0.5]), law)
    best = om.solve(om.Problem(block), first, Squarem(), tolerance=0.0, max_steps=2000).mixture

    def rate(problem, solver, n):
        errors = [
            om.solve(problem, first, solver, tolerance=0.0, max_steps=t).mixture.components.mean
            - best.components.mean
            for t in (n, n + 1)
        ]
        return float(np.linalg.norm(errors[1]) / np.linalg.norm(errors[0]))

    j = rate(om.Problem(block), EM(), steps)
    found = rate(om.Problem(x), Incremental(tiles), steps // 2)
    kappa = scipy.optimize.brentq(lambda k: j * np.expm1(k) / k - 1, 1e-9, 20)
    np.testing.assert_allclose(found, np.exp(-kappa), atol=0.005)

    def finite(z):
        return j * np.sum(z ** -np.arange(1.0, tiles + 1)) - tiles

    z = scipy.optimize.brentq(finite, 0.5, 1 - 1e-12)
    np.testing.assert_allclose(found, z**tiles, atol=5e-5)


def test_incremental_stops_by_itself(blobs):
    found = om.solve(om.Problem(blobs), start(blobs), Incremental(6), tolerance=1e-12)
    plain = om.solve(om.Problem(blobs), start(blobs), EM(), tolerance=1e-12)
    assert status(found) == "CONVERGED"
    assert found.n_steps < plain.n_steps
    np.testing.assert_allclose(found.value, plain.value, atol=1e-9)
    broken = np.array(blobs)
    broken[3] = np.nan
    failed = om.solve(om.Problem(broken), start(blobs), Incremental(6))
    assert status(failed) == "NON_FINITE"
    assert_same_mixture(failed.mixture, start(blobs))
    fitted = om.fit(blobs, 3, key=0, solver=Incremental(6), starts=om.Starts(n_init=1))
    assert status(fitted) == "CONVERGED"


# --- streams -------------------------------------------------------------------------------------


def fed(state, x, n_batches, weight=None):
    for t in range(n_batches):
        rows = slice(t, None, n_batches)
        state = om.absorb(state, x[rows], None if weight is None else weight[rows])
    return state


def test_batches_are_tiles(blobs):
    """The same steps as those of one pass, in the order of the batches."""
    weight = np.random.default_rng(0).uniform(0.5, 2, len(blobs))
    weight[7] = 0
    x = np.array(blobs)
    x[7] = np.nan
    first, solver = start(blobs), OnlineStart(EM(), passes=1, tiles=6, memory=0)
    order = np.asarray(solver._order(6))
    state = om.absorbing(first, memory=0)
    for number in order:
        rows = slice(int(number), None, 6)
        state = om.absorb(state, x[rows], weight[rows])
    wanted = om.solve(om.Problem(x, weight), first, solver, tolerance=0.0, max_steps=0)
    assert_same_mixture(state.mixture, wanted.mixture, atol=1e-11)
    np.testing.assert_allclose(state.n_rows, weight.sum(), rtol=1e-14)
    assert (int(state.n_steps), int(state.status)) == (6, 0)


def test_a_first_batch_without_memory_is_em(blobs):
    first = start(blobs)
    state = om.absorb(om.absorbing(first, memory=0), blobs)
    em = om.solve(om.Problem(blobs), first, EM(), tolerance=0.0, max_steps=1)
    assert_same_mixture(state.mixture, em.mixture, atol=1e-12)
    np.testing.assert_allclose(state.value, em.history[0], rtol=1e-14)


def test_the_mixture_waits_until_memory_is_full(blobs):
    """Until then rows count alike; so six batches at once are one of all their rows."""
    first = start(blobs)
    state = om.absorbing(first, memory=60)
    for t in range(6):
        assert_same_mixture(state.mixture, first)
        state = om.absorb(state, blobs[10 * t : 10 * (t + 1)])
    em = om.solve(om.Problem(blobs), first, EM(), tolerance=0.0, max_steps=1)
    assert_same_mixture(state.mixture, em.mixture, atol=1e-11)
    assert float(om.absorbing(first).memory) == 5 * first.n_parameters


def test_memory_bounds_the_step(blobs):
    """No step is longer than leaves so many rows behind the estimate."""
    state = fed(om.absorbing(start(blobs), exponent=0, memory=40), np.tile(blobs, (5, 1)), 30)
    # of batches of ten, a step of 1 / 4 is a window of 40
    before = state.running.mass
    after = om.absorb(state, blobs[:10])
    own = Objective.of(om.Problem(blobs[:10]).checked()).evaluate(state.mixture).mass
    np.testing.assert_allclose(after.running.mass, 0.75 * before + 0.25 * own, rtol=1e-12)


def test_a_stream_finds_what_it_is_drawn_from():
    """From a poor start, in batches of 60; a step of .06 leaves means of about 1000 rows."""
    truth = om.Mixture.from_weights(jnp.array([0.3, 0.7]), Gaussian(TRUE_MEANS, COVARIANCE))
    x = np.asarray(truth.sample(jax.random.key(0), 6000))
    first = om.Mixture.from_weights(jnp.ones(2), Gaussian(TRUE_MEANS + 1.0, COVARIANCE))
    state = om.absorbing(first)
    for batch in np.split(x, 100):
        state = om.absorb(state, batch)
    best = om.solve(om.Problem(x), truth, Squarem(), tolerance=1e-10)
    np.testing.assert_allclose(state.mixture.components.mean, truth.components.mean, atol=0.15)
    value = om.negative_log_likelihood(state.mixture, x)
    assert value - best.value < 6e-3
    assert om.negative_log_likelihood(first, x) - best.value > 0.1


TRUE_MEANS = jnp.array([[0.0, 0.0], [4.0, 2.0]])


def test_a_bad_batch_is_data(blobs):
    state = fed(om.absorbing(start(blobs)), blobs, 3)
    bad = om.absorb(state, np.full((20, 2), np.nan))
    assert om.Status(int(bad.status)).name == "NON_FINITE"
    assert (int(bad.n_refused), int(bad.n_steps)) == (1, 3)
    assert_same_mixture(bad.mixture, state.mixture)
    # as if it had never been there
    a, b = (om.absorb(one, blobs[:20]) for one in (bad, state))
    assert_same_mixture(a.mixture, b.mixture)
    nothing = om.absorb(state, np.full((20, 2), np.nan), np.zeros(20))
    assert_same_mixture(nothing.mixture, state.mixture, atol=1e-14)
    assert (int(nothing.n_steps), float(nothing.n_rows)) == (3, 60)
    # one row under a full covariance: no regular mixture, and the old one stays
    thin = om.absorb(om.absorbing(start(blobs), memory=0), blobs[:1])
    assert om.Status(int(thin.status)).name == "COLLAPSED"
    assert_same_mixture(thin.mixture, start(blobs))


def test_one_program_serves_all_batches(blobs):
    step = om.fitting.streams._absorb
    state = om.absorb(om.absorbing(start(blobs)), blobs[:17])
    before = step._cache_size()
    for t in range(3):
        state = om.absorb(state, blobs[t : t + 17])
    assert step._cache_size() == before


def test_streams_side_by_side(blobs):
    """A state is a PyTree: vmap over streams, scan over batches."""
    batches = np.stack([blobs.reshape(3, 20, 2), blobs[::-1].reshape(3, 20, 2) + 1.0])
    first = om.absorb(om.absorbing(start(blobs)), blobs)

    @jax.jit
    @jax.vmap
    def run(batches):
        return jax.lax.scan(lambda s, x: (om.absorb(s, x), None), first, batches)[0]

    both = run(batches)
    state = first
    for batch in batches[1]:
        state = om.absorb(state, batch)
    assert_same_mixture(jax.tree.map(lambda leaf: leaf[1], both).mixture, state.mixture, atol=1e-10)


def test_a_stream_of_counts_with_a_prior():
    """Integers as rows; held proportions; another goal."""
    law = om.families.Poisson.examples()["counts"]
    x = np.asarray(rows_for(law)).astype(int)
    first = om.Mixture.from_weights(jnp.arange(1.0, 4.0), law)
    goal = om.Goal(epsilon=0.8, learn_weights=False)
    state = fed(om.absorbing(first, goal=goal, memory=0), x, 4)
    np.testing.assert_allclose(state.mixture.weights, first.weights, rtol=1e-14)
    assert not np.allclose(state.mixture.components.rate, law.rate)


def test_a_stream_refuses_what_it_has_no_use_for(blobs):
    first = start(blobs)
    with pytest.raises(TypeError, match="ridge is relative"):
        om.absorbing(first, goal=om.Goal(ridge=0.1))
    with pytest.raises(ValueError, match="exponent"):
        om.absorbing(first, exponent=1.5)
    with pytest.raises(ValueError, match="memory"):
        om.absorbing(first, memory=-1)
    with pytest.raises(ValueError, match="columns"):
        om.absorb(om.absorbing(first), np.ones((5, 3)))
