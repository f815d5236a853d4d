"""Rows with noise of their own: extreme deconvolution, held against the textbook's formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import status
from jax.flatten_util import ravel_pytree
from scipy import stats

import otmix_jax as om
from otmix_jax.core.tree import cast
from otmix_jax.engine import Reference, choose
from otmix_jax.families import EVV, Diagonal, Full, Gaussian, Incomplete, Noisy, Spherical
from otmix_jax.priors import NormalMean, Prior, Ridge

FEW = om.Starts(n_init=1)
LBFGS = om.solvers.Gradient(optax.lbfgs())
STEPS = {1: -91230.133871, 10: -89541.298893}
OPTIMUM = -85263.0423
SLOW = ("tied", "spherical", "VEV")


def random_covariances(rng, n, d, least=0.1):
    root = rng.normal(size=(n, d, d))
    return root @ np.swapaxes(root, 1, 2) / d + least * np.eye(d)


@functools.cache
def laws(kind, structure="full", d=3):
    """Three components in d columns, and thirty rows of a kind: dict, R and S in full.

    Some of the noise has a singular covariance; with holes, the first row misses all.
    """
    rng = np.random.default_rng(len(kind) + d)
    covariance = om.families.STRUCTURES[structure].from_matrices(
        jnp.asarray(random_covariances(rng, 3, d))
    )
    mean = jnp.asarray(2 * rng.normal(size=(3, d)))
    inner = (Incomplete if "holes" in kind else Gaussian)(mean, covariance)
    m = max(d - 1, 1) if "projected" in kind else d
    projection = rng.normal(size=(30, m, d)) if "projected" in kind else None
    noise = random_covariances(rng, 30, m)
    noise[:5] = np.einsum("na,nb->nab", *2 * [rng.normal(size=(5, m))])
    if "variances" in kind.split():
        noise = rng.uniform(0, 2, (30, m))
        noise[3, 0] = 0
    x = 2 * rng.normal(size=(30, m))
    if "holes" in kind:
        x = np.where(rng.random(x.shape) < 0.3, np.nan, x)
        x[0], x[1] = np.nan, 1.0
    rows = om.rows.noisy(x, covariance=noise, projection=projection)
    seen = projection if projection is not None else np.broadcast_to(np.eye(d), (30, d, d))
    whole = noise if noise.ndim == 3 else noise[..., None] * np.eye(m)
    return Noisy(inner), rows, seen, whole


ALWAYS = [
    ("covariances", "full", 3),
    ("covariances", "full", 7),  # beyond what is factorised entry by entry
    ("variances", "diagonal", 5),
    ("projected covariances", "tied", 3),
    ("holes projected variances", "EVV", 3),
    ("holes variances", "spherical", 3),
]
OTHERS = [
    ("variances", "full", 2),
    ("variances", "spherical", 2),
    ("variances", "EEI", 2),
    ("covariances", "diagonal", 2),
    ("projected variances", "spherical", 8),
    ("holes covariances", "full", 3),
    ("holes covariances", "full", 7),
]
kinds = pytest.mark.parametrize(
    "kind",
    [*ALWAYS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)],
    ids=lambda kind: "-".join(map(str, kind)),
)


# the unrolled factors are many small operations, which are compiled together sooner than apart
@jax.jit
def both(family, rows, plan):
    """Costs, moments, and what the rows tell of the vectors behind them."""
    return family.cost(rows), family.statistics(rows, plan), family.impute(rows, 30 * plan)


@jax.jit
def cost_and_step(family, rows, plan):
    """Costs, and the M-step."""
    return family.cost(rows), family.maximize(family.statistics(rows, plan), plan.sum(0))


def posterior(family, j, row, seen, noise):
    """-log density, mean and covariance of the vector behind a row, by the textbook's inverse."""
    mean, matrix = np.asarray(family.mean[j]), np.asarray(family.matrices()[j])
    there = ~np.isnan(row)
    if not there.any():
        return 0.0, mean, matrix
    told, own = seen[there], noise[np.ix_(there, there)]
    total = told @ matrix @ told.T + own
    cost = -stats.multivariate_normal(told @ mean, total).logpdf(row[there])
    gain = matrix @ told.T @ np.linalg.inv(total)
    return cost, mean + gain @ (row[there] - told @ mean), matrix - gain @ told @ matrix


def every(family, rows, seen, noise):
    """Costs [n, k], means [n, k, d], covariances [n, k, d, d]."""
    found = [
        [posterior(family, j, *row) for j in range(family.n_components)]
        for row in zip(rows["x"], seen, noise, strict=True)
    ]
    return [np.array([[one[part] for one in row] for row in found]) for part in range(3)]


# ---------------------------------------------------------------------------- the formulas


