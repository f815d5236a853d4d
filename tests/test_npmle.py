"""The infinite mixture: against published values, dense grids, convex programs, and Tweedie."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import otmix_jax as om
from otmix_jax.families import Binomial, Point, Poisson
from otmix_jax.infinite import passes
from otmix_jax.infinite.certificate import (
    POINTS,
    TO_COEFFICIENTS,
    covering,
    interpolation_error,
    survey,
)
from otmix_jax.infinite.kernels import FamilyKernel, GaussianKernel
from otmix_jax.infinite.observed import KnownFamily
from otmix_jax.infinite.search import linked

CANDY = np.loadtxt("tests/data/reference/candy.csv", delimiter=",", skiprows=1)
DEATHS = np.arange(10.0), np.array([162, 267, 271, 185, 111, 61, 27, 8, 3, 1])
RNG = np.random.default_rng(0)
X = RNG.choice([-2.0, 0.0, 3.0], 60) + RNG.normal(size=60)
OWN = np.exp(RNG.uniform(-0.7, 0.7, 60))


@pytest.fixture(scope="module")
def velocities():
    return om.datasets.galaxies().x / 1000


@pytest.fixture(scope="module")
def galaxies(velocities):
    return om.npmle(velocities, noise=1.0)


@pytest.fixture(scope="module")
def uneven():
    return om.npmle(X, noise=OWN)


def by_grid(density, a, rounds=4000):
    """The best weights of a fixed dictionary [n, K] by EM and its certificate: slow and simple."""
    w = np.full(density.shape[1], 1 / density.shape[1])
    for _ in range(rounds):
        w *= density.T @ (a / (density @ w))
    f = density @ w
    return a @ np.log(f), np.log(np.max(density.T @ (a / f)))


def log_d(density_at, density_of_atoms, weights, a):
    return np.log(density_at.T @ (a / (density_of_atoms @ weights)))


def test_galaxies(galaxies, velocities):
    assert om.Status(int(galaxies.status)) == om.Status.CONVERGED
    np.testing.assert_allclose(galaxies.log_likelihood(82), -199.34236158, atol=1e-7)
    assert len(galaxies.weights) == 6
    assert galaxies.certificate.kind == "rigorous"
    assert galaxies.certificate.lower <= galaxies.certificate.upper <= 1e-9
    mixture = galaxies.mixture
    np.testing.assert_allclose(
        jnp.sum(mixture.log_prob(velocities)), galaxies.log_likelihood(82), rtol=1e-12
    )
    np.testing.assert_allclose(mixture.components.matrices(), 1.0)


def test_deaths_in_the_times():
    fit = om.npmle(DEATHS[0], kernel="poisson", sample_weight=DEATHS[1])
    np.testing.assert_allclose(fit.log_likelihood(DEATHS[1].sum()), -1989.92710512, atol=1e-7)
    assert fit.certificate.upper <= 1e-9
    # an atom at rate 0: no row came of it but zeros
    assert 0 <= fit.atoms[0, 0] < 1e-20


def test_candy_is_at_least_the_best_of_a_grid():
    fit = om.npmle(CANDY[:, 0], kernel=Poisson, sample_weight=CANDY[:, 1])
    total = float(fit.log_likelihood(CANDY[:, 1].sum()))
    assert -1130.07123044 < total < -1130.07
    grid = np.linspace(0.01, 20, 2000)
    density = stats.poisson.pmf(CANDY[:, :1], grid)
    own = stats.poisson.pmf(CANDY[:, :1], np.asarray(fit.atoms)[:, 0])
    a = CANDY[:, 1] / CANDY[:, 1].sum()
    found = log_d(density, own, np.asarray(fit.weights), a)
    assert found.max() <= fit.certificate.upper + 1e-12
    np.testing.assert_allclose(fit.multiplier(grid), found, atol=1e-11)


def test_the_certificate_is_a_bound_everywhere(galaxies, velocities):
    grid = np.linspace(0, 45, 20001)
    density = stats.norm.pdf(velocities, grid)
    own = stats.norm.pdf(velocities, np.asarray(galaxies.atoms)[:, 0])
    found = log_d(density, own, np.asarray(galaxies.weights), np.full(82, 1 / 82))
    assert found.max() <= galaxies.certificate.upper
    at_atoms = galaxies.multiplier(galaxies.atoms)
    np.testing.assert_allclose(at_atoms, 0, atol=1e-11)
    np.testing.assert_allclose(galaxies.multiplier(grid[::100]), found[::100], atol=1e-10)
    assert np.allclose(galaxies.certificate.lower, 0, atol=1e-11)


def test_no_grid_does_better_with_noise_by_row(uneven):
    grid = np.linspace(X.min(), X.max(), 400)
    value, gap = by_grid(stats.norm.pdf(X[:, None], grid, OWN[:, None]), np.full(60, 1 / 60))
    # the grid's best is within `gap` of its weights, and of the line's within its spacing
    assert -1e-9 < -uneven.value - value < gap + 1e-4
    assert gap < 1e-3
    assert uneven.certificate.upper <= 1e-9
    assert isinstance(uneven.mixture.components, Point)
    found = uneven.multiplier(np.linspace(-10, 10, 2001))
    assert found.max() <= uneven.certificate.upper


def test_convex_program_agrees(uneven):
    """scipy's SLSQP on the atoms' weights alone finds no better ones."""
    own = stats.norm.pdf(X[:, None], np.asarray(uneven.atoms)[:, 0], OWN[:, None])
    start = np.full(len(uneven.weights), 1 / len(uneven.weights))
    found = optimize.minimize(
        lambda w: -np.mean(np.log(own @ w)),
        start,
        jac=lambda w: -own.T @ (1 / (own @ w)) / len(own),
        bounds=[(0, 1)] * len(start),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found.fun, uneven.value, atol=1e-10)
    np.testing.assert_allclose(found.x, uneven.weights, atol=1e-4)


@pytest.mark.parametrize("unit", [1e-12, 1e9])
def test_equivariance(uneven, unit):
    moved = om.npmle(X * unit - 5 * unit, noise=OWN * unit)
    np.testing.assert_allclose(moved.atoms / unit + 5, uneven.atoms, atol=1e-6)
    np.testing.assert_allclose(moved.weights, uneven.weights, atol=1e-6)
    np.testing.assert_allclose(moved.value - np.log(unit), uneven.value, atol=1e-10)


def test_weights_are_repeated_rows_and_absent_rows_are_not_read(galaxies, velocities):
    x = np.concatenate([velocities, velocities[:5], [[np.nan]]])
    repeated = om.npmle(x[:-1], noise=1.0)
    weight = np.concatenate([np.full(5, 2.0), np.ones(77), np.zeros(6)])
    weighted = om.npmle(x, noise=1.0, sample_weight=weight)
    np.testing.assert_allclose(weighted.value, repeated.value, rtol=1e-12)
    np.testing.assert_allclose(weighted.atoms, repeated.atoms, atol=1e-7)
    assert abs(float(weighted.value - galaxies.value)) > 1e-4
    # noise of an absent row is not read either; all alike is one noise
    told = np.append(np.ones(87), -np.inf)
    same = om.npmle(x, noise=told, sample_weight=weight)
    np.testing.assert_allclose(same.value, weighted.value, rtol=1e-12)
    assert same.mixture.components.n_components == len(same.weights)


def test_one_row_and_equal_rows():
    one = om.npmle([3.0], noise=2.0)
    many = om.npmle(np.full(7, 3.0), noise=2.0)
    for fit in (one, many):
        np.testing.assert_allclose(fit.atoms, [[3.0]])
        np.testing.assert_allclose(fit.weights, [1.0])
        np.testing.assert_allclose(fit.value, 0.5 * np.log(2 * np.pi * 4))
        assert 0 <= fit.certificate.upper < 1e-12


def test_outliers_far_away_are_atoms():
    x = np.append(X, [1e7, -1e6])
    fit = om.npmle(x, noise=1.0)
    np.testing.assert_allclose(fit.atoms[jnp.array([0, -1]), 0], [-1e6, 1e7])
    np.testing.assert_allclose(fit.weights[jnp.array([0, -1])], 1 / 62)
    assert fit.certificate.upper <= 1e-9


def test_rows_all_apart_are_atoms():
    x = np.append(np.arange(40) * 1000.0, [5000.5, 5001.0])
    fit = om.npmle(x, noise=1.0)
    assert len(fit.weights) == 40
    np.testing.assert_allclose(np.max(np.asarray(fit.weights)), 3 / 42)
    np.testing.assert_allclose(fit.atoms[5, 0], 5000.5)
    assert fit.certificate.upper <= 1e-9


def test_zeros_alone_are_one_degenerate_law():
    fit = om.npmle(np.zeros(4), kernel="poisson")
    np.testing.assert_allclose(fit.value, 0, atol=1e-12)
    assert fit.atoms.shape == (1, 1)
    assert fit.atoms[0, 0] < 1e-20


@pytest.mark.parametrize("name", ["binomial", "exponential", "geometric", "exposure"])
def test_other_families_on_a_grid(name):
    rng = np.random.default_rng(3)
    if name == "binomial":
        size = rng.integers(3, 20, 40)
        x = rng.binomial(size, rng.choice([0.1, 0.7], 40))
        rows, grid = {"x": x, "trials": size}, np.linspace(1e-6, 1 - 1e-6, 3001)
        density = stats.binom.pmf(x[:, None], size[:, None], grid)
        kernel, at = "binomial", lambda y: stats.binom.pmf(x[:, None], size[:, None], y)
    elif name == "exponential":
        rows = rng.exponential(rng.choice([1.0, 30.0], 40))
        kernel, grid = "exponential", np.geomspace(1e-4, 1e4, 4001)
        at = lambda y: stats.expon.pdf(rows[:, None], scale=1 / y)
    elif name == "geometric":
        rows = rng.geometric(rng.choice([0.7, 0.05], 40)) - 1.0
        kernel, grid = "geometric", np.linspace(1e-4, 1 - 1e-9, 4001)
        at = lambda y: stats.geom.pmf(rows[:, None] + 1, y)
    else:
        size = rng.uniform(0.2, 8, 40)
        x = rng.poisson(size * rng.choice([1.0, 9.0], 40))
        rows, grid = {"x": x, "exposure": size}, np.linspace(1e-6, 30, 4001)
        kernel, at = "poisson", lambda y: stats.poisson.pmf(x[:, None], size[:, None] * y)
    fit = om.npmle(rows, kernel=kernel)
    density, own = at(grid), at(np.asarray(fit.atoms)[:, 0])
    a, w = np.full(40, 1 / 40), np.asarray(fit.weights)
    np.testing.assert_allclose(fit.value, -np.mean(np.log(own @ w)), rtol=1e-11)
    found = log_d(density, own, w, a)
    assert found.max() <= fit.certificate.upper + 1e-12
    assert fit.certificate.upper <= 1e-9
    np.testing.assert_allclose(fit.multiplier(grid[::50]), found[::50], atol=1e-8)
    value, gap = by_grid(density, a, 500)
    assert value - gap * 0 <= -fit.value + 1e-12
    assert fit.posterior(rows).mean.shape == (40, 1)


def test_two_columns(blobs):
    noise = np.array([[0.5, 0.2], [0.2, 0.4]])
    fit = om.npmle(blobs, noise=noise, tolerance=1e-6)
    assert fit.certificate.kind == "over candidates"
    low, high = blobs.min(axis=0), blobs.max(axis=0)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 60).T), axis=-1).reshape(-1, 2)
    found = fit.multiplier(grid)
    assert found.max() <= 1e-6
    apart = blobs[:, None] - np.asarray(fit.atoms)
    density = np.exp(-0.5 * np.einsum("nma,ab,nmb->nm", apart, np.linalg.inv(noise), apart))
    density /= 2 * np.pi * np.sqrt(np.linalg.det(noise))
    np.testing.assert_allclose(
        fit.value, -np.mean(np.log(density @ np.asarray(fit.weights))), rtol=1e-11
    )
    # the same by row, in other words
    by_row = om.npmle(blobs, noise=np.tile(noise, (60, 1, 1)), tolerance=1e-6)
    np.testing.assert_allclose(by_row.value, fit.value, atol=2e-6)
    assert by_row.mixture.components.covariance is not None


def test_noise_by_row_in_two_columns(blobs):
    rng = np.random.default_rng(5)
    deviations = np.exp(rng.uniform(-0.7, 0.2, (60, 2)))
    plain = om.npmle(blobs, noise=deviations, tolerance=1e-5)
    full = om.npmle(
        blobs, noise=deviations[:, :, None] * np.eye(2) * deviations[:, None], tolerance=1e-5
    )
    np.testing.assert_allclose(plain.value, full.value, atol=2e-5)
    np.testing.assert_allclose(plain.posterior().mean, full.posterior(blobs).mean, atol=0.05)


def test_tweedie(galaxies, velocities):
    """Mean = x + s^2 d/dx log f(x), variance = s^2 + s^4 d^2/dx^2 log f(x)."""
    posterior = galaxies.posterior(velocities)
    log_f = lambda x: galaxies.mixture.log_prob(x[None, None])[0]
    rows = jnp.asarray(velocities[:, 0])
    slope, bend = (jax.vmap(f)(rows) for f in (jax.grad(log_f), jax.grad(jax.grad(log_f))))
    np.testing.assert_allclose(posterior.mean[:, 0], rows + slope, rtol=1e-12)
    np.testing.assert_allclose(posterior.variance[:, 0], 1 + bend, atol=1e-10)
    np.testing.assert_allclose(posterior.covariance[:, 0, 0], posterior.variance[:, 0])


def test_posterior_by_hand(uneven):
    posterior = uneven.posterior(X)
    atoms, w = np.asarray(uneven.atoms)[:, 0], np.asarray(uneven.weights)
    share = stats.norm.pdf(X[:, None], atoms, OWN[:, None]) * w
    share /= share.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posterior.probabilities, share, atol=1e-12)
    np.testing.assert_allclose(posterior.mean[:, 0], share @ atoms, atol=1e-11)
    np.testing.assert_allclose(
        posterior.sign_rate[:, 0],
        np.minimum(share[:, atoms <= 0].sum(axis=1), share[:, atoms >= 0].sum(axis=1)),
        atol=1e-12,
    )
    levels = np.array([0.0, 0.1, 0.5, 0.975, 1.0])
    found = np.asarray(posterior.quantile(levels))[:, :, 0]
    for row, one in zip(found.T, share, strict=True):
        for level, place in zip(levels, row, strict=True):
            assert one[atoms <= place].sum() >= level - 1e-12
            assert one[atoms < place].sum() <= level + 1e-12
    assert posterior.quantile(0.5).shape == (60, 1)
    drawn = np.stack([posterior.sample(key)[:, 0] for key in range(300)])
    assert np.isin(drawn, atoms).all()
    error = np.sqrt(np.asarray(posterior.variance)[:, 0] / 300)
    assert (np.abs(drawn.mean(axis=0) - share @ atoms) <= 4.5 * error + 1e-12).all()


def test_log_d_and_the_log_partition_are_convex(galaxies):
    """On chords: what the certificate rests on."""
    rng = np.random.default_rng(0)
    left, right = np.sort(rng.uniform(5, 40, (2, 200)), axis=0)
    t = rng.random(200)
    middle = (1 - t) * left + t * right
    ceiling = GaussianKernel(jnp.zeros((1, 1)), None, jnp.zeros(1)).ceiling(
        left, right, *(np.asarray(galaxies.multiplier(y)) for y in (left, right))
    )
    assert (np.asarray(galaxies.multiplier(middle)) <= ceiling + 1e-9).all()


@pytest.mark.parametrize(("family", "size"), [(Poisson, 3.0), (Binomial, 7.0)])
def test_ceilings_of_families(family, size):
    """Of one term, whose largest value on a cell is known, and of sums."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 5, (30, 1)).astype(float)
    sizes = np.full((30, 1), size)
    rows = {"x": x, family.beside: sizes}
    kernel = KnownFamily.of(om.families.family.describe(family), rows).kernel(rows)
    z = np.sort(rng.uniform(0.05, 2.5, (2, 100)), axis=0) * kernel.scale
    log_c = jnp.asarray(rng.normal(size=30))
    at = lambda z: np.asarray(passes.log_lindsay(kernel, log_c, jnp.asarray(z)[:, None]))
    ceiling = kernel.ceiling(*z, *map(at, z))
    for t in np.linspace(0, 1, 21):
        assert (at((1 - t) * z[0] + t * z[1]) <= ceiling + 1e-9).all()


