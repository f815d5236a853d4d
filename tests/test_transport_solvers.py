"""Sinkhorn-EM, other entropies, penalised sizes, staged solvers, run certificates."""

import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_mixture, parameters, start, status

import otmix_jax as om
from otmix_jax import transport
from otmix_jax.transport.couplings import Balanced, Penalized, SemiRelaxed

pytestmark = pytest.mark.slow

EM = om.solvers.EM
LBFGS = om.solvers.Gradient(optax.lbfgs())
PROBLEMS = {
    "balanced": {"coupling": Balanced()},
    "penalized": {"coupling": Penalized(0.5)},
    "sizes": {"coupling": Penalized(0.5, jnp.ones(3) / 3)},
    "sharp": {"epsilon": 0.4},
    "blurred": {"epsilon": 1.0},
    "both": {"epsilon": 0.6, "coupling": Penalized(1.0)},
}


@pytest.fixture(scope="module")
def initial(faithful):
    return start(faithful, 3, "tied", seed=1)


@pytest.mark.parametrize(
    "case",
    ["balanced", "sizes"]
    + [
        pytest.param(c, marks=pytest.mark.nightly)
        for c in ("penalized", "sharp", "blurred", "both")
    ],
)
def test_em_descends_and_agrees_with_the_gradient(faithful, initial, case):
    problem = om.Problem(faithful, **PROBLEMS[case])
    by_em = om.solve(problem, initial, EM(), tolerance=1e-13)
    by_gradient = om.solve(problem, initial, LBFGS, tolerance=1e-13)
    history = np.asarray(by_em.history)[: int(by_em.n_steps) + 1]
    assert np.diff(history).max() < 1e-12
    assert status(by_em) == status(by_gradient) == "CONVERGED"
    np.testing.assert_allclose(by_em.value, by_gradient.value, atol=1e-9)
    assert_same_mixture(by_em.mixture, by_gradient.mixture, atol=1e-3)
    # The value is the mixture's own, by the public plan; the likelihood is reported beside it.
    options = {"coupling": SemiRelaxed(), "epsilon": 1.0, **PROBLEMS[case]}
    plan = om.plan(by_em.mixture, faithful, **options)
    np.testing.assert_allclose(by_em.value, plan.value, rtol=1e-11)
    loss = om.negative_log_likelihood(by_em.mixture, faithful)
    np.testing.assert_allclose(by_em.negative_log_likelihood, loss, rtol=1e-13)


def test_sinkhorn_em_keeps_the_proportions(faithful, initial):
    """E: the balanced plan, from POT; M: the note's M-step, written out."""
    import ot

    weights, _, _ = parameters(initial)
    cost = np.asarray(initial.components.cost(jnp.asarray(faithful)))
    a = np.full(272, 1 / 272)
    plan = ot.sinkhorn(
        a, weights, cost, 1.0, method="sinkhorn_log", stopThr=1e-14, numItermax=10**5
    )
    solution = om.solve(
        om.Problem(faithful, coupling=Balanced()), initial, max_steps=1, tolerance=0.0
    )
    np.testing.assert_allclose(solution.mixture.weights, weights, rtol=1e-14)
    means = plan.T @ faithful / weights[:, None]
    np.testing.assert_allclose(solution.mixture.components.mean, means, rtol=1e-8)


def test_learned_proportions_under_prescribed_sizes_are_refused(faithful, initial):
    problem = om.Problem(faithful, coupling=Balanced(), learn_weights=True)
    with pytest.raises(ValueError, match=r"stuck.*SemiRelaxed"):
        om.solve(problem, initial, EM())
    # The gradient path moves them: balanced and semi-relaxed losses have the same minimisers.
    balanced = om.solve(problem, initial, LBFGS, tolerance=1e-14)
    free = om.solve(om.Problem(faithful), initial, LBFGS, tolerance=1e-14)
    np.testing.assert_allclose(balanced.value, free.value, atol=1e-8)