@kinds
def test_costs_are_densities_and_moments_are_conditional(kind):
    """A cell that is missing is left out of R, S and x by hand. In single precision too."""
    family, rows, seen, noise = laws(*kind)
    costs, means, covariances = every(family, rows, seen, noise)
    plan = np.random.default_rng(2).dirichlet(np.ones(3), 30) / 30
    cost, found, imputed = both(family, rows, plan)
    np.testing.assert_allclose(cost, costs, rtol=1e-11, atol=1e-12)
    expected = np.einsum("nk,nkd->nd", 30 * plan, means)
    np.testing.assert_allclose(imputed, expected, rtol=1e-9, atol=1e-11)
    b = means - np.asarray(family.mean)
    first = np.einsum("nk,nkd->kd", plan, b)
    second = np.einsum("nk,nkde->kde", plan, b[..., None] * b[..., None, :] + covariances)
    sums = map(jnp.asarray, (plan.sum(0), first, second))
    expected = family.inner.location_statistics(*sums)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    narrow = both(*cast((family, rows, plan), jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow)} == {np.dtype(np.float32)}
    for ours, theirs in zip(jax.tree.leaves(narrow), jax.tree.leaves((cost, found, imputed)),
                            strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    "structure", ["full", "diagonal", *(pytest.param(s, marks=pytest.mark.slow) for s in SLOW)]
)
def test_without_noise_it_is_the_gaussian(structure):
    """Through the identity too, and to the digits of a matrix product."""
    family, *_ = laws("covariances", structure)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(60, 3)))
    plain, share = family.inner, np.random.default_rng(2).dirichlet(np.ones(3), 60) / 60
    identity = np.broadcast_to(np.eye(3), (60, 3, 3))
    cost, step = cost_and_step(plain, x, share)
    for shape, more in (((3,), {}), ((3, 3), {}), ((3,), {"projection": identity})):
        rows = {"x": x, "covariance": np.zeros((60, *shape))} | more
        mine, ours = cost_and_step(family, rows, share)
        np.testing.assert_allclose(mine, cost, rtol=1e-12, atol=1e-12)
        for a, b in zip(jax.tree.leaves(ours.inner), jax.tree.leaves(step), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_without_noise_a_hole_is_a_hole():
    family, rows, *_ = laws("holes covariances")
    exact = {"x": rows["x"], "covariance": np.zeros((30, 3, 3))}
    plan = np.random.default_rng(2).dirichlet(np.ones(3), 30) / 30
    ours, theirs = both(family, exact, plan), both(family.inner, rows["x"], plan)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_noise_without_end_is_a_hole():
    """What it tends to; the other cells keep what they say."""
    family, rows, *_ = laws("holes covariances")
    hole, noise = np.isnan(rows["x"]), np.array(rows["covariance"])
    noise = np.where(hole[:, :, None] | hole[:, None, :], 0, noise)
    noise += np.where(hole, 1e12, 0)[..., None] * np.eye(3)
    whole = {"x": np.where(hole, 0, rows["x"]), "covariance": noise}
    apart = 0.5 * np.log(2 * np.pi * 1e12) * hole.sum(axis=1)[:, None]
    plain = Noisy(Gaussian(family.mean, family.covariance))
    plan = np.full((30, 3), 1 / 90)
    ours, theirs = both(family, rows, plan), both(plain, whole, plan)
    np.testing.assert_allclose(ours[0] + apart, theirs[0], rtol=1e-9)
    np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    "kind",
    ["holes projected variances", pytest.param("covariances", marks=pytest.mark.slow)],
)
def test_derivatives_are_finite_differences(kind):
    """In the parameters, in x, in the noise and in the projection."""
    family, rows, *_ = laws(kind)
    mixture = om.Mixture.from_weights(jnp.array([0.2, 0.3, 0.5]), family)
    device = jax.tree.map(jnp.asarray, rows)
    value = jax.jit(lambda m, r: m.log_prob(r).sum())
    slopes = jax.grad(value, argnums=(0, 1))(mixture, device)
    rng, h = np.random.default_rng(1), 1e-6
    for part, own in enumerate((mixture, device)):
        flat, back = ravel_pytree(own)
        missing = np.isnan(flat)
        slope = np.where(missing, 0, ravel_pytree(slopes[part])[0])
        assert np.isfinite(slope).all()
        for _ in range(6):
            way = np.where(missing, 0, rng.normal(size=len(flat)))
            near, far = ([mixture, device] for _ in range(2))
            near[part], far[part] = back(flat + h * way), back(flat - h * way)
            numeric = (value(*near) - value(*far)) / (2 * h)
            np.testing.assert_allclose(slope @ way, numeric, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------------- draws


def test_draws_of_rows_have_their_density():
    """Mean and covariance of draws of one row's kind, within four standard errors."""
    family, rows, seen, noise = laws("projected covariances")
    n, row = 20_000, 7
    given = {name: np.broadcast_to(leaf[row], (n, *leaf.shape[1:])) for name, leaf in rows.items()}
    drawn = family.sample(jax.random.key(0), jnp.ones(n, int), given)
    assert set(drawn) == set(rows)
    mean = seen[row] @ np.asarray(family.mean[1])
    total = seen[row] @ np.asarray(family.matrices()[1]) @ seen[row].T + noise[row]
    close(np.asarray(drawn["x"]), mean, total)


@pytest.mark.parametrize(
    "kind", [pytest.param("projected covariances", marks=pytest.mark.slow), "holes variances"]
)
def test_draws_of_vectors_have_the_conditional_law(kind):
    """Multiple imputations of one row."""
    family, rows, seen, noise = laws(kind)
    family = family.take(np.array([1]))
    mixture, n, row = om.Mixture(jnp.zeros(1), family), 20_000, 6
    given = {name: np.broadcast_to(leaf[row], (n, *leaf.shape[1:])) for name, leaf in rows.items()}
    drawn = mixture.impute(given, jax.random.key(0))
    _, mean, covariance = posterior(family, 0, rows["x"][row], seen[row], noise[row])
    close(np.asarray(drawn), mean, covariance)


def close(drawn, mean, covariance):
    n, off = len(drawn), drawn - mean
    assert (np.abs(off.mean(0)) < 4 * np.sqrt(np.diag(covariance) / n)).all()
    products = off[:, :, None] * off[:, None, :]
    assert (np.abs(products.mean(0) - covariance) < 4 * products.std(0) / np.sqrt(n)).all()


def test_vectors_are_drawn_where_no_row_is_given():
    family, *_ = laws("covariances")
    mixture = om.Mixture.from_weights(jnp.ones(3), family)
    drawn = mixture.sample(jax.random.key(0), 50)
    assert (drawn["covariance"] == 0).all()
    plain = om.Mixture(mixture.log_weights, family.inner)
    np.testing.assert_allclose(mixture.log_prob(drawn), plain.log_prob(drawn["x"]), rtol=1e-9)
    np.testing.assert_allclose(mixture.mean, plain.mean)
    np.testing.assert_allclose(mixture.covariance, plain.covariance)


def test_bootstraps_that_would_forget_the_noise_are_refused():
    rows, solution = groups()
    with pytest.raises(TypeError, match="kind='resample'"):
        om.inference.bootstrap(solution, rows, kind="parametric", n_replications=2, key=0)
    with pytest.raises(TypeError, match="cannot be drawn without it"):
        om.inference.bootstrap_lrt(rows, 1, n_replications=2, starts=FEW, key=0)


# -------------------------------------------------------------------------- the worked case


def case(n=20_000, d=2, k=4):
    """Rows x [n, 2] with noise S [n, 2, 2], and a start."""
    rng = np.random.default_rng(0)
    mu = np.array([[-3.0, 0], [3, 0], [0, 4], [0, -1]])
    shapes = [np.diag([0.3, 1.0]), np.diag([1.0, 0.3]), [[0.6, 0.4], [0.4, 0.6]], np.eye(2) * 0.2]
    matrices = np.array(shapes)
    label = rng.choice(k, n)
    noise = np.zeros((n, d, d))
    noise[:, 0, 0], noise[:, 1, 1] = rng.uniform(0.1, 2, n), rng.uniform(0.1, 2, n)
    noise[:, 0, 1] = noise[:, 1, 0] = 0.3 * np.sqrt(noise[:, 0, 0] * noise[:, 1, 1])
    root = np.linalg.cholesky(matrices)[label]
    y = mu[label] + np.einsum("nab,nb->na", root, rng.normal(size=(n, d)))
    x = y + np.einsum("nab,nb->na", np.linalg.cholesky(noise), rng.normal(size=(n, d)))
    means = x[rng.choice(n, k, replace=False)]
    covariance = Full.from_matrices(jnp.asarray(np.broadcast_to(np.cov(x.T), (k, d, d))))
    start = om.Mixture.from_weights(jnp.ones(k), Noisy(Gaussian(jnp.asarray(means), covariance)))
    return om.rows.noisy(x, covariance=noise), start


def test_the_worked_case():
    """astroML's XDGMM gives the same values from this start, to nine digits."""
    rows, start = case()
    problem = om.Problem(jax.tree.map(jnp.asarray, rows))
    answer = om.solve(problem, start, om.solvers.EM(), tolerance=0.0, max_steps=10)
    history = -20_000 * np.asarray(answer.history)
    for steps, expected in STEPS.items():
        np.testing.assert_allclose(history[steps], expected, atol=1e-6)
    best = om.solve(problem, start, om.solvers.Squarem(), tolerance=1e-11, max_steps=600)
    np.testing.assert_allclose(-20_000 * best.value, OPTIMUM, atol=1e-4)


@pytest.mark.slow
def test_tiles_bound_the_memory():
    """Matrices of wide rows are held for one component and the rows of a tile alone."""
    family, *_ = laws("covariances", d=6)
    wide = jnp.zeros((3, 40)), Full(jnp.broadcast_to(jnp.eye(40), (3, 40, 40)))
    numbers = Noisy(Gaussian(*wide)).numbers_per_row()
    assert numbers > 2 * 40 * 40 > Reference.numbers_per_row(family)
    n = 100_000
    rows = {"x": jax.ShapeDtypeStruct((n, 6), float)}
    rows["covariance"] = jax.ShapeDtypeStruct((n, 6, 6), float)
    engine = choose(family, n, float)
    assert engine.execution.tile_rows(n) < 20_000

    def step(rows):
        mixture = om.Mixture(jnp.full(3, -jnp.log(3.0)), family)
        return om.solve(om.Problem(rows), mixture, max_steps=1).mixture

    held = jax.jit(step).lower(rows).compile().memory_analysis()
    assert held is not None
    assert held.temp_size_in_bytes < 60e6 < n * 3 * 6 * 6 * 8


# ---------------------------------------------------------------------------------- doors


@functools.cache
def groups():
    """Two groups behind noise, and what `fit` makes of them."""
    rng = np.random.default_rng(0)
    low = np.arange(200) < 80
    v = rng.normal(size=(200, 2)) @ [[1.0, 0.6], [0.0, 0.5]] + np.where(low, 0, 5)[:, None]
    noise = random_covariances(rng, 200, 2, 0.05) * 0.5
    x = v + np.einsum("nab,nb->na", np.linalg.cholesky(noise), rng.normal(size=(200, 2)))
    rows = om.rows.noisy(x, covariance=noise)
    return rows, om.fit(rows, 2, key=0)


def total(solution, rows):
    return float(solution.mixture.log_prob(rows).sum())


def some(rows, which):
    return {name: leaf[which] for name, leaf in rows.items()}


def test_fit_knows_such_rows():
    rows, solution = groups()
    assert status(solution) == "CONVERGED"
    components = solution.mixture.components
    assert isinstance(components, Noisy)
    assert isinstance(components.covariance, Full)
    np.testing.assert_allclose(np.sort(solution.mixture.weights), [0.4, 0.6], atol=0.02)
    np.testing.assert_allclose(solution.log_likelihood(200), total(solution, rows), rtol=1e-10)
    costs, *_ = every(components, rows, np.broadcast_to(np.eye(2), (200, 2, 2)), rows["covariance"])
    by_hand = np.logaddexp.reduce(np.asarray(solution.mixture.log_weights) - costs, axis=1)
    np.testing.assert_allclose(total(solution, rows), by_hand.sum(), rtol=1e-10)
    plan = om.plan(solution.mixture, rows)
    np.testing.assert_allclose(plan.column_marginal, solution.mixture.weights, atol=1e-3)
    nll = om.negative_log_likelihood(solution.mixture, rows)
    np.testing.assert_allclose(nll, solution.value, rtol=1e-10)
    # noise taken off: the rows' covariance less the noise's, on average
    apart = np.cov(rows["x"].T) - rows["covariance"].mean(axis=0)
    np.testing.assert_allclose(solution.mixture.covariance, apart, rtol=0.1, atol=0.2)


@pytest.mark.slow
def test_families_by_name_and_by_description():
    rows, solution = groups()
    told = {"starts": FEW, "key": 0}
    short = om.fit(rows, 2, covariance="spherical", **told)
    long = om.fit(rows, 2, family=Noisy.of(Gaussian.of("spherical")), **told)
    named = om.fit(rows, 2, family="noisy", covariance="spherical", **told)
    assert isinstance(short.mixture.components.covariance, Spherical)
    np.testing.assert_array_equal(short.value, long.value)
    np.testing.assert_array_equal(short.value, named.value)
    again = om.fit(rows, 2, starts=om.Starts(initial=solution.mixture), key=0)
    np.testing.assert_allclose(again.value, solution.value, rtol=1e-7)
    with pytest.raises(TypeError, match="takes a Gaussian"):
        Noisy.of("student_t")


@pytest.mark.slow
def test_the_gradient_path_and_the_implicit_derivative():
    rows, solution = groups()
    by_gradient = om.solve(om.Problem(rows), solution.mixture, LBFGS, tolerance=1e-13)
    assert abs(float(by_gradient.value - solution.value)) < 1e-5

    @jax.jit
    def answer(scale):
        mine = dict(rows) | {"covariance": scale * rows["covariance"]}
        told = {"tolerance": 1e-22, "max_steps": 5000, "adjoint": om.adjoints.Implicit()}
        found = om.solve(om.Problem(mine), solution.mixture, **told)
        return found.mixture.mean.sum() + jnp.log(found.mixture.components.matrices()[0, 0, 0])

    slope, h = jax.jvp(answer, (1.0,), (1.0,))[1], 1e-3
    np.testing.assert_allclose(slope, (answer(1 + h) - answer(1 - h)) / (2 * h), rtol=1e-4)


@pytest.mark.slow
def test_standard_errors():
    """Of one component: the inverse of the information of mean and covariance by hand."""
    rows, _ = groups()
    rows = some(rows, slice(80))
    solution = om.fit(rows, 1, starts=FEW, key=0, limits=om.Limits(gap=1e-9))
    errors = om.standard_errors(solution, rows).leaves
    inner = solution.mixture.components.inner

    def minus(parameters):
        mean, t = parameters[:2], parameters[2:]
        matrix = jnp.array([[t[0], t[1]], [t[1], t[2]]]) + rows["covariance"]
        off = rows["x"] - mean
        square = jnp.einsum("na,na->n", off, jnp.linalg.solve(matrix, off[..., None])[..., 0])
        return 0.5 * jnp.sum(square + jnp.linalg.slogdet(matrix)[1])

    matrix = np.asarray(inner.matrices())[0]
    at = jnp.array([*inner.mean[0], matrix[0, 0], matrix[0, 1], matrix[1, 1]])
    hessian = np.asarray(jax.hessian(minus)(at))
    expected = np.sqrt(np.diag(np.linalg.inv(hessian)))
    np.testing.assert_allclose(errors.components.inner.mean[0], expected[:2], rtol=1e-4)


@pytest.mark.slow
def test_priors_have_the_units_of_the_vectors():
    rows, solution = groups()
    prior = Prior(
        mean=NormalMean(jnp.array([1.0, 2.0]), 0.02), covariance=Ridge(0.05, jnp.array([1.0, 4.0]))
    )
    goal = om.Goal(prior=prior)
    fitted = om.fit(rows, 2, goal=goal, starts=om.Starts(initial=solution.mixture), key=0)
    penalty = fitted.mixture.components.inner.penalty(prior)
    np.testing.assert_allclose(fitted.objective, fitted.value + penalty, rtol=1e-10)
    by_hand = om.solve(om.Problem(rows, prior=prior), solution.mixture, tolerance=1e-12)
    np.testing.assert_allclose(fitted.objective, by_hand.objective, rtol=1e-6)
    ridged = om.fit(rows, 2, goal=om.Goal(ridge=0.1), starts=FEW, key=0)
    assert status(ridged) == "CONVERGED"


@pytest.mark.slow
def test_weights_are_repetitions():
    rows, solution = groups()
    count = np.arange(200) % 3
    broken = {name: np.array(leaf) for name, leaf in rows.items()}
    for leaf in broken.values():
        leaf[count == 0] = np.nan  # absent: whatever it holds
    told = {"starts": om.Starts(initial=solution.mixture), "key": 0}
    one = om.fit(broken, 2, sample_weight=count, **told)
    other = om.fit(some(rows, np.repeat(np.arange(200), count)), 2, **told)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-7)


