"""Families from a log-density: against the library's own families, and against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import gumbel_r

import otmix_jax as om
from otmix_jax.families import POSITIVE, REAL, SIMPLEX, Frozen, from_log_prob
from otmix_jax.families.custom import GUMBEL, WIDEST


def normal(parameters, row):
    z = (row - parameters["mean"]) / parameters["deviation"]
    return -jnp.sum(0.5 * z**2 + jnp.log(parameters["deviation"]) + 0.5 * jnp.log(2 * jnp.pi))


def normal_start(x, weights):
    mean = weights @ x
    return {"mean": mean, "deviation": jnp.sqrt(weights @ (x - mean) ** 2)}


NORMAL = from_log_prob(normal, initial=normal_start, domains={"mean": REAL, "deviation": POSITIVE})


def sorted_by(values, order):
    return np.asarray(values)[order]


def test_a_gaussian_from_its_density_is_the_gaussian(faithful):
    solution = om.fit(faithful, 2, family=NORMAL, key=0, starts=om.Starts(n_init=1))
    own = om.fit(faithful, 2, covariance="diagonal", key=0)
    np.testing.assert_allclose(solution.value, own.value, atol=1e-9)
    assert solution.n_parameters == own.n_parameters
    ours, theirs = solution.mixture, own.mixture
    mean = ours.components.parameters["mean"]
    by, their = np.argsort(mean[:, 0]), np.argsort(theirs.components.mean[:, 0])
    deviation = sorted_by(ours.components.parameters["deviation"], by)
    variances = np.diagonal(theirs.components.matrices(), axis1=1, axis2=2)[their]
    for a, b in (
        (sorted_by(mean, by), sorted_by(theirs.components.mean, their)),
        (deviation**2, variances),
        (sorted_by(ours.weights, by), sorted_by(theirs.weights, their)),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_gumbel_mixture_against_an_optimiser():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.gumbel(0, 0.5, 200), rng.gumbel(5, 1.5, 200)])

    def loss(theta):
        logs = np.stack([gumbel_r(theta[0], np.exp(theta[2])).logpdf(x),
                         gumbel_r(theta[1], np.exp(theta[3])).logpdf(x)])  # fmt: skip
        share = -np.logaddexp(0, -theta[4]), -np.logaddexp(0, theta[4])
        return -np.mean(logsumexp(logs + np.array(share)[:, None], axis=0))

    start = np.array([0.0, 5.0, np.log(0.5), np.log(1.5), 0.0])
    theirs = minimize(loss, start, method="BFGS", options={"gtol": 1e-9})
    solution = om.fit(x[:, None], 2, family=GUMBEL, key=0, starts=om.Starts(n_init=1))
    np.testing.assert_allclose(solution.value, theirs.fun, rtol=0, atol=1e-9)
    found = solution.mixture.components.parameters
    order = np.argsort(found["location"])
    np.testing.assert_allclose(found["location"][order], theirs.x[:2], atol=1e-4)
    np.testing.assert_allclose(jnp.log(found["scale"])[order], theirs.x[2:4], atol=1e-4)


def test_parameters_have_any_structure_and_domains_are_a_prefix():
    def log_prob(parameters, row):
        (rate, share), location = parameters
        below = -rate * jnp.abs(row[0] - location) + jnp.log(rate / 2)
        return below + jnp.sum(row[1:] * jnp.log(share))

    def start(x, weights):
        return (jnp.ones(()), jnp.ones(3) / 3), weights @ x[:, 0]

    law = from_log_prob(log_prob, initial=start, domains=((POSITIVE, SIMPLEX), REAL))
    share = jnp.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    made = law.family(((jnp.ones(2), share), jnp.zeros(2)), dict(law.options)["law"])
    assert made.n_parameters == 2 * (1 + 2 + 1)
    z = jax.tree.map(lambda leaf: leaf + 0.3, made.unconstrained(made))
    again = made.constrain(z).unconstrained(made)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    moved = made.constrain(z).parameters[0]
    assert (moved[0] > 0).all()
    np.testing.assert_allclose(moved[1].sum(1), 1, rtol=1e-14)


def test_named_parameters_are_held():
    components = GUMBEL.family.examples()["gumbel"]
    x = components.sample(jax.random.key(0), jnp.arange(60) % 3)
    mixture = om.Mixture.from_weights(jnp.ones(3), Frozen(components, "scale"))
    after = om.solve(om.Problem(x), mixture, max_steps=5).mixture.components.inner
    np.testing.assert_array_equal(after.parameters["scale"], components.parameters["scale"])
    assert (after.parameters["location"] != components.parameters["location"]).all()


def network(parameters, row):
    """Regression of the last column on the first by 24 hidden units, with Gaussian noise."""
    hidden = jnp.tanh(row[0] * parameters["in"] + parameters["bias"])
    z = (row[1] - hidden @ parameters["out"]) / parameters["noise"]
    return -0.5 * z**2 - jnp.log(parameters["noise"])


def network_start(x, weights):
    keys = jax.random.split(jax.random.key(0), 2)
    first, bias = (2 * jax.random.normal(key, (24,)) for key in keys)
    hidden = jnp.tanh(x[:, :1] * first + bias)
    scatter = hidden.T @ (weights[:, None] * hidden) + 1e-3 * jnp.eye(24)
    out = jnp.linalg.solve(scatter, hidden.T @ (weights * x[:, 1]))
    noise = jnp.sqrt(weights @ (x[:, 1] - hidden @ out) ** 2)
    return {"in": first, "bias": bias, "out": out, "noise": noise}


NOISE = {"in": REAL, "bias": REAL, "out": REAL, "noise": POSITIVE}


def test_many_parameters_make_no_hessian_and_the_objective_falls():
    family = from_log_prob(network, initial=network_start, domains=NOISE)
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, 150)
    y = np.where(rng.random(150) < 0.5, np.sin(2 * t), 2 + 0.3 * t**2) + 0.1 * rng.normal(size=150)
    x = jnp.asarray(np.stack([t, y], axis=1))
    plan = jnp.stack([y > 1.3, y <= 1.3], axis=1) / 150.0
    components = family.initial(x, plan)
    assert components.n_parameters > WIDEST * 2
    slopes = components.statistics(x, plan)
    assert slopes.hessian.shape == slopes.gradient.shape == (2, 73)

    def expected(z):
        return jnp.sum(plan * components.constrain(z).cost(x))

    zeros = jax.tree.map(jnp.zeros_like, components.unconstrained(components))
    slope = jax.grad(expected)(zeros)
    for j in range(2):
        mine = np.concatenate([np.ravel(leaf[j]) for leaf in jax.tree.leaves(slope)])
        np.testing.assert_allclose(slopes.gradient[j], mine, rtol=1e-9, atol=1e-12)
    start = om.Mixture.from_weights(jnp.array([0.5, 0.5]), components)
    end = om.solve(om.Problem(x), start, max_steps=60, tolerance=0.0)
    history = np.asarray(end.history)
    history = history[~np.isnan(history)]
    assert np.diff(history).max() < 1e-12
    assert history[-1] < history[0] - 0.02


def test_columns_by_name():
    """Rows that are a dict: a line through the origin."""

    def log_prob(slope, row):
        return -0.5 * (row["y"] - slope * row["t"]) ** 2

    def start(x, weights):
        return (weights @ (x["t"] * x["y"])) / (weights @ x["t"] ** 2)

    family = from_log_prob(log_prob, initial=start, table=False)
    rng = np.random.default_rng(0)
    rows = {"t": rng.normal(size=80), "y": rng.normal(size=80)}
    slope = om.fit(rows, 1, family=family, key=0).mixture.components.parameters
    np.testing.assert_allclose(slope, [rows["t"] @ rows["y"] / (rows["t"] @ rows["t"])], rtol=1e-9)


def test_what_cannot_be_is_said():
    x = np.random.default_rng(0).normal(size=(20, 2))
    wide = from_log_prob(lambda p, row: -((row - p) ** 2), initial=lambda x, w: w @ x)
    with pytest.raises(ValueError, match="one number for one row"):
        om.fit(x, 1, family=wide, key=0)
    mixture = om.Mixture.from_weights(jnp.ones(1), NORMAL.initial(x, jnp.ones((20, 1)) / 20))
    with pytest.raises(TypeError, match="give from_log_prob a `sample`"):
        mixture.sample(jax.random.key(0), 3)


def test_a_description_is_the_same_program():
    assert hash(NORMAL) == hash(NORMAL)
    other = from_log_prob(
        normal, initial=normal_start, domains={"mean": REAL, "deviation": POSITIVE}
    )
    assert other == NORMAL, "the same functions"