@pytest.mark.parametrize(
    ("family", "scale"), [(None, 1.0), ("poisson", 2.0), ("binomial", 4.0), ("exponential", 1.0)]
)
def test_growth_in_the_complex_plane(family, scale):
    """|D(u + iv)| <= e^growth(v) sup D: densities continued by their formulas."""
    rng = np.random.default_rng(0)
    x, size = rng.integers(0, 9, 20)[:, None].astype(float), scale**2
    if family is None:
        kernel: object = GaussianKernel(jnp.asarray(x), None, jnp.zeros(20))
        density = lambda z: np.exp(-0.5 * (x - z) ** 2)
    else:
        kernel = FamilyKernel(jnp.asarray(x), om.families.family.describe(family), scale)
        powers = {
            "poisson": lambda v: (v**2 / 4) ** x * np.exp(-size * v**2 / 4),
            "binomial": lambda v: np.sin(v / 2) ** (2 * x) * np.cos(v / 2) ** (2 * (size - x)),
            "exponential": lambda v: np.exp(-v - (x + 0.5) * np.exp(-v)),
        }
        density = lambda z: powers[family](z / scale)
    c = rng.random(20)
    line = (
        np.linspace(0, np.pi * scale, 400) if family == "binomial" else np.linspace(-30, 30, 4001)
    )
    highest = np.abs(c @ density(line)).max()
    for height in (0.3, 1.0, 1.4):
        reached = np.abs(c @ density(line + 1j * height)).max()
        assert reached <= np.exp(kernel.growth(np.array([height]))[0]) * highest * (1 + 1e-9)