@pytest.mark.slow
def test_a_batch_is_fits_side_by_side():
    rows, _ = groups()
    sets = [rows, some(rows, slice(60, 160))]
    batch = om.fit_batch(sets, 2, starts=FEW, key=0)
    assert [status(one) for one in (batch[0], batch[1])] == ["CONVERGED"] * 2
    alone = jax.random.fold_in(jax.random.key(0), 1)
    second = om.fit(sets[1], 2, starts=FEW, key=alone)
    np.testing.assert_allclose(batch.value[1], second.value, rtol=1e-7)
    np.testing.assert_allclose(100 * batch.value[1], -total(batch[1], sets[1]), rtol=1e-10)


@pytest.mark.slow
def test_a_batch_behind_projections():
    rng = np.random.default_rng(0)
    rows, v = behind_projections(rng)
    sets = [rows, some(rows, slice(20, 180))]
    batch = om.fit_batch(sets, 2, covariance="diagonal", starts=FEW, key=0)
    for number, one in enumerate(sets):
        n = len(one["x"])
        np.testing.assert_allclose(n * batch.value[number], -total(batch[number], one), rtol=1e-9)


@pytest.mark.slow
def test_select_ranks_them():
    rows, _ = groups()
    choice = om.select(rows, [1, 2, 3], covariance=("full", "diagonal"), key=0)
    best = choice.best_candidate
    assert best.n_components == 2
    assert "full" in best.covariance
    np.testing.assert_allclose(best.log_likelihood, total(choice.best, rows), rtol=1e-9)
    single = {"x": rows["x"][:, :1], "covariance": rows["covariance"][:, :1, 0]}
    assert om.select(single, [1, 2], starts=FEW, key=0).best_candidate.n_components == 2