def test_frozen_proportions(faithful, initial):
    problem = om.Problem(faithful, learn_weights=False)
    for solver in (EM(), LBFGS):
        solution = om.solve(problem, initial, solver)
        np.testing.assert_allclose(solution.mixture.weights, initial.weights, rtol=1e-12)


def test_a_number_between_the_ends(faithful, initial):
    """Penalized(0) is maximum likelihood; the plan at Penalized(inf) is the balanced one."""
    free = om.solve(om.Problem(faithful), initial, max_steps=30)
    zero = om.solve(om.Problem(faithful, coupling=Penalized(0.0)), initial, max_steps=30)
    assert_same_mixture(free.mixture, zero.mixture, rtol=1e-10)

    def run(rho):
        problem = om.Problem(faithful, coupling=Penalized(rho), learn_weights=False)
        return om.solve(problem, initial, max_steps=15, tolerance=0.0).mixture

    batch = jax.vmap(run)(jnp.array([0.0, 0.5, jnp.inf]))
    balanced = om.solve(
        om.Problem(faithful, coupling=Balanced()), initial, max_steps=15, tolerance=0.0
    )
    last = jax.tree.map(lambda leaf: leaf[2], batch)
    assert_same_mixture(last, balanced.mixture, rtol=1e-8)


def test_hard_assignment_is_the_classification_likelihood(faithful, initial):
    """Epsilon 0 against its own description: alternate argmin of the cost and the M-step."""
    solution = om.solve(om.Problem(faithful, epsilon=0.0), initial, max_steps=4, tolerance=0.0)
    mixture = initial
    for _ in range(int(solution.n_steps)):
        labels = jnp.argmin(mixture.components.cost(jnp.asarray(faithful)), axis=1)
        mixture = om.initializers.from_labels(om.Problem(faithful), labels, 3, covariance="tied")
    assert_same_mixture(solution.mixture, mixture, rtol=1e-9)
    np.testing.assert_allclose(
        solution.value, mixture.components.cost(jnp.asarray(faithful)).min(1).mean(), rtol=1e-12
    )


def test_annealing_ends_at_the_problems_epsilon(faithful, initial):
    def schedule(step):
        return 0.3 + 0.7 * step / 30

    annealed = om.solve(om.Problem(faithful), initial, om.solvers.Annealed(EM(), schedule, 30))
    loss = om.negative_log_likelihood(annealed.mixture, faithful)
    np.testing.assert_allclose(annealed.value, loss, rtol=1e-13)
    # By hand: thirty steps, each at its own epsilon, then EM.
    mixture = initial
    for step in range(30):
        epsilon = schedule(step)
        oracle_plan = om.plan(mixture, faithful, epsilon=epsilon).matrix
        mixture = om.initializers.from_responsibilities(
            om.Problem(faithful), oracle_plan * 272, covariance="tied"
        )
    by_hand = om.solve(om.Problem(faithful), mixture, tolerance=1e-10)
    np.testing.assert_allclose(annealed.value, by_hand.value, atol=1e-7)