def test_interpolation_is_exact_up_to_rounding():
    kernel = GaussianKernel(jnp.zeros((1, 1)), None, jnp.zeros(1))
    assert interpolation_error(kernel, 0.5) < 1e-15
    rows = 3 * np.random.default_rng(1).normal(size=50)
    density = lambda z: np.exp(-0.5 * (z[:, None] - rows) ** 2).mean(axis=1)
    places = np.linspace(-0.5, 0.5, 101)
    found = np.polynomial.chebyshev.chebval(2 * places, TO_COEFFICIENTS @ density(POINTS / 2))
    np.testing.assert_allclose(found, density(places), rtol=1e-14)


def test_the_bound_is_above_every_peak_of_any_sum():
    """Also far from the optimum, where D is large, and in gaps that are never covered."""
    rng = np.random.default_rng(2)
    rows = np.sort(np.concatenate([rng.normal(size=20), [300.0, 305.0, 1e6]]))
    log_c = np.log(rng.random(23))
    kernel = GaussianKernel(rows[:, None], None, np.zeros(23))
    read = lambda z: np.log(np.exp(log_c - 0.5 * (z[:, None] - rows) ** 2).sum(axis=1) + 1e-300)
    nodes = covering(rows, rows[0], rows[-1], 1.0)
    assert len(nodes) < 100
    looked = survey(kernel, read, nodes, 1e-14, -1.0)
    dense = np.concatenate([np.linspace(-4, 4, 80001), np.linspace(299, 306, 70001)])
    highest = read(dense).max()
    upper = looked.bound(-1.0)
    assert highest <= upper <= highest + 0.06 * abs(highest) + 1e-6
    places, tops = looked.peaks()
    np.testing.assert_allclose(tops.max(), highest, atol=1e-8)
    np.testing.assert_allclose(read(places), tops, atol=1e-10)