# --------------------------------------------------------------------- units and projections


def behind_projections(rng, n=200):
    """Vectors of three columns, each row seeing two combinations of its own."""
    low = np.arange(n) < n // 2
    v = rng.normal(size=(n, 3)) * [1.0, 0.5, 0.8] + np.where(low, -3, 3)[:, None] * [1, 0.5, -1]
    projection = rng.normal(size=(n, 2, 3))
    noise = rng.uniform(0.05, 0.5, (n, 2))
    x = np.einsum("nmd,nd->nm", projection, v) + rng.normal(size=(n, 2)) * np.sqrt(noise)
    return om.rows.noisy(x, covariance=noise, projection=projection), v


def test_vectors_behind_projections():
    """No row sees all columns; all of them together do."""
    rows, v = behind_projections(np.random.default_rng(0))
    solution = om.fit(rows, 2, covariance="diagonal", starts=om.Starts(n_init=2), key=0)
    assert status(solution) == "CONVERGED"
    np.testing.assert_allclose(solution.log_likelihood(200), total(solution, rows), rtol=1e-9)
    mean = np.asarray(solution.mixture.components.mean)
    mean = mean[np.argsort(mean[:, 0])]
    expected = np.stack([v[:100].mean(0), v[100:].mean(0)])
    np.testing.assert_allclose(mean, expected, atol=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["full", "diagonal", "spherical"])
