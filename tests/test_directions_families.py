"""Von Mises-Fisher and von Mises components: their normaliser, densities, fits and draws."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats

import otmix_jax as om
from otmix_jax.core import bessel
from otmix_jax.engine import Columns, Guarded, Reference
from otmix_jax.families import CommonVonMisesFisher, VonMises, VonMisesFisher

DATA = Path(__file__).parent / "data" / "reference"
KAPPA = (1e-8, 1e-2, 1.0, 30.0, 1e3, 1e5, 1e8)
DIMENSIONS = (2, 3, 10, 100, 1000)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@functools.cache
def truth(kappa, d):
    """log-normaliser, A, 1 - A and A' to 40 digits."""
    with mpmath.workdps(40):
        k, nu = mpmath.mpf(kappa), mpmath.mpf(d) / 2 - 1
        low, high = mpmath.besseli(nu, k), mpmath.besseli(nu + 1, k)
        log = mpmath.mpf(d) / 2 * mpmath.log(2 * mpmath.pi) - nu * mpmath.log(k)
        ratio = high / low
        slope = 1 - ratio**2 - (d - 1) / k * ratio
        return [float(v) for v in (log + mpmath.log(low) - k, ratio, 1 - ratio, slope)]


@pytest.mark.slow
@pytest.mark.parametrize("d", DIMENSIONS)
def test_the_normaliser_and_its_derivatives_have_all_digits(d):
    kappa = jnp.array(KAPPA)
    known = np.array([truth(k, d) for k in KAPPA]).T
    ours = (bessel.log_normalizer, bessel.mean_cosine, bessel.mean_versine, bessel.cosine_variance)
    found = jax.jit(lambda k: [function(k, d) for function in ours])(kappa)
    for values, right in zip(found, known, strict=True):
        np.testing.assert_allclose(values, right, rtol=1e-12)
    # the ratio's inverse, from r and 1 - r
    np.testing.assert_allclose(bessel.concentration_of(*found[1:3], d), kappa, rtol=1e-12)
    narrow = bessel.log_normalizer(kappa.astype(jnp.float32), d)
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, known[0], rtol=2e-6)


def _in_five(function, kappa):
    return function(kappa, 5)


def test_the_normaliser_is_differentiated_three_times():
    def exact(kappa):
        low = mpmath.besseli(mpmath.mpf(3) / 2, kappa)
        return mpmath.log(low) - mpmath.mpf(3) / 2 * mpmath.log(kappa) - kappa

    function = functools.partial(_in_five, bessel.log_normalizer)
    for order in (1, 2, 3):
        function = jax.grad(function)
        with mpmath.workdps(40):
            right = float(mpmath.diff(exact, mpmath.mpf(3), order))
        np.testing.assert_allclose(function(jnp.array(3.0)), right, rtol=1e-11)
    slope = jax.grad(lambda c: bessel.concentration_of(c, 1 - c, 5))(jnp.array(0.3))
    kappa = bessel.concentration_of(jnp.array(0.3), jnp.array(0.7), 5)
    np.testing.assert_allclose(slope * bessel.cosine_variance(kappa, 5), 1, rtol=1e-12)


def test_the_ends_of_the_concentration_are_finite():
    kappa = jnp.array([0.0, 1e-300, 1e30])
    np.testing.assert_allclose(bessel.log_normalizer(kappa[:2], 3), np.log(4 * np.pi), rtol=1e-15)
    np.testing.assert_allclose(kappa[2] * bessel.mean_versine(kappa[2], 3), 1, rtol=1e-14)
    none = bessel.concentration_of(jnp.array([0.0, -0.5]), jnp.array([1.0, 1.5]), 3)
    assert (np.asarray(none) < 1e-290).all()
    assert (np.asarray(none) > 0).all()


@pytest.mark.parametrize("d", [3, 5])
def test_densities_are_those_of_scipy(d):
    rng = np.random.default_rng(d)
    direction, x = unit(rng.normal(size=(3, d))), unit(rng.normal(size=(20, d)))
    kappa = np.array([0.3, 5.0, 80.0])
    ours = VonMisesFisher(jnp.asarray(direction), jnp.asarray(kappa)).cost(jnp.asarray(x))
    for j in range(3):
        law = scipy.stats.vonmises_fisher(direction[j], kappa[j])
        np.testing.assert_allclose(-ours[:, j], law.logpdf(x), rtol=1e-10)