def test_single_linkage():
    z = np.array([[0.0], [3.0], [0.2], [0.4], [3.1]])
    assert linked(z, 0.25).tolist() == [0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (-1.0, "finite and > 0, but is -1.0"),
        (0.0, "finite and > 0"),
        (np.nan, "finite and > 0"),
        (np.ones(3), "noise must be a number"),
        (np.where(np.arange(60) == 7, -1.0, 1.0), "at row 7"),
        (np.where(np.arange(60) == 9, np.nan, 1.0)[:, None], "at row 9, column 0"),
        (np.where(np.arange(60) == 4, 0.0, 1.0)[:, None, None], "positive definite, but is not at"),
        ("wide", "noise must hold numbers"),
        (None, "neither"),
    ],
)
def test_noise_that_is_none(noise, message):
    with pytest.raises(ValueError, match=message):
        om.npmle(X, noise=noise)


def test_refusals():
    with pytest.raises(ValueError, match="both"):
        om.npmle(X, noise=1.0, kernel="poisson")
    with pytest.raises(ValueError, match=r"first at row 2"):
        om.npmle([1.0, 2.0, np.nan], noise=1.0)
    with pytest.raises(ValueError, match=r"row 1, column 0 holds 1\.5"):
        om.npmle([1.0, 1.5], kernel="poisson")
    with pytest.raises(ValueError, match="kernel must be one of"):
        om.npmle(X, kernel="gamma")
    with pytest.raises(ValueError, match="one column"):
        om.npmle(np.ones((4, 2)), kernel="poisson")
    with pytest.raises(ValueError, match="x is 0 at row 1"):
        om.npmle([1.0, 0.0], kernel="exponential")
    with pytest.raises(ValueError, match="lost in the rounding"):
        om.npmle(X, noise=1.0, tolerance=1e-15)
    with pytest.raises(ValueError, match="symmetric and positive definite"):
        om.npmle(np.ones((5, 2)), noise=np.array([[1.0, 2.0], [2.0, 1.0]]))