@pytest.mark.parametrize("projected", [False, True])
def test_units_do_not_matter(structure, projected):
    """Vectors in other units and about another origin, and what is seen of them in others yet."""
    rng = np.random.default_rng(0)
    if projected:
        rows, _ = behind_projections(rng)
    else:
        rows, _ = groups()
        if structure == "diagonal":
            rows = dict(rows) | {"covariance": np.diagonal(rows["covariance"], axis1=1, axis2=2)}
    d = 3 if projected else 2
    unit = np.full(d, 1e4) if structure == "spherical" else 10.0 ** np.arange(4, 4 + d)
    origin = np.arange(1.0, 1 + d) * 1e5
    if projected:
        shift = np.einsum("nmd,d->nm", rows["projection"], origin)
        moved = dict(rows) | {
            "x": 7 * (rows["x"] + shift),
            "covariance": 49 * rows["covariance"],
            "projection": 7 * rows["projection"] / unit,
        }
        origin, volume = origin * unit, 2 * np.log(7)
    else:
        noise = rows["covariance"] * (unit**2 if structure == "diagonal" else np.outer(unit, unit))
        moved = {"x": rows["x"] * unit + origin, "covariance": noise}
        volume = np.log(unit).sum()
    told = {"covariance": structure, "starts": FEW, "key": 0}
    one, other = om.fit(rows, 2, **told), om.fit(moved, 2, **told)
    np.testing.assert_allclose(other.value - volume, one.value, atol=3e-5)
    order, mine = (np.argsort(s.mixture.weights) for s in (other, one))
    back = (np.asarray(other.mixture.components.mean) - origin) / unit
    np.testing.assert_allclose(back[order], one.mixture.components.mean[mine], atol=0.02)


