"""Rows are a tree: a dict of mixed columns goes wherever a table goes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import status
from jax.flatten_util import ravel_pytree

import otmix_jax as om
from otmix_jax.engine import Engine, Reference, Tiled
from otmix_jax.families import Categorical, Gaussian, Product

FAMILY = Product.of(
    size=Gaussian.of("diagonal"), pair=Gaussian, visits="poisson", colour=Categorical.of(levels=3)
)
N = 240


@pytest.fixture(scope="module")
def rows():
    """Two groups in four kinds of columns: a real one, two real ones, a count, a code."""
    rng = np.random.default_rng(0)
    low = np.arange(N) < 90
    return {
        "size": rng.normal(np.where(low, 0, 3.0)),
        "pair": rng.normal(size=(N, 2)) + np.where(low, 0, 2.0)[:, None],
        "visits": rng.poisson(np.where(low, 2, 9)),
        "colour": np.where(low, rng.integers(0, 3, N), np.minimum(rng.integers(0, 5, N), 2))[
            :, None
        ],
    }


@pytest.fixture(scope="module")
def solution(rows):
    return om.fit(rows, 2, family=FAMILY, key=0, limits=om.Limits(tolerance=1e-13))


def by_hand(mixture, rows):
    """-log p of each row, from scipy's densities."""
    from scipy import stats

    parts = mixture.components.parts
    total = np.tile(np.asarray(mixture.log_weights), (N, 1))
    for j in range(2):
        deviation = np.asarray(parts["size"].covariance.factor)[j]
        total[:, j] += stats.norm.logpdf(rows["size"], parts["size"].mean[j, 0], deviation[0])
        pair = stats.multivariate_normal(parts["pair"].mean[j], parts["pair"].matrices()[j])
        total[:, j] += pair.logpdf(rows["pair"])
        total[:, j] += stats.poisson.logpmf(rows["visits"], parts["visits"].rate[j, 0])
        total[:, j] += np.log(parts["colour"].probability[j, 0, rows["colour"][:, 0]])
    return -np.logaddexp(total[:, 0], total[:, 1])


def test_fit_finds_the_groups(rows, solution):
    assert status(solution) == "CONVERGED"
    costs = by_hand(solution.mixture, rows)
    np.testing.assert_allclose(solution.value, costs.mean(), rtol=1e-10)
    np.testing.assert_allclose(-solution.mixture.log_prob(rows), costs, rtol=1e-10)
    labels = np.asarray(solution.mixture.predict(rows))
    agree = np.mean(labels == (np.arange(N) < 90))
    assert max(agree, 1 - agree) > 0.97
    assert solution.mixture.n_parameters == 1 + 2 * (2 + 5 + 1 + 2)


def test_codes_stay_integers(rows):
    problem = om.Problem(rows).checked()
    kinds = {name: leaf.dtype.kind for name, leaf in problem.x.items()}
    assert kinds == {"size": "f", "pair": "f", "visits": "i", "colour": "i"}


@pytest.mark.slow
def test_solve_and_its_derivatives(rows, solution):
    """The implicit derivative in a real column and the weights against finite differences."""
    weight = np.linspace(0.5, 1.5, N)

    def answer(size, weight):
        problem = om.Problem({**rows, "size": size}, weight)
        end = om.solve(problem, solution.mixture, tolerance=1e-14, max_steps=3000)
        return end.mixture.weights[0] + end.mixture.components.parts["visits"].rate[0, 0]

    function = jax.jit(answer)
    gradient = jax.grad(answer, argnums=(0, 1))(jnp.asarray(rows["size"]), jnp.asarray(weight))
    rng = np.random.default_rng(1)
    direction = rng.normal(size=N), rng.normal(size=N)
    h = 1e-5
    ends = [
        function(rows["size"] + s * h * direction[0], weight + s * h * direction[1])
        for s in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * h)
    along = sum(float(g @ d) for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(along, expected, rtol=2e-4)


def test_the_loss_has_gradients_leaf_by_leaf(rows, solution):
    def loss(real, weight, engine):
        x = {**rows, **real}
        return om.negative_log_likelihood(solution.mixture, x, weight, engine=engine)

    real = {name: jnp.asarray(rows[name]) for name in ("size", "pair")}
    weight = jnp.ones(N).at[5].set(0)
    grad = jax.grad(loss, argnums=(0, 1))
    tiled = grad(real, weight, Engine(Reference, Tiled(64)))
    chex.assert_trees_all_close(tiled, grad(real, weight, None), rtol=1e-11, atol=1e-14)
    assert not np.any(tiled[0]["size"][5])
    h = 1e-6
    moved = {**real, "size": real["size"].at[7].add(h)}
    expected = (loss(moved, weight, None) - loss(real, weight, None)) / h
    np.testing.assert_allclose(tiled[0]["size"][7], expected, rtol=1e-4)


def test_absent_rows_may_hold_anything(rows, solution):
    """Weight 0 leaves a row out, in every leaf."""
    broken = {name: np.concatenate([column, column[:3]]) for name, column in rows.items()}
    broken["size"][N:] = np.nan
    weight = np.concatenate([np.ones(N), np.zeros(3)])
    problem = om.Problem(broken, weight)
    ours = om.solve(problem, solution.mixture, tolerance=1e-12)
    theirs = om.solve(om.Problem(rows), solution.mixture, tolerance=1e-12)
    np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-12)


