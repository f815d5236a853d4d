"""What CONTRIBUTING.md prints runs as it is printed, and is short."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import BLOCKS, PRINTED
from helpers import start, status
from scipy import stats

import otmix_jax as om
from otmix_jax.core.tree import static
from otmix_jax.engine import Engine, Guarded, Reference, Tiled


def test_a_family_takes_thirty_five_lines():
    assert len(BLOCKS[0].splitlines()) <= 35, "the example family, imports included"
    assert "class Gamma(Family)" in BLOCKS[0]


@pytest.fixture(scope="module")
def waits():
    """[400, 1] from two gamma laws, the second of shape 9 and rate 3."""
    rng = np.random.default_rng(0)
    first = np.arange(400) < 150
    return rng.gamma(np.where(first, 2.0, 9.0), 1 / np.where(first, 4.0, 3.0))[:, None]


@pytest.mark.slow
def test_gamma_finds_the_likelihoods_maximum(waits):
    """Against scipy's maximum of the same likelihood, one component; and two components agree."""
    one = om.fit(waits, 1, family=PRINTED["Gamma"], key=0, limits=om.Limits(tolerance=1e-14))
    shape, _, scale = stats.gamma.fit(waits[:, 0], floc=0)
    np.testing.assert_allclose(one.mixture.components.shape[0, 0], shape, rtol=1e-5)
    np.testing.assert_allclose(one.mixture.components.rate[0, 0], 1 / scale, rtol=1e-5)
    value = -np.mean(stats.gamma.logpdf(waits[:, 0], shape, 0, scale))
    np.testing.assert_allclose(one.value, value, rtol=1e-9)
    both = [
        om.fit(waits, 2, family=PRINTED["Gamma"], key=0, solver=solver,
               limits=om.Limits(tolerance=1e-13), starts=om.Starts(n_init=1))
        for solver in (om.solvers.EM(), om.solvers.Squarem())
    ]  # fmt: skip
    np.testing.assert_allclose(both[0].value, both[1].value, rtol=1e-8)
    history = np.asarray(both[0].history)
    assert np.diff(history[~np.isnan(history)]).max() < 1e-12
    assert both[0].value < one.value - 0.05


def test_exponential_has_its_closed_form(waits):
    one = om.fit(waits, 1, family=PRINTED["Exponential"], key=0)
    np.testing.assert_allclose(one.mixture.components.rate, 1 / waits.mean(), rtol=1e-10)
    large = np.tile(waits, (10, 1))
    chosen = om.explain(om.Problem(large), one.mixture)
    assert chosen.kernel == "linear", "no guard where the form needs none"


@pytest.mark.slow
def test_a_covariance_of_ones_own(faithful):
    """Between the diagonal and the tied model in value; its M-step is scikit-learn's diagonal."""
    own = PRINTED["TiedDiagonal"]
    solution = om.fit(faithful, 2, covariance=own, key=0, goal=om.Goal(ridge=0.0))
    assert status(solution) == "CONVERGED"
    tied, diagonal = (
        om.fit(faithful, 2, covariance=name, key=0, goal=om.Goal(ridge=0.0))
        for name in ("tied", "diagonal")
    )
    assert tied.value < solution.value
    assert diagonal.value < solution.value
    plan = np.asarray(solution.mixture.responsibilities(faithful)) / len(faithful)
    spread = sum(
        plan[:, [j]].T @ (faithful - m) ** 2
        for j, m in enumerate(np.asarray(solution.mixture.components.mean))
    )
    deviation = solution.mixture.components.covariance.deviation
    np.testing.assert_allclose(deviation**2, spread[0], rtol=1e-4)
    assert solution.mixture.n_parameters == 1 + 4 + 2


def test_a_solver_of_ones_own(faithful):
    problem, initial = om.Problem(faithful), start(faithful, 2)
    patient = om.solve(problem, initial, PRINTED["Patient"](om.solvers.EM()))
    plain = om.solve(problem, initial, om.solvers.EM())
    assert patient.n_steps >= plain.n_steps
    np.testing.assert_allclose(patient.value, plain.value, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [Reference, Guarded])