def test_densities_of_angles_are_those_of_scipy_whatever_the_turn():
    family = VonMises.examples()["angles"]
    x = jnp.asarray(np.random.default_rng(0).uniform(-np.pi, np.pi, (20, 2)))
    law = scipy.stats.vonmises(loc=family.direction[:, None], kappa=family.concentration[:, None])
    right = -np.sum(law.logpdf(x), axis=-1).T
    np.testing.assert_allclose(family.cost(x), right, rtol=1e-11)
    np.testing.assert_allclose(family.cost(x + 2 * np.pi * np.array([3, -1])), right, rtol=1e-11)
    # on the circle both families are one
    points = jnp.stack([jnp.cos(x[:, 0]), jnp.sin(x[:, 0])], axis=1)
    angle, kappa = family.direction[:, 0], family.concentration[:, 0]
    circle = VonMisesFisher(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1), kappa)
    single = VonMises(family.direction[:, :1], family.concentration[:, :1])
    np.testing.assert_allclose(circle.cost(points), single.cost(x[:, :1]), rtol=1e-11)


def near_an_axis(d, n=30, spread=1e-4):
    tangent = spread * np.random.default_rng(1).normal(size=(n, d))
    tangent[:, 0] = 0
    return jnp.asarray(unit(tangent + np.eye(1, d)))


def test_tight_components_keep_their_digits():
    """At kappa 1e8 the guard takes differences, and the M-step finds kappa from the spread."""
    x = near_an_axis(3)
    family = VonMisesFisher(x[:2], jnp.array([1e8, 9e7]))
    columns, weight = Columns(jnp.log(jnp.array([0.5, 0.5]))), jnp.full(30, 1 / 30)
    kernel = Guarded.of(columns, family)
    assert not bool(kernel.fast_is_safe)
    rows = np.asarray(x)
    with mpmath.workdps(40):
        square = [
            mpmath.fsum(
                (mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(row, rows[0], strict=True)
            )
            for row in rows
        ]
        right = [float(s * 10**8 / 2) for s in square]
    normaliser = truth(1e8, 3)[0]
    np.testing.assert_allclose(family.cost(x)[:, 0] - normaliser, right, rtol=1e-6, atol=1e-6)
    one = VonMisesFisher(x[:1], jnp.array([1.0]))
    fitted = one.maximize(one.statistics(x, weight[:, None]), jnp.ones(1))
    mean = x.mean(axis=0)
    lacks = np.mean(np.sum((x - mean) ** 2, axis=1))  # 1 - r^2
    versine = lacks / (1 + np.sqrt(1 - lacks))
    np.testing.assert_allclose(fitted.concentration[0] * versine, 1, rtol=1e-7)  # (d - 1) / 2
    np.testing.assert_allclose(fitted.direction[0], unit(mean), atol=1e-15)
    wide = VonMisesFisher.examples()["three"]
    assert bool(Guarded.of(Columns(jnp.zeros(3)), wide).fast_is_safe)


def test_opposite_rows_have_no_direction():
    x = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    family = VonMisesFisher(jnp.array([[0.6, 0.8]]), jnp.array([2.0]))
    moved = family.maximize(family.statistics(x, jnp.full((2, 1), 0.5)), jnp.ones(1))
    assert np.isfinite(np.asarray(moved.direction)).all()
    assert 0 < moved.concentration[0] < 1e-7
    angles = VonMises(jnp.array([[0.3]]), jnp.array([[2.0]]))
    x = jnp.array([[0.5], [0.5 + np.pi]])
    moved = angles.maximize(angles.statistics(x, jnp.full((2, 1), 0.5)), jnp.ones(1))
    assert np.isfinite(np.asarray(moved.direction)).all()
    assert 0 < moved.concentration[0, 0] < 1e-7


def test_rows_of_one_direction_are_a_collapse():
    x = np.repeat(np.eye(3), 4, axis=0)
    start = om.Mixture.from_weights(jnp.ones(3), VonMisesFisher(jnp.eye(3), jnp.full(3, 50.0)))
    plain = om.solve(om.Problem(jnp.asarray(x)), start, max_steps=50)
    assert om.Status(int(plain.status)) == om.Status.COLLAPSED
    bounded = om.Problem(jnp.asarray(x), prior=VonMisesFisher.least(jnp.float64))
    held = om.solve(bounded, start, max_steps=50)
    assert om.Status(int(held.status)) == om.Status.COLLAPSED
    assert np.asarray(held.certificate.spurious).all()
    assert np.isfinite(np.asarray(held.mixture.components.concentration)).all()


def test_the_concentration_is_own_common_or_fixed():
    x = near_an_axis(3, spread=0.3)
    counts = {"own": 2 * 3, "common": 2 * 2 + 1, 7.0: 2 * 2}
    plan = jax.nn.one_hot(np.arange(30) % 2, 2) / 30
    for concentration, count in counts.items():
        start = VonMisesFisher.of(concentration=concentration).initial(x, plan)
        assert start.n_parameters == count
        moved = start.maximize(start.statistics(x, plan), jnp.sum(plan, axis=0))
        kappa = np.asarray(moved.concentration)
        assert kappa.shape == (() if concentration == "common" else (2,))
        if concentration == 7.0:
            np.testing.assert_array_equal(kappa, 7.0)
    assert isinstance(VonMisesFisher.of("common").family.examples()["three"], CommonVonMisesFisher)
    for wrong in ("each", 0.0, np.inf):
        with pytest.raises(ValueError, match="concentration must be"):
            VonMisesFisher.of(concentration=wrong)


def test_a_fixed_concentration_is_fitted():
    x = unit(
        np.random.default_rng(0).normal(size=(60, 3)) + np.repeat([[3, 0, 0], [0, 3, 0]], 30, 0)
    )
    fitted = om.fit(x, 2, family=VonMisesFisher.of(concentration=5.0), key=0).mixture
    np.testing.assert_array_equal(fitted.components.concentration, 5.0)
    assert fitted.n_parameters == 2 * 2 + 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([[1.0, 0.0], [0.6, 0.9]]), r"row 1 has length 1\.081665: divide each row"),
        (np.array([[0.0, 0.0], [0.6, 0.8]]), "row 0 has length 0: leave it out"),
        (np.ones((2, 1)), "d >= 2"),
    ],
)
def test_rows_that_are_no_directions_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        om.fit(rows, 1, family="von_mises_fisher", key=0)


