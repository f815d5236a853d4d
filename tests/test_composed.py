"""Components of several kinds, noise, point masses, inflated zeros, proportions by covariates."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

import otmix_jax as om
from otmix_jax.families import Affine, Frozen, Gated, OneOf, Point, Poisson, Uniform, ZeroInflated
from otmix_jax.families.gated import Covariates, Gate

DATA = Path(__file__).parent / "data" / "reference"
REFERENCE = json.loads((DATA / "reference.json").read_text())
NOISY = OneOf.of(("gaussian", None), "uniform")
FEW = om.Starts(n_init=2)


def table(name):
    return np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1)


@pytest.fixture(scope="module")
def rows():
    """Two groups in a box of noise [150, 2]."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(60, 2)), rng.normal(size=(50, 2)) * 0.5 + [6, 3]]
    return np.concatenate([*groups, rng.uniform([-10, -8], [12, 10], (40, 2))])


@pytest.fixture(scope="module")
def gated_rows():
    """Two groups whose proportions depend on two covariates [600]."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(600, 2)) + [5, -3]
    second = rng.random(600) < special.expit(0.5 + (z - [5, -3]) @ [1.5, -1.0])
    return {"rows": rng.normal(np.where(second, 3.0, 0.0), 1.0)[:, None], "gate": z}


# -- a background ------------------------------------------------------------------------------


def test_a_background_has_the_density_of_its_box(rows):
    """And the same beyond it: improper, as the noise of the sources."""
    plan = jnp.full((len(rows), 1), 1 / len(rows))
    low, width, rows = rows.min(axis=0), np.ptp(rows, axis=0), jnp.asarray(rows)
    noise = Uniform.initial(rows, plan)
    expected = stats.uniform(low, width).logpdf(rows).sum(axis=1)
    np.testing.assert_allclose(noise.cost(rows)[:, 0], -expected, rtol=1e-13)
    np.testing.assert_allclose(noise.cost(rows + 1e3), noise.cost(rows), rtol=1e-13)
    assert (noise.n_parameters, noise.n_components) == (0, 1)
    drawn = np.asarray(noise.sample(jax.random.key(0), jnp.zeros(2000, int)))
    assert stats.kstest((drawn - low) / width, "uniform").pvalue.min() > 1e-3
    frame = Affine(jnp.array([3.0, -2.0]), jnp.array([2.0, 0.5]))
    np.testing.assert_allclose(noise.out_of(frame).cost(rows), noise.cost(rows), atol=1e-12)


def test_a_background_of_a_volume(rows):
    plan = jnp.full((len(rows), 2), 0.5 / len(rows))
    noise = Uniform.initial(jnp.asarray(rows), plan, volume=7.0)
    np.testing.assert_allclose(noise.cost(jnp.asarray(rows)), np.log(7.0), rtol=1e-13)
    np.testing.assert_allclose(jnp.prod(noise.high - noise.low, axis=1), 7.0, rtol=1e-13)
    frame = Uniform.of(volume=7.0).frame(rows, None)
    assert float(frame.log_volume) == 0.0
    flat = jnp.asarray(rows).at[:, 1].set(4.0)  # a column without extent has a length of 1
    assert np.isfinite(Uniform.initial(flat, plan).cost(flat)).all()
    with pytest.raises(ValueError, match="volume must be finite and > 0"):
        Uniform.of(volume=0)
    with pytest.raises(ValueError, match="one table"):
        Uniform.check({"a": rows})


def test_kinds_compete_by_their_densities(rows):
    components = OneOf.examples()["noise"]
    mixture = om.Mixture.from_weights(jnp.array([0.5, 0.2, 0.3]), components)
    signal = components.kinds[0]
    density = [
        w * stats.multivariate_normal(mean, matrix).pdf(rows)
        for w, mean, matrix in zip((0.5, 0.2), signal.mean, signal.matrices(), strict=True)
    ]
    density = sum(density) + 0.3 / 24.0**2
    np.testing.assert_allclose(mixture.log_prob(rows), np.log(density), rtol=1e-10)
    assert mixture.n_parameters == 2 * 5 + 2


def test_kinds_stay_together():
    components = OneOf.examples()["noise"]
    x = jnp.array([[0.1, 0.4], [2.0, 1.0]])
    swapped = components.take(np.array([2, 1, 0]))
    assert swapped.names == ("noise", "signal")
    np.testing.assert_allclose(swapped.cost(x), components.cost(x)[:, ::-1], rtol=1e-14)
    within = jax.jit(components.take)(jnp.array([1, 0, 2]))
    np.testing.assert_allclose(within.cost(x), components.cost(x)[:, [1, 0, 2]], rtol=1e-14)
    with pytest.raises(ValueError, match="apart"):
        components.take(np.array([0, 2, 1]))
    with pytest.raises(ValueError, match="at least one component"):
        OneOf.of(("gaussian", None), ("uniform", None))
    with pytest.raises(ValueError, match="at least one component"):
        OneOf.of(("gaussian", 0), "uniform")


@pytest.mark.slow
@pytest.mark.parametrize("volume", [None, pytest.param("given", marks=pytest.mark.slow)])
def test_noise_of_the_reference(volume):
    """The box is mclust's volume; its count of parameters has one for that, ours has none."""
    reference, x = REFERENCE["noise_chevron_VVV_2"], table("chevron")[:, :2]
    noise = "uniform" if volume is None else Uniform.of(volume=1 / reference["Vinv"])
    solution = om.fit(x, 3, family=OneOf.of(("gaussian", 2), noise), key=0)
    found = float(solution.log_likelihood(len(x)))
    np.testing.assert_allclose(found, reference["loglik"], atol=1e-5, rtol=0)
    assert solution.n_parameters == reference["df"] - 1
    mixture, signal = solution.mixture, solution.mixture.components.kinds[0]
    order = np.argsort(-np.asarray(signal.mean[:, 0]))
    np.testing.assert_allclose(mixture.weights[2], reference["pro"][2], rtol=1e-3)
    np.testing.assert_allclose(mixture.weights[order], reference["pro"][:2], rtol=1e-3)
    np.testing.assert_allclose(signal.mean[order], reference["mean"], rtol=1e-3)
    np.testing.assert_allclose(signal.matrices()[order], reference["sigma"], rtol=1e-3)