@pytest.mark.slow
def test_fit_batch_is_fit(rows):
    parts = [
        {name: column[s] for name, column in rows.items()} for s in (slice(None), slice(60, N))
    ]
    limits = om.Limits(tolerance=1e-8)  # which no rounding moves by a step
    options = {"family": FAMILY, "starts": om.Starts(n_init=2), "limits": limits}
    batch = om.fit_batch(parts, 2, key=0, **options)
    for b, part in enumerate(parts):
        alone = om.fit(part, 2, key=jax.random.fold_in(jax.random.key(0), b), **options)
        np.testing.assert_allclose(batch.value[b], alone.value, rtol=1e-9)
        assert batch.n_steps[b] == alone.n_steps


@pytest.mark.slow
def test_select_finds_two(rows):
    choice = om.select(rows, [1, 2, 3], family=FAMILY, key=0, starts=om.Starts(n_init=3))
    assert choice.best_candidate.n_components == 2
    best = choice.best_candidate
    bic = -2 * best.log_likelihood + 21 * np.log(N)
    np.testing.assert_allclose(best.bic, bic, rtol=1e-12)


def test_plan_and_certificate(rows, solution):
    plan = om.plan(solution.mixture, rows)
    np.testing.assert_allclose(
        plan.matrix * N, solution.mixture.responsibilities(rows), rtol=1e-9, atol=1e-12
    )
    balanced = om.plan(solution.mixture, rows, coupling=om.couplings.Balanced(np.full(2, 0.5)))
    np.testing.assert_allclose(balanced.column_marginal, 0.5, rtol=1e-7)
    certificate = om.certificate(solution.mixture, rows)
    np.testing.assert_allclose(certificate.semi_relaxed, by_hand(solution.mixture, rows).mean())
    assert abs(certificate.gap) < 1e-9


@pytest.mark.slow
def test_standard_errors(rows, solution):
    """The inverse Hessian of the total negative log-likelihood, in its own coordinates."""
    covariance = om.inference.parameter_covariance(solution.mixture, rows)
    zeros = jax.tree.map(jnp.zeros_like, solution.mixture.unconstrained(solution.mixture))
    flat, unravel = ravel_pytree(zeros)

    def loss(z):
        return N * om.negative_log_likelihood(solution.mixture.constrain(unravel(z)), rows)

    hessian = jax.hessian(loss)(flat)
    rate = covariance.delta(lambda m: m.components.parts["visits"].rate)
    expected = np.linalg.pinv(hessian, rcond=1e-10)
    jacobian = jax.jacfwd(
        lambda z: solution.mixture.constrain(unravel(z)).components.parts["visits"].rate
    )(flat)
    variance = np.einsum("kdp,pq,kdq->kd", jacobian, expected, jacobian)
    np.testing.assert_allclose(rate.standard_error**2, variance, rtol=1e-6)
    errors = om.standard_errors(solution, rows, robust=True)
    assert np.isfinite(errors.weights).all()