def test_an_execution_of_ones_own(faithful, kernel):
    mixture = start(faithful, 3)
    weight = np.linspace(0, 1, len(faithful))
    loss = jax.value_and_grad(om.negative_log_likelihood)
    ours = loss(mixture, faithful, weight, engine=Engine(kernel, PRINTED["Halves"]()))
    theirs = loss(mixture, faithful, weight, engine=Engine(kernel, Tiled(64)))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_a_coupling_of_ones_own(faithful):
    mixture = om.fit(faithful, 2, key=0).mixture
    sizes = [
        np.asarray(
            om.plan(mixture, faithful, coupling=PRINTED["TowardsEqual"](rho)).column_marginal
        )
        for rho in (1e-6, 30.0, 1e6)
    ]
    np.testing.assert_allclose(sizes[0], mixture.weights, atol=1e-5)
    np.testing.assert_allclose(sizes[2], 0.5, atol=1e-5)
    assert 0.01 < abs(sizes[1] - 0.5).max() < abs(sizes[0] - 0.5).max() - 0.01


@pytest.mark.slow
def test_an_adjoint_and_an_initialiser_of_ones_own(faithful):
    x = jnp.asarray(faithful)
    starts = om.Starts(n_init=2, initializer=PRINTED["random_plan"])
    solution = om.fit(faithful, 2, key=0, starts=starts, covariance="tied")
    assert status(solution) == "CONVERGED"

    def mean(x):
        problem = om.Problem(x)
        answer = om.solve(problem, solution.mixture, adjoint=PRINTED["Detached"]())
        return answer.mixture.components.mean[0, 0]

    assert not np.any(jax.grad(mean)(x))


@om.families.pytree
class Overshooting(PRINTED["Gamma"]):
    """An M-step that goes `length` times too far: up the objective, or out of the numbers."""

    length: float = static(default=1.0)

    def maximize(self, statistics, mass, prior=None, held=frozenset()):
        step = super().maximize(statistics, mass, prior, held).unconstrained(self)
        return self.constrain(jax.tree.map(lambda z: self.length * z, step))


@pytest.mark.slow
@pytest.mark.parametrize("length", [6.0, 900.0])
def test_em_halves_a_step_that_goes_too_far(waits, length):
    """To the honest answer, downhill all the way; unhalved it would rise, or not be finite."""
    honest = om.fit(waits, 1, family=PRINTED["Gamma"], key=0, limits=om.Limits(tolerance=1e-12))
    shape, rate = honest.mixture.components.shape, honest.mixture.components.rate
    near = Overshooting(1.3 * shape, 0.8 * rate, length)
    initial = om.Mixture(jnp.zeros(1), near)
    solution = om.solve(om.Problem(waits), initial, tolerance=1e-9, max_steps=3000)
    history = np.asarray(solution.history)
    assert np.diff(history[~np.isnan(history)]).max() < 1e-12
    assert int(solution.n_steps) > 3
    assert honest.value - 1e-9 < solution.value < honest.value + 1e-3


def test_a_step_out_of_the_numbers_loses_nothing():
    """Infinite parameters have no direction left to halve: the last finite ones come back."""
    waits = np.random.default_rng(0).gamma(2.0, 0.5, size=(100, 1))
    far = Overshooting(jnp.array([[1.6]]), jnp.array([[0.6]]), 3e4)
    solution = om.solve(om.Problem(waits), om.Mixture(jnp.zeros(1), far))
    assert status(solution) == "STALLED"
    assert np.isfinite(solution.value)
    np.testing.assert_array_equal(solution.mixture.components.shape, far.shape)


def test_a_prior_is_refused_where_holding_leaves_no_use_for_it():
    """EM-gradient takes over the M-step there, and would drop it."""
    components = om.families.Gaussian.examples()["full"]

    class Stiff(om.families.Gaussian):
        holds = frozenset({"covariance"})

    stiff = om.families.pytree(Stiff)(components.mean, components.covariance)
    rows = components.sample(jax.random.key(0), jnp.arange(40) % 3)
    prior = om.priors.NormalMean(jnp.zeros(2), 0.1)
    for held, message in (("mean", "no use for a prior"), ("covariance", None)):
        mixture = om.Mixture.from_weights(jnp.ones(3), om.families.Frozen(stiff, held))
        problem = om.Problem(rows, prior=prior)
        if message is None:
            assert np.isfinite(om.solve(problem, mixture, max_steps=2).value)
            continue
        with pytest.raises(TypeError, match=message):
            om.solve(problem, mixture, max_steps=2)