@pytest.mark.slow
def test_noise_beside_equal_shapes_of_the_reference():
    reference, x = REFERENCE["noise_chevron"], table("chevron")[:, :2]
    signal = om.families.Gaussian.of("EEV")
    solution = om.fit(x, 3, family=OneOf.of((signal, 2), "uniform"), key=0)
    found = float(solution.log_likelihood(len(x)))
    np.testing.assert_allclose(found, reference["loglik"], atol=1e-5, rtol=0)
    assert solution.n_parameters == reference["df"] - 1


@pytest.mark.slow
def test_every_door_takes_kinds(rows):
    """Starts one by one, a batch, a choice of K: each with its own number of Gaussians."""
    one = om.fit(rows, 3, family=NOISY, key=0, starts=FEW)
    batch = om.fit_batch([rows, rows[10:]], 3, family=NOISY, key=0, starts=FEW)
    np.testing.assert_allclose(batch.value[0], one.value, atol=1e-4)
    choice = om.select(rows, [2, 3], family=NOISY, key=0)
    assert choice.best_candidate.n_components == 3
    np.testing.assert_allclose(choice.best.value, one.value, atol=1e-4)
    assert [one.solution.mixture.components.kinds[1].n_components for one in choice.candidates] == [
        1,
        1,
    ]
    again = om.fit(rows, 3, family=NOISY, key=0, starts=om.Starts(initial=one.mixture))
    np.testing.assert_allclose(again.value, one.value, atol=1e-5)
    ridge = om.fit(rows, 3, family=NOISY, key=0, starts=FEW, goal=om.Goal(ridge=1e-3))
    assert float(ridge.value) > float(one.value) - 1e-6
    with pytest.raises(ValueError, match="does not go with the kinds"):
        om.fit(rows, 3, family=OneOf.of(("gaussian", 3), "uniform"), key=0, starts=FEW)


@pytest.mark.slow
def test_kinds_in_single_precision(rows):
    solution = om.fit(rows.astype(np.float32), 3, family=NOISY, key=0, starts=FEW)
    assert {leaf.dtype for leaf in jax.tree.leaves(solution.mixture)} == {jnp.dtype("float32")}
    wide = om.fit(rows, 3, family=NOISY, key=0, starts=FEW)
    np.testing.assert_allclose(solution.value, wide.value, atol=1e-4)