def test_angles_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="row 1, column 0"):
        om.fit(np.array([[0.1], [np.inf]]), 1, family="von_mises", key=0)


def test_lengths_within_the_tolerance_do_not_count():
    x = near_an_axis(4, spread=0.5)
    longer = x * (1 + 1e-6 * np.random.default_rng(2).uniform(-1, 1, (30, 1)))
    family = VonMisesFisher(x[:2], jnp.array([1e6, 3.0]))
    np.testing.assert_allclose(family.cost(longer), family.cost(x), rtol=1e-9)


def test_a_missing_angle_is_integrated_out():
    family = om.core.tree.replace(VonMises.examples()["angles"], by_cell=True)
    x = jnp.array([[0.4, jnp.nan], [jnp.nan, -2.0], [0.4, -2.0]])
    first, second = (
        VonMises(family.direction[:, a : a + 1], family.concentration[:, a : a + 1]) for a in (0, 1)
    )
    each = first.cost(x[2:, :1])[0], second.cost(x[2:, 1:])[0]
    np.testing.assert_allclose(family.cost(x), jnp.stack([*each, each[0] + each[1]]), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3, 20])
def test_draws_have_the_moments_of_their_law(d):
    n, direction = 4000, jnp.eye(1, d).repeat(5, axis=0)
    kappa = jnp.array([1e-3, 1.0, 20.0, 1e4, 1e8])
    family = VonMisesFisher(direction, kappa)
    labels = jnp.repeat(jnp.arange(5), n)
    x, (mean, covariance) = jax.jit(
        lambda: (family.sample(jax.random.key(0), labels), family.moments())
    )()
    x = x.reshape(5, n, d)
    np.testing.assert_allclose(jnp.linalg.norm(x, axis=-1), 1, rtol=1e-14)
    error = jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2) / n)
    assert (jnp.abs(x.mean(axis=1) - mean) < 4.5 * error + 1e-15).all()
    versine = 0.5 * jnp.sum((x - direction[:, None]) ** 2, axis=-1)
    right = bessel.mean_versine(kappa, d)
    assert (
        jnp.abs(versine.mean(axis=1) / right - 1)
        < 4.5 * versine.std(axis=1) / right / n**0.5 + 1e-6
    ).all()
    across = jnp.mean(x[:, :, 1] ** 2, axis=1)
    np.testing.assert_allclose(across, covariance[:, 1, 1], rtol=0.1)


