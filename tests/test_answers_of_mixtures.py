"""Moments, margins, conditionals, quantiles, levels and modes, against scipy and brute force."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.optimize
from contracts import EXAMPLES, rows_for
from scipy import stats

import otmix_jax as om
from otmix_jax.core.special import student_cdf
from otmix_jax.core.tree import cast, replace
from otmix_jax.families import (
    STRUCTURES,
    Categorical,
    Frozen,
    Full,
    Gaussian,
    Multinomial,
    Noisy,
    Poisson,
    Product,
    Spherical,
    StudentT,
    Subspace,
)

REFERENCE = json.loads((Path(__file__).parent / "data/reference/reference.json").read_text())
WEIGHTS = np.array([0.5, 0.2, 0.3])
NAMES = ["full", "tied", "diagonal", "spherical"]


def shapes(d=3):
    root = np.random.default_rng(0).normal(size=(3, d, d))
    return jnp.asarray(root @ np.swapaxes(root, 1, 2) + 0.3 * np.eye(d))


def elliptical(name, family=Gaussian, d=3):
    mean = jnp.asarray(np.random.default_rng(1).normal(size=(3, d)) * 2)
    rest = [] if family is Gaussian else [jnp.array([3.5, 5.0, 30.0])]
    return om.Mixture.from_weights(
        WEIGHTS, family(mean, STRUCTURES[name].from_matrices(shapes(d)), *rest)
    )


def line(*parts, weights=WEIGHTS, family=Gaussian):
    """A mixture of one column: means, deviations, and what else the family has."""
    mean, deviation, *rest = (jnp.asarray(part, float) for part in parts)
    return om.Mixture.from_weights(weights, family(mean[:, None], Spherical(deviation), *rest))


def with_absent(mixture):
    """The same with a component of weight 0 that holds NaN."""
    more = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, jnp.full_like(leaf[:1], jnp.nan)]), mixture
    )
    return om.Mixture(more.log_weights.at[-1].set(-jnp.inf), more.components)


def answers(call):
    """What a family answers, or None where it says that it has none."""
    try:
        return call()
    except TypeError as error:
        if "has no" not in str(error):
            raise
        return None


# moments


def is_dict(x):
    return isinstance(x, dict)


@pytest.mark.slow
@pytest.mark.parametrize("family", EXAMPLES)
def test_moments_are_those_of_draws(family):
    """Means of 4000 draws within 6 of their standard errors; variances likewise."""
    if answers(family.moments) is None or isinstance(family, Multinomial):
        return  # moments of a multinomial are those of a total of 1, and its rows have theirs
    mixture = om.Mixture.from_weights(jnp.arange(1.0, family.n_components + 1), family)
    draws = mixture.sample(jax.random.key(3), 4000)
    if isinstance(getattr(family, "inner", family), Categorical):
        draws = family.described().embed(draws)
    if isinstance(family, Noisy):
        draws = draws["x"]  # moments are of the vectors, and these draws have no noise
    mean, covariance = mixture.mean, mixture.covariance
    parts = mean if is_dict(mean) else {"": mean}
    for name, own in parts.items():
        x = np.asarray(draws[name] if name else draws, float).reshape(4000, -1)
        spread = np.diag(covariance[name][name] if name else covariance)
        if not np.all(np.isfinite(spread)):
            continue
        error = np.sqrt(spread / 4000)
        assert np.all(np.abs(x.mean(axis=0) - own) <= 6 * error + 1e-12)
        square = (x - np.asarray(own)) ** 2
        error = square.std(axis=0) / np.sqrt(4000)
        assert np.all(np.abs(square.mean(axis=0) - spread) <= 8 * error + 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_total_mean_and_covariance(name):
    mixture = elliptical(name)
    mean, matrices = np.asarray(mixture.components.mean), np.asarray(mixture.components.matrices())
    second = np.einsum("k,kde->de", WEIGHTS, matrices + mean[:, :, None] * mean[:, None, :])
    total = WEIGHTS @ mean
    np.testing.assert_allclose(mixture.mean, total, rtol=1e-13)
    np.testing.assert_allclose(mixture.covariance, second - np.outer(total, total), rtol=1e-11)
    more = with_absent(mixture) if name != "tied" else mixture
    slope = jax.grad(lambda m: jnp.sum(m.covariance) + jnp.sum(m.mean))(more)
    np.testing.assert_allclose(more.covariance, mixture.covariance, rtol=1e-14)
    assert np.all(np.isfinite(slope.components.mean[:3]))


def test_moments_of_student_and_of_parts():
    student = elliptical("full", StudentT)
    nu = np.array([3.5, 5.0, 30.0])
    inside = np.einsum("k,kde->de", WEIGHTS * nu / (nu - 2), student.components.matrices())
    mean = np.asarray(student.components.mean)
    centred = mean - WEIGHTS @ mean
    between = np.einsum("k,kd,ke->de", WEIGHTS, centred, centred)
    np.testing.assert_allclose(student.covariance, inside + between, rtol=1e-12)
    heavy = om.Mixture.from_weights(WEIGHTS, replace(student.components, degrees=jnp.ones(3)))
    assert np.all(np.isnan(heavy.covariance))
    mixed = om.Mixture.from_weights(WEIGHTS, Product.examples()["mixed"])
    size, visits = (mixed.components.parts[n].moments()[0] for n in ("size", "visits"))
    across = np.einsum("k,kd,ke->de", WEIGHTS, size - WEIGHTS @ size, visits - WEIGHTS @ visits)
    np.testing.assert_allclose(mixed.covariance["size"]["visits"], across, atol=1e-12)
    assert mixed.mean["visits"].shape == (2,)


# margins and conditionals


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", [Gaussian, StudentT])
def test_margins_against_scipy(name, family):
    mixture = elliptical(name, family)
    x = np.random.default_rng(2).normal(size=(6, 2)) * 3
    for columns in ([0, 2], [2, 0], (-1, 1)):
        which = np.array(columns)
        expected = 0
        for j, weight in enumerate(WEIGHTS):
            mean = np.asarray(mixture.components.mean)[j, which]
            matrix = np.asarray(mixture.components.matrices())[j][np.ix_(which, which)]
            if family is Gaussian:
                law = stats.multivariate_normal(mean, matrix)
            else:
                law = stats.multivariate_t(mean, matrix, df=float(mixture.components.degrees[j]))
            expected = expected + weight * law.pdf(x)
        margin = mixture.marginal(columns)
        np.testing.assert_allclose(margin.log_prob(x), np.log(expected), rtol=1e-11)
        assert type(margin.components.covariance) is type(mixture.components.covariance)


@pytest.mark.slow
@pytest.mark.parametrize("family", EXAMPLES)
def test_a_conditional_is_a_ratio_of_densities(family):
    """p(rest | given) p(given) = p(all), for every family that has both."""
    mixture = om.Mixture.from_weights(jnp.arange(1.0, family.n_components + 1), family)
    rows = jax.tree.map(lambda leaf: leaf[:4], rows_for(family))
    if not is_dict(rows) and rows.shape[1] < 2:
        return
    columns = list(rows) if is_dict(rows) else list(range(rows.shape[1]))
    if isinstance(family, Subspace):
        columns = list(family.kept)
    given = columns[: len(columns) // 2]
    if answers(lambda: mixture.marginal(given)) is None:
        return

    def part(row, names):
        return {n: row[n] for n in names} if is_dict(row) else row[jnp.asarray(names)]

    def ratio(row):
        known = {name: row[name] for name in given}
        own = mixture.condition(known)
        everything = range(len(row)) if not is_dict(row) else columns
        rest = jax.tree.map(lambda v: v[None], part(row, [c for c in everything if c not in given]))
        alone = jax.tree.map(lambda v: v[None], part(row, given))
        whole = jax.tree.map(lambda v: v[None], row)
        told = own.log_prob(rest) + mixture.marginal(given).log_prob(alone)
        return told[0], mixture.log_prob(whole)[0]

    told, whole = jax.jit(jax.vmap(ratio))(rows)
    np.testing.assert_allclose(told, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_gaussian_mixture_regression():
    """Mean and variance of a column given two, against integrals of the joint density."""
    joint = elliptical("full")
    given = np.array([0.4, -1.0])
    y = np.linspace(-40, 40, 80_001)
    rows = np.column_stack([np.full_like(y, given[0]), y, np.full_like(y, given[1])])
    density = np.exp(joint.log_prob(rows))
    density /= density.sum()
    mean, square = density @ y, density @ y**2
    law = joint.condition({2: given[1], 0: given[0]})
    np.testing.assert_allclose(law.mean, [mean], rtol=1e-10)
    np.testing.assert_allclose(law.covariance, [[square - mean**2]], rtol=1e-9)

    def predict(value):
        return joint.condition({0: value[0], 2: value[1]}).mean[0]

    many = jax.jit(jax.vmap(predict))(np.stack([given, given + 1, given - 100]))
    np.testing.assert_allclose(many[0], mean, rtol=1e-10)
    slope, h = jax.grad(predict)(jnp.asarray(given)), 1e-6
    steps = [(predict(given + h * e) - predict(given - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(slope, steps, rtol=1e-7)
    more = with_absent(joint)
    np.testing.assert_allclose(more.condition({0: 0.4, 2: -1.0}).mean, [mean], rtol=1e-10)
    assert np.all(np.isfinite(jax.grad(lambda v: more.condition({0: v}).mean.sum())(0.4)))
    # beyond the reach of floating point the proportions stay
    far = joint.condition({0: 1e200})
    np.testing.assert_allclose(far.weights, WEIGHTS, rtol=1e-14)


def test_columns_that_follow_from_others():
    """A fit of redundant columns: the conditional knows what the given column says of all."""
    family = Subspace.examples()["full"]
    mixture = om.Mixture.from_weights(WEIGHTS, family)
    inner = om.Mixture.from_weights(WEIGHTS, family.inner)
    law = mixture.condition({0: 1.5})
    alone = inner.condition({0: 1.5})
    expected = np.array([7.0, alone.mean[0], 1.5 + alone.mean[0] - 1])
    np.testing.assert_allclose(law.mean, expected, rtol=1e-12)
    np.testing.assert_allclose(law.covariance[1:, 1:], alone.covariance[0, 0], rtol=1e-12)
    draws = law.sample(jax.random.key(0), 5)
    np.testing.assert_allclose(draws[:, 2], draws[:, 1] + 0.5, rtol=1e-12)
    with pytest.raises(TypeError, match="column 3 follows"):
        mixture.marginal([3])


def test_what_cannot_be_asked_says_what_can():
    joint = elliptical("full")
    for wrong in ([3], [0, 0], []):
        with pytest.raises(ValueError, match="column"):
            joint.marginal(wrong)
    with pytest.raises(ValueError, match="all columns"):
        joint.condition({0: 1.0, 1: 1.0, 2: 1.0})
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        joint.condition({0: jnp.zeros(3)})
    with pytest.raises(ValueError, match="one column"):
        joint.cdf(1.0)
    mixed = om.Mixture.from_weights(WEIGHTS, Product.examples()["mixed"])
    for wrong in (["colour"], "colour", []):
        with pytest.raises(ValueError, match="name parts"):
            mixed.marginal(wrong)
    with pytest.raises(TypeError, match="no modes"):
        om.Mixture.from_weights(WEIGHTS, Poisson.examples()["counts"]).modes()
    with pytest.raises(TypeError, match="no distribution function"):
        om.Mixture.from_weights(WEIGHTS, Categorical.examples()["items"]).marginal([0]).cdf(1.0)
    frozen = om.Mixture.from_weights(WEIGHTS, Frozen(joint.components, "mean"))
    np.testing.assert_allclose(frozen.mean, joint.mean)
    np.testing.assert_allclose(frozen.marginal([1]).cdf(0.3), joint.marginal([1]).cdf(0.3))
    assert mixed.marginal("visits").marginal([0]).cdf(3.0).shape == ()


# distribution function and quantiles

MEANS, DEVIATIONS = np.array([0.0, 3.0, -5.0]), np.array([1.0, 0.01, 2.0])


def normal_cdf(x):
    return stats.norm.cdf(np.asarray(x)[..., None], MEANS, DEVIATIONS) @ WEIGHTS


def test_cdf_and_quantiles_of_gaussians():
    mixture = line(MEANS, DEVIATIONS)
    x = np.array([-60.0, -5.0, 0.3, 2.99, 3.01, 9.0])
    np.testing.assert_allclose(mixture.cdf(x), normal_cdf(x), rtol=1e-12)
    np.testing.assert_allclose(with_absent(mixture).cdf(x), normal_cdf(x), rtol=1e-12)
    q = np.array([1e-300, 1e-9, 0.3, 0.5, 0.699, 0.9, 1 - 1e-12])
    found = np.asarray(mixture.quantile(q))
    np.testing.assert_allclose(normal_cdf(found), q, rtol=1e-12)
    # the least number: the one before it does not reach q
    assert np.all(np.asarray(mixture.cdf(np.nextafter(found, -np.inf))) < q)
    assert np.all(np.asarray(mixture.cdf(found)) >= q)
    edges = mixture.quantile(np.array([0.0, 1.0, -0.1, 1.1, np.nan]))
    assert edges[0] == -np.inf
    assert np.isnan(edges[2:]).all()
    for scale in (1e-200, 1e150):
        scaled = line(MEANS * scale, DEVIATIONS * scale)
        np.testing.assert_allclose(scaled.cdf(x * scale), normal_cdf(x), rtol=1e-12)
        np.testing.assert_allclose(scaled.quantile(0.3) / scale, found[2], rtol=1e-13)
    narrow = cast(mixture, jnp.float32).quantile(0.3)
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, found[2], rtol=1e-5)


def test_quantiles_have_the_derivative_of_the_implicit_function():
    def at(means, deviations, weights, q):
        return line(means, deviations, weights=weights).quantile(q)

    point = (jnp.asarray(MEANS), jnp.array([1.0, 0.5, 2.0]), jnp.asarray(WEIGHTS), jnp.asarray(0.6))
    slopes, h, at = jax.jit(jax.grad(at, (0, 1, 2, 3)))(*point), 1e-6, jax.jit(at)
    for i, own in enumerate(slopes):
        for place in np.ndindex(own.shape):
            step = np.zeros(own.shape)
            step[place] = h
            up, down = (at(*point[:i], point[i] + s * step, *point[i + 1 :]) for s in (1.0, -1.0))
            np.testing.assert_allclose(own[place], (up - down) / (2 * h), rtol=1e-6, atol=1e-8)
    second = jax.grad(jax.grad(lambda q: at(*point[:3], q)))(0.6)
    first = [jax.grad(lambda q: at(*point[:3], q))(0.6 + s) for s in (1e-5, -1e-5)]
    np.testing.assert_allclose(second, (first[0] - first[1]) / 2e-5, rtol=1e-5)


@pytest.mark.slow
def test_students_law():
    degrees = np.array([0.7, 4.0, 300.0])
    mixture = line(MEANS, DEVIATIONS, degrees, family=StudentT)
    x = np.array([-1e5, -3.0, 0.0, 0.4, 3.0, 50.0])
    each = stats.t.cdf((x[:, None] - MEANS) / DEVIATIONS, degrees)
    np.testing.assert_allclose(mixture.cdf(x), each @ WEIGHTS, rtol=1e-11)
    np.testing.assert_allclose(mixture.cdf(mixture.quantile(0.2)), 0.2, rtol=1e-14)
    # near the normal: no step where the formula changes
    low, high = student_cdf(jnp.array(-1.3), jnp.array([1e5 * (1 - 1e-9), 1e5]))
    np.testing.assert_allclose(low, high, rtol=1e-9)
    np.testing.assert_allclose(student_cdf(jnp.array(-1.3), jnp.array(1e12)), stats.norm.cdf(-1.3))


@pytest.mark.slow
def test_students_law_has_a_derivative_in_its_degrees():
    """Against differences of exact values."""
    mpmath.mp.dps = 30

    def exact(t, nu):
        half = mpmath.betainc(nu / 2, 0.5, 0, nu / (nu + t**2), regularized=True) / 2
        return half if t < 0 else 1 - half

    slope_of = jax.jit(jax.grad(student_cdf, 1))
    for nu in (0.3, 1.0, 4.0, 40.0):
        for t in (-30.0, -0.8, 2.5):
            at, h = mpmath.mpf(nu), mpmath.mpf(10) ** -9
            slope = (exact(mpmath.mpf(t), at + h) - exact(mpmath.mpf(t), at - h)) / (2 * h)
            own = slope_of(t, nu)
            np.testing.assert_allclose(own, float(slope), rtol=1e-9, atol=1e-14)


def test_quantiles_of_counts_are_counts():
    rate = np.array([0.5, 8.0, 300.0])
    mixture = om.Mixture.from_weights(WEIGHTS, Poisson(jnp.asarray(rate)[:, None]))
    x = np.array([-1.0, 0.0, 0.5, 7.0, 7.999, 310.0, 1e9])
    np.testing.assert_allclose(mixture.cdf(x), stats.poisson.cdf(x[:, None], rate) @ WEIGHTS)
    q = np.linspace(0.01, 0.99, 23)
    counts = np.arange(500)
    below = stats.poisson.cdf(counts[:, None], rate) @ WEIGHTS
    np.testing.assert_array_equal(mixture.quantile(q), [counts[below >= p][0] for p in q])


# density levels and modes


@pytest.mark.slow
def test_density_levels(faithful):
    solution = om.fit(faithful, 3, covariance="tied", key=0)
    density, share = np.exp(solution.mixture.log_prob(faithful)), [0.25, 0.5, 0.75]
    levels = solution.mixture.density_levels(faithful, share)
    np.testing.assert_allclose(levels, np.quantile(density, [0.75, 0.5, 0.25]), rtol=1e-12)
    # mclust stopped .01 nats short of this optimum: its density differs by up to 4 %
    entry = REFERENCE["density_faithful"]
    own = np.exp(solution.mixture.log_prob(np.array(entry["grid"], float)))
    np.testing.assert_allclose(own, entry["density"], rtol=0.05)
    np.testing.assert_allclose(levels, entry["hdr"], rtol=0.015)


def test_modes_of_a_line():
    """Two Gaussians of deviation s have one mode up to a distance of 2 s, and then two."""
    half = np.array([0.5, 0.5])
    near = line([0.0, 1.9], [1.0, 1.0], weights=half).modes()
    np.testing.assert_allclose(near.point, [[0.95]], rtol=1e-12)
    assert near.component.tolist() == [0, 0]
    mixture = with_absent(line([0.0, 4.0], [1.0, 0.5], weights=np.array([0.3, 0.7])))
    found = mixture.modes()
    assert found.component.tolist() == [1, 0, -1]

    def density(x):
        return -(0.3 * stats.norm.pdf(x) + 0.7 * stats.norm.pdf(x, 4, 0.5))

    for point, start in zip(found.point[:, 0], (4.0, 0.0), strict=True):
        best = scipy.optimize.minimize_scalar(
            density, bracket=(start - 0.1, start + 0.1), tol=1e-12
        )
        np.testing.assert_allclose(point, best.x, atol=1e-7)
        np.testing.assert_allclose(density(point), best.fun, rtol=1e-14)


@pytest.mark.slow
def test_modes_in_the_plane(faithful):
    """The gradient vanishes, and the curvature is what differences of it say; Student-t too."""
    mixture = om.fit(faithful, 3, covariance="tied", key=0).mixture
    student = StudentT(
        mixture.components.mean, mixture.components.covariance, jnp.array([3.0, 4.0, 5.0])
    )
    for own in (mixture, om.Mixture(mixture.log_weights, student)):
        found = own.modes()
        assert len(found) == 2
        assert np.all(np.diff(found.log_density) <= 0)
        for point, curvature in zip(found.point, found.curvature, strict=True):
            slope = jax.grad(lambda x, m=own: m.log_prob(x[None])[0])
            np.testing.assert_allclose(slope(point), 0, atol=1e-11)
            steps = [(slope(point + e) - slope(point - e)) / 2e-5 for e in 1e-5 * np.eye(2)]
            np.testing.assert_allclose(-np.array(steps), curvature, rtol=1e-5, atol=1e-6)


def test_three_equal_peaks_by_symmetry():
    """A mean that is a saddle: the climb starts a hair off it, and goes on to a peak."""
    mean = jnp.array([[-3.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    covariance = Full.from_matrices(jnp.array([np.eye(2), np.eye(2), np.eye(2) * 9.0]))
    mixture = om.Mixture.from_weights(np.array([0.49, 0.49, 0.02]), Gaussian(mean, covariance))
    found = mixture.modes()
    np.testing.assert_allclose(np.sort(found.point[:, 0]), [-2.99, 2.99], atol=0.02)
    assert np.all(np.asarray(found.component) >= 0)