@pytest.mark.slow
def test_very_noisy_rows_do_not_lead_the_start_astray():
    rows, solution = groups()
    rng = np.random.default_rng(0)
    wild = {
        "x": 1e4 * rng.normal(size=(40, 2)),
        "covariance": 1e8 * np.ones((40, 1, 1)) * np.eye(2),
    }
    both = {name: np.concatenate([rows[name], wild[name]]) for name in rows}
    found = om.fit(both, 2, starts=FEW, key=0)
    there = np.sort(found.mixture.components.mean[:, 0])
    np.testing.assert_allclose(there, np.sort(solution.mixture.components.mean[:, 0]), atol=0.1)


# ------------------------------------------------------------------- components without extent


def points(scale=1.0):
    """Two points behind noise."""
    rng = np.random.default_rng(0)
    label = np.arange(150) % 2
    noise = rng.uniform(0.2, 1, (150, 2)) * scale
    x = np.array([[-3.0, 0], [3, 1]])[label] + rng.normal(size=(150, 2)) * np.sqrt(noise)
    return om.rows.noisy(x, covariance=noise)


@pytest.mark.slow
def test_a_component_may_have_no_extent():
    """Noise bounds the likelihood, so it is no spike; EM creeps there, other solvers need not."""
    rows = points()
    told = {"covariance": "spherical", "starts": FEW, "key": 0}
    found = om.fit(rows, 2, solver=LBFGS, limits=om.Limits(tolerance=1e-14), **told)
    assert status(found) == "CONVERGED"
    assert not found.certificate.spurious.any()
    # a point is the best of one group; means are weighted by precision and responsibility
    share = np.asarray(found.mixture.responsibilities(rows))
    variance = np.asarray(found.mixture.components.matrices())[:, [0, 1], [0, 1]]
    precision = share[..., None] / (rows["covariance"][:, None] + variance)
    mean = (precision * rows["x"][:, None]).sum(0) / precision.sum(0)
    np.testing.assert_allclose(found.mixture.components.mean, mean, atol=1e-3)
    assert variance.min() < 1e-9 < variance.max()
    with pytest.warns(om.ConvergenceWarning, match="MAX_STEPS"):
        slow = om.fit(rows, 2, limits=om.Limits(max_steps=100), **told)
    assert 150 * (slow.value - found.value) < 0.05
    tiny = Noisy(Gaussian(found.mixture.components.mean, Spherical(jnp.full(2, 1e-15))),
                 found.mixture.components.least_noise)  # fmt: skip
    floor = Prior(floor=jnp.asarray(1e-30))
    assert not tiny.spurious(floor, jnp.ones(2) / 2, 150).any()
    assert not tiny.imprecise().any()
    exact = Noisy(tiny.inner)
    assert exact.spurious(floor, jnp.ones(2) / 2, 150).all()
    assert exact.imprecise().any()