def test_draws_of_angles_follow_their_law():
    kappa = np.array([0.5, 3.0, 1e3])
    family = VonMises(jnp.array([[0.0], [3.0], [-2.0]]), jnp.asarray(kappa)[:, None])
    x = np.asarray(family.sample(jax.random.key(1), jnp.repeat(jnp.arange(3), 4000))).reshape(3, -1)
    for j in range(3):
        centred = x[j] - float(family.direction[j, 0])
        assert scipy.stats.kstest(centred, scipy.stats.vonmises(kappa[j]).cdf).pvalue > 1e-3


def entry(name):
    found = json.loads((DATA / "reference.json").read_text())[name]
    return found, np.loadtxt(DATA / "sphere_iris.csv", delimiter=",", skiprows=1)


@pytest.mark.parametrize(
    "name",
    [
        "vmf_iris_K3",
        *(pytest.param(f"vmf_iris_K{k}", marks=pytest.mark.slow) for k in (1, 2)),
        pytest.param("vmf_common_iris_K3", marks=pytest.mark.slow),
    ],
)
def test_fits_reach_the_optima_of_movmf(name):
    """movMF 0.2.11 on the rows of iris over their lengths, after Newton's method."""
    known, x = entry(name)
    right = known["polished_parameters"]
    family = VonMisesFisher.of("common" if "common" in name else "own")
    solution = om.fit(x, known["K"], family=family, key=0)
    assert abs(float(solution.log_likelihood(len(x))) - known["polished_loglik"]) < 1e-5
    components = solution.mixture.components
    order, back = np.argsort(components.direction[:, 0]), np.argsort(np.array(right["mean"])[:, 0])
    np.testing.assert_allclose(
        components.direction[order], np.array(right["mean"])[back], rtol=1e-3
    )
    kappa = np.broadcast_to(components.concentration, len(order))[order]
    expected = np.broadcast_to(right["kappa"], len(order))[back]
    np.testing.assert_allclose(kappa, expected, rtol=1e-3)
    np.testing.assert_allclose(
        solution.mixture.weights[order], np.array(right["pro"])[back], rtol=1e-3
    )


@pytest.mark.slow
def test_four_components_on_iris():
    """movMF's optimum is one of several: `fit` finds a higher one, and EM stays at movMF's."""
    known, x = entry("vmf_iris_K4")
    right = known["polished_parameters"]
    start = VonMisesFisher(unit(jnp.array(right["mean"])), jnp.array(right["kappa"]))
    mixture = om.Mixture.from_weights(jnp.array(right["pro"]), start)
    problem = om.Problem(jnp.asarray(x))
    end = om.solve(problem, mixture, om.solvers.Squarem(), tolerance=1e-12, max_steps=3000)
    assert abs(float(end.log_likelihood(150)) - known["polished_loglik"]) < 1e-5
    best = om.fit(x, 4, family="von_mises_fisher", key=0)
    assert float(best.log_likelihood(150)) > known["polished_loglik"] + 1


def test_kernels_agree_on_missing_mass():
    """A component of weight 0 may hold anything."""
    family = VonMisesFisher.examples()["three"]
    broken = om.core.tree.replace(family, concentration=family.concentration.at[1].set(jnp.nan))
    x = family.sample(jax.random.key(0), jnp.arange(30) % 3)
    columns = Columns(jnp.log(jnp.array([0.5, 0.0, 0.5])))
    sweeps = [k.of(columns, broken).sweep(x, jnp.full(30, 1 / 30)) for k in (Guarded, Reference)]
    for sweep in sweeps:
        assert np.isfinite(float(sweep.value))
        moved = broken.maximize(sweep.statistics, sweep.mass)
        assert np.isfinite(np.asarray(moved.concentration)[[0, 2]]).all()