def test_a_kind_can_be_held(rows):
    start = om.fit(rows, 3, family=NOISY, key=0, starts=FEW).mixture
    held = om.Mixture(start.log_weights, Frozen(start.components, "gaussian"))
    end = om.solve(om.Problem(rows[:100]), held)
    np.testing.assert_array_equal(
        end.mixture.components.inner.kinds[0].mean, start.components.kinds[0].mean
    )


# -- point masses and inflated zeros -----------------------------------------------------------


@pytest.mark.slow
def test_a_point_mass_beside_counts_is_the_zero_inflated_law():
    """Against the likelihood written out and minimised by another program."""
    rng = np.random.default_rng(2)
    y = np.where(rng.random(400) < 0.35, 0, rng.poisson(2.5, 400)).astype(float)

    def minus(p):
        zero, rate = special.expit(p[0]), np.exp(p[1])
        density = zero * (y == 0) + (1 - zero) * stats.poisson(rate).pmf(y)
        return -np.log(density).sum()

    best = optimize.minimize(minus, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9})
    limits = om.solvers.Limits(gap=1e-7)
    solution = om.fit(y[:, None], 2, family=OneOf.of("point", "poisson"), key=0, limits=limits)
    np.testing.assert_allclose(solution.log_likelihood(400), -best.fun, atol=1e-6)
    np.testing.assert_allclose(solution.mixture.weights[0], special.expit(best.x[0]), atol=1e-4)
    rate = solution.mixture.components.kinds[1].rate
    np.testing.assert_allclose(rate, np.exp(best.x[1])[None, None], rtol=1e-4)
    assert solution.n_parameters == 2


def test_what_a_point_mass_takes():
    point = Point(jnp.array([[0.0], [2.0]]))
    np.testing.assert_array_equal(point.cost(jnp.array([[2.0]])), [[np.inf, 0.0]])
    np.testing.assert_array_equal(point.sample(jax.random.key(0), jnp.array([1, 0]))[:, 0], [2, 0])
    assert point.take(np.array([1])).value.tolist() == [[2.0]]
    assert point.n_parameters == 0
    family = OneOf.of(Point.of(value=-1.0), "poisson")
    family.check(np.array([[-1.0], [3.0]]))
    with pytest.raises(ValueError, match=r"row 2, column 0 holds -2\.0"):
        family.check(np.array([[-1.0], [4.0], [-2.0], [-1.0], [3.0]]))
    with pytest.raises(ValueError, match="names the column"):
        Point.check(np.zeros((3, 1)), column="y")
    with pytest.raises(ValueError, match="reads column 'y'"):
        Point.check({"x": np.zeros(3)}, column="y")
    with pytest.raises(ValueError, match="finite"):
        Point.of(value=np.inf)


def test_the_zero_inflated_law():
    components = ZeroInflated.examples()["poisson"]
    x = jnp.array([[0, 0], [0, 3], [4, 0], [2, 7.0]])
    zero, rate = (np.asarray(leaf)[:, None] for leaf in (components.zero, components.law.rate))
    mass = zero * (x == 0) + (1 - zero) * stats.poisson(rate).pmf(x)
    np.testing.assert_allclose(components.cost(x).T, -np.log(mass).sum(axis=-1), rtol=1e-12)
    counts = np.arange(200)[:, None, None]
    each = zero[:, 0] * (counts == 0) + (1 - zero[:, 0]) * stats.poisson(rate[:, 0]).pmf(counts)
    mean, variance = components.moments()
    np.testing.assert_allclose(mean, (each * counts).sum(axis=0), rtol=1e-12)
    square = (each * counts**2).sum(axis=0)
    np.testing.assert_allclose(variance, square - np.asarray(mean) ** 2, rtol=1e-10)
    with pytest.raises(TypeError, match="independent columns"):
        ZeroInflated.of("gaussian")


def test_zero_inflated_components_by_name():
    """A share without zeros is near 0, and its logarithm finite; a column of zeros ends too."""
    rng = np.random.default_rng(3)
    y = np.concatenate([rng.poisson([3, 9], (80, 2)), rng.poisson([12, 2], (80, 2))]) + 1.0
    y[:80, 0] *= rng.random(80) > 0.4
    solution = om.fit(y, 2, family="zero_inflated", key=0, starts=FEW)
    zero = np.sort(np.asarray(solution.mixture.components.zero).ravel())
    np.testing.assert_allclose(zero[-1], np.mean(y[:80, 0] == 0), atol=0.05)
    assert zero[-2] < 1e-6
    assert np.isfinite(solution.value)
    assert solution.n_parameters == 9
    y[:, 1] = 0
    end = om.fit(y, 2, family="zero_inflated", key=0, starts=FEW)
    assert np.isfinite(end.value)