@pytest.mark.slow
def test_rows_without_noise_have_spikes_as_ever():
    x = np.random.default_rng(0).normal(size=(60, 2))
    x[:5] = [3.0, 3.0]
    rows = om.rows.noisy(x, covariance=np.zeros((60, 2)))
    told = {"starts": om.Starts(initial=None, n_init=1), "key": 0}
    plain = om.fit(x, 1, **told)
    found = om.fit(rows, 1, **told)
    np.testing.assert_allclose(found.value, plain.value, rtol=1e-10)
    spike = Gaussian(
        jnp.array([[3.0, 3.0], [0.0, 0.0]]), Diagonal(jnp.array([[1e-6] * 2, [1.0] * 2]))
    )
    start = om.Starts(initial=om.Mixture.from_weights(jnp.array([5.0, 55.0]), Noisy(spike)))
    with pytest.warns(om.ConvergenceWarning, match="COLLAPSED"):
        om.fit(rows, 2, starts=start, key=0)


def test_noise_next_to_nothing_bounds_nothing():
    """Three rows that lie on a line by chance are a spike, unless noise is wider than the line."""
    factor = jnp.stack([jnp.diag(jnp.array([1.0, 1e-5])), jnp.eye(2)])
    law, floor = Gaussian(jnp.zeros((2, 2)), Full(factor)), Prior(floor=jnp.asarray(1e-30))
    told = floor, jnp.array([0.03, 0.97]), 100.0
    assert law.spurious(*told).tolist() == [True, False]
    for noise, spiky in ((0.0, True), (1e-14, True), (0.1, False)):
        assert Noisy(law, jnp.full(2, noise)).spurious(*told).tolist() == [spiky, False]


def test_the_least_noise_of_rows():
    """No more than the least eigenvalue allows, and of independent cells exact."""
    for kind in ("covariances", "variances", "projected covariances"):
        family, rows, seen, noise = laws(kind)
        rows, seen, noise = some(rows, slice(5, 30)), seen[5:], noise[5:]
        plan = jnp.full((25, 1), 1 / 25)
        made = jax.jit(Noisy.initial, static_argnums=2)(rows, plan, Gaussian.of())
        least = np.diag(np.asarray(made.least_noise))
        assert (least.diagonal() > 0).all()
        for told, own in zip(seen, noise, strict=True):
            assert np.linalg.eigvalsh(own - told @ least @ told.T)[0] > -1e-12
        if kind == "variances":
            np.testing.assert_allclose(least.diagonal(), rows["covariance"].min(axis=0))


# -------------------------------------------------------------------------------- missing cells


@pytest.mark.slow
def test_missing_cells_are_asked_for():
    rows, _ = groups()
    rng = np.random.default_rng(0)
    x = np.where(rng.random((200, 2)) < 0.2, np.nan, rows["x"])
    x[0] = np.nan
    holed = om.rows.noisy(x, covariance=rows["covariance"])
    with pytest.raises(ValueError, match='missing="ignore"'):
        om.fit(holed, 2, key=0)
    solution = om.fit(holed, 2, missing="ignore", starts=FEW, key=0)
    assert status(solution) == "CONVERGED"
    mixture = solution.mixture
    np.testing.assert_allclose(solution.log_likelihood(200), total(solution, holed), rtol=1e-10)
    # a row that is all missing has no say
    np.testing.assert_allclose(mixture.log_prob(holed)[0], 0, atol=1e-12)
    np.testing.assert_allclose(mixture.responsibilities(holed)[0], mixture.weights)
    np.testing.assert_allclose(mixture.impute(holed)[0], mixture.mean, rtol=1e-10)
    start = om.Starts(initial=mixture)
    other = om.fit(some(holed, slice(1, None)), 2, missing="ignore", starts=start, key=0)
    np.testing.assert_allclose(other.mixture.components.mean, mixture.components.mean, atol=1e-2)
    lone = dict(holed) | {"x": holed["x"] * [1, np.nan]}
    with pytest.raises(ValueError, match="all cells of column 'x' are missing"):
        om.fit(lone, 2, missing="ignore", key=0)