def test_a_data_frame_is_a_dict(rows):
    class Frame(dict):
        """What the host edge asks of a data frame."""

        @property
        def columns(self):
            return list(self)

    table = Frame(size=rows["size"], visits=rows["visits"])
    family = Product.of(size="gaussian", visits="poisson")
    framed = om.fit(table, 2, family=family, key=0)
    plain = om.fit(dict(table), 2, family=family, key=0)
    assert framed.value == plain.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": np.r_[np.inf, np.zeros(N - 1)]}, "column 'size'.*row 0"),
        ({"size": np.zeros(3)}, "one positive length"),
        ({"visits": np.full(N, -1)}, "part 'visits'.*row 0, column 0"),
        ({"colour": np.full(N, 7)}, "part 'colour'.*3 levels"),
        ({"size": np.array(["a"] * N)}, "column 'size' must hold numbers"),
        ({"other": np.zeros(N)}, "must be a dict of"),
    ],
)
def test_what_is_refused(rows, change, words):
    with pytest.raises(ValueError, match=words):
        om.fit({**rows, **change}, 2, family=FAMILY, key=0)


def test_a_table_is_no_dict(faithful, rows):
    with pytest.raises(ValueError, match="must be a dict"):
        om.fit(faithful, 2, family=FAMILY, key=0)
    with pytest.raises(ValueError, match="one table"):
        om.fit(rows, 2, key=0)


def test_priors_for_parts(rows):
    """The Poisson part takes none; one on a Gaussian part's mean draws it there."""
    mean = om.priors.NormalMean(np.array([8.0]), 1.0)
    useless = om.Goal(prior=om.priors.Prior(parts={"visits": om.priors.Prior(mean=mean)}))
    with pytest.raises(TypeError, match="no use for a prior on its mean"):
        om.fit(rows, 2, family=FAMILY, key=0, goal=useless)
    prior = om.priors.Prior(parts={"size": om.priors.Prior(mean=mean)})
    goal = om.Goal(prior=prior, ridge=0.0)
    drawn = om.fit(rows, 2, family=FAMILY, key=0, goal=goal)
    means = np.sort(np.asarray(drawn.mixture.components.parts["size"].mean)[:, 0])
    assert (means > [4, 5]).all(), "halfway and more: each component weighs less than the prior"
    problem = om.Problem(rows, prior=prior)
    objective = om.Objective.of(problem.checked()).loss(drawn.mixture)
    np.testing.assert_allclose(drawn.objective, objective, rtol=1e-11)


def test_rows_on_a_device_are_not_copied_to_the_host(faithful, monkeypatch):
    """Checks, frame and fit read them where they are; the answer is that of NumPy's rows."""
    # more rows than the sample in which columns that say nothing are looked for
    faithful = np.tile(faithful, (40, 1))
    x, copied, asarray = jnp.asarray(faithful), [], np.asarray

    def noted(value, *rest, **more):
        if getattr(value, "shape", None) == x.shape and isinstance(value, jax.Array):
            copied.append(value)
        return asarray(value, *rest, **more)

    monkeypatch.setattr(np, "asarray", noted)
    on_device = om.fit(x, 2, key=0, starts=om.Starts(n_init=2))
    assert not copied
    monkeypatch.undo()
    from_host = om.fit(faithful, 2, key=0, starts=om.Starts(n_init=2))
    np.testing.assert_allclose(on_device.value, from_host.value, rtol=1e-12)
    with pytest.raises(ValueError, match="1 NaN or infinite cells, the first at row 5, column 1"):
        om.fit(x.at[5, 1].set(jnp.nan), 2, key=0)


@pytest.mark.slow
def test_a_gaussian_part_of_integers_is_real():
    """In its frame, integers would be rounded to a few values: in fit, fit_batch and select."""
    rng = np.random.default_rng(0)
    low = np.arange(120) < 50
    size = rng.normal(np.where(low, 170, 150), 6).round().astype(int)
    rows = {"size": size, "visits": rng.poisson(np.where(low, 2, 9))}
    real = {**rows, "size": size.astype(float)}
    family = Product.of(size="gaussian", visits="poisson")
    starts = om.Starts(n_init=2)
    fits = [om.fit(x, 2, family=family, key=0, starts=starts) for x in (rows, real)]
    np.testing.assert_allclose(fits[0].value, fits[1].value, rtol=1e-12)
    both = om.fit_batch([rows, real], 2, family=family, key=0, starts=starts)
    np.testing.assert_allclose(both.value, float(fits[0].value), atol=1e-6)
    best = om.select(rows, (2,), family=family, key=0).best.value
    np.testing.assert_allclose(best, float(fits[0].value), atol=1e-5)