# -- proportions by covariates -----------------------------------------------------------------


def gated(k=2):
    law = Poisson(jnp.array([[1.0], [6.0], [15.0]])[:k])
    return Gated(law, Gate(jnp.array([[0.3, -1.0], [-0.5, 2.0]])[: k - 1]), jnp.full(k, 1 / k))


def test_the_density_given_covariates():
    components, z = gated(3), np.linspace(-1, 2, 5)
    x = {"rows": jnp.arange(5.0)[:, None], "gate": jnp.asarray(z)}
    logits = np.stack([0 * z, 0.3 - z, -0.5 + 2 * z], axis=1)
    mass = special.softmax(logits, axis=1) * stats.poisson([1, 6, 15]).pmf(np.arange(5)[:, None])
    mixture = om.Mixture.from_weights(jnp.ones(3), components)
    np.testing.assert_allclose(mixture.log_prob(x), np.log(mass.sum(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(components.proportions(z), special.softmax(logits, 1), rtol=1e-12)
    np.testing.assert_allclose(
        mixture.responsibilities(x), mass / mass.sum(axis=1, keepdims=True), rtol=1e-11
    )
    turned = mixture.take(np.array([2, 0, 1]))
    np.testing.assert_allclose(turned.log_prob(x), mixture.log_prob(x), rtol=1e-12)
    assert mixture.n_parameters == 3 + 2 * 2
    frame = Covariates(jnp.array([2.0]), jnp.array([0.25]))
    out = components.gate.out_of(frame).cost(x["gate"][:, None])
    np.testing.assert_allclose(
        out, components.gate.cost(frame.into(x["gate"][:, None])), rtol=1e-12
    )
    again = components.gate.out_of(frame).out_of(frame.inverse)
    np.testing.assert_allclose(again.coefficients, components.gate.coefficients, rtol=1e-12)


def test_draws_follow_the_covariates():
    components, z = gated(), np.repeat([-2.0, 2.0], 4000)
    mixture = om.Mixture.from_weights(jnp.ones(2), components)
    drawn = mixture.sample(jax.random.key(0), 8000, {"gate": z})["rows"][:, 0]
    share = np.asarray(components.proportions(np.array([[-2.0], [2.0]])))
    expected, found = share @ [1.0, 6.0], drawn.reshape(2, -1).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=5 * 3.2 / np.sqrt(4000))
    with pytest.raises(ValueError, match="drawn given"):
        mixture.sample(jax.random.key(0), 3)


@pytest.mark.slow
def test_a_gated_fit_is_the_optimum_and_finds_the_gate(gated_rows):
    """BFGS on the same likelihood; and what it was drawn from, within four standard errors."""
    x, z = gated_rows["rows"][:, 0], gated_rows["gate"]
    design = np.column_stack([np.ones(len(x)), z])

    def minus(p):
        share = special.expit(design @ p[:3])
        first, second = (stats.norm(p[i], np.exp(p[i + 1])).pdf(x) for i in (3, 5))
        return -np.log((1 - share) * first + share * second).sum()

    limits = om.solvers.Limits(gap=1e-8)
    solution = om.fit(gated_rows, 2, family=Gated.of("gaussian"), key=0, limits=limits)
    assert om.Status(int(solution.status)).name == "CONVERGED"
    components = solution.mixture.components.take(
        np.argsort(np.asarray(solution.mixture.components.inner.mean[:, 0]))
    )
    mean, scale = components.inner.mean[:, 0], jnp.sqrt(components.inner.matrices()[:, 0, 0])
    gate = components.gate.coefficients[0]
    here = np.array([*gate, mean[0], np.log(scale[0]), mean[1], np.log(scale[1])])
    np.testing.assert_allclose(minus(here), -solution.log_likelihood(len(x)), rtol=1e-12)
    best = optimize.minimize(minus, here + 0.05, method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(best.fun, minus(here), atol=1e-6)
    np.testing.assert_allclose(here, best.x, atol=2e-3)
    errors = om.standard_errors(solution, gated_rows).leaves.components.gate.coefficients[0]
    hessian = jax.hessian(lambda p: _negative(p, x, design))(jnp.asarray(here))
    np.testing.assert_allclose(errors, np.sqrt(np.diag(np.linalg.inv(hessian)))[:3], rtol=1e-4)
    truth = np.array([0.5 - 1.5 * 5 - 1.0 * 3, 1.5, -1.0])
    assert (np.abs(gate - truth) < 4 * errors).all()
    assert solution.n_parameters == 3 + 4


def _negative(p, x, design):
    share = jax.nn.sigmoid(design @ p[:3])
    first, second = (jax.scipy.stats.norm.pdf(x, p[i], jnp.exp(p[i + 1])) for i in (3, 5))
    return -jnp.sum(jnp.log((1 - share) * first + share * second))


@pytest.mark.slow
def test_em_with_a_gate_never_rises(gated_rows):
    """From proportions that are no start: they are set equal, and held."""
    problem = om.Problem(jax.tree.map(lambda leaf: leaf[:200], gated_rows))
    law = om.families.Gaussian.examples()["full"].take(np.arange(2)).marginal([0])
    start = Gated(law, Gate(jnp.array([[2.0, 1.0, 3.0]])), jnp.full(2, 0.5))
    end = om.solve(problem, om.Mixture.from_weights(jnp.array([0.9, 0.1]), start), max_steps=50)
    steps = np.asarray(end.history)[: int(end.n_steps) + 1]
    assert np.diff(steps).max() < 1e-12
    assert len(steps) > 5
    np.testing.assert_allclose(end.mixture.weights, 0.5, rtol=1e-12)
    objective = om.Objective.of(problem.checked(end.mixture))
    zeros = jax.tree.map(jnp.zeros_like, end.mixture.unconstrained(end.mixture))

    def loss(z):
        return objective.loss(end.mixture.constrain(z))

    slope = jax.grad(loss)(zeros)["components"]["gate"]["coefficients"]
    moved = [jax.tree.map(jnp.zeros_like, zeros) for _ in range(2)]
    for sign, z in zip((1e-5, -1e-5), moved, strict=True):
        z["components"]["gate"]["coefficients"] = jnp.array([[0.0, sign, 0.0]])
    np.testing.assert_allclose(slope[0, 1], (loss(moved[0]) - loss(moved[1])) / 2e-5, atol=1e-9)


def test_what_a_gate_refuses(gated_rows):
    family = Gated.of("gaussian")
    constant = {**gated_rows, "gate": np.ones((600, 1))}
    with pytest.raises(ValueError, match="never varies"):
        om.fit(constant, 2, family=family, key=0)
    with pytest.raises(ValueError, match="a dict of"):
        om.fit({"rows": gated_rows["rows"]}, 2, family=family, key=0)
    with pytest.raises(ValueError, match="of its own, by covariates"):
        om.fit(gated_rows, 2, family=family, key=0, goal=om.Goal(coupling=om.couplings.Balanced()))
    mixture = om.Mixture.from_weights(jnp.ones(2), gated())
    with pytest.raises(ValueError, match="gate has 2 columns, the mixture 1"):
        mixture.log_prob(gated_rows)


@pytest.mark.slow
def test_a_zero_inflated_regression_of_the_reference():
    """Two kinds, a regression and a point mass, and covariates for the odds between them."""
    reference, data = REFERENCE["zeroinfl_poisson_bioChemists"], table("bioChemists")
    y, z = data[:, 0], data[:, 1:]
    features = np.column_stack([np.ones(len(y)), z])
    family = Gated.of(OneOf.of("poisson_regression", Point.of(column="y")))
    rows = {"rows": {"y": y, "features": features}, "gate": z}
    solution = om.fit(rows, 2, family=family, key=0)
    found = float(solution.log_likelihood(len(y)))
    np.testing.assert_allclose(found, reference["polished_loglik"], atol=1e-5, rtol=0)
    components, polished = solution.mixture.components, reference["polished_parameters"]
    regression = components.inner.kinds[0].coefficients[0]
    np.testing.assert_allclose(regression, polished["count"], atol=1e-3)
    np.testing.assert_allclose(components.gate.coefficients[0], polished["zero"], atol=1e-3)
    assert solution.n_parameters == 12