def test_balanced_start(faithful, initial):
    """Twenty steps of Sinkhorn-EM at equal proportions, then EM; under vmap and jit."""
    solver = om.solvers.BalancedStart(EM(), 20)
    staged = om.solve(om.Problem(faithful), initial, solver, tolerance=1e-12)
    equal = om.Mixture.from_weights(jnp.ones(3), initial.components)
    first = om.solve(
        om.Problem(faithful, coupling=Balanced()), equal, max_steps=20, tolerance=0.0
    ).mixture
    then = om.solve(om.Problem(faithful), first, tolerance=1e-12)
    assert int(staged.n_steps) == int(then.n_steps)
    assert_same_mixture(staged.mixture, then.mixture, rtol=1e-6)
    batch = jax.jit(jax.vmap(lambda x: om.solve(om.Problem(x), initial, solver, max_steps=60)))(
        jnp.stack([faithful, faithful[::-1]])
    )
    np.testing.assert_allclose(batch.value[0], batch.value[1], rtol=1e-10)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "options",
    [{"epsilon": 0.6}, {"coupling": Penalized(0.7)}, {"coupling": Balanced()}],
    ids=["epsilon", "penalized", "balanced"],
)
def test_implicit_derivatives_at_any_coupling(blobs, options):
    initial = start(blobs, 2)

    def mean(x):
        solution = om.solve(om.Problem(x, **options), initial, tolerance=1e-26, max_steps=3000)
        return solution.mixture.components.mean[0, 0] + solution.mixture.weights[0]

    direction = np.random.default_rng(0).normal(size=blobs.shape)
    h = 1e-4
    numeric = (mean(blobs + h * direction) - mean(blobs - h * direction)) / (2 * h)
    gradient = jax.grad(mean)(jnp.asarray(blobs))
    np.testing.assert_allclose(np.sum(gradient * direction), numeric, rtol=1e-5)


@pytest.mark.nightly
def test_implicit_derivatives_in_epsilon_and_rho(blobs):
    initial = start(blobs, 2)

    def weight(epsilon, rho):
        problem = om.Problem(blobs, epsilon=epsilon, coupling=Penalized(rho, jnp.array([0.5, 0.5])))
        return om.solve(problem, initial, tolerance=1e-26, max_steps=3000).mixture.weights[0]

    point, h = (jnp.array(0.8), jnp.array(0.3)), 1e-5
    gradient = jax.grad(weight, argnums=(0, 1))(*point)
    for i in range(2):
        up = [p + h * (i == j) for j, p in enumerate(point)]
        down = [p - h * (i == j) for j, p in enumerate(point)]
        np.testing.assert_allclose(gradient[i], (weight(*up) - weight(*down)) / (2 * h), rtol=1e-5)


def test_run_certificate(faithful, initial):
    best = om.solve(om.Problem(faithful), initial, tolerance=1e-20)
    loose = om.solve(om.Problem(faithful), initial, tolerance=1e-7)
    certificate = loose.certificate
    left = float(loose.value - best.value)
    np.testing.assert_allclose(certificate.aitken_gap, left, rtol=0.1)
    np.testing.assert_allclose(certificate.rate, 0.897, atol=0.005)  # the EM Jacobian's
    report = om.certificate(loose.mixture, faithful)
    np.testing.assert_allclose(report.weights_gap, certificate.weights_gap, rtol=1e-8)
    np.testing.assert_allclose(report.divergence, certificate.divergence, rtol=1e-6)
    assert report.gap >= report.divergence - 1e-12
    printed = str(report).splitlines()
    assert len(printed) == 7
    assert all(len(line.split("  ")) >= 3 for line in printed)
    start_only = om.solve(om.Problem(faithful), initial, max_steps=0).certificate
    assert np.isnan(start_only.rate)
    chex.assert_tree_all_finite((start_only.weights_gap, start_only.divergence))


def test_the_certificates_aitken_gap_is_what_proportions_can_win(faithful, initial):
    report = om.certificate(initial, faithful)
    cost = initial.components.cost(jnp.asarray(faithful))
    log_weights = initial.log_weights
    for _ in range(3000):
        _, conditional = transport.row_softmax(cost, log_weights)
        log_weights = jnp.log(conditional.mean(0))
    best = transport.semi_relaxed_value(cost, jnp.ones(272), jnp.exp(log_weights))
    left = float(report.semi_relaxed - best)
    assert 0 < left <= float(report.weights_gap)
    np.testing.assert_allclose(report.aitken_gap, left, rtol=0.5)