def test_posterior_needs_the_noise_of_other_rows(uneven):
    with pytest.raises(ValueError, match="give the noise of these rows"):
        uneven.posterior(X[:3])
    assert uneven.posterior(X[:3], noise=OWN[:3]).mean.shape == (3, 1)
    with pytest.raises(ValueError, match=r"q must be in \[0, 1\]"):
        uneven.posterior(X).quantile(1.5)


def test_a_certificate_that_is_not_reached_is_said():
    rows = np.random.default_rng(0).normal(size=(80, 2))  # others draw from RNG before
    with pytest.warns(om.ConvergenceWarning, match="MAX_STEPS after 1 rounds"):
        fit = om.npmle(rows, noise=0.2, max_rounds=1)
    assert om.Status(int(fit.status)) == om.Status.MAX_STEPS
    assert fit.certificate.upper > 1e-9


def test_float32_says_what_it_cannot_prove(velocities):
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = om.npmle(velocities.astype(np.float32), noise=1.0)
        assert fit.atoms.dtype == jnp.float32
        assert fit.certificate.upper <= 1e-4
        np.testing.assert_allclose(fit.log_likelihood(82), -199.34236158, atol=1e-2)
        with pytest.raises(ValueError, match="jax_enable_x64"):
            om.npmle(velocities, noise=1.0, tolerance=1e-9)


@pytest.mark.slow
def test_many_rows():
    rng = np.random.default_rng(0)
    x = np.where(rng.random(100_000) < 0.5, 0, 3 + rng.exponential(size=100_000))
    fit = om.npmle(x + rng.normal(size=100_000) * np.sqrt(2), noise=1.0, tolerance=1e-8)
    assert fit.certificate.upper <= 1e-8