# -------------------------------------------------------------------------------- refusals


def refused(match, x, covariance, projection=None):
    with pytest.raises(ValueError, match=match):
        om.rows.noisy(x, covariance=covariance, projection=projection)
    rows = {"x": np.asarray(x), "covariance": np.asarray(covariance)}
    rows |= {} if projection is None else {"projection": np.asarray(projection)}
    with pytest.raises(ValueError, match=f"{match}|need one positive length"):
        om.fit(rows, 1, key=0)


def test_noise_that_is_no_covariance_is_refused():
    x, noise = np.arange(8.0).reshape(4, 2), np.ones((4, 2, 2)) * np.eye(2)
    bad = noise.copy()
    bad[2, 0, 1] = 0.5
    refused("row 2 is not symmetric", x, bad)
    bad[2, 1, 0], bad[1] = 0.5, [[1, 2], [2, 1]]
    refused("row 1 is not positive semidefinite.*eigenvalue -1", x, bad)
    bad[1] = [[0, 1], [1, 1]]
    refused("row 1 is not positive semidefinite", x, bad)
    bad[1] = [[1, 0], [0, -1]]
    refused(r"1 variances below 0, the first \(-1\) at row 1, column 1", x, bad)
    refused(r"the first \(-2\) at row 3, column 0", x, [[1, 1], [1, 1], [1, 1], [-2, 1]])
    singular = np.ones((4, 2, 2))
    assert om.rows.noisy(x, covariance=singular)["covariance"].shape == (4, 2, 2)
    infinite = np.where(np.arange(4)[:, None] == 2, np.inf, np.ones((4, 2)))
    with pytest.raises(ValueError, match="not finite, the first at row 2: leave a cell out by NaN"):
        om.rows.noisy(x, covariance=infinite)


def test_shapes_that_do_not_belong_together_are_refused():
    x, noise = np.arange(8.0).reshape(4, 2), np.ones((4, 2))
    refused(r"covariance must have shape \(4, 2, 2\), or \(4, 2\)", x, np.ones((3, 2)))
    refused("np.broadcast_to", x, np.eye(2))
    refused(r"projection must have shape \(n, m, d\)", x, noise, np.ones((4, 3, 2)))
    refused("use x\\[:, None\\]", np.arange(4.0), np.ones(4))
    refused(
        "row 0 holds something in column 1", x, 0 * noise, np.eye(2)[None] * (x > 1.5)[:, :1, None]
    )
    shared = om.rows.noisy(x, covariance=noise, projection=np.ones((2, 5)))
    assert shared["projection"].shape == (4, 2, 5)
    _, solution = groups()
    with pytest.raises(ValueError, match="vectors of 5 columns, the mixture has 2"):
        solution.mixture.log_prob(shared)
    with pytest.raises(ValueError, match="as rows.noisy makes them"):
        solution.mixture.log_prob(x)
    with pytest.raises(ValueError, match="takes one table"):
        om.fit(om.rows.noisy(x, covariance=noise), 1, family="student_t", key=0)


def test_a_singular_total_is_no_number():
    """Neither noise nor extent: as a Gaussian whose covariance is singular."""
    flat = Gaussian(jnp.zeros((1, 2)), Full(jnp.array([[[1.0, 0.0], [1.0, 0.0]]])))
    rows = {"x": jnp.ones((3, 2)), "covariance": jnp.zeros((3, 2, 2))}
    assert np.isnan(Noisy(flat).cost(rows)).all()
    found = om.solve(om.Problem(rows), om.Mixture(jnp.zeros(1), Noisy(flat)), max_steps=3)
    assert status(found) in ("NON_FINITE", "COLLAPSED")


@pytest.mark.slow
def test_iterated_structures_take_their_step():
    family, rows, *_ = laws("covariances", "EVV")
    assert isinstance(family.covariance, EVV)
    start = om.Mixture.from_weights(jnp.ones(3), family)
    answer = om.solve(om.Problem(rows), start, om.solvers.EM(), tolerance=0.0, max_steps=20)
    history = np.asarray(answer.history)
    assert np.diff(history[~np.isnan(history)]).max() < 1e-12