def test_fit_takes_couplings_and_warns_of_large_epsilon(faithful):
    solution = om.fit(
        faithful, 2, key=0, goal=om.Goal(coupling=Balanced()), starts=om.Starts(n_init=2)
    )
    plan = om.plan(solution.mixture, faithful, coupling=Balanced())
    np.testing.assert_allclose(plan.column_marginal, solution.mixture.weights, rtol=1e-9)
    np.testing.assert_allclose(plan.value, solution.value, rtol=1e-9)
    with pytest.warns(UserWarning, match=r"epsilon=2\.0 > 1.*draws components together"):
        om.fit(
            faithful,
            2,
            key=0,
            goal=om.Goal(epsilon=2.0),
            starts=om.Starts(n_init=1),
            limits=om.Limits(max_steps=500),
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        om.fit(faithful, 2, key=0, goal=om.Goal(epsilon=0.5), starts=om.Starts(n_init=2))
    with pytest.raises(ValueError, match="epsilon must be a finite number"):
        om.fit(faithful, 2, key=0, goal=om.Goal(epsilon=-1.0))


def test_the_printed_covariance_update_is_wrong(faithful):
    """(3.4) with its printed 1/n, at the optimum of Old Faithful: the likelihood is lost."""
    mixture = om.fit(faithful, 3, key=0, covariance="tied").mixture
    matrices = mixture.components.matrices() / 272
    printed = om.Mixture(
        mixture.log_weights,
        om.families.Gaussian(mixture.components.mean, om.families.Tied.from_matrices(matrices)),
    )
    before = float(om.negative_log_likelihood(mixture, faithful))
    after = float(om.negative_log_likelihood(printed, faithful))
    assert before < 4.15
    # Shrunk n-fold, the distances weigh n-fold, and the log-determinant cannot make up for it.
    assert after > 50 * before


def test_sizes_that_are_named_become_the_proportions(faithful):
    sizes = np.array([0.5, 0.5])
    solution = om.fit(
        faithful, 2, key=0, starts=om.Starts(n_init=2), goal=om.Goal(coupling=Balanced(sizes))
    )
    np.testing.assert_allclose(solution.mixture.weights, sizes, rtol=1e-12)
    plan = om.plan(solution.mixture, faithful, coupling=Balanced(sizes))
    np.testing.assert_allclose(plan.value, solution.value, rtol=1e-9)


@pytest.mark.parametrize(
    ("coupling", "message"),
    [
        (Penalized(-1.0), "rho must be a finite number >= 0"),
        (Penalized(float("inf")), "rho must be a finite number >= 0"),
        (Balanced(np.ones(3)), "sizes must be 2 finite numbers"),
        (Balanced(np.array([1.0, 0.0])), "sizes must be 2 finite numbers"),
    ],
    ids=["negative", "infinite", "three", "zero"],
)
def test_fit_checks_the_coupling(faithful, coupling, message):
    with pytest.raises(ValueError, match=message):
        om.fit(faithful, 2, key=0, goal=om.Goal(coupling=coupling))


def test_hard_assignment_has_no_prescribed_sizes(faithful, initial):
    with pytest.raises(ValueError, match=r"epsilon=0 goes with SemiRelaxed"):
        om.fit(faithful, 2, key=0, goal=om.Goal(epsilon=0.0, coupling=Balanced()))
    problem = om.Problem(faithful, epsilon=0.0, coupling=Balanced(jnp.array([0.1, 0.1, 0.8])))
    assert status(om.solve(problem, initial, max_steps=2)) == "NON_FINITE"


def test_staged_solvers_leave_fixed_proportions_alone(faithful, initial):
    problem = om.Problem(faithful, learn_weights=False)
    solution = om.solve(problem, initial, om.solvers.BalancedStart(EM(), 3), max_steps=5)
    np.testing.assert_allclose(solution.mixture.weights, initial.weights, rtol=1e-12)


def test_couplings_follow_the_dtype_of_the_rows(faithful, initial):
    x = jnp.asarray(faithful, jnp.float32)
    coupling = Balanced(np.array([0.2, 0.3, 0.5]))
    solution = om.solve(om.Problem(x, epsilon=0.9, coupling=coupling), initial, max_steps=3)
    assert solution.value.dtype == jnp.float32
    assert np.isfinite(solution.value)
